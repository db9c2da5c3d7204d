"""Target cosines and the log-sum-exp of the negatives, without a batch × identities matrix.

The identities are visited in blocks that fit a core's cache, and each block's logits are summed into a running
log-sum-exp. The memory in which the weight's gradient will lie is needed anyway: while a batch has no more rows than an
embedding has numbers, each block's exponentials fit where the gradient of its weights will be written, and wait there
for the backward pass. Larger batches, other dtypes and a second backward pass compute the logits again, a fourth matrix
product where the plain way needs three. Either saves several passes over a matrix of hundreds of megabytes through main
memory, which is what the plain way spends its time on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from facemtl._core.precision import without_autocast
from facemtl.heads.cosine import WEIGHT_FLOOR

_BLOCK_ELEMENTS = 2**19
"""Numbers in one block of logits (and of weights) on a CPU: 2 MB of float32, so that a block stays in the cache."""

_BLOCK_ELEMENTS_ON_DEVICE = 2**24
"""The same on an accelerator, where large products matter more: 64 MB of float32."""


class HardNegatives(NamedTuple):
    """CurricularFace's rule: a negative cosine c above its sample's threshold counts as ``c * (hardness + c)``."""

    thresholds: Tensor
    """``(batch,)``: the target cosines with their margin; no gradient flows through them."""
    hardness: Tensor
    """t, a scalar without gradient."""


class Contrast(NamedTuple):
    """What a margin softmax needs to know of a batch."""

    targets: Tensor
    """``(batch,)``: cosine of each sample and its own identity, without margin or scale."""
    negatives: Tensor
    """``(batch,)``: log-sum-exp of the scaled cosines of all other identities."""


def lean_contrast(
    unit: Tensor, weight: Tensor, labels: Tensor, *, scale: float, hard: HardNegatives | None = None
) -> Contrast:
    """Contrast of unit embeddings with all identities, in memory that does not grow with batch × identities.

    Args:
        unit: Embeddings of unit norm, ``(batch, dimension)``, float32 or float64; the computation's dtype.
        weight: ``(identities, dimension)``, not normalised, any floating dtype.
        labels: ``(batch,)``, int64, in range; -1 where the identity is not among these: the target is then 0 and
            nothing is left out of the negatives.
        scale: s.
        hard: How to count hard negatives; None counts all alike.

    Returns:
        Target cosines and negatives; both differentiable once. The log of an empty sum is -∞.
    """
    if weight.shape[0] == 0:
        return contrast_with_nobody(unit, weight)
    thresholds, hardness = hard if hard is not None else (None, None)
    keeps = (
        torch.is_grad_enabled()
        and weight.requires_grad
        and weight.is_contiguous()
        and unit.dtype == weight.dtype
        and unit.shape[0] <= weight.shape[1]
    )
    return Contrast(*_LeanContrast.apply(unit, weight, labels, scale, thresholds, hardness, keeps))


def contrast_with_nobody(unit: Tensor, weight: Tensor) -> Contrast:
    """Contrast with no identities at all, still part of the graph of both: others may wait for its gradients."""
    nothing = unit[:, :0].sum(1) + weight.sum()
    return Contrast(nothing, nothing - math.inf)


class _Block(NamedTuple):
    identities: slice
    weight: Tensor
    inverse_norms: Tensor
    products: Tensor
    """``(batch, identities of the block)``: scaled embeddings times the weights as they are."""
    scratch: Tensor
    """``(identities of the block, dimension)``, in the memory of the products."""


class _KeptExponentials(NamedTuple):
    """What the forward pass leaves where the weight's gradient will be."""

    gradient: Tensor
    """``(identities, dimension)``; the memory of each block's rows begins with its exponentials."""
    references: list[Tensor]
    """For each block what was subtracted from each sample's logits, ``(batch, 1)``."""

    def of(self, identities: slice, batch: int) -> Tensor:
        """Memory of a block's exponentials, ``(batch, identities of the block)``."""
        rows = self.gradient[identities]
        return rows.view(-1)[: batch * rows.shape[0]].view(batch, rows.shape[0])


