"""Batch norms folded into the convolutions and linear layers beside them: the algebra, one pair at a time.

In eval mode a batch norm is an affine map of each channel, ``scale * x + shift``. :func:`fold_after` and
:func:`fold_before` move it into the weights of its neighbour; the sums are formed in float64 and rounded once, to the
weights' dtype. :mod:`facemtl.layers.inference` finds the pairs.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from facemtl.layers.bias_map import BiasMapConv2d

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)
BatchNorm = nn.modules.batchnorm._BatchNorm


def fold_after(layer: Layer, norm: BatchNorm) -> Layer:
    """Return one layer that equals ``norm(layer(x))`` in eval mode.

    Args:
        layer: A convolution of any shape, or a linear layer on ``(batch, features)``.
        norm: The batch norm behind it, with running statistics.

    Returns:
        A new, frozen layer of the same kind with a bias; the arguments are left as they are.

    Raises:
        ValueError: If ``norm`` has another number of channels than ``layer`` gives, or no running statistics.

    Example:
        >>> import torch
        >>> layer, norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8).eval()
        >>> images = torch.randn(2, 3, 5, 5)
        >>> torch.allclose(fold_after(layer, norm)(images), norm(layer(images)), atol=1e-6)
        True
    """
    outputs = layer.weight.shape[0]
    if outputs != norm.num_features:
        raise ValueError(
            f"fold_after: 'norm' must give the layer's {outputs} channels, got num_features = {norm.num_features}. "
            f"Fold only a norm that reads the layer."
        )
    scale, shift = _affine(norm)
    weight = _wide(layer.weight) * _per_output(scale, layer.weight)
    old_bias = _bias(layer)
    bias = shift if old_bias is None else _wide(old_bias) * scale + shift
    return _with_weights(layer, weight, bias)


def fold_before(norm: BatchNorm, layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """Return one layer that equals ``layer(norm(x))`` in eval mode, borders included.

    Before a convolution that pads with zeros the norm's shift becomes a bias *map*
    (:class:`~facemtl.layers.bias_map.BiasMapConv2d`): the padding is zero after the norm, so a plain bias would be
    wrong at the border. Without padding, or with a padding that copies values of the map, a plain bias is exact. Before
    a linear layer the norm's input may be a flattened map: each channel then owns ``in_features / channels``
    neighbouring weights.

    Args:
        norm: The batch norm, with running statistics.
        layer: What follows it: a convolution or a linear layer.

    Returns:
        A new, frozen layer; the arguments are left as they are.

    Raises:
        ValueError: If the inputs of ``layer`` are no multiple of the norm's channels, or the norm has no running
            statistics.

    Example:
        >>> import torch
        >>> norm, layer = nn.BatchNorm2d(3).eval(), nn.Conv2d(3, 8, 3, padding=1)
        >>> _ = torch.nn.init.uniform_(norm.bias)
        >>> images = torch.randn(2, 3, 5, 5)
        >>> torch.allclose(fold_before(norm, layer)(images), layer(norm(images)), atol=1e-6)
        True
    """
    scale, shift = _affine(norm)
    if isinstance(layer, nn.Linear):
        if layer.in_features % norm.num_features:
            raise ValueError(
                f"fold_before: 'layer' must take a multiple of the norm's {norm.num_features} channels, "
                f"got in_features = {layer.in_features}. Fold only a norm that feeds the layer."
            )
        cells = layer.in_features // norm.num_features
        weight = _wide(layer.weight)
        bias = weight @ shift.repeat_interleave(cells)
        old_bias = _bias(layer)
        if old_bias is not None:
            bias = bias + _wide(old_bias)
        return _with_weights(layer, weight * scale.repeat_interleave(cells), bias)
    if layer.in_channels != norm.num_features:
        raise ValueError(
            f"fold_before: 'layer' must take the norm's {norm.num_features} channels, "
            f"got in_channels = {layer.in_channels}. Fold only a norm that feeds the layer."
        )
    return _fold_before_convolution(scale, shift, layer)


def _fold_before_convolution(scale: Tensor, shift: Tensor, layer: nn.Conv2d) -> nn.Module:
    weight = _wide(layer.weight)
    grouped = weight.unflatten(0, (layer.groups, -1))
    taps = (grouped * shift.reshape(layer.groups, 1, -1, 1, 1)).sum(2).flatten(0, 1)
    scaled = (grouped * scale.reshape(layer.groups, 1, -1, 1, 1)).flatten(0, 1)
    old_bias = _bias(layer)
    bias = torch.zeros_like(taps[:, 0, 0]) if old_bias is None else _wide(old_bias)
    if layer.padding_mode != "zeros" or layer.padding in (0, (0, 0), "valid"):
        return _with_weights(layer, scaled, bias + taps.sum((1, 2)))
    folded = BiasMapConv2d(
        layer.in_channels,
        layer.out_channels,
        _pair(layer.kernel_size),
        stride=_pair(layer.stride),
        padding=layer.padding if isinstance(layer.padding, str) else _pair(layer.padding),
        dilation=_pair(layer.dilation),
        groups=layer.groups,
        device="meta",
    )
    _set(folded.convolution, "weight", scaled, layer.weight)
    _set(folded.bias_map, "weight", taps.unsqueeze(1), layer.weight)
    _set(folded.bias_map, "bias", bias, layer.weight)
    return folded.eval()


def _with_weights(layer: Layer, weight: Tensor, bias: Tensor) -> Layer:
    """Build a layer of the same kind and options that owns these weights, without initialising any."""
    folded: Layer
    if isinstance(layer, nn.Linear):
        folded = nn.Linear(layer.in_features, layer.out_features, device="meta")
    else:
        folded = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            _pair(layer.kernel_size),
            _pair(layer.stride),
            layer.padding if isinstance(layer.padding, str) else _pair(layer.padding),
            _pair(layer.dilation),
            layer.groups,
            padding_mode=layer.padding_mode,
            device="meta",
        )
    _set(folded, "weight", weight, layer.weight)
    _set(folded, "bias", bias, layer.weight)
    return folded.eval()


def _set(layer: nn.Module, name: str, value: Tensor, like: Tensor) -> None:
    setattr(layer, name, nn.Parameter(value.to(like), requires_grad=False))


def _affine(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel in eval mode, in float64."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("fold: 'norm' must have running statistics, got track_running_stats=False.")
    scale = (_wide(norm.running_var) + norm.eps).rsqrt()
    weight, bias = norm._parameters["weight"], norm._parameters["bias"]
    if weight is not None:
        scale = scale * _wide(weight)
    shift = -_wide(norm.running_mean) * scale
    return scale, shift if bias is None else shift + _wide(bias)


def _bias(layer: nn.Module) -> Tensor | None:
    return layer._parameters["bias"]


def _wide(tensor: Tensor) -> Tensor:
    """Float64, on the CPU where the device has none."""
    tensor = tensor.detach()
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def _per_output(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (weight.dim() - 1))


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    return value[0], value[1]
