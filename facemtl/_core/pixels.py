"""Pixels as cameras and files have them, and as the networks want them: RGB in [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from facemtl._core.checks import ShapeError, check_floating, check_images, check_values, shape_text

OVERSHOOT = 1.5
"""Largest magnitude of floats that pass for [-1, 1]: synthesized faces overshoot a little, [0, 255] does not pass."""

_LARGEST = {torch.uint8: 255.0, torch.uint16: 65535.0}


def to_model_input(
    images: Tensor, *, value_range: tuple[float, float] | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Scale RGB images to [-1, 1], the range that every network here wants.

    Integers say their own range: uint8 is 0 to 255, uint16 is 0 to 65,535. Floats do not ([0, 1], [0, 255] and [-1, 1]
    all occur, and a wrong guess is a silent loss of accuracy), so the caller says it and the values are held to it.

    Args:
        images: ``(..., 3, height, width)`` RGB, channels first; uint8, uint16 or floating point.
        value_range: Darkest and brightest value; needed for floats, refused for integers.
        dtype: Floating-point dtype of the result.

    Returns:
        ``(..., 3, height, width)`` in [-1, 1].

    Raises:
        ShapeError: If there are not three channels on the third axis from the end.
        TypeError: If the dtype is none of these, or ``value_range`` is missing or unwanted.
        ValueError: If a float lies outside ``value_range`` or is not finite (on CPU; see :func:`facemtl.value_checks`).

    Example:
        >>> import torch
        >>> photograph = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
        >>> to_model_input(photograph).unique()
        tensor([1.])
        >>> to_model_input(torch.full((3, 2, 2), 0.5), value_range=(0.0, 1.0)).unique()
        tensor([0.])
    """
    _check_rgb("to_model_input", images)
    if images.dtype in _LARGEST:
        if value_range is not None:
            raise TypeError(f"to_model_input: 'value_range' must not be given for {images.dtype}, got {value_range}.")
        # In place on the copy that `to` makes: fresh memory for each step would take five times as long.
        return images.to(dtype).mul_(2.0 / _LARGEST[images.dtype]).sub_(1.0)
    check_floating("to_model_input", "images", images, advice="Convert to uint8 or float first.")
    if value_range is None:
        raise TypeError(
            f"to_model_input: 'value_range' is needed for {images.dtype} images. Pass (0, 1), (0, 255) or (-1, 1)."
        )
    low, high = value_range
    if not low < high:
        raise ValueError(f"to_model_input: 'value_range' must rise, got {value_range}.")
    slack = 1e-3 * (high - low)
    check_values(
        (images >= low - slack) & (images <= high + slack),
        images,
        f"to_model_input: 'images' must lie in value_range = [{low:g}, {high:g}]",
    )
    return ((images - low) * (2.0 / (high - low)) - 1.0).to(dtype)


def to_uint8(images: Tensor) -> Tensor:
    """Turn images in [-1, 1] into uint8, rounded to the nearest of 256 levels and clamped.

    Args:
        images: ``(..., 3, height, width)`` RGB in [-1, 1], floating point.

    Returns:
        The same shape, uint8.

    Raises:
        ShapeError: If there are not three channels on the third axis from the end.
        TypeError: If ``images`` is not floating point.
        ValueError: If a pixel is NaN (on CPU; see :func:`facemtl.value_checks`).

    Example:
        >>> import torch
        >>> to_uint8(torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1)).flatten().tolist()
        [0, 128, 255]
    """
    _check_rgb("to_uint8", images)
    check_floating("to_uint8", "images", images)
    check_values(~images.isnan(), images, "to_uint8: 'images' must be numbers")
    return ((images.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def check_model_input(where: str, images: Tensor) -> None:
    """Check images at the door of a user's verb: shape, dtype, and pixels that are finite and can be in [-1, 1].

    Up to :data:`OVERSHOOT` passes.
    """
    check_images(where, "images", images, multiple_of=16)
    check_values(
        images.abs() <= OVERSHOOT, images, f"{where}: 'images' must be finite and lie in [-1, 1]", at_once=True
    )


def _check_rgb(where: str, images: Tensor) -> None:
    if images.dim() >= 3 and images.shape[-3] == 3:
        return
    if images.dim() >= 3 and images.shape[-1] in (3, 4):
        advice = "Move channels first with images.movedim(-1, -3)."
    elif images.dim() >= 3 and images.shape[-3] == 1:
        advice = "Repeat the gray channel with images.expand(..., 3, -1, -1)."
    elif images.dim() >= 3 and images.shape[-3] == 4:
        advice = "Drop alpha with images[..., :3, :, :]."
    else:
        advice = "Stack RGB channels on the third axis from the end."
    raise ShapeError(f"{where}: 'images' must have shape (..., 3, height, width), got {shape_text(images)}. {advice}")