class _LeanContrast(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        unit: Tensor,
        weight: Tensor,
        labels: Tensor,
        scale: float,
        thresholds: Tensor | None,
        hardness: Tensor | None,
        keeps: bool,
    ) -> tuple[Tensor, Tensor]:
        kept = _KeptExponentials(torch.empty_like(weight), []) if keeps else None
        with without_autocast(unit):
            inverse_norms = torch.linalg.vector_norm(weight, dim=1, dtype=unit.dtype)
            inverse_norms.clamp_(min=WEIGHT_FLOOR).reciprocal_()
            targets = (unit * _unit_rows(weight, inverse_norms, labels.clamp(min=0))).sum(1)
            targets = targets.masked_fill_(labels < 0, 0.0)
            # Not -∞: a sample whose only identity here is its own has no negatives, and -∞ - (-∞) is no number.
            highest = unit.new_full((unit.shape[0],), torch.finfo(unit.dtype).min)
            total = torch.zeros_like(highest)
            for block in _blocks(unit, weight, inverse_norms, scale):
                logits = block.products.mul_(block.inverse_norms)
                slopes = None
                if thresholds is not None and hardness is not None:
                    slopes = _harden(logits, thresholds, hardness, scale)
                _fill_targets(logits, labels - block.identities.start, -math.inf)
                previous, highest = highest, torch.maximum(highest, logits.amax(1))
                logits.sub_(highest.unsqueeze(1))
                room = logits if kept is None else kept.of(block.identities, unit.shape[0])
                exponentials = torch.exp(logits, out=room)
                total.mul_((previous - highest).exp_()).add_(exponentials.sum(1))
                if kept is not None:
                    kept.references.append(highest.unsqueeze(1))
                    if slopes is not None:
                        exponentials.mul_(slopes)
            negatives = total.log_().add_(highest)
        ctx.scale, ctx.kept = scale, kept
        ctx.save_for_backward(unit, weight, labels, inverse_norms, targets, negatives, thresholds, hardness)
        return targets, negatives

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None, None]:
        unit, weight, labels, inverse_norms, targets, negatives, thresholds, hardness = ctx.saved_tensors
        grad_targets, grad_negatives = gradients
        kept, ctx.kept = ctx.kept, None  # the gradient overwrites them: a second backward pass computes them again
        mine, labels_here = labels >= 0, labels.clamp(min=0)
        grad_targets = grad_targets * mine
        negatives = negatives.clamp(min=torch.finfo(unit.dtype).min)
        with without_autocast(unit):
            pull = grad_negatives.unsqueeze(1) * ctx.scale
            pulled = torch.zeros_like(unit) if ctx.needs_input_grad[0] else None
            pushed = unit * pull if ctx.needs_input_grad[1] else None
            grad_weight = None
            if ctx.needs_input_grad[1]:
                grad_weight = torch.empty_like(weight) if kept is None else kept.gradient
            for number, block in enumerate(_blocks(unit, weight, inverse_norms, ctx.scale, products=kept is None)):
                if kept is None:
                    shares = _shares_of_norm(block, negatives, thresholds, hardness, ctx.scale)
                    _fill_targets(shares, labels - block.identities.start, 0.0)
                else:
                    lift = (kept.references[number] - negatives.unsqueeze(1)).exp_()
                    shares = torch.mul(kept.of(block.identities, unit.shape[0]), lift, out=block.products)
                    shares.mul_(block.inverse_norms)
                if pulled is not None:
                    pulled.addmm_(shares, block.weight)
                if pushed is not None and grad_weight is not None:
                    _write_weight_gradient(grad_weight[block.identities], block, shares, pushed)
            own = _unit_rows(weight, inverse_norms, labels_here)
            grad_unit = None if pulled is None else pulled.mul_(pull).addcmul_(own, grad_targets.unsqueeze(1))
            if grad_weight is not None:
                inverse = inverse_norms[labels_here]
                radial = (targets * _has_direction(inverse)).unsqueeze(1)
                rows = (unit - radial * own).mul_((grad_targets * inverse).unsqueeze(1))
                grad_weight.index_add_(0, labels_here, rows.to(weight.dtype))
        return grad_unit, grad_weight, None, None, None, None, None


