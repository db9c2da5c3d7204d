"""Checks at the public border, with messages of one grammar.

*Where and which argument; expected … got … with the value; what to do.* Checks of shapes and dtypes cost O(1) and
are plain Python branches, which `torch.compile` and `torch.export` accept. Checks of *values* (a label out of
range, an age of 130 years) read the tensor: they run on CPU tensors, where reading is free; on CUDA they become
asynchronous device assertions that never synchronise; :func:`value_checks` switches them to synchronous (for
debugging) or off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

ValueChecks = Literal["auto", "always", "never"]

_value_checks: ValueChecks = "auto"


class ShapeError(ValueError):
    """A tensor has the wrong number of axes, or one of them the wrong length."""


@contextmanager
def value_checks(mode: ValueChecks) -> Iterator[None]:
    """Choose how values of tensors (labels, ages, NaN) are checked inside a ``with`` block.

    Args:
        mode: ``"auto"`` (default everywhere) checks CPU tensors at once and CUDA tensors by asynchronous device
            assertions; ``"always"`` checks on every device at once, which synchronises (use it to find a bad batch);
            ``"never"`` trusts the caller.

    Raises:
        ValueError: If ``mode`` is none of the three.

    Example:
        >>> import torch, facemtl
        >>> with facemtl.value_checks("always"):
        ...     head = facemtl.CosFace(16, 10)
    """
    global _value_checks  # noqa: PLW0603 - a process-wide switch, like torch.set_grad_enabled
    if mode not in ("auto", "always", "never"):
        raise ValueError(f"value_checks: 'mode' must be 'auto', 'always' or 'never', got {mode!r}.")
    previous, _value_checks = _value_checks, mode
    try:
        yield
    finally:
        _value_checks = previous


def shape_text(tensor: Tensor) -> str:
    """Shape of ``tensor`` as a message shows it: ``(8, 3, 112, 112)``."""
    return str(tuple(tensor.shape))


def check_rank(where: str, name: str, tensor: Tensor, axes: Sequence[str], *, advice: str = "") -> None:
    """Raise :class:`ShapeError` unless ``tensor`` has one axis for each name in ``axes``."""
    if tensor.dim() != len(axes):
        raise ShapeError(
            f"{where}: '{name}' must have shape ({_axes_text(axes)}), got {shape_text(tensor)}.{_tail(advice)}"
        )


def check_size(
    where: str, name: str, tensor: Tensor, axis: int, axis_name: str, size: int, *, advice: str = ""
) -> None:
    """Raise :class:`ShapeError` unless axis number ``axis`` of ``tensor`` has length ``size``."""
    if tensor.shape[axis] != size:
        raise ShapeError(
            f"{where}: '{name}' must have {axis_name} = {size} on axis {axis}, "
            f"got shape {shape_text(tensor)}.{_tail(advice)}"
        )


def check_floating(where: str, name: str, tensor: Tensor, *, advice: str = "") -> None:
    """Raise :class:`TypeError` unless ``tensor`` has a floating-point dtype."""
    if not tensor.is_floating_point():
        raise TypeError(f"{where}: '{name}' must have a floating-point dtype, got {tensor.dtype}.{_tail(advice)}")


def check_feature_map(where: str, name: str, tensor: Tensor, *, channels: int | None = None) -> None:
    """Check a ``(batch, channels, height, width)`` floating-point map, with ``channels`` channels if given."""
    check_rank(where, name, tensor, ("batch", "channels", "height", "width"))
    check_floating(where, name, tensor)
    if channels is not None:
        check_size(where, name, tensor, 1, "channels", channels, advice=f"Construct with channels={tensor.shape[1]}.")


def check_images(where: str, name: str, images: Tensor, *, multiple_of: int = 1) -> None:
    """Check ``(batch, 3, height, width)`` floating-point RGB images whose sides are multiples of ``multiple_of``."""
    check_rank(
        where,
        name,
        images,
        ("batch", "3", "height", "width"),
        advice="Add a batch axis with images.unsqueeze(0)." if images.dim() == 3 else "",
    )
    check_floating(where, name, images, advice="Scale pixels with facemtl.to_model_input(images).")
    check_size(
        where,
        name,
        images,
        1,
        "RGB channels",
        3,
        advice="Repeat gray images, drop alpha, move channels first.",
    )
    height, width = images.shape[2], images.shape[3]
    if height % multiple_of or width % multiple_of or height == 0 or width == 0:
        raise ShapeError(
            f"{where}: '{name}' must have height and width that are positive multiples of {multiple_of}, "
            f"got {height} x {width}. Resize or pad the images."
        )


def check_index_vector(where: str, name: str, indices: Tensor, *, batch: int) -> None:
    """Check ``(batch,)`` integers, not their values."""
    check_rank(where, name, indices, ("batch",), advice=f"Call {name}.squeeze(1)." if _is_column(indices) else "")
    if indices.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{where}: '{name}' must have dtype int64 or int32, got {indices.dtype}. Call {name}.long().")
    check_size(where, name, indices, 0, "batch", batch)


def check_indices(where: str, name: str, indices: Tensor, *, batch: int, limit: int, limit_name: str) -> None:
    """Check ``(batch,)`` integer indices in [0, ``limit``); values as :func:`value_checks` says."""
    check_index_vector(where, name, indices, batch=batch)
    check_values(
        (indices >= 0) & (indices < limit),
        indices,
        f"{where}: '{name}' must lie in [0, {limit_name}) = [0, {limit})",
    )


def check_ages(
    where: str,
    name: str,
    ages: Tensor,
    *,
    batch: int | None = None,
    highest: float | int = 100.0,
    advice: Callable[[float], str] | None = None,
) -> None:
    """Check ``(batch,)`` ages in years, in [0, ``highest``]; values as :func:`value_checks` says."""
    check_rank(where, name, ages, ("batch",), advice=f"Call {name}.squeeze(1)." if _is_column(ages) else "")
    if ages.dtype == torch.bool or ages.is_complex():
        raise TypeError(f"{where}: '{name}' must be real numbers (years), got {ages.dtype}.")
    if batch is not None:
        check_size(where, name, ages, 0, "batch", batch)
    check_values(
        (ages >= 0) & (ages <= highest), ages, f"{where}: '{name}' must lie in [0, {highest:g}] years", advice=advice
    )


def check_finite(where: str, name: str, values: Tensor) -> None:
    """Raise :class:`ValueError` if any of ``values`` is NaN or infinite.

    CUDA tensors are read only under ``value_checks("always")``: a device assertion would end the process where a
    gradient scaler means to skip the step whose fp16 activations overflowed.
    """
    if _value_checks == "auto" and values.is_cuda:
        return
    check_values(values.isfinite(), values, f"{where}: '{name}' must be finite")


def check_values(
    good: Tensor,
    values: Tensor,
    message: str,
    *,
    advice: Callable[[float], str] | None = None,
    at_once: bool = False,
) -> None:
    """Raise :class:`ValueError` with the first of ``values`` that is not ``good``, as :func:`value_checks` says.

    ``message`` says where, what and the wanted range; the offending value, its index and what ``advice`` says of that
    value are appended. NaN compares false, so a NaN is never good. ``at_once`` checks CUDA tensors at once too: for
    verbs whose result the caller reads anyway, where a device assertion would take the whole process down.
    """
    if _value_checks == "never" or good.is_meta:
        return
    if torch.compiler.is_compiling():
        torch._assert_async(good.all(), message)
        return
    if _value_checks == "auto" and good.is_cuda and not at_once:
        torch._assert_async(good.all(), message)
        return
    if not bool(good.all()):
        index = int((~good).flatten().nonzero()[0])
        where = (
            index if good.dim() == 1 else tuple(int(i) for i in torch.unravel_index(torch.tensor(index), good.shape))
        )
        value = values.flatten()[index].item()
        raise ValueError(f"{message}; got {value} at index {where}.{_tail(advice(value) if advice else '')}")


def _axes_text(axes: Sequence[str]) -> str:
    return f"{axes[0]}," if len(axes) == 1 else ", ".join(axes)


def _tail(advice: str) -> str:
    return f" {advice}" if advice else ""


def _is_column(tensor: Tensor) -> bool:
    return tensor.dim() == 2 and tensor.shape[1] == 1
