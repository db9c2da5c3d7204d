from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl.heads import lean as lean_module
from facemtl.heads.angular import angular_margin
from facemtl.heads.cross_entropy import cosine_cross_entropy

MARGINS = {
    "none": None,
    "cosface": lambda cosines: cosines - 0.35,
    "arcface": lambda cosines: angular_margin(cosines, 0.5),
    "combined": lambda cosines: angular_margin(cosines, 0.3, multiplier=1.2, past_pi="fold") - 0.2,
}


def usual_loss(embeddings: Tensor, weight: Tensor, labels: Tensor, margin: Callable | None) -> Tensor:
    """Normalise, multiply, put the margin in, `F.cross_entropy`: softmax minus one-hot in backward."""
    cosines = F.normalize(embeddings) @ F.normalize(weight).T
    columns = labels.unsqueeze(1)
    own = cosines.gather(1, columns)
    return F.cross_entropy(64.0 * cosines.scatter(1, columns, own if margin is None else margin(own)), labels)


def outcome(loss: Callable, embeddings: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    embeddings, weight = embeddings.clone().requires_grad_(), weight.clone().requires_grad_()
    value = loss(embeddings, weight)
    value.backward()
    return value.detach(), embeddings.grad, weight.grad


def worst(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())


@pytest.mark.parametrize("name", MARGINS)
@pytest.mark.parametrize(("batch", "identities", "dimension"), [(40, 700, 16), (7, 300, 64), (300, 150, 8)])
def test_equals_the_usual_loss_in_float64(
    name: str, batch: int, identities: int, dimension: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lean_module, "_BLOCK_ELEMENTS", 1)  # the smallest blocks, 128 identities, the last one smaller
    generator = torch.Generator().manual_seed(3)
    embeddings = torch.randn(batch, dimension, generator=generator, dtype=torch.float64)
    weight = 0.01 * torch.randn(identities, dimension, generator=generator, dtype=torch.float64)
    labels = torch.randint(identities, (batch,), generator=generator)
    margin = MARGINS[name]
    want = outcome(lambda e, w: usual_loss(e, w, labels, margin), embeddings, weight)
    for way in (True, False):
        got = outcome(
            lambda e, w, way=way: cosine_cross_entropy(e, w, labels, target_margin=margin, lean=way), embeddings, weight
        )
        for left, right in zip(got, want, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10 * float(right.abs().max()))


@pytest.mark.parametrize("name", ["cosface", "curricular"])
def test_a_second_backward_pass_gives_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one overwrites what the forward pass kept, so the second computes the logits again."""
    monkeypatch.setattr(lean_module, "_BLOCK_ELEMENTS", 1)
    generator = torch.Generator().manual_seed(8)
    embeddings = torch.randn(6, 16, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(300, 16, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(300, (6,), generator=generator)
    hard = None
    if name == "curricular":
        hard = lean_module.HardNegatives(torch.full((6,), 0.1, dtype=torch.float64), torch.tensor(0.3).double())
    unit = F.normalize(embeddings)
    contrast = lean_module.lean_contrast(unit, weight, labels, scale=16.0, hard=hard)
    loss = F.softplus(contrast.negatives - 16.0 * (contrast.targets - 0.35)).sum()
    first = torch.autograd.grad(loss, (embeddings, weight), retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    second = torch.autograd.grad(loss, (embeddings, weight))
    for left, again, right in zip(first, kept, second, strict=True):
        assert torch.equal(left, again)
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def well_classified(loss: float) -> tuple[Tensor, Tensor, Tensor]:
    """Samples at such an angle from their identities' weights that each loses about ``loss``, in float64."""
    generator = torch.Generator().manual_seed(5)
    batch, identities, dimension = 64, 2000, 128
    weight = torch.randn(identities, dimension, generator=generator, dtype=torch.float64)
    labels = torch.randperm(identities, generator=generator)[:batch]
    own = F.normalize(weight[labels])
    noise = torch.randn(batch, dimension, generator=generator, dtype=torch.float64)
    noise = F.normalize(noise - (noise * own).sum(1, keepdim=True) * own)
    low, high = torch.zeros(batch, 1, dtype=torch.float64), torch.full((batch, 1), 1.5, dtype=torch.float64)
    for _ in range(60):
        angle = (low + high) / 2
        embeddings = angle.cos() * own + angle.sin() * noise
        values = cosine_cross_entropy(embeddings, weight, labels, target_margin=MARGINS["cosface"], reduction="none")
        easy = values.unsqueeze(1) < loss
        low, high = torch.where(easy, angle, low), torch.where(easy, high, angle)
    assert bool(((values / loss - 1.0).abs() < 1e-6).all())
    return embeddings.float(), weight.float(), labels


@pytest.mark.parametrize("way", [True, False], ids=["lean", "plain"])
@pytest.mark.parametrize("loss", [1e-3, 1e-5, 1e-6, 1e-7, 1e-8])
def test_weight_gradient_of_well_classified_samples_in_float32(loss: float, way: bool) -> None:
    embeddings, weight, labels = well_classified(loss)
    margin = MARGINS["cosface"]
    exact = outcome(
        lambda e, w: cosine_cross_entropy(e, w, labels, target_margin=margin), embeddings.double(), weight.double()
    )
    value, _, gradient = outcome(
        lambda e, w: cosine_cross_entropy(e, w, labels, target_margin=margin, lean=way), embeddings, weight
    )
    assert float(value) == pytest.approx(float(exact[0]), rel=1e-5)
    assert worst(gradient, exact[2]) < (1e-5 if way else 2e-5)
    usual = outcome(lambda e, w: usual_loss(e, w, labels, margin), embeddings, weight)
    assert worst(usual[2], exact[2]) > 3 * worst(gradient, exact[2])
    if loss <= 1e-7:
        assert worst(usual[2], exact[2]) > 0.05


def test_only_the_gradients_that_are_asked_for() -> None:
    embeddings, weight, labels = torch.randn(6, 4), torch.randn(9, 4), torch.randint(9, (6,))
    want = outcome(lambda e, w: cosine_cross_entropy(e, w, labels, lean=False), embeddings, weight)
    for name, index in (("embeddings", 1), ("weight", 2)):
        inputs = {"embeddings": embeddings.clone(), "weight": weight.clone()}
        inputs[name].requires_grad_()
        cosine_cross_entropy(**inputs, labels=labels, lean=True).backward()
        torch.testing.assert_close(inputs[name].grad, want[index])
    with torch.no_grad():
        loss = cosine_cross_entropy(embeddings, weight.requires_grad_(), labels, lean=True)
    assert loss.grad_fn is None
    torch.testing.assert_close(loss, want[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_computed_in_float32(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    embeddings = torch.randn(6, 16, generator=generator).to(dtype)
    weight = torch.randn(300, 16, generator=generator).to(dtype)
    labels = torch.randint(300, (6,), generator=generator)
    want = outcome(lambda e, w: cosine_cross_entropy(e, w, labels, lean=False), embeddings.float(), weight.float())
    for context in (torch.autocast("cpu", dtype=torch.bfloat16, enabled=False), torch.autocast("cpu", torch.bfloat16)):
        with context:  # backward inside the region, too
            got = outcome(lambda e, w: cosine_cross_entropy(e, w, labels, lean=True), embeddings, weight)
        assert [tensor.dtype for tensor in got] == [torch.float32, dtype, dtype]
        assert worst(got[0], want[0]) < 1e-6
        resolution = float(torch.finfo(dtype).eps)
        assert worst(got[1], want[1]) < resolution
        assert worst(got[2], want[2]) < resolution


def test_float32_under_autocast_is_float32_to_the_bit() -> None:
    embeddings, weight, labels = torch.randn(6, 16), torch.randn(300, 16), torch.randint(300, (6,))
    want = outcome(lambda e, w: cosine_cross_entropy(e, w, labels, lean=True), embeddings, weight)
    with torch.autocast("cpu", torch.bfloat16):
        got = outcome(lambda e, w: cosine_cross_entropy(e, w, labels, lean=True), embeddings, weight)
    assert all(torch.equal(left, right) for left, right in zip(got, want, strict=True))


def test_peak_memory_does_not_grow_with_batch_times_identities() -> None:
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    try:
        from _timing import peak_memory
    finally:
        sys.path.pop(0)
    batch, identities, dimension = 256, 20_000, 32
    embeddings = torch.randn(batch, dimension).requires_grad_()
    weight, labels = torch.randn(identities, dimension).requires_grad_(), torch.randint(identities, (batch,))

    def step(way: bool) -> None:
        embeddings.grad = weight.grad = None
        cosine_cross_entropy(embeddings, weight, labels, lean=way).backward()

    own = weight.numel() * 4
    matrix = batch * identities * 4
    peaks = []
    for way in (True, False):
        step(way)
        embeddings.grad = weight.grad = None
        peaks.append(peak_memory(lambda way=way: step(way)) - own)
    assert peaks[0] < 0.3 * matrix
    assert peaks[1] > 2 * matrix


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", MARGINS)
def test_cuda_equals_cpu(name: str) -> None:
    embeddings, weight = torch.randn(64, 32, dtype=torch.float64), torch.randn(3000, 32, dtype=torch.float64)
    labels = torch.randint(3000, (64,))
    want = outcome(
        lambda e, w: cosine_cross_entropy(e, w, labels, target_margin=MARGINS[name], lean=True), embeddings, weight
    )
    got = outcome(
        lambda e, w: cosine_cross_entropy(e, w, labels.cuda(), target_margin=MARGINS[name], lean=True),
        embeddings.cuda(),
        weight.cuda(),
    )
    for left, right in zip(got, want, strict=True):
        torch.testing.assert_close(left.cpu(), right, rtol=1e-10, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_overflowed_embeddings_leave_the_cuda_step_to_the_gradient_scaler() -> None:
    embeddings = torch.full((4, 8), float("inf"), dtype=torch.float16, device="cuda", requires_grad=True)
    weight = torch.randn(9, 8, device="cuda", requires_grad=True)
    cosine_cross_entropy(embeddings, weight, torch.zeros(4, dtype=torch.long, device="cuda"), lean=True).backward()
    assert not bool(weight.grad.isfinite().all())