def _blocks(
    unit: Tensor, weight: Tensor, inverse_norms: Tensor, scale: float, *, products: bool = True
) -> Iterator[_Block]:
    """Yield the products of consecutive identities (or only room for them), in a buffer that the next block reuses.

    The weights are not normalised here, which would take another pass over them: whoever reads the products multiplies
    by the inverse norms.
    """
    batch, dimension = unit.shape
    elements = _BLOCK_ELEMENTS if unit.device.type == "cpu" else _BLOCK_ELEMENTS_ON_DEVICE
    size = min(max(elements // max(batch, dimension), 128), weight.shape[0])
    scaled = unit * scale
    buffer = unit.new_empty(size * max(batch, dimension))
    for start in range(0, weight.shape[0], size):
        identities = slice(start, min(start + size, weight.shape[0]))
        rows = weight[identities].to(unit.dtype)
        room = buffer[: rows.shape[0] * batch].view(batch, rows.shape[0])
        if products:
            torch.mm(scaled, rows.t(), out=room)
        scratch = buffer[: rows.numel()].view_as(rows)
        yield _Block(identities, rows, inverse_norms[identities], room, scratch)


def _fill_targets(logits: Tensor, columns: Tensor, value: float) -> None:
    """Overwrite column ``columns[i]`` of row i where the block has it; no index has to be known to the host."""
    inside = ((columns >= 0) & (columns < logits.shape[1])).unsqueeze(1)
    columns = columns.clamp(0, logits.shape[1] - 1).unsqueeze(1)
    logits.scatter_(1, columns, logits.gather(1, columns).masked_fill_(inside, value))


def _harden(logits: Tensor, thresholds: Tensor, hardness: Tensor, scale: float) -> Tensor:
    """Replace hard logits z = s·c by s·c·(t + c), in place; return the derivative by z, 1 where a negative is easy."""
    cosines = logits / scale
    hard = cosines > thresholds.unsqueeze(1)
    logits.mul_(torch.where(hard, cosines + hardness, 1.0))
    return torch.where(hard, 2.0 * cosines + hardness, 1.0)


def _shares_of_norm(
    block: _Block, negatives: Tensor, thresholds: Tensor | None, hardness: Tensor | None, scale: float
) -> Tensor:
    """Softmax over the negatives, times the derivative of hard logits, divided by the weights' norms; in place."""
    if thresholds is None or hardness is None:
        lift = -negatives.unsqueeze(1)
        shares = torch.addcmul(lift, block.products, block.inverse_norms, out=block.products).exp_()
        return shares.mul_(block.inverse_norms)
    logits = block.products.mul_(block.inverse_norms)
    slopes = _harden(logits, thresholds, hardness, scale)
    return logits.sub_(negatives.unsqueeze(1)).exp_().mul_(slopes).mul_(block.inverse_norms)


def _write_weight_gradient(out: Tensor, block: _Block, shares: Tensor, pushed: Tensor) -> None:
    """Write the gradient of a block's weights, less its part along each weight: length does not change a cosine."""
    same = out.dtype == pushed.dtype
    gradient = torch.mm(shares.t(), pushed, out=out if same else None)
    inverse = block.inverse_norms
    along = torch.mul(gradient, block.weight, out=block.scratch).sum(1)  # the shares have done their work
    along.mul_(inverse.square()).mul_(_has_direction(inverse))
    gradient.addcmul_(block.weight, along.unsqueeze(1), value=-1.0)
    if not same:
        out.copy_(gradient)


def _unit_rows(weight: Tensor, inverse_norms: Tensor, labels: Tensor) -> Tensor:
    return weight[labels] * inverse_norms[labels].unsqueeze(1)


def _has_direction(inverse_norms: Tensor) -> Tensor:
    """False for rows shorter than the floor, which are divided by a constant: nothing is projected out of those."""
    return inverse_norms < 1.0 / WEIGHT_FLOOR
