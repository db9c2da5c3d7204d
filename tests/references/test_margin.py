from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytorch_metric_learning import losses as rivals
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl.heads.adaptive import AdaFace, MagFace
from facemtl.heads.angular import angle_of, angular_margin
from facemtl.heads.combined import CombinedMargin
from facemtl.heads.curricular import CurricularFace
from facemtl.heads.margin import ArcFace, CosFace
from tests.parity import ParityCase

IDENTITIES, DIMENSION, BATCH = 9, 5, 12


def batch_for(size: float = 3.0, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = size * torch.randn(BATCH, DIMENSION, generator=generator, dtype=torch.float64)
    return embeddings, torch.randint(IDENTITIES, (BATCH,), generator=generator)


def spread(head: nn.Module) -> nn.Module:
    """Weights far from random ones, so that angles cover their whole range."""
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(4)))
    return head


def naive_losses(
    head: nn.Module, embeddings: Tensor, labels: Tensor, target: Callable[..., float], negative: Callable[..., float]
) -> list[float]:
    """One loss a sample, number by number, from the papers' equations."""
    result = []
    for row, label in zip(embeddings.tolist(), labels.tolist(), strict=True):
        norm = math.sqrt(sum(value * value for value in row))
        cosines = []
        for weight in head.weight.tolist():
            length = math.sqrt(sum(value * value for value in weight))
            cosines.append(sum(a * b for a, b in zip(row, weight, strict=True)) / norm / length)
        goal = head.scale * target(cosines[label], norm)
        terms = [head.scale * negative(c, cosines[label]) for j, c in enumerate(cosines) if j != label]
        result.append(-math.log(math.exp(goal) / (math.exp(goal) + sum(map(math.exp, terms)))))
    return result


def arc(cosine: float, margin: float) -> float:
    angle = math.acos(cosine)
    return math.cos(angle + margin) if angle + margin <= math.pi else cosine - margin * math.sin(margin)


