"""Grouped convolution on CPU, where reading the groups' sizes costs nothing: one convolution for each group."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl.layers.bank_kernels import kernel_of, put_kernel, scratch_for
from facemtl.layers.filter_bank import FilterBankLayout


def convolve_by_group(features: Tensor, weight: Tensor, offsets: Tensor, layout: FilterBankLayout, form: str) -> Tensor:
    """Convolve each group's contiguous part of the batch with the group's kernel."""
    features, scratch = features.contiguous(), scratch_for(weight, layout, form)
    out = weight.shape[0] if form == "in" else layout.unit
    output = features.new_empty((features.shape[0], out, *features.shape[2:]))
    for group, part in _parts(offsets):
        kernel = kernel_of(weight, group, layout, form, scratch)
        if kernel.shape[-1] == 1:
            _products(kernel[:, :, 0, 0], features[part], output[part])
        else:
            output[part] = F.conv2d(features[part], kernel, padding=kernel.shape[-1] // 2)
    return output


def gradients_by_group(
    gradient: Tensor,
    features: Tensor,
    weight: Tensor,
    offsets: Tensor,
    layout: FilterBankLayout,
    form: str,
    wanted: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`convolve_by_group` with respect to the features and the weight; empty where not wanted."""
    gradient, features, scratch = gradient.contiguous(), features.contiguous(), scratch_for(weight, layout, form)
    parts = _parts(offsets)
    of_features = torch.empty_like(features) if wanted[0] else features.new_empty(0)
    covered = form != "both" and len(parts) == layout.num_groups
    of_weight = (weight.new_empty if covered else weight.new_zeros)(weight.shape if wanted[1] else 0)
    for group, part in parts:
        kernel = kernel_of(weight, group, layout, form, scratch)
        of_part = of_features[part] if wanted[0] else None
        of_kernel = _gradients(gradient[part], features[part], kernel, of_part, of_kernel=wanted[1])
        if of_kernel is not None:
            put_kernel(of_weight, of_kernel, group, layout, form)
    return of_features, of_weight


def _gradients(
    gradient: Tensor, features: Tensor, kernel: Tensor, of_features: Tensor | None, *, of_kernel: bool
) -> Tensor | None:
    """Write one group's input gradient into ``of_features`` and return its kernel gradient."""
    if kernel.shape[-1] == 1:
        if of_features is not None:
            _products(kernel[:, :, 0, 0].t(), gradient, of_features)
        if not of_kernel:
            return None
        total = kernel.new_zeros(kernel.shape[:2])
        return total.addbmm_(gradient.flatten(2), features.flatten(2).transpose(1, 2))[:, :, None, None]
    padding, wanted = [kernel.shape[-1] // 2] * 2, [of_features is not None, of_kernel, False]
    gradients = torch.ops.aten.convolution_backward(
        gradient, features, kernel, None, [1, 1], padding, [1, 1], False, [0, 0], 1, wanted
    )
    if of_features is not None:
        of_features.copy_(gradients[0])
    return gradients[1]


def _products(matrix: Tensor, features: Tensor, output: Tensor) -> None:
    """A 1×1 convolution, into ``output``."""
    torch.bmm(matrix.expand(features.shape[0], -1, -1), features.flatten(2), out=output.flatten(2))


def _parts(offsets: Tensor) -> list[tuple[int, slice]]:
    """Groups that occur, each with its part of the batch."""
    edges = itertools.pairwise(offsets.tolist())
    return [(group, slice(start, stop)) for group, (start, stop) in enumerate(edges) if stop > start]
