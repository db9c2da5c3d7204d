"""Pixels to the bytes of an image file."""

from __future__ import annotations

import io
from typing import Literal, get_args

import torch
from torch import Tensor

from facemtl._core.checks import check_rank, check_size

Form = Literal["jpg", "png", "webp"]


def encode_image(image: Tensor, form: Form, *, quality: int = 92, small: bool = True) -> bytes:
    """Encode ``(3, height, width)`` uint8 RGB.

    Args:
        image: On any device.
        form: Of the file.
        quality: Of jpg and webp, 1 to 100.
        small: Spend time, and in a jpg half of the resolution of colours, on a smaller file.

    Raises:
        ShapeError: If ``image`` is not ``(3, height, width)``.
        TypeError: If it is not uint8.
        ValueError: If ``form`` is none of these, or ``quality`` is out of range.
    """
    from PIL import Image

    check_form("encode_image", "form", form, quality)
    check_rank("encode_image", "image", image, ("3", "height", "width"))
    check_size("encode_image", "image", image, 0, "RGB channels", 3)
    if image.dtype != torch.uint8:
        raise TypeError(
            f"encode_image: 'image' must have dtype uint8, got {image.dtype}. Convert with facemtl.to_uint8(images)."
        )
    buffer = io.BytesIO()
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().contiguous().numpy())
    if form == "jpg":
        picture.save(buffer, "JPEG", quality=quality, optimize=small, subsampling=2 if small else 0)
    elif form == "webp":
        picture.save(buffer, "WEBP", quality=quality, method=6 if small else 4)
    else:
        picture.save(buffer, "PNG", compress_level=6 if small else 3)  # 3 is smaller for crops, in half the time
    return buffer.getvalue()


def check_form(where: str, name: str, form: str, quality: int) -> None:
    """Raise :class:`ValueError` unless files can be written so."""
    if form not in get_args(Form):
        choices = ", ".join(f'"{choice}"' for choice in get_args(Form))
        raise ValueError(f'{where}: {name!r} must be one of {choices}, got "{form}".')
    if not 1 <= quality <= 100:
        raise ValueError(f"{where}: 'quality' must lie in [1, 100], got {quality}.")