def fold(cosine: float, multiplier: float, margin: float) -> float:
    angle = multiplier * math.acos(cosine) + margin
    turns = math.floor(angle / math.pi)
    return (-1) ** turns * math.cos(angle) - 2 * turns


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize(
    ("make", "target"),
    [
        (CosFace, lambda cosine, norm: cosine - 0.35),
        (ArcFace, lambda cosine, norm: arc(cosine, 0.5)),
        (CombinedMargin, lambda cosine, norm: fold(cosine, 1.0, 0.3) - 0.2),
        (lambda *a, **k: CombinedMargin(*a, multiplier=2.5, **k), lambda cosine, norm: fold(cosine, 2.5, 0.3) - 0.2),
    ],
)
def test_constant_margins_equal_the_double_loop(make: Callable[..., nn.Module], target: Callable, lean: bool) -> None:
    head = spread(make(DIMENSION, IDENTITIES, scale=8.0, lean=lean, dtype=torch.float64))
    embeddings, labels = batch_for()
    want = torch.tensor(naive_losses(head, embeddings, labels, target, lambda c, own: c), dtype=torch.float64)
    torch.testing.assert_close(head(embeddings, labels, reduction="none"), want, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(head(embeddings, labels), want.mean(), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(F.cross_entropy(head.logits(embeddings, labels), labels), want.mean())


@pytest.mark.parametrize("lean", [False, True])
def test_magface_equals_the_double_loop(lean: bool) -> None:
    head = spread(MagFace(DIMENSION, IDENTITIES, scale=8.0, lean=lean, dtype=torch.float64))
    embeddings, labels = batch_for(size=9.0)
    embeddings[0] *= 100.0  # beyond both ends of the norm range
    embeddings[1] *= 0.01

    def clipped(norm: float) -> float:
        return min(max(norm, 10.0), 110.0)

    def target(cosine: float, norm: float) -> float:
        return arc(cosine, 0.45 + (0.8 - 0.45) / 100.0 * (clipped(norm) - 10.0))

    norms = [clipped(norm) for norm in embeddings.norm(dim=1).tolist()]
    growth = [35.0 * (1.0 / norm + norm / 110.0**2) for norm in norms]
    want = naive_losses(head, embeddings, labels, target, lambda c, own: c)
    want = torch.tensor([a + b for a, b in zip(want, growth, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(head(embeddings, labels, reduction="none"), want, rtol=1e-11, atol=1e-12)
    plain = F.cross_entropy(head.logits(embeddings, labels), labels, reduction="none")
    torch.testing.assert_close(plain, want - torch.tensor(growth, dtype=torch.float64))


@pytest.mark.parametrize("lean", [False, True])
def test_adaface_equals_the_double_loop_and_tracks_norms(lean: bool) -> None:
    head = spread(AdaFace(DIMENSION, IDENTITIES, scale=8.0, momentum=0.2, lean=lean, dtype=torch.float64))
    embeddings, labels = batch_for(size=9.0)
    embeddings[0] *= 100.0
    norms = [min(max(norm, 0.001), 100.0) for norm in embeddings.norm(dim=1).tolist()]
    average = sum(norms) / len(norms)
    deviation = math.sqrt(sum((norm - average) ** 2 for norm in norms) / (len(norms) - 1))
    mean, std = 0.8 * average + 0.2 * 20.0, 0.8 * deviation + 0.2 * 100.0

    def target(cosine: float, norm: float) -> float:
        norm = min(max(norm, 0.001), 100.0)
        quality = min(max((norm - mean) / (std + 0.001) * 0.333, -1.0), 1.0)
        angle = min(max(math.acos(cosine) - 0.4 * quality, 0.0), math.pi)
        return math.cos(angle) - (0.4 + 0.4 * quality)

    got = head(embeddings, labels, reduction="none")
    torch.testing.assert_close(head.norm_mean, torch.tensor(mean, dtype=torch.float64))
    torch.testing.assert_close(head.norm_std, torch.tensor(std, dtype=torch.float64))
    want = torch.tensor(naive_losses(head, embeddings, labels, target, lambda c, own: c), dtype=torch.float64)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)
    plain = F.cross_entropy(head.logits(embeddings, labels), labels, reduction="none")
    torch.testing.assert_close(plain, want)
    assert float(head.norm_mean) == pytest.approx(mean)  # logits leave the statistics alone


@pytest.mark.parametrize("lean", [False, True])
def test_curricularface_equals_the_double_loop_and_tracks_cosines(lean: bool) -> None:
    head = spread(CurricularFace(DIMENSION, IDENTITIES, scale=8.0, momentum=0.5, lean=lean, dtype=torch.float64))
    with torch.no_grad():
        head.hardness.fill_(0.6)
    embeddings, labels = batch_for()
    own = F.cosine_similarity(embeddings, head.weight[labels]).mean().item()
    hardness = 0.5 * own + 0.5 * 0.6
    counts = {"hard": 0, "easy": 0}

    def negative(cosine: float, target: float) -> float:
        hard = cosine > math.cos(math.acos(target) + 0.5)
        counts["hard" if hard else "easy"] += 1
        return cosine * (hardness + cosine) if hard else cosine

    got = head(embeddings, labels, reduction="none")
    torch.testing.assert_close(head.hardness, torch.tensor(hardness, dtype=torch.float64))
    want = naive_losses(head, embeddings, labels, lambda cosine, norm: arc(cosine, 0.5), negative)
    assert min(counts.values()) > 10
    want = torch.tensor(want, dtype=torch.float64)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)
    plain = F.cross_entropy(head.logits(embeddings, labels), labels, reduction="none")
    torch.testing.assert_close(plain, want)
    assert float(head.hardness) == pytest.approx(hardness)


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("make", [CosFace, ArcFace, CombinedMargin, AdaFace, MagFace, CurricularFace])
def test_gradients_of_embeddings_and_weights(make: Callable[..., nn.Module], lean: bool) -> None:
    head = spread(make(DIMENSION, IDENTITIES, scale=8.0, lean=lean, dtype=torch.float64)).eval()
    if isinstance(head, CurricularFace):
        with torch.no_grad():
            head.hardness.fill_(0.6)
    embeddings, labels = batch_for(size=9.0)

    def losses(embeddings: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(head, {"weight": weight}, (embeddings, labels), {"reduction": "none"})

    if isinstance(head, AdaFace):  # its norms pass no gradient by design: keep to the sphere on which they are constant
        size = embeddings.norm(dim=1, keepdim=True)
        assert torch.autograd.gradcheck(
            lambda e, w: losses(size * F.normalize(e), w), (embeddings.requires_grad_(), head.weight)
        )
        return
    assert torch.autograd.gradcheck(losses, (embeddings.requires_grad_(), head.weight))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (CosFace, lambda: rivals.CosFaceLoss(IDENTITIES, DIMENSION, margin=0.35, scale=16.0)),
        (ArcFace, lambda: rivals.ArcFaceLoss(IDENTITIES, DIMENSION, margin=math.degrees(0.5), scale=16.0)),
    ],
)
def test_equals_pytorch_metric_learning(ours: Callable[..., nn.Module], theirs: Callable[[], nn.Module]) -> None:
    head, rival = spread(ours(DIMENSION, IDENTITIES, scale=16.0, dtype=torch.float64)), theirs().double()
    with torch.no_grad():
        rival.W.copy_(head.weight.T)
    embeddings, labels = batch_for()
    first, second = embeddings.clone().requires_grad_(), embeddings.clone().requires_grad_()
    got, want = head(first, labels), rival(second, labels)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    got.backward()
    want.backward()
    # Their arccosine is kept 1e-7 off the ends, so gradients agree to about that.
    torch.testing.assert_close(first.grad, second.grad, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(head.weight.grad, rival.W.grad.T, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("lean", [False, True])
def test_parity_with_the_released_cosface(parity_folder: Path, lean: bool) -> None:
    case = ParityCase(parity_folder, "cosface")
    head = CosFace(512, 300, lean=lean)
    head.load_state_dict(case.state())
    embeddings, labels = case.input("x").requires_grad_(), case.input("labels")
    case.check("logits", head.logits(embeddings, labels))
    loss = head(embeddings, labels)
    case.check("loss", loss)
    loss.backward()
    case.check("grad_x", embeddings.grad)
    case.check("grad_weight", head.weight.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("end", [1.0, -1.0])
def test_angular_gradient_at_the_ends_is_that_of_the_nearest_cosine(dtype: torch.dtype, end: float) -> None:
    inside = torch.nextafter(torch.tensor(end, dtype=dtype), torch.tensor(0.0, dtype=dtype))
    beyond = torch.tensor(end, dtype=dtype) * (1.0 + 4.0 * torch.finfo(dtype).eps)
    slopes = []
    for cosine in (inside, torch.tensor(end, dtype=dtype), beyond):
        cosine = cosine.clone().requires_grad_()
        value = angular_margin(cosine, 0.5, past_pi="wrap")
        value.backward()
        slopes.append(cosine.grad.item())
        assert value.item() == pytest.approx(end * math.cos(0.5), abs=2e-3 if dtype == torch.float32 else 1e-7)
    # sin(θ + m) / sin θ with sin θ = √eps: over a thousand in float32, where the plain cosine's gradient is 1.
    want = end * math.sin(0.5) / math.sqrt(torch.finfo(dtype).eps)
    assert slopes == pytest.approx([want] * 3, rel=2e-3)
    assert abs(want) > 1e3


def test_angular_margin_is_the_derivative_of_the_true_angle_inside() -> None:
    cosines = torch.linspace(-0.999, 0.999, 41, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(angle_of(cosines), cosines.acos(), rtol=1e-14, atol=1e-14)
    for past_pi in ("linear", "fold", "wrap"):
        assert torch.autograd.gradcheck(lambda c, p=past_pi: angular_margin(c, 0.5, past_pi=p), cosines)
        assert torch.autograd.gradgradcheck(lambda c, p=past_pi: angular_margin(c, 0.5, past_pi=p), cosines)


def test_an_embedding_on_its_weight_gets_a_bounded_gradient() -> None:
    head = ArcFace(4, 3)
    with torch.no_grad():
        head.weight.copy_(torch.eye(4)[:3])
    embeddings = torch.stack([head.weight.detach()[0], -head.weight.detach()[1]]).requires_grad_()
    head(embeddings, torch.tensor([0, 1])).backward()
    assert embeddings.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()
    assert float(embeddings.grad.abs().max()) < 64.0
