from __future__ import annotations

from unittest import mock

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from facemtl.heads import lean as lean_module
from facemtl.heads.cross_entropy import cosine_cross_entropy, hardened, plain_contrast
from facemtl.heads.lean import HardNegatives, lean_contrast

seeds = st.integers(0, 2**16)


@given(
    batch=st.integers(0, 9),
    identities=st.integers(2, 400),
    dimension=st.integers(1, 9),
    scale=st.floats(0.1, 200.0),
    hard=st.booleans(),
    seed=seeds,
)
def test_lean_equals_plain_in_values_and_gradients(
    batch: int, identities: int, dimension: int, scale: float, hard: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    unit, weight = F.normalize(draw(batch, dimension)), draw(identities, dimension)
    weight[0] = 0.0
    labels = torch.randint(identities, (batch,), generator=generator)
    rule = HardNegatives(0.5 * draw(batch), torch.tensor(0.3, dtype=torch.float64)) if hard else None
    weights = draw(2, batch)
    results = []
    with mock.patch.object(lean_module, "_BLOCK_ELEMENTS", 1):
        for contrast in (lean_contrast, plain_contrast):
            first, second = unit.clone().requires_grad_(), weight.clone().requires_grad_()
            outputs = contrast(first, second, labels, scale=scale, hard=rule)
            (weights[0] @ outputs.targets + weights[1] @ outputs.negatives).backward()
            results.append((*outputs, first.grad, second.grad))
    for left, right in zip(*results, strict=True):
        size = float(right.detach().abs().max()) if right.numel() else 1.0
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10 * max(size, 1.0))


@given(batch=st.integers(1, 5), identities=st.integers(2, 300), seed=seeds)
def test_the_negatives_leave_the_target_out(batch: int, identities: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    unit = F.normalize(torch.randn(batch, 4, generator=generator, dtype=torch.float64))
    weight = torch.randn(identities, 4, generator=generator, dtype=torch.float64)
    labels = torch.full((batch,), identities - 1)
    before = lean_contrast(unit, weight, labels, scale=16.0)
    without = torch.logsumexp(16.0 * unit @ F.normalize(weight[:-1]).T, dim=1)
    torch.testing.assert_close(before.negatives, without)
    weight[-1] *= -1.0
    after = lean_contrast(unit, weight, labels, scale=16.0)
    assert torch.equal(after.negatives, before.negatives)
    torch.testing.assert_close(after.targets, -before.targets)


@given(shift=st.floats(0.0, 0.5), seed=seeds)
def test_a_larger_margin_never_lowers_a_loss(shift: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    embeddings, weight = torch.randn(5, 6, generator=generator), torch.randn(7, 6, generator=generator)
    labels = torch.randint(7, (5,), generator=generator)
    for lean in (True, False):
        plain = cosine_cross_entropy(embeddings, weight, labels, lean=lean, reduction="none")
        moved = cosine_cross_entropy(
            embeddings, weight, labels, target_margin=lambda c: c - shift, lean=lean, reduction="none"
        )
        assert bool((moved >= plain).all())


@given(threshold=st.floats(-1.0, 1.0), hardness=st.floats(-0.5, 1.0), cosine=st.floats(-1.0, 1.0))
def test_hard_negatives_are_those_above_the_threshold(threshold: float, hardness: float, cosine: float) -> None:
    rule = HardNegatives(torch.tensor([threshold]).double(), torch.tensor(hardness).double())
    got = hardened(torch.tensor([[cosine]]).double(), rule)
    threshold = torch.tensor(threshold).double().item()
    want = cosine * (hardness + cosine) if torch.tensor(cosine).double().item() > threshold else cosine
    torch.testing.assert_close(got.item(), want, rtol=1e-6, atol=1e-7)
