"""Age losses on a distribution over years: MTLFace's own, and plain cross-entropy."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from facemtl._core.checks import check_size
from facemtl._core.shapes import AgeLabels, AgeLogits, GroupLogits, Scalar
from facemtl.layers.age import AgeGroups, exceeded_edges, expected_age
from facemtl.losses.known_ages import check_weights, checked_logits, known_ages, mean_of_known, nearest_year


class AgeEstimationLoss(nn.Module):
    """MTLFace's age estimation loss: squared error of the expected age plus cross-entropy of the age group.

    ``age_weight · (DEX(z) − age)² + group_weight · CE(group logits, group of age)``, averaged over the faces whose age
    is known. The released code computes the same, with its seven groups written in and ages that index freely. Labels
    may be fractions of years.

    Args:
        age_groups: The groups that the group logits score; the paper's seven by default.
        age_weight: Weight of the squared error, in 1 per squared year.
        group_weight: Weight of the cross-entropy.
        unknown_age: The mark of ages that nobody knows, as −1 or NaN; such faces are left out. None: all are known.

    Shape:
        - ``age_logits``: ``(batch, ages)``, z.
        - ``group_logits``: ``(batch, groups)``.
        - ``ages``: ``(batch,)`` years in [0, ``ages`` − 1], integer or floating point.
        - Output: a scalar, float32 or float64; 0 (with a gradient) if no age is known or the batch is empty.

    Raises:
        ValueError: If a weight is negative or not finite, at construction; if an age is NaN or lies outside the bins
            (on CPU; see :func:`facemtl.value_checks`).
        ShapeError: If a shape does not fit, ``ages`` of shape (batch, 1) included.
        TypeError: If logits are not floating point.

    References:
        MTLFace (CVPR 2021), section 3.2, ℓ_AE.

    Example:
        >>> import torch
        >>> age_logits = torch.zeros(2, 101, requires_grad=True)  # expects 50 years
        >>> loss = AgeEstimationLoss(unknown_age=-1)(age_logits, torch.zeros(2, 7), torch.tensor([48.0, -1.0]))
        >>> round(loss.item() - 4.0, 4)  # (50 - 48)², and the logarithm of seven groups
        1.9459
    """

    def __init__(
        self,
        age_groups: AgeGroups | None = None,
        *,
        age_weight: float = 1.0,
        group_weight: float = 1.0,
        unknown_age: float | None = None,
    ) -> None:
        super().__init__()
        check_weights(type(self).__name__, age_weight=age_weight, group_weight=group_weight)
        self.age_groups = age_groups if age_groups is not None else AgeGroups()
        self.age_weight = age_weight
        self.group_weight = group_weight
        self.unknown_age = unknown_age

    def forward(self, age_logits: AgeLogits, group_logits: GroupLogits, ages: AgeLabels) -> Scalar:
        """Return the loss of logits against ages in years."""
        where = f"{type(self).__name__}.forward"
        age_logits = checked_logits(where, "age_logits", age_logits, "ages")
        group_logits = checked_logits(where, "group_logits", group_logits, "groups")
        batch, num_ages = age_logits.shape
        check_size(where, "group_logits", group_logits, 0, "batch", batch)
        check_size(
            where,
            "group_logits",
            group_logits,
            1,
            "groups",
            self.age_groups.num_groups,
            advice="Construct the loss with the AgeGroups that the head was built for.",
        )
        ages, known = known_ages(where, ages, batch=batch, highest=num_ages - 1, unknown_age=self.unknown_age)
        squared_error = (expected_age(age_logits) - ages.to(age_logits.dtype)).square()
        groups = exceeded_edges(ages, self.age_groups.edges)
        cross_entropy = F.cross_entropy(group_logits, groups, reduction="none")
        return mean_of_known(self.age_weight * squared_error + self.group_weight * cross_entropy, known)

    def extra_repr(self) -> str:
        """Show groups, weights and the mark of unknown ages in ``repr``."""
        return (
            f"{self.age_groups}, age_weight={self.age_weight:g}, group_weight={self.group_weight:g}, "
            f"unknown_age={self.unknown_age}"
        )


class AgeCrossEntropyLoss(nn.Module):
    """Plain classification of the age in whole years: the baseline that knows no order of ages.

    ``−log softmax(z)_k`` at the year k nearest to the age (halves up), averaged over the faces whose age is known. DEX
    was trained like this and read by :func:`facemtl.expected_age`.

    Args:
        unknown_age: The mark of ages that nobody knows, as −1 or NaN; such faces are left out. None: all are known.

    Shape:
        - ``age_logits``: ``(batch, ages)``.
        - ``ages``: ``(batch,)`` years in [0, ``ages`` − 1], integer or floating point.
        - Output: a scalar, float32 or float64; 0 (with a gradient) if no age is known or the batch is empty.

    Raises:
        ValueError: If an age is NaN or lies outside the bins (on CPU; see :func:`facemtl.value_checks`).
        ShapeError: If a shape does not fit, ``ages`` of shape (batch, 1) included.
        TypeError: If logits are not floating point.

    References:
        Rothe, Timofte and Van Gool, IJCV 2018 (DEX).

    Example:
        >>> import torch
        >>> round(AgeCrossEntropyLoss()(torch.zeros(1, 101), torch.tensor([30.2])).exp().item(), 2)
        101.0
    """

    def __init__(self, *, unknown_age: float | None = None) -> None:
        super().__init__()
        self.unknown_age = unknown_age

    def forward(self, age_logits: AgeLogits, ages: AgeLabels) -> Scalar:
        """Return the loss of logits against ages in years."""
        where = f"{type(self).__name__}.forward"
        age_logits = checked_logits(where, "age_logits", age_logits, "ages")
        batch, num_ages = age_logits.shape
        ages, known = known_ages(where, ages, batch=batch, highest=num_ages - 1, unknown_age=self.unknown_age)
        return mean_of_known(F.cross_entropy(age_logits, nearest_year(ages), reduction="none"), known)

    def extra_repr(self) -> str:
        """Show the mark of unknown ages in ``repr``."""
        return f"unknown_age={self.unknown_age}"
