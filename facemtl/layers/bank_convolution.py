"""Convolution with the filters that belong to each sample's group, over a batch that mixes groups."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from facemtl._core.shapes import FeatureMap
from facemtl.layers.filter_bank import FilterBankLayout, group_rows
from facemtl.layers.routing import Routing, is_exporting

BankForm = Literal["compact", "out", "in", "both"]


def bank_conv2d(
    features: FeatureMap, weight: Tensor, routing: Routing, layout: FilterBankLayout, *, form: BankForm
) -> Float[Tensor, "batch out height width"]:
    """Convolve each sample with its group's filters (stride 1, zero padding that keeps the size).

    On CPU one convolution runs for each group that occurs, on its contiguous part of the batch. On other devices, where
    reading the groups' sizes would synchronise, kernels are gathered sample by sample for one batched matrix product;
    in exported graphs as well, since it is made of standard operators. Under `torch.compile` either is one opaque
    operator of static shape: the mix of groups never recompiles. Differentiable to any order.

    Args:
        features: ``(batch, channels, height, width)``, samples sorted by group.
        weight: A compact bank, or a dense ``(out, in, kernel, kernel)`` of which a group uses its span of some axes;
            odd kernel size.
        routing: Where each group's samples are.
        layout: The bank's layout.
        form: ``"compact"``, or which axes of ``weight`` run over the bank: ``"out"``, ``"in"`` or ``"both"``.

    Returns:
        ``(batch, out, height, width)``, in the autocast dtype under autocast.

    Example:
        >>> from facemtl.layers.routing import route
        >>> layout = FilterBankLayout(num_groups=2, unit=1, shared_fraction=0)
        >>> weight = torch.tensor([1.0, 10.0]).view(2, 1, 1, 1)
        >>> routing = route(torch.tensor([0, 0, 1]), 2).routing
        >>> bank_conv2d(torch.ones(3, 1, 1, 1), weight, routing, layout, form="out").flatten()
        tensor([ 1.,  1., 10.])
    """
    device = features.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        features, weight = features.to(dtype), weight.to(dtype)
    if is_exporting():
        return _gathered_conv2d(features, _all_kernels(weight, layout, form), routing.groups)
    bank = (layout.num_groups, layout.unit, layout.shared, form)
    return torch.ops.facemtl.bank_conv2d(features, weight, routing.groups, routing.offsets, *bank)


def kernel_of(weight: Tensor, group: int, layout: FilterBankLayout, form: str, scratch: Tensor | None = None) -> Tensor:
    """The kernel ``(out, in, kernel, kernel)`` of ``group``: a view of a dense ``weight``, or rows put together.

    ``scratch`` takes the rows, so that a loop over groups stays in the same, cached memory.
    """
    if form == "compact":
        return torch.cat([rows for rows, _ in group_rows(weight, group, layout)], out=scratch)
    span = layout.spans[group]
    return weight[span if form != "in" else slice(None), span if form != "out" else slice(None)]


def _scratch(weight: Tensor, unit: int, form: str) -> Tensor | None:
    return weight.new_empty((unit, unit, *weight.shape[1:])) if form == "compact" else None


def _all_kernels(weight: Tensor, layout: FilterBankLayout, form: str) -> Tensor:
    return torch.stack([kernel_of(weight, group, layout, form) for group in range(layout.num_groups)])


# Static shapes, nothing read back: kernels gathered sample by sample.


def _columns(features: Tensor, kernel: int) -> Tensor:
    """The patch around each place: ``(batch, channels * kernel**2, height * width)``."""
    return F.unfold(features, kernel, padding=kernel // 2) if kernel > 1 else features.flatten(2)


def _gathered_conv2d(features: Tensor, kernels: Tensor, groups: Tensor) -> Tensor:
    gathered = kernels.flatten(2).index_select(0, groups)
    return torch.bmm(gathered, _columns(features, kernels.shape[-1])).unflatten(2, features.shape[2:])


def _gathered_input_gradient(gradient: Tensor, kernels: Tensor, groups: Tensor) -> Tensor:
    kernel, size = kernels.shape[-1], gradient.shape[2:]
    columns = torch.bmm(kernels.flatten(2).index_select(0, groups).transpose(1, 2), gradient.flatten(2))
    if kernel == 1:
        return columns.unflatten(2, size)
    return F.fold(columns, (size[0], size[1]), kernel, padding=kernel // 2)


def _gathered_kernel_gradients(gradient: Tensor, features: Tensor, groups: Tensor, num: int, kernel: int) -> Tensor:
    samples = torch.bmm(gradient.flatten(2), _columns(features, kernel).transpose(1, 2))
    # A matrix product with the 0/1 membership sums over samples in a fixed order, where index_add on CUDA would not.
    member = (torch.arange(num, device=groups.device)[:, None] == groups).to(samples.dtype)
    return (member @ samples.flatten(1)).view(num, gradient.shape[1], features.shape[1], kernel, kernel)


# One convolution a group, on CPU, where reading the groups' sizes costs nothing.


def _parts(offsets: Tensor) -> Iterator[tuple[int, slice]]:
    """Groups that occur, each with its part of the batch."""
    edges = offsets.tolist()
    for group, (start, stop) in enumerate(itertools.pairwise(edges)):
        if stop > start:
            yield group, slice(start, stop)


def _conv2d(features: Tensor, kernel: Tensor) -> Tensor:
    if kernel.shape[-1] == 1:
        matrices = kernel[None, :, :, 0, 0].expand(features.shape[0], -1, -1)
        return torch.bmm(matrices, features.flatten(2)).unflatten(2, features.shape[2:])
    return F.conv2d(features, kernel, padding=kernel.shape[-1] // 2)


def _conv2d_gradient(gradient: Tensor, features: Tensor, kernel: Tensor, *, of_kernel: bool) -> Tensor:
    padding = [kernel.shape[-1] // 2] * 2
    input_gradient, kernel_gradient, _ = torch.ops.aten.convolution_backward(
        gradient, features, kernel, None, [1, 1], padding, [1, 1], False, [0, 0], 1, [not of_kernel, of_kernel, False]
    )
    return kernel_gradient if of_kernel else input_gradient


def _conv2d_input_gradient(gradient: Tensor, kernel: Tensor) -> Tensor:
    if kernel.shape[-1] == 1:
        matrices = kernel[None, :, :, 0, 0].transpose(1, 2).expand(gradient.shape[0], -1, -1)
        return torch.bmm(matrices, gradient.flatten(2)).unflatten(2, gradient.shape[2:])
    shape_only = gradient.new_empty((gradient.shape[0], kernel.shape[1], *gradient.shape[2:]))
    return _conv2d_gradient(gradient, shape_only, kernel, of_kernel=False)


def _conv2d_kernel_gradient(gradient: Tensor, features: Tensor, kernel: int) -> Tensor:
    out, channels = gradient.shape[1], features.shape[1]
    if kernel == 1:
        total = gradient.new_zeros((out, channels))
        return total.addbmm_(gradient.flatten(2), features.flatten(2).transpose(1, 2))[:, :, None, None]
    shape_only = gradient.new_empty((out, channels, kernel, kernel))
    return _conv2d_gradient(gradient, features, shape_only, of_kernel=True)


def _set_kernel(total: Tensor, kernel: Tensor | None, group: int, layout: FilterBankLayout, form: str) -> None:
    """Put a kernel (``None``: zeros) into a gradient, in ascending order of groups; shared weights are summed.

    Only the ``"both"`` form leaves weights that no group owns, which must be zero before.
    """
    shared = layout.shared if group else 0
    first, rest = slice(0, shared), slice(shared, None)
    if form == "compact":
        for number, (part, rows) in enumerate(group_rows(total, group, layout)):
            own = None if kernel is None else kernel[rows]
            if number == 0 and group:
                _set(part[:, first], None if own is None else own[:, first], add=True)
                _set(part[:, rest], None if own is None else own[:, rest])
            else:
                _set(part, own)
        return
    part = kernel_of(total, group, layout, form)
    if form == "both":
        _set(part, kernel, add=True)
    elif form == "out":
        _set(part[first], None if kernel is None else kernel[first], add=True)
        _set(part[rest], None if kernel is None else kernel[rest])
    else:
        _set(part[:, first], None if kernel is None else kernel[:, first], add=True)
        _set(part[:, rest], None if kernel is None else kernel[:, rest])


def _set(part: Tensor, value: Tensor | None, *, add: bool = False) -> None:
    if value is None:
        if not add:
            part.zero_()
    elif add:
        part.add_(value)
    else:
        part.copy_(value)


# The operators. A layout travels as its three integers, because shared_fraction as a float would not be exact.

_BANK = "int num_groups, int unit, int shared, str form"
_ROUTING = "Tensor groups, Tensor offsets"


def _layout(num_groups: int, unit: int, shared: int) -> FilterBankLayout:
    return FilterBankLayout(num_groups=num_groups, unit=unit, shared_fraction=shared / unit)


def _host_loop(features: Tensor) -> bool:
    return features.device.type == "cpu" and features.numel() > 0


@torch.library.custom_op(
    "facemtl::bank_conv2d",
    mutates_args=(),
    schema=f"(Tensor features, Tensor weight, {_ROUTING}, {_BANK}) -> Tensor",
)
def _forward(
    features: Tensor, weight: Tensor, groups: Tensor, offsets: Tensor, num: int, unit: int, shared: int, form: str
) -> Tensor:
    layout = _layout(num, unit, shared)
    if not _host_loop(features):
        return _gathered_conv2d(features, _all_kernels(weight, layout, form), groups)
    features = features.contiguous()
    scratch = _scratch(weight, unit, form)
    output = [
        _conv2d(features[part], kernel_of(weight, group, layout, form, scratch)) for group, part in _parts(offsets)
    ]
    return torch.cat(output).contiguous()


@torch.library.custom_op(
    "facemtl::bank_conv2d_input_gradient",
    mutates_args=(),
    schema=f"(Tensor gradient, Tensor weight, {_ROUTING}, {_BANK}) -> Tensor",
)
def _input_gradient(
    gradient: Tensor, weight: Tensor, groups: Tensor, offsets: Tensor, num: int, unit: int, shared: int, form: str
) -> Tensor:
    layout = _layout(num, unit, shared)
    if not _host_loop(gradient):
        return _gathered_input_gradient(gradient, _all_kernels(weight, layout, form), groups)
    gradient = gradient.contiguous()
    scratch = _scratch(weight, unit, form)
    parts = [
        _conv2d_input_gradient(gradient[part], kernel_of(weight, group, layout, form, scratch))
        for group, part in _parts(offsets)
    ]
    return torch.cat(parts).contiguous()


@torch.library.custom_op(
    "facemtl::bank_conv2d_weight_gradient",
    mutates_args=(),
    schema=f"(Tensor gradient, Tensor features, {_ROUTING}, {_BANK}, SymInt[] shape) -> Tensor",
)
def _weight_gradient(
    gradient: Tensor,
    features: Tensor,
    groups: Tensor,
    offsets: Tensor,
    num: int,
    unit: int,
    shared: int,
    form: str,
    shape: list[int],
) -> Tensor:
    layout = _layout(num, unit, shared)
    total = gradient.new_zeros(shape) if form == "both" else gradient.new_empty(shape)
    if not _host_loop(gradient):
        kernels = _gathered_kernel_gradients(gradient, features, groups, num, shape[-1])
        for group in range(num):
            _set_kernel(total, kernels[group], group, layout, form)
        return total
    gradient, features = gradient.contiguous(), features.contiguous()
    parts = dict(_parts(offsets))
    for group in range(num):
        part = parts.get(group)
        kernel = None if part is None else _conv2d_kernel_gradient(gradient[part], features[part], shape[-1])
        _set_kernel(total, kernel, group, layout, form)
    return total


@_forward.register_fake
def _(features: Tensor, weight: Tensor, *bank: Any) -> Tensor:
    unit, form = bank[3], bank[5]
    out = weight.shape[0] if form == "in" else unit
    return features.new_empty((features.shape[0], out, *features.shape[2:]))


@_input_gradient.register_fake
def _(gradient: Tensor, weight: Tensor, *bank: Any) -> Tensor:
    unit, form = bank[3], bank[5]
    channels = weight.shape[1] if form == "out" else unit
    return gradient.new_empty((gradient.shape[0], channels, *gradient.shape[2:]))


@_weight_gradient.register_fake
def _(gradient: Tensor, features: Tensor, *bank: Any) -> Tensor:
    return gradient.new_empty(bank[-1])


# The three are bilinear and closed under differentiation, so derivatives of any order stay among them.

_NO_GRADIENT = (None,) * 6


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.bank = inputs[4:8]


def _forward_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    features, weight, *routing = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    return (
        _input_gradient(gradient, weight, *routing, *ctx.bank) if wanted[0] else None,
        _weight_gradient(gradient, features, *routing, *ctx.bank, weight.shape) if wanted[1] else None,
        *_NO_GRADIENT,
    )


def _input_gradient_backward(ctx: Any, tangent: Tensor) -> tuple[Tensor | None, ...]:
    gradient, weight, *routing = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    return (
        _forward(tangent, weight, *routing, *ctx.bank) if wanted[0] else None,
        _weight_gradient(gradient, tangent, *routing, *ctx.bank, weight.shape) if wanted[1] else None,
        *_NO_GRADIENT,
    )


def _weight_gradient_backward(ctx: Any, tangent: Tensor) -> tuple[Tensor | None, ...]:
    gradient, features, *routing = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    return (
        _forward(features, tangent, *routing, *ctx.bank) if wanted[0] else None,
        _input_gradient(gradient, tangent, *routing, *ctx.bank) if wanted[1] else None,
        *_NO_GRADIENT,
        None,
    )


_forward.register_autograd(_forward_backward, setup_context=_save)
_input_gradient.register_autograd(_input_gradient_backward, setup_context=_save)
_weight_gradient.register_autograd(_weight_gradient_backward, setup_context=_save)
