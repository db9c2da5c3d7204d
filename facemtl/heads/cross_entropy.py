"""Cross-entropy of scaled cosines with a margin on the target: plain, or lean for many identities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl._core.checks import check_floating, check_rank
from facemtl._core.precision import without_autocast
from facemtl._core.shapes import Embeddings, IdentityLabels
from facemtl.heads.cosine import (
    EMBEDDING_FLOOR,
    Directions,
    check_embeddings,
    check_labels,
    check_options,
    cosine_matrix,
    directions,
    working_dtype,
)
from facemtl.heads.lean import Contrast, HardNegatives, contrast_with_nobody, lean_contrast

Reduction = Literal["mean", "sum", "none"]
TargetMargin = Callable[[Tensor], Tensor]

LEAN_FROM = 4096
"""Identities from which the lean way is the default; below it the matrix is small and the plain way differentiates
twice."""


def cosine_cross_entropy(
    embeddings: Embeddings,
    weight: Tensor,
    labels: IdentityLabels,
    *,
    scale: float = 64.0,
    target_margin: TargetMargin | None = None,
    lean: bool | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Cross-entropy of scaled cosines, computed without a batch × identities matrix where there are many identities.

    With :math:`z_j = s\cos\theta_j` and the target's :math:`z_y = s f(\cos\theta_y)`,

    .. math:: \ell = \operatorname{softplus}\Bigl(\log\sum_{j \ne y} e^{z_j} - z_y\Bigr).

    That is softmax cross-entropy, written so that nothing cancels: the gradient of :math:`z_y` is minus a sigmoid,
    where softmax minus one-hot loses all digits of a well-classified sample in float32. The lean way visits the
    identities in blocks, and uses the memory of the weight's gradient for what the backward pass needs of them.

    Args:
        embeddings: Any floating dtype and norm; normalised here, in float32 or wider.
        weight: One row for each identity, ``(identities, dimension)``; normalised here, not stored normalised.
        labels: Identity indices, int64 or int32.
        scale: s, positive.
        target_margin: f, maps the target cosines ``(batch,)`` to logits without scale, ``(batch,)``, by operations that
            autograd knows; None is no margin. CosFace: ``lambda cosines: cosines - 0.35``.
        lean: True or False chooses; None is lean from 4096 identities on. While `torch.compile` or `torch.export`
            trace, the plain way is always taken (a loop over hundreds of blocks would be unrolled).
        reduction: ``"mean"`` (of an empty batch: 0), ``"sum"``, or ``"none"`` for one loss each.

    Shape:
        - embeddings: ``(batch, dimension)``; weight: ``(identities, dimension)``; labels: ``(batch,)``.
        - Output: scalar, or ``(batch,)``; float32, float64 if an input is.

    Returns:
        The loss. The lean way differentiates once; a second derivative raises RuntimeError (pass ``lean=False``).

    Raises:
        ShapeError: If shapes do not fit.
        TypeError: If dtypes do not.
        ValueError: If a label lies outside [0, identities) or an embedding is not finite (CPU), or an option is wrong.

    Example:
        >>> import torch
        >>> weight = torch.eye(3, requires_grad=True)
        >>> loss = cosine_cross_entropy(torch.eye(3), weight, torch.tensor([0, 1, 1]), scale=8.0, reduction="none")
        >>> [round(value, 4) for value in loss.tolist()]
        [0.0007, 0.0007, 8.0007]
    """
    where = "cosine_cross_entropy"
    check_rank(where, "weight", weight, ("identities", "dimension"))
    check_floating(where, "weight", weight)
    check_options(where, dimension=weight.shape[1], num_identities=weight.shape[0], scale=scale)
    return head_loss(where, embeddings, weight, labels, target_margin, scale=scale, lean=lean, reduction=reduction)


def margin_losses(
    unit: Tensor,
    weight: Tensor,
    labels: Tensor,
    target_margin: TargetMargin | None,
    *,
    scale: float,
    lean: bool | None = None,
    hard: HardNegatives | None = None,
) -> Tensor:
    """One loss for each sample, from checked inputs outside autocast."""
    contrast = contrast_for(weight, lean)(unit, weight, labels, scale=scale, hard=hard)
    return contrast_losses(contrast, target_margin, scale=scale)


