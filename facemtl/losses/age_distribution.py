"""Age losses that shape the whole distribution over years: DLDL-v2 and mean-variance."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from facemtl._core.shapes import AgeLabels, AgeLogits, Scalar
from facemtl.layers.age import expectation
from facemtl.losses.known_ages import check_weights, checked_logits, known_ages, mean_of_known, nearest_year


class LabelDistributionLoss(nn.Module):
    """DLDL-v2: divergence from a Gaussian around the age, plus the absolute error of the expected age.

    ``KL(p ‖ softmax(z)) + expectation_weight · |DEX(z) − age|`` with ``p_i ∝ exp(−(i − age)² / 2σ²)`` over the bins of
    one year: a face of 30 also teaches 29 and 31. p is normalised over the bins, so near their ends it is a truncated
    Gaussian. The age need not be whole.

    Args:
        standard_deviation: σ in years, positive; 2 in the paper.
        expectation_weight: λ, weight of the absolute error, in 1 per year; 1 in the paper.
        unknown_age: The mark of ages that nobody knows, as −1 or NaN; such faces are left out. None: all are known.

    Shape:
        - ``age_logits``: ``(batch, ages)``, z.
        - ``ages``: ``(batch,)`` years in [0, ``ages`` − 1], integer or floating point.
        - Output: a scalar, float32 or float64; 0 (with a gradient) if no age is known or the batch is empty.

    Raises:
        ValueError: If σ is not positive or the weight is negative, at construction; if an age is NaN or lies outside
            the bins (on CPU; see :func:`facemtl.value_checks`).
        ShapeError: If a shape does not fit, ``ages`` of shape (batch, 1) included.
        TypeError: If logits are not floating point.

    References:
        Gao et al., "Age Estimation Using Expectation of Label Distribution Learning", IJCAI 2018.

    Example:
        >>> import torch
        >>> years = torch.arange(101.0)
        >>> logits = (-0.5 * ((years - 30.0) / 2.0) ** 2).unsqueeze(0)  # the very distribution that is asked for
        >>> LabelDistributionLoss()(logits, torch.tensor([30])).item() < 1e-5
        True
    """

    def __init__(
        self,
        *,
        standard_deviation: float = 2.0,
        expectation_weight: float = 1.0,
        unknown_age: float | None = None,
    ) -> None:
        super().__init__()
        if not (standard_deviation > 0.0 and math.isfinite(standard_deviation)):
            raise ValueError(
                f"LabelDistributionLoss: 'standard_deviation' must be positive and finite, got {standard_deviation}."
            )
        check_weights(type(self).__name__, expectation_weight=expectation_weight)
        self.standard_deviation = standard_deviation
        self.expectation_weight = expectation_weight
        self.unknown_age = unknown_age

    def forward(self, age_logits: AgeLogits, ages: AgeLabels) -> Scalar:
        """Return the loss of logits against ages in years."""
        where = f"{type(self).__name__}.forward"
        age_logits = checked_logits(where, "age_logits", age_logits, "ages")
        batch, num_ages = age_logits.shape
        ages, known = known_ages(where, ages, batch=batch, highest=num_ages - 1, unknown_age=self.unknown_age)
        ages = ages.to(age_logits.dtype)
        years = torch.arange(num_ages, device=age_logits.device, dtype=age_logits.dtype)
        log_wanted = (-0.5 * ((years - ages[:, None]) / self.standard_deviation).square()).log_softmax(dim=1)
        log_given = age_logits.log_softmax(dim=1)
        divergence = (log_wanted.exp() * (log_wanted - log_given)).sum(dim=1)
        error = (expectation(log_given.exp()) - ages).abs()
        return mean_of_known(divergence + self.expectation_weight * error, known)

    def extra_repr(self) -> str:
        """Show σ, the weight and the mark of unknown ages in ``repr``."""
        return (
            f"standard_deviation={self.standard_deviation:g}, expectation_weight={self.expectation_weight:g}, "
            f"unknown_age={self.unknown_age}"
        )


class MeanVarianceLoss(nn.Module):
    """Mean-variance loss: cross-entropy, squared error of the mean, and the variance of the distribution itself.

    ``CE(z, year) + mean_weight · ½ (m − age)² + variance_weight · v`` with mean ``m = Σ i·p_i`` and variance
    ``v = Σ p_i (i − m)²`` of ``p = softmax(z)``: the distribution should be right and narrow. The class of the
    cross-entropy is the year nearest to the age (halves up); the mean is held to the age itself.

    Args:
        mean_weight: λ₁, in 1 per squared year; 0.2 in the paper.
        variance_weight: λ₂, in 1 per squared year; 0.05 in the paper.
        unknown_age: The mark of ages that nobody knows, as −1 or NaN; such faces are left out. None: all are known.

    Shape:
        - ``age_logits``: ``(batch, ages)``, z.
        - ``ages``: ``(batch,)`` years in [0, ``ages`` − 1], integer or floating point.
        - Output: a scalar, float32 or float64; 0 (with a gradient) if no age is known or the batch is empty.

    Raises:
        ValueError: If a weight is negative or not finite, at construction; if an age is NaN or lies outside the bins
            (on CPU; see :func:`facemtl.value_checks`).
        ShapeError: If a shape does not fit, ``ages`` of shape (batch, 1) included.
        TypeError: If logits are not floating point.

    References:
        Pan et al., "Mean-Variance Loss for Deep Age Estimation from a Face", CVPR 2018.

    Example:
        >>> import torch
        >>> sure = 1000.0 * torch.nn.functional.one_hot(torch.tensor([30]), 101)
        >>> MeanVarianceLoss()(sure, torch.tensor([30])).item()
        0.0
    """

    def __init__(
        self, *, mean_weight: float = 0.2, variance_weight: float = 0.05, unknown_age: float | None = None
    ) -> None:
        super().__init__()
        check_weights(type(self).__name__, mean_weight=mean_weight, variance_weight=variance_weight)
        self.mean_weight = mean_weight
        self.variance_weight = variance_weight
        self.unknown_age = unknown_age

    def forward(self, age_logits: AgeLogits, ages: AgeLabels) -> Scalar:
        """Return the loss of logits against ages in years."""
        where = f"{type(self).__name__}.forward"
        age_logits = checked_logits(where, "age_logits", age_logits, "ages")
        batch, num_ages = age_logits.shape
        ages, known = known_ages(where, ages, batch=batch, highest=num_ages - 1, unknown_age=self.unknown_age)
        probabilities = age_logits.softmax(dim=1)
        mean = expectation(probabilities)
        years = torch.arange(num_ages, device=age_logits.device, dtype=age_logits.dtype)
        variance = (probabilities * (years - mean[:, None]).square()).sum(dim=1)
        losses = (
            F.cross_entropy(age_logits, nearest_year(ages), reduction="none")
            + self.mean_weight * 0.5 * (mean - ages.to(mean.dtype)).square()
            + self.variance_weight * variance
        )
        return mean_of_known(losses, known)

    def extra_repr(self) -> str:
        """Show the weights and the mark of unknown ages in ``repr``."""
        return (
            f"mean_weight={self.mean_weight:g}, variance_weight={self.variance_weight:g}, "
            f"unknown_age={self.unknown_age}"
        )
