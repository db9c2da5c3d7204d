from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from facemtl.layers.age import expected_age
from facemtl.losses.age import AgeCrossEntropyLoss, AgeEstimationLoss
from facemtl.losses.age_distribution import LabelDistributionLoss, MeanVarianceLoss
from facemtl.losses.ordinal import CoralLoss, CornLoss

seeds = st.integers(0, 2**16)

# What builds each loss, and how many columns its logits have for 101 ages.
LOSSES: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "estimation": (AgeEstimationLoss, (101, 7)),
    "cross-entropy": (AgeCrossEntropyLoss, (101,)),
    "label distribution": (LabelDistributionLoss, (101,)),
    "mean-variance": (MeanVarianceLoss, (101,)),
    "CORAL": (CoralLoss, (100,)),
    "CORN": (CornLoss, (100,)),
}
every_loss = pytest.mark.parametrize("name", list(LOSSES))


def draw(name: str, seed: int, batch: int) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = [torch.randn(batch, n, generator=generator, dtype=torch.float64).requires_grad_() for n in LOSSES[name][1]]
    return logits, (1000.0 * torch.rand(batch, generator=generator, dtype=torch.float64)).round() / 10.0


@every_loss
@given(seed=seeds, batch=st.integers(0, 8), mark=st.sampled_from((-1.0, math.nan, 200.0)))
def test_unknown_ages_count_as_if_they_were_not_there(name: str, seed: int, batch: int, mark: float) -> None:
    make, _ = LOSSES[name]
    logits, ages = draw(name, seed, batch)
    known = torch.rand(batch, generator=torch.Generator().manual_seed(seed + 1)) < 0.6
    marked = torch.where(known, ages, torch.full_like(ages, mark))
    got = make(unknown_age=mark)(*logits, marked)
    want = make()(*(scores[known] for scores in logits), ages[known])
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    for scores in torch.autograd.grad(got, logits):
        assert bool((scores[~known] == 0).all())
        assert bool(scores.isfinite().all())


@every_loss
@given(seed=seeds, batch=st.integers(1, 8))
def test_loss_is_not_negative_and_ignores_the_order(name: str, seed: int, batch: int) -> None:
    loss = LOSSES[name][0]()
    logits, ages = draw(name, seed, batch)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    value = loss(*logits, ages)
    assert float(value.detach()) >= 0.0
    assert value.dim() == 0
    torch.testing.assert_close(loss(*(scores[order] for scores in logits), ages[order]), value, rtol=1e-12, atol=1e-12)


@every_loss
@given(seed=seeds, dtype=st.sampled_from((torch.float16, torch.bfloat16)))
def test_half_precision_logits_give_a_float32_loss(name: str, seed: int, dtype: torch.dtype) -> None:
    loss = LOSSES[name][0]()
    logits, ages = draw(name, seed, 5)
    halves = [scores.detach().to(dtype) for scores in logits]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*halves, ages)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), loss(*(half.double() for half in halves), ages), rtol=1e-5, atol=1e-5)


@every_loss
@given(seed=seeds)
def test_whole_years_may_be_integers(name: str, seed: int) -> None:
    loss = LOSSES[name][0]()
    logits, ages = draw(name, seed, 5)
    years = ages.round()
    assert torch.equal(loss(*logits, years), loss(*logits, years.long()))
    assert torch.equal(loss(*logits, years), loss(*logits, years.float()))


@every_loss
def test_no_known_age_gives_zero_with_a_gradient(name: str) -> None:
    loss = LOSSES[name][0](unknown_age=-1.0)
    for batch in (0, 3):
        logits, _ = draw(name, 0, batch)
        value = loss(*logits, torch.full((batch,), -1.0))
        assert float(value.detach()) == 0.0
        assert all(bool((gradient == 0).all()) for gradient in torch.autograd.grad(value, logits))


@every_loss
@given(seed=seeds, year=st.integers(0, 100))
def test_descent_on_the_logits_finds_the_age(name: str, seed: int, year: int) -> None:
    """Whatever the loss, its gradient at random logits points downhill."""
    loss = LOSSES[name][0]()
    logits, _ = draw(name, seed, 3)
    ages = torch.full((3,), float(year))
    before = loss(*logits, ages)
    gradients = torch.autograd.grad(before, logits)
    norm = sum(float(gradient.square().sum()) for gradient in gradients) ** 0.5
    with torch.no_grad():
        step = [scores - (1e-4 / norm) * gradient for scores, gradient in zip(logits, gradients, strict=True)]
        after = loss(*step, ages)
    assert float(after) < float(before.detach())


@given(age=st.floats(0.0, 100.0), sigma=st.floats(0.5, 5.0))
def test_label_distribution_loss_is_least_at_its_own_distribution(age: float, sigma: float) -> None:
    loss = LabelDistributionLoss(standard_deviation=sigma, expectation_weight=0.0)
    years = torch.arange(101, dtype=torch.float64)
    wanted = (-0.5 * ((years - age) / sigma) ** 2).unsqueeze(0).requires_grad_()
    value = loss(wanted, torch.tensor([age], dtype=torch.float64))
    assert abs(float(value.detach())) < 1e-12
    assert float(torch.autograd.grad(value, wanted)[0].abs().max()) < 1e-12


@given(seed=seeds, weight=st.floats(0.0, 3.0), group_weight=st.floats(0.0, 3.0))
def test_age_estimation_loss_is_linear_in_its_weights(seed: int, weight: float, group_weight: float) -> None:
    (ages_z, groups_z), ages = draw("estimation", seed, 4)
    total = AgeEstimationLoss(age_weight=weight, group_weight=group_weight)(ages_z, groups_z, ages)
    squared = AgeEstimationLoss(group_weight=0.0)(ages_z, groups_z, ages)
    crossed = AgeEstimationLoss(age_weight=0.0)(ages_z, groups_z, ages)
    torch.testing.assert_close(total, weight * squared + group_weight * crossed, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(squared, (expected_age(ages_z) - ages).square().mean(), rtol=1e-12, atol=1e-12)
