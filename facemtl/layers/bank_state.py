"""State dicts of filter banks: the dense form of masked implementations and the compact form, both ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from facemtl.layers.bank_exit import BankExit
from facemtl.layers.compact_bank import CompactBankConvolution, CompactBankEntry
from facemtl.layers.dense_bank import DenseBankConvolution, DenseBankEntry
from facemtl.layers.filter_bank import FilterBankLayout, bank_from_dense, bank_to_dense


def to_dense_state(
    module: nn.Module, state: Mapping[str, Tensor] | None = None, *, fill: float = 0.0
) -> dict[str, Tensor]:
    """Return a state dict of ``module`` in which each filter bank has the dense shape of a masked implementation.

    Compact banks become ``(bank, bank, kernel, kernel)`` and every axis over the bank's channels gets the
    released code's width (which may hold channels of no group). Convolutions in front of a norm get the bias of 0 that
    a masked implementation has and ours leave out; all other keys stay.

    Args:
        module: Any module with identity conditional modules inside.
        state: A state dict of ``module``, or gradients by parameter name; its own state by default.
        fill: Value of weights and channels that never act (0 for gradients).

    Returns:
        A new dict; tensors without a bank axis are those of ``state``.

    Example:
        >>> from facemtl.layers.conditional import IdentityConditionalModule
        >>> condition = IdentityConditionalModule(16, num_groups=3, unit=8, num_blocks=1)
        >>> dense = to_dense_state(condition)
        >>> dense["blocks.0.convolution1.weight"].shape
        torch.Size([22, 22, 3, 3])
        >>> condition.load_state_dict(from_dense_state(condition, dense))
        <All keys matched successfully>
    """
    dense = dict(module.state_dict() if state is None else state)
    for key, layout, axes in _bank_entries(module):
        if key not in dense:
            continue
        if axes is None:
            dense[key] = bank_to_dense(dense[key], layout, fill=fill)
        else:
            dense[key] = _resize(dense[key].detach(), axes, layout.dense_channels, fill)
    for layer in _layers_without_bias(module):
        weight = dense.get(f"{layer}weight")
        if weight is not None:
            dense[f"{layer}bias"] = weight.new_zeros(weight.shape[0])
    return dense


def from_dense_state(module: nn.Module, dense: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of ``module`` that holds what acts of ``dense``: the inverse of :func:`to_dense_state`.

    The bias in front of a norm goes: an instance norm cancels it, a batch norm's running mean takes it over
    (``W x + b - m = W x - (m - b)``).

    Args:
        module: Any module with identity conditional modules inside.
        dense: Its state dict with dense banks. Tensors that are too small for their bank are passed on as they are, so
            that loading reports them.

    Returns:
        A new dict.
    """
    state = dict(dense)
    for layer in _layers_without_bias(module):
        bias = state.pop(f"{layer}bias", None)
        mean = state.get(f"{layer}norm.running_mean")
        if bias is not None and mean is not None:
            state[f"{layer}norm.running_mean"] = mean - bias
    for key, layout, axes in _bank_entries(module):
        if key not in state or any(state[key].shape[axis] < layout.channels for axis in axes or (0, 1)):
            continue
        if axes is None:
            state[key] = bank_from_dense(state[key], layout)
        else:
            state[key] = _resize(state[key].detach(), axes, layout.channels, 0.0)
    return state


def _bank_entries(module: nn.Module) -> Iterator[tuple[str, FilterBankLayout, tuple[int, ...] | None]]:
    """Key, layout and bank axes of each entry that a filter bank shapes; no axes for a compact bank."""
    for prefix, part in module.named_modules():
        dot = f"{prefix}." if prefix else ""
        if isinstance(part, CompactBankConvolution):
            yield f"{dot}weight", part.layout, None
        else:
            axes: dict[str, tuple[int, ...]] = getattr(part, "bank_axes", {})
            for name, own in axes.items():
                layout = part.layout
                assert isinstance(layout, FilterBankLayout)
                yield f"{dot}{name}", layout, own


def _layers_without_bias(module: nn.Module) -> Iterator[str]:
    """Key prefix of each convolution whose bias a norm makes idle."""
    for prefix, part in module.named_modules():
        leaves_out = isinstance(part, CompactBankEntry | CompactBankConvolution | DenseBankEntry | DenseBankConvolution)
        if leaves_out or (isinstance(part, BankExit) and part.bias is None):
            yield f"{prefix}." if prefix else ""


def _resize(tensor: Tensor, axes: tuple[int, ...], size: int, fill: float) -> Tensor:
    """Crop ``axes`` to ``size``, or lengthen them with ``fill``."""
    for axis in axes:
        missing = size - tensor.shape[axis]
        if missing > 0:
            shape = [missing if number == axis else length for number, length in enumerate(tensor.shape)]
            tensor = torch.cat([tensor, tensor.new_full(shape, fill)], dim=axis)
        else:
            tensor = tensor.narrow(axis, 0, size)
    return tensor
