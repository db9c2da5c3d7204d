"""Age losses against loops written from the papers' equations in float64, and against coral-pytorch."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from coral_pytorch.dataset import levels_from_labelbatch
from coral_pytorch.losses import coral_loss, corn_loss
from torch import Tensor, nn

from facemtl.layers.age import AgeGroups
from facemtl.losses.age import AgeCrossEntropyLoss, AgeEstimationLoss
from facemtl.losses.age_distribution import LabelDistributionLoss, MeanVarianceLoss
from facemtl.losses.ordinal import CoralLoss, CornLoss

AGES = [0.0, 3.5, 10.0, 10.4, 19.6, 20.0]  # of 21 bins
BINS = 21


def softmax(row: list[float]) -> list[float]:
    weights = [math.exp(value) for value in row]
    return [weight / sum(weights) for weight in weights]


def mean_of(probabilities: list[float]) -> float:
    return sum(i * p for i, p in enumerate(probabilities))


def year(age: float) -> int:
    return math.floor(age + 0.5)


def estimation(logits: list[float], age: float, groups: list[float], edges: tuple[float, ...]) -> float:
    group = sum(age > edge for edge in edges)
    return 2.0 * (mean_of(softmax(logits)) - age) ** 2 - 0.5 * math.log(softmax(groups)[group])


def cross_entropy(logits: list[float], age: float) -> float:
    return -math.log(softmax(logits)[year(age)])


def label_distribution(logits: list[float], age: float) -> float:
    gaussian = [math.exp(-((i - age) ** 2) / (2 * 1.5**2)) for i in range(len(logits))]
    wanted = [value / sum(gaussian) for value in gaussian]
    given = softmax(logits)
    divergence = sum(p * math.log(p / q) for p, q in zip(wanted, given, strict=True) if p > 0)
    return divergence + 0.7 * abs(mean_of(given) - age)


def mean_variance(logits: list[float], age: float) -> float:
    given = softmax(logits)
    mean = mean_of(given)
    variance = sum(p * (i - mean) ** 2 for i, p in enumerate(given))
    return cross_entropy(logits, age) + 0.2 * 0.5 * (mean - age) ** 2 + 0.05 * variance


def answer(logit: float, yes: bool) -> float:
    return math.log1p(math.exp(-logit if yes else logit))


def coral(logits: list[float], age: float) -> float:
    return sum(answer(logit, year(age) > k) for k, logit in enumerate(logits))


REFERENCES: list[tuple[nn.Module, Callable[[list[float], float], float], int]] = [
    (AgeCrossEntropyLoss(), cross_entropy, BINS),
    (LabelDistributionLoss(standard_deviation=1.5, expectation_weight=0.7), label_distribution, BINS),
    (MeanVarianceLoss(), mean_variance, BINS),
    (CoralLoss(), coral, BINS - 1),
]
every_reference = pytest.mark.parametrize(
    ("loss", "reference", "width"), REFERENCES, ids=lambda value: type(value).__name__
)


def draw(*widths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(9)
    return [2.0 * torch.randn(len(AGES), width, generator=generator, dtype=torch.float64) for width in widths]


@every_reference
def test_loss_equals_the_loop(loss: nn.Module, reference: Callable[[list[float], float], float], width: int) -> None:
    (logits,) = draw(width)
    want = sum(reference(row, age) for row, age in zip(logits.tolist(), AGES, strict=True)) / len(AGES)
    got = float(loss(logits, torch.tensor(AGES, dtype=torch.float64)))
    assert math.isclose(got, want, rel_tol=1e-12)


def test_age_estimation_loss_equals_the_loop() -> None:
    edges = (3.5, 10.0, 19.0)
    logits, groups = draw(BINS, 4)
    want = sum(
        estimation(row, age, group_row, edges)
        for row, age, group_row in zip(logits.tolist(), AGES, groups.tolist(), strict=True)
    ) / len(AGES)
    loss = AgeEstimationLoss(AgeGroups(edges), age_weight=2.0, group_weight=0.5)
    got = float(loss(logits, groups, torch.tensor(AGES, dtype=torch.float64)))
    assert math.isclose(got, want, rel_tol=1e-12)


def test_corn_loss_equals_the_loop() -> None:
    (logits,) = draw(BINS - 1)
    asked = [
        answer(logit, year(age) > k)
        for row, age in zip(logits.tolist(), AGES, strict=True)
        for k, logit in enumerate(row)
        if year(age) >= k
    ]
    got = float(CornLoss()(logits, torch.tensor(AGES, dtype=torch.float64)))
    assert math.isclose(got, sum(asked) / len(asked), rel_tol=1e-12)


def test_ordinal_losses_and_their_gradients_equal_coral_pytorch() -> None:
    logits = (2.0 * torch.randn(64, 100, dtype=torch.float64)).requires_grad_()
    ages = torch.randint(0, 101, (64,))
    levels = levels_from_labelbatch(ages, num_classes=101).double()
    for got, want in (
        (CoralLoss()(logits, ages), coral_loss(logits, levels)),
        (CornLoss()(logits, ages), corn_loss(logits, ages, num_classes=101)),
    ):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            torch.autograd.grad(got, logits, retain_graph=True)[0],
            torch.autograd.grad(want, logits, retain_graph=True)[0],
            rtol=1e-10,
            atol=1e-12,
        )


def test_logits_of_a_thousand_leave_losses_and_gradients_finite() -> None:
    ages = torch.tensor([0.0, 50.0, 100.0])
    for loss, width in (
        (LabelDistributionLoss(), 101),
        (MeanVarianceLoss(), 101),
        (CoralLoss(), 100),
        (CornLoss(), 100),
    ):
        logits = (1000.0 * torch.randn(3, width)).requires_grad_()
        value = loss(logits, ages)
        value.backward()
        assert value.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


@every_reference
def test_gradcheck(loss: nn.Module, reference: object, width: int) -> None:
    (logits,) = draw(width)
    assert torch.autograd.gradcheck(lambda z: loss(z, torch.tensor(AGES)), (logits.requires_grad_(),))


def test_gradcheck_of_the_others() -> None:
    logits, groups, ranks = (scores.requires_grad_() for scores in draw(BINS, 4, BINS - 1))
    ages = torch.tensor([-1.0, *AGES[1:]])
    estimation_loss = AgeEstimationLoss(AgeGroups((3.0, 10.0, 19.0)), unknown_age=-1)
    assert torch.autograd.gradcheck(lambda z, g: estimation_loss(z, g, ages), (logits, groups))
    assert torch.autograd.gradcheck(lambda z: CornLoss(unknown_age=-1)(z, ages), (ranks,))
