"""Contrast of all processes' embeddings with identities that are split over them.

Every process gathers the unit embeddings and labels of all, contrasts them with its own identities, and two reductions
of a few numbers for each sample give the exact target cosines and log-sum-exp. What crosses the wire grows with the
global batch, and not with the identities.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from facemtl._core.checks import check_finite, check_index_vector, check_values
from facemtl.heads.cosine import EMBEDDING_FLOOR, check_embedding_shape, directions, working_dtype
from facemtl.heads.cross_entropy import contrast_for
from facemtl.heads.lean import Contrast


class Split(NamedTuple):
    """Whose identities are where."""

    group: dist.ProcessGroup
    first: int
    """Number of the first identity of this process."""
    num_identities: int
    """Of all processes together."""


def split_contrast(
    where: str,
    embeddings: Tensor,
    weight: Tensor,
    labels: Tensor,
    split: Split,
    *,
    scale: float,
    lean: bool,
    fraction: float,
) -> Contrast:
    """Contrast of this process's ``embeddings`` with the identities of all; a collective, called outside autocast.

    Args:
        where: Begins messages.
        embeddings: ``(batch, dimension)`` of this process; the batch must be the same on all.
        weight: ``(identities of this process, dimension)``.
        labels: ``(batch,)`` of this process, numbers among the identities of all.
        split: The identities' places.
        scale: s.
        lean: Whether to avoid a global batch × own identities matrix.
        fraction: Share of the own identities that is drawn; 1 takes all.

    Returns:
        Of this process's samples. Backward gives the embeddings' gradients of the sum of all processes' losses, and
        the weight's divided by the number of processes.
    """
    check_embedding_shape(where, embeddings, weight.shape[1])
    check_index_vector(where, "labels", labels, batch=embeddings.shape[0])
    _check_equal_batches(where, embeddings, split.group)
    unit, _ = directions(embeddings, floor=EMBEDDING_FLOOR, dtype=working_dtype(embeddings, weight))
    units: Tensor = _GatherRows.apply(unit, split.group)
    all_labels = _gathered(labels.long(), split.group)
    # After the gathering, so that all processes raise, where one alone would leave the others waiting.
    check_finite(where, "embeddings", units.detach())
    own = own_labels(all_labels, split.first, weight.shape[0])
    counts = (own >= 0).to(unit.dtype)
    if fraction < 1.0:
        drawn = draw_identities(own, weight.shape[0], fraction)
        weight, own = weight.index_select(0, drawn), position_among(drawn, own)
    contrast = contrast_for(weight, lean)(units, weight, own, scale=scale)
    targets, negatives, counts = _CombineShards.apply(*contrast, counts, split.group)
    check_values(
        counts == 1,
        all_labels,
        f"{where}: 'labels' must belong to one process each, in [0, num_identities) = [0, {split.num_identities})",
        advice=lambda _: "The index counts through the batches of all processes.",
    )
    return Contrast(targets, negatives)


def own_labels(labels: Tensor, first: int, rows: int) -> Tensor:
    """Number each label among the ``rows`` identities from ``first`` on; -1 for those of other processes."""
    local = labels - first
    return local.masked_fill((local < 0) | (local >= rows), -1)


def draw_identities(own: Tensor, rows: int, fraction: float) -> Tensor:
    """Draw identities from torch's default generator: those among ``own`` surely, the others uniformly; sorted.

    ⌈fraction · rows⌉ are drawn, and always more than the batch has samples, so that their number is known without
    asking the device how many of its identities the batch has.
    """
    count = min(max(math.ceil(fraction * rows), own.shape[0] + 1), rows)
    lots = torch.rand(rows + 1, device=own.device)
    lots.index_fill_(0, torch.where(own >= 0, own, rows), 2.0)  # the last one stands for all other processes'
    return lots[:rows].topk(count).indices.sort().values


def position_among(drawn: Tensor, own: Tensor) -> Tensor:
    """Number each of ``own`` among the ``drawn`` identities; -1 stays."""
    return torch.where(own >= 0, torch.searchsorted(drawn, own.contiguous()), -1)


def _check_equal_batches(where: str, embeddings: Tensor, group: dist.ProcessGroup) -> None:
    """Refuse batches of different sizes on every process; a gathering of such would hang, or garble memory."""
    batch = embeddings.shape[0]
    sizes = _gathered(torch.full((1,), batch, device=embeddings.device), group)
    check_values(
        sizes == batch,
        sizes,
        f"{where}: 'embeddings' must have the same batch on all processes, here {batch}",
        advice=lambda _: "The index is the process's rank. Drop the last, smaller batch.",
    )


def _gathered(rows: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Rows of all processes, in order of rank."""
    result = rows.new_empty((dist.get_world_size(group) * rows.shape[0], *rows.shape[1:]))
    dist.all_gather_into_tensor(result, rows.contiguous(), group=group)
    return result


class _GatherRows(torch.autograd.Function):
    """Rows of all processes; backward, each gets the sum of what all found for its own."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group, ctx.shape = group, rows.shape
        return _gathered(rows, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        # _CombineShards divided by the number of processes for the weight's sake.
        total = gradient * dist.get_world_size(ctx.group)
        if total.device.type == "cpu":  # gloo's own scatter sends as much as its sum does, and older ones have none
            dist.all_reduce(total, group=ctx.group)
            batch = ctx.shape[0]
            first = dist.get_rank(ctx.group) * batch
            return total[first : first + batch].clone(), None
        own = total.new_empty(ctx.shape)
        dist.reduce_scatter_tensor(own, total, group=ctx.group)
        return own, None


class _CombineShards(torch.autograd.Function):
    """Own samples' contrast with everybody, from all samples' contrasts with the identities of each process.

    The third result counts, for all samples, the processes that have their identity.
    """

    @staticmethod
    def forward(
        ctx: Any, targets: Tensor, negatives: Tensor, counts: Tensor, group: dist.ProcessGroup
    ) -> tuple[Tensor, Tensor, Tensor]:
        highest = negatives.clone()
        dist.all_reduce(highest, dist.ReduceOp.MAX, group=group)
        sums = torch.stack((targets, (negatives - highest).exp_(), counts))
        dist.all_reduce(sums, group=group)
        everybody = sums[1].log().add_(highest)
        ctx.group = group
        ctx.save_for_backward(counts, (negatives - everybody).exp_())
        batch = targets.shape[0] // dist.get_world_size(group)
        first = dist.get_rank(group) * batch
        own = slice(first, first + batch)
        total_counts = sums[2].clone()
        ctx.mark_non_differentiable(total_counts)
        return sums[0, own].clone(), everybody[own].clone(), total_counts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        mine, shares = ctx.saved_tensors
        # Transposed, so that the rows of all processes stand below one another.
        pairs = _gathered(torch.stack(gradients[:2], dim=1), ctx.group).div_(dist.get_world_size(ctx.group))
        return pairs[:, 0] * mine, pairs[:, 1] * shares, None, None
