from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facemtl.losses.adversarial import HingeAdversarialLoss, LeastSquaresAdversarialLoss, NonSaturatingAdversarialLoss

LOSSES = [LeastSquaresAdversarialLoss(), HingeAdversarialLoss(), NonSaturatingAdversarialLoss()]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
losses = st.sampled_from(LOSSES)
seeds = st.integers(0, 2**16)


def logits(seed: int, batch: int) -> torch.Tensor:
    return 3.0 * torch.randn(batch, 1, 3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(loss=losses, real=st.integers(1, 4), fake=st.integers(1, 4), times=st.integers(2, 3), seed=seeds)
def test_losses_are_means_that_repetition_leaves(loss: Any, real: int, fake: int, times: int, seed: int) -> None:
    reals, fakes = logits(seed, real), logits(seed + 1, fake)
    want = loss.discriminator(reals, fakes)
    assert float(loss.discriminator(reals.repeat(times, 1, 1, 1), fakes)) == pytest.approx(float(want))
    assert float(loss.discriminator(reals, fakes.repeat(times, 1, 1, 1))) == pytest.approx(float(want))
    assert float(loss.generator(fakes.repeat(times, 1, 1, 1))) == pytest.approx(float(loss.generator(fakes)))
    assert torch.equal(loss(fakes), loss.generator(fakes))


@given(seed=seeds)
def test_the_optimum_of_each_side_is_its_lowest_value(seed: int) -> None:
    reals, fakes = logits(seed, 3), logits(seed + 1, 3)
    squares, hinge, logistic = LOSSES
    ones, zeros = torch.ones_like(reals), torch.zeros_like(fakes)
    assert float(squares.discriminator(ones, zeros)) == 0.0 <= float(squares.discriminator(reals, fakes))
    assert float(squares.generator(ones)) == 0.0 <= float(squares.generator(fakes))
    assert float(hinge.discriminator(1.0 + reals.abs(), -1.0 - fakes.abs())) == 0.0
    assert float(hinge.discriminator(reals, fakes)) >= 0.0
    assert float(logistic.discriminator(reals, fakes)) > 0.0
    assert float(logistic.generator(fakes)) > 0.0


@given(loss=losses, seed=seeds)
def test_gradients_pull_the_two_sides_apart_and_the_generator_the_other_way(loss: Any, seed: int) -> None:
    """Between the labels 0 and 1 all three losses agree on the direction."""
    reals, fakes = (torch.sigmoid(logits(seed + i, 2)).requires_grad_() for i in range(2))
    real_gradient, fake_gradient = torch.autograd.grad(loss.discriminator(reals, fakes), (reals, fakes))
    (generator_gradient,) = torch.autograd.grad(loss.generator(fakes), fakes)
    assert (real_gradient < 0).all()
    assert (fake_gradient > 0).all()
    assert (generator_gradient < 0).all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_averaged_in_float32(loss: Any, dtype: torch.dtype) -> None:
    halves = (20.0 * torch.randn(4096, 1, 5, 5, generator=torch.Generator().manual_seed(1))).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss.discriminator(halves, halves), loss.generator(halves)
    want = loss.discriminator(halves.double(), halves.double()), loss.generator(halves.double())
    for left, right in zip(got, want, strict=True):
        assert left.dtype == torch.float32
        assert float(left) == pytest.approx(float(right), rel=1e-5)


@every_loss
def test_empty_batches_cost_nothing_and_have_gradients(loss: Any) -> None:
    real, fake = (torch.zeros(0, 1, 5, 5, requires_grad=True) for _ in range(2))
    total = loss.discriminator(real, fake) + loss.generator(fake)
    assert float(total.detach()) == 0.0
    total.backward()
    assert real.grad is not None
    assert fake.grad is not None


@every_loss
def test_one_empty_side_leaves_the_other(loss: Any) -> None:
    fakes = logits(3, 2)
    without = loss.discriminator(fakes[:0], fakes)
    reals = loss.discriminator(fakes, fakes[:0])
    torch.testing.assert_close(without + reals, loss.discriminator(fakes, fakes))


def test_logistic_loss_of_extreme_logits_is_finite_and_exact() -> None:
    extreme = torch.tensor([-1e4, 1e4], requires_grad=True)
    value = NonSaturatingAdversarialLoss().generator(extreme)
    assert float(value.detach()) == pytest.approx(5e3)
    value.backward()
    torch.testing.assert_close(extreme.grad, torch.tensor([-0.5, 0.0]))
