"""Losses of rank-consistent ordinal regression: CORAL and CORN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl._core.shapes import AgeLabels, RankLogits, Scalar
from facemtl.losses.known_ages import checked_logits, known_ages, mean_of_known, nearest_year


class CoralLoss(nn.Module):
    """CORAL: one yes-or-no question a year, "is the face older than k?", all asked of one score.

    ``−Σ_k [1(age > k) log σ(z_k) + 1(age ≤ k) log(1 − σ(z_k))]``, summed over the years and averaged over the faces
    whose age is known. Ages count in whole years, the nearest one (halves up). The logits are those of
    :class:`facemtl.CoralAgeHead`; only with its shared weights do the answers agree with each other.

    Args:
        unknown_age: The mark of ages that nobody knows, as −1 or NaN; such faces are left out. None: all are known.

    Shape:
        - ``rank_logits``: ``(batch, ages − 1)``, z, for k = 0, 1, …
        - ``ages``: ``(batch,)`` years in [0, ``ages`` − 1], integer or floating point.
        - Output: a scalar, float32 or float64; 0 (with a gradient) if no age is known or the batch is empty.

    Raises:
        ValueError: If an age is NaN or out of range (on CPU; see :func:`facemtl.value_checks`).
        ShapeError: If a shape does not fit, ``ages`` of shape (batch, 1) included.
        TypeError: If logits are not floating point.

    References:
        Cao, Mirjalili and Raschka, Pattern Recognition Letters 2020, with all importance weights 1.

    Example:
        >>> import torch
        >>> sure = 1000.0 * torch.tensor([[1.0, 1.0, -1.0, -1.0]])  # older than 0 and 1, not than 2 and 3
        >>> CoralLoss()(sure, torch.tensor([2])).item()
        0.0
    """

    def __init__(self, *, unknown_age: float | None = None) -> None:
        super().__init__()
        self.unknown_age = unknown_age

    def forward(self, rank_logits: RankLogits, ages: AgeLabels) -> Scalar:
        """Return the loss of logits against ages in years."""
        where = f"{type(self).__name__}.forward"
        rank_logits, years, known = _checked(where, rank_logits, ages, self.unknown_age)
        exceeded = years[:, None] > torch.arange(rank_logits.shape[1], device=years.device)
        return mean_of_known(_cross_entropies(rank_logits, exceeded).sum(dim=1), known)

    def extra_repr(self) -> str:
        """Show the mark of unknown ages in ``repr``."""
        return f"unknown_age={self.unknown_age}"


class CornLoss(nn.Module):
    """CORN: "is the face older than k?", asked only of the faces that are older than k − 1.

    ``−Σ_k Σ_{i: age_i ≥ k} [1(age_i > k) log σ(z_ik) + 1(age_i ≤ k) log(1 − σ(z_ik))]`` divided by the number of
    questions asked in the batch, so that an old face, which is asked more of them, weighs more: as in the paper. Ages
    count in whole years, the nearest one (halves up). The logits are those of :class:`facemtl.CornAgeHead`.

    Args:
        unknown_age: The mark of ages that nobody knows, as −1 or NaN; such faces are left out. None: all are known.

    Shape:
        - ``rank_logits``: ``(batch, ages − 1)``, z, for k = 0, 1, …
        - ``ages``: ``(batch,)`` years in [0, ``ages`` − 1], integer or floating point.
        - Output: a scalar, float32 or float64; 0 (with a gradient) if no age is known or the batch is empty.

    Raises:
        ValueError: If an age is NaN or out of range (on CPU; see :func:`facemtl.value_checks`).
        ShapeError: If a shape does not fit, ``ages`` of shape (batch, 1) included.
        TypeError: If logits are not floating point.

    References:
        Shi, Cao and Raschka, Pattern Analysis and Applications 2023 (arXiv 2111.08851).

    Example:
        >>> import torch
        >>> sure = 1000.0 * torch.tensor([[1.0, 1.0, -1.0, 1.0]])  # the last question is not asked at 2 years
        >>> CornLoss()(sure, torch.tensor([2])).item()
        0.0
    """

    def __init__(self, *, unknown_age: float | None = None) -> None:
        super().__init__()
        self.unknown_age = unknown_age

    def forward(self, rank_logits: RankLogits, ages: AgeLabels) -> Scalar:
        """Return the loss of logits against ages in years."""
        where = f"{type(self).__name__}.forward"
        rank_logits, years, known = _checked(where, rank_logits, ages, self.unknown_age)
        thresholds = torch.arange(rank_logits.shape[1], device=years.device)
        asked = years[:, None] >= thresholds
        if known is not None:
            asked = asked & known[:, None]
        losses = _cross_entropies(rank_logits, years[:, None] > thresholds)
        return torch.where(asked, losses, torch.zeros_like(losses)).sum() / asked.sum().clamp(min=1)

    def extra_repr(self) -> str:
        """Show the mark of unknown ages in ``repr``."""
        return f"unknown_age={self.unknown_age}"


def _checked(
    where: str, rank_logits: Tensor, ages: Tensor, unknown_age: float | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    rank_logits = checked_logits(where, "rank_logits", rank_logits, "ages - 1")
    batch, highest = rank_logits.shape
    ages, known = known_ages(where, ages, batch=batch, highest=highest, unknown_age=unknown_age)
    return rank_logits, nearest_year(ages), known


def _cross_entropies(logits: Tensor, answers: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, answers.to(logits.dtype), reduction="none")
