"""Kernels of single groups, out of a filter bank's weights and, as gradients, back into them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from facemtl.layers.filter_bank import FilterBankLayout, group_rows

BankForm = Literal["compact", "out", "in", "both"]
"""A compact bank, or which axes of a dense ``(out, in, kernel, kernel)`` run over the bank."""


def kernel_of(weight: Tensor, group: int, layout: FilterBankLayout, form: str, scratch: Tensor | None = None) -> Tensor:
    """The kernel ``(out, in, kernel, kernel)`` of ``group``: a view of a dense ``weight``, or rows put together.

    ``scratch`` takes the rows, so that a loop over groups stays in the same, cached memory.
    """
    if form == "compact":
        return torch.cat([rows for rows, _ in group_rows(weight, group, layout)], out=scratch)
    span = layout.spans[group]
    return weight[span if form != "in" else slice(None), span if form != "out" else slice(None)]


def scratch_for(weight: Tensor, layout: FilterBankLayout, form: str) -> Tensor | None:
    """Room for :func:`kernel_of`, where it needs any."""
    return weight.new_empty((layout.unit, layout.unit, *weight.shape[1:])) if form == "compact" else None


def all_kernels(weight: Tensor, layout: FilterBankLayout, form: str) -> Tensor:
    """The kernels of all groups, ``(num_groups, out, in, kernel, kernel)``."""
    return torch.stack([kernel_of(weight, group, layout, form) for group in range(layout.num_groups)])


def put_kernel(total: Tensor, kernel: Tensor, group: int, layout: FilterBankLayout, form: str) -> None:
    """Put the gradient of a group's kernel into ``total``, in ascending order of groups; ``kernel`` changes.

    Weights that the group shares with the one before are summed, the others overwritten.
    """
    compact = form == "compact"
    targets = group_rows(total, group, layout) if compact else ((kernel_of(total, group, layout, form), slice(None)),)
    if group and layout.shared:
        first = slice(0, layout.shared)
        common = (first if form != "in" else slice(None), first if form != "out" else slice(None))
        kernel[common] += targets[0][0][common]
    for target, rows in targets:
        target.copy_(kernel[rows])
