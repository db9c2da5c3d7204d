"""Grouped convolution of static shape that reads nothing back: kernels gathered sample by sample."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def convolve_by_sample(features: Tensor, kernels: Tensor, groups: Tensor) -> Tensor:
    """Convolve each sample with the kernel of its group; standard operators alone, so it exports as well."""
    gathered = kernels.flatten(2).index_select(0, groups)
    return torch.bmm(gathered, _columns(features, kernels.shape[-1])).unflatten(2, features.shape[2:])


def input_gradient_by_sample(gradient: Tensor, kernels: Tensor, groups: Tensor) -> Tensor:
    """Gradient of :func:`convolve_by_sample` with respect to the features."""
    kernel, size = kernels.shape[-1], gradient.shape[2:]
    columns = torch.bmm(kernels.flatten(2).index_select(0, groups).transpose(1, 2), gradient.flatten(2))
    if kernel == 1:
        return columns.unflatten(2, size)
    return F.fold(columns, (size[0], size[1]), kernel, padding=kernel // 2)


def kernel_gradients_by_sample(gradient: Tensor, features: Tensor, groups: Tensor, num: int, kernel: int) -> Tensor:
    """Gradient of :func:`convolve_by_sample` with respect to the ``num`` kernels."""
    samples = torch.bmm(gradient.flatten(2), _columns(features, kernel).transpose(1, 2))
    # A matrix product with the 0/1 membership sums over samples in a fixed order, where index_add on CUDA would not.
    member = (torch.arange(num, device=groups.device)[:, None] == groups).to(samples.dtype)
    return (member @ samples.flatten(1)).view(num, gradient.shape[1], features.shape[1], kernel, kernel)


def _columns(features: Tensor, kernel: int) -> Tensor:
    """The patch around each place: ``(batch, channels * kernel**2, height * width)``."""
    return F.unfold(features, kernel, padding=kernel // 2) if kernel > 1 else features.flatten(2)
