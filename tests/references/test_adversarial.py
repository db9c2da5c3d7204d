from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl.losses.adversarial import HingeAdversarialLoss, LeastSquaresAdversarialLoss, NonSaturatingAdversarialLoss

SQUARES, HINGE, LOGISTIC = LeastSquaresAdversarialLoss(), HingeAdversarialLoss(), NonSaturatingAdversarialLoss()


def logits(batch: int) -> Tensor:
    return 2.0 * torch.randn(batch, 1, 3, 2, dtype=torch.float64)


def naive(loss: Any, reals: Tensor, fakes: Tensor) -> tuple[float, float]:
    """Discriminator's and generator's loss, one logit after another."""

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    real_terms = {
        SQUARES: lambda x: (x - 1) ** 2 / 2,
        HINGE: lambda x: max(0, 1 - x),
        LOGISTIC: lambda x: -math.log(sigmoid(x)),
    }
    fake_terms = {
        SQUARES: lambda x: x**2 / 2,
        HINGE: lambda x: max(0, 1 + x),
        LOGISTIC: lambda x: -math.log(1 - sigmoid(x)),
    }
    generator_terms = {
        SQUARES: lambda x: (x - 1) ** 2 / 2,
        HINGE: lambda x: -x,
        LOGISTIC: lambda x: -math.log(sigmoid(x)),
    }
    discriminator = sum(map(real_terms[loss], reals.flatten().tolist())) / reals.numel()
    discriminator += sum(map(fake_terms[loss], fakes.flatten().tolist())) / fakes.numel()
    return discriminator, sum(map(generator_terms[loss], fakes.flatten().tolist())) / fakes.numel()


every_loss = pytest.mark.parametrize("loss", [SQUARES, HINGE, LOGISTIC], ids=lambda loss: type(loss).__name__)


@every_loss
def test_losses_equal_the_naive_sums(loss: Any) -> None:
    reals, fakes = logits(3), logits(2)
    discriminator, generator = naive(loss, reals, fakes)
    assert float(loss.discriminator(reals, fakes)) == pytest.approx(discriminator, rel=1e-12)
    assert float(loss.generator(fakes)) == pytest.approx(generator, rel=1e-12)


@every_loss
def test_losses_pass_gradcheck(loss: Any) -> None:
    reals, fakes = (logits(2).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(loss.discriminator, (reals, fakes))
    assert torch.autograd.gradcheck(loss.generator, fakes)


def test_logistic_loss_is_binary_cross_entropy() -> None:
    reals, fakes = logits(3), logits(3)
    want = F.binary_cross_entropy_with_logits(reals, torch.ones_like(reals))
    want = want + F.binary_cross_entropy_with_logits(fakes, torch.zeros_like(fakes))
    torch.testing.assert_close(LOGISTIC.discriminator(reals, fakes), want)
    torch.testing.assert_close(
        LOGISTIC.generator(fakes), F.binary_cross_entropy_with_logits(fakes, torch.ones_like(fakes))
    )
