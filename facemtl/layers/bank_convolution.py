"""Convolution with the filters that belong to each sample's group, over a batch that mixes groups."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from facemtl._core.shapes import FeatureMap
from facemtl.layers.bank_by_group import convolve_by_group, gradients_by_group
from facemtl.layers.bank_by_sample import convolve_by_sample, input_gradient_by_sample, kernel_gradients_by_sample
from facemtl.layers.bank_kernels import BankForm, all_kernels, put_kernel
from facemtl.layers.filter_bank import FilterBankLayout
from facemtl.layers.routing import Routing, is_exporting


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
        return convolve_by_sample(features, all_kernels(weight, layout, form), routing.groups)
    bank = (layout.num_groups, layout.unit, layout.shared, form)
    return torch.ops.facemtl.bank_convolution(features, weight, routing.groups, routing.offsets, *bank)


# The operators. A layout travels as its three integers, because shared_fraction as a float would not be exact.

_BANK = "Tensor groups, Tensor offsets, int num_groups, int unit, int shared, str form"


def _layout(num_groups: int, unit: int, shared: int) -> FilterBankLayout:
    return FilterBankLayout(num_groups=num_groups, unit=unit, shared_fraction=shared / unit)


def _host_loop(features: Tensor) -> bool:
    return features.device.type == "cpu" and features.numel() > 0


@torch.library.custom_op(
    "facemtl::bank_convolution", mutates_args=(), schema=f"(Tensor features, Tensor weight, {_BANK}) -> Tensor"
)
def _forward(
    features: Tensor, weight: Tensor, groups: Tensor, offsets: Tensor, num: int, unit: int, shared: int, form: str
) -> Tensor:
    layout = _layout(num, unit, shared)
    if _host_loop(features):
        return convolve_by_group(features, weight, offsets, layout, form)
    return convolve_by_sample(features, all_kernels(weight, layout, form), groups)


@torch.library.custom_op(
    "facemtl::bank_convolution_backward",
    mutates_args=(),
    schema=f"(Tensor gradient, Tensor features, Tensor weight, {_BANK}, bool of_features, bool of_weight) -> "
    "(Tensor, Tensor)",
)
def _backward(
    gradient: Tensor,
    features: Tensor,
    weight: Tensor,
    groups: Tensor,
    offsets: Tensor,
    num: int,
    unit: int,
    shared: int,
    form: str,
    of_features: bool,
    of_weight: bool,
) -> tuple[Tensor, Tensor]:
    layout = _layout(num, unit, shared)
    if _host_loop(gradient):
        return gradients_by_group(gradient, features, weight, offsets, layout, form, (of_features, of_weight))
    features_gradient, weight_gradient = features.new_empty(0), weight.new_empty(0)
    if of_features:
        features_gradient = input_gradient_by_sample(gradient, all_kernels(weight, layout, form), groups)
    if of_weight:
        weight_gradient = weight.new_zeros(weight.shape)
        kernels = kernel_gradients_by_sample(gradient, features, groups, num, weight.shape[-1])
        for group in range(num):
            put_kernel(weight_gradient, kernels[group], group, layout, form)
    return features_gradient, weight_gradient


@_forward.register_fake
def _(features: Tensor, weight: Tensor, *bank: Any) -> Tensor:
    unit, form = bank[3], bank[5]
    out = weight.shape[0] if form == "in" else unit
    return features.new_empty((features.shape[0], out, *features.shape[2:]))


@_backward.register_fake
def _(gradient: Tensor, features: Tensor, weight: Tensor, *bank: Any) -> tuple[Tensor, Tensor]:
    *_, of_features, of_weight = bank
    return features.new_empty(features.shape if of_features else 0), weight.new_empty(weight.shape if of_weight else 0)


# Both are linear in each of their tensors, and the derivatives of both are made of both: any order is among them.


def _save_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.bank = inputs[4:]


def _forward_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:2]
    gradients = torch.ops.facemtl.bank_convolution_backward(gradient, *ctx.saved_tensors, *ctx.bank, *wanted)
    return (*_those(gradients, wanted), *[None] * 6)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:5])
    ctx.bank, ctx.present = inputs[5:9], inputs[9:]


def _backward_backward(ctx: Any, *tangents: Tensor) -> tuple[Tensor | None, ...]:
    gradient, features, weight, *routing = ctx.saved_tensors
    bank, (of_features, of_weight) = (*routing, *ctx.bank), ctx.present
    of_gradient = torch.zeros_like(gradient)
    if of_features:
        of_gradient = of_gradient + torch.ops.facemtl.bank_convolution(tangents[0], weight, *bank)
    if of_weight:
        of_gradient = of_gradient + torch.ops.facemtl.bank_convolution(features, tangents[1], *bank)
    # The gradient of the features is linear in the weight, and that of the weight in the features.
    wanted = (of_weight and ctx.needs_input_grad[1], of_features and ctx.needs_input_grad[2])
    left = tangents[0] if of_features else features
    right = tangents[1] if of_weight else weight
    gradients = torch.ops.facemtl.bank_convolution_backward(gradient, left, right, *bank, *wanted)
    return (of_gradient, *_those(gradients, wanted), *[None] * 8)


def _those(gradients: tuple[Tensor, Tensor], wanted: tuple[bool, bool]) -> tuple[Tensor | None, ...]:
    return tuple(gradient if want else None for gradient, want in zip(gradients, wanted, strict=True))


_forward.register_autograd(_forward_backward, setup_context=_save_forward)
_backward.register_autograd(_backward_backward, setup_context=_save_backward)