def contrast_losses(contrast: Contrast, target_margin: TargetMargin | None, *, scale: float) -> Tensor:
    """One loss for each sample, from what a margin softmax needs to know."""
    targets = contrast.targets if target_margin is None else target_margin(contrast.targets)
    # softplus is linear above its threshold; at 40 the difference is below float64's resolution.
    return F.softplus(contrast.negatives - scale * targets, threshold=40.0)


def contrast_for(weight: Tensor, lean: bool | None) -> Callable[..., Contrast]:
    """Choose the plain or the lean way."""
    if torch.compiler.is_compiling():
        return plain_contrast
    return lean_contrast if (weight.shape[0] >= LEAN_FROM if lean is None else lean) else plain_contrast


def plain_contrast(
    unit: Tensor, weight: Tensor, labels: Tensor, *, scale: float, hard: HardNegatives | None = None
) -> Contrast:
    """The same as :func:`facemtl.heads.lean.lean_contrast`, through the whole matrix; differentiable to any order."""
    if weight.shape[0] == 0:
        return contrast_with_nobody(unit, weight)
    cosines = cosine_matrix(unit, weight)
    mine, columns = (labels >= 0).unsqueeze(1), labels.clamp(min=0).unsqueeze(1)
    logits = scale * (cosines if hard is None else hardened(cosines, hard))
    others = logits.gather(1, columns).masked_fill(mine, -math.inf)
    negatives = logits.scatter(1, columns, others).logsumexp(1)
    return Contrast(cosines.gather(1, columns).masked_fill(~mine, 0.0).squeeze(1), negatives)


def hardened(cosines: Tensor, hard: HardNegatives) -> Tensor:
    """Count the hard ones among ``cosines`` as CurricularFace does; the targets' own entries are left to the caller."""
    return torch.where(cosines > hard.thresholds.unsqueeze(1), cosines * (cosines + hard.hardness), cosines)


def with_target_margin(cosines: Tensor, labels: Tensor, target_margin: TargetMargin) -> Tensor:
    """Put the margin on each sample's own identity in ``(batch, identities)`` cosines."""
    columns = labels.unsqueeze(1)
    return cosines.scatter(1, columns, target_margin(cosines.gather(1, columns).squeeze(1)).unsqueeze(1))


def head_directions(where: str, embeddings: Tensor, weight: Tensor, labels: Tensor | None) -> Directions:
    """Check what a head was given, and split the embeddings into directions and norms; call it outside autocast."""
    check_embeddings(where, embeddings, weight.shape[1])
    if labels is not None:
        check_labels(where, labels, batch=embeddings.shape[0], num_identities=weight.shape[0])
    return directions(embeddings, floor=EMBEDDING_FLOOR, dtype=working_dtype(embeddings, weight))


def head_loss(
    where: str,
    embeddings: Tensor,
    weight: Tensor,
    labels: Tensor,
    target_margin: TargetMargin | None,
    *,
    scale: float,
    lean: bool | None,
    reduction: Reduction,
) -> Tensor:
    """Loss of a head whose margin needs nothing but the target's cosine."""
    with without_autocast(embeddings):
        unit, _ = head_directions(where, embeddings, weight, labels)
        losses = margin_losses(unit, weight, labels.long(), target_margin, scale=scale, lean=lean)
        return reduce(losses, reduction)


def head_logits(
    where: str, embeddings: Tensor, weight: Tensor, labels: Tensor | None, target_margin: TargetMargin, *, scale: float
) -> Tensor:
    """Logits of a head whose margin needs nothing but the target's cosine."""
    with without_autocast(embeddings):
        unit, _ = head_directions(where, embeddings, weight, labels)
        cosines = cosine_matrix(unit, weight)
        return scale * (cosines if labels is None else with_target_margin(cosines, labels.long(), target_margin))


def reduce(losses: Tensor, reduction: Reduction) -> Tensor:
    """Reduce one loss a sample to a scalar; the mean of an empty batch is 0, and still differentiable."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        return losses.sum() / max(losses.shape[0], 1)
    raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}.")
