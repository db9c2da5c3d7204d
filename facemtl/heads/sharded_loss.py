"""The loss of heads whose identities may be split over processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from facemtl._core.precision import without_autocast
from facemtl.heads.cross_entropy import (
    LEAN_FROM,
    Reduction,
    TargetMargin,
    contrast_losses,
    head_directions,
    head_loss,
    margin_losses,
    reduce,
)
from facemtl.heads.sharded_contrast import Split, draw_identities, position_among, split_contrast
from facemtl.heads.sharded_weight import rows_of


def sharded_loss(
    where: str,
    embeddings: Tensor,
    weight: Tensor,
    labels: Tensor,
    target_margin: TargetMargin,
    *,
    scale: float,
    lean: bool | None,
    fraction: float,
    reduction: Reduction,
    made_before_group: bool,
) -> Tensor:
    """Loss of this process's samples, with a ``weight`` that is whole, or a DTensor split over processes by rows."""
    _check_made_in_group(where, weight.shape[0], made_before=made_before_group)
    if fraction == 1.0 and not is_split(weight):
        return head_loss(where, embeddings, weight, labels, target_margin, scale=scale, lean=lean, reduction=reduction)
    lean = weight.shape[0] >= LEAN_FROM if lean is None else lean
    with without_autocast(embeddings):
        if is_split(weight):
            split_weight: Any = weight
            mesh = split_weight.device_mesh
            first = rows_of(weight.shape[0], mesh.get_local_rank(), mesh.size()).start
            split = Split(mesh.get_group(), first, weight.shape[0])
            contrast = split_contrast(
                where, embeddings, split_weight.to_local(), labels, split, scale=scale, lean=lean, fraction=fraction
            )
            losses = contrast_losses(contrast, target_margin, scale=scale)
        else:
            unit, _ = head_directions(where, embeddings, weight, labels)
            drawn = draw_identities(labels.long(), weight.shape[0], fraction)
            own = position_among(drawn, labels.long())
            losses = margin_losses(unit, weight.index_select(0, drawn), own, target_margin, scale=scale, lean=lean)
        return reduce(losses, reduction)


def is_split(weight: Tensor) -> bool:
    """Whether ``weight`` is a DTensor; importing that class to ask takes a while, and one process needs none."""
    return hasattr(weight, "to_local")


def in_group() -> bool:
    """Whether this process belongs to a process group."""
    return dist.is_available() and dist.is_initialized()


def _check_made_in_group(where: str, num_identities: int, *, made_before: bool) -> None:
    """Refuse a head that was made before the processes knew of each other: each would train a whole one of its own."""
    if made_before and not torch.compiler.is_compiling() and in_group() and dist.get_world_size() > 1:
        raise ValueError(
            f"{where}: the head must be made after the process group, got one with all {num_identities} identities "
            f"on each of {dist.get_world_size()} processes. Call torch.distributed.init_process_group first."
        )


def check_fraction(where: str, fraction: float) -> None:
    """Raise :class:`ValueError` unless ``fraction`` lies in (0, 1]."""
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"{where}: 'sample_fraction' must lie in (0, 1], got {fraction}.")
