"""Pixels to the bytes of an image file."""

from __future__ import annotations

import io
from typing import Literal

from torch import Tensor


def encode_image(image: Tensor, form: Literal["jpg", "png", "webp"], *, quality: int = 92) -> bytes:
    """Encode ``(3, height, width)`` uint8 RGB.

    Args:
        image: On any device.
        form: Of the file.
        quality: Of jpg and webp, 1 to 100.

    Raises:
        ValueError: If ``quality`` is out of range.
    """
    from PIL import Image

    if not 1 <= quality <= 100:
        raise ValueError(f"encode_image: 'quality' must lie in [1, 100], got {quality}.")
    buffer = io.BytesIO()
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().contiguous().numpy())
    if form == "jpg":
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
    elif form == "webp":
        picture.save(buffer, "WEBP", quality=quality, method=6)
    else:
        picture.save(buffer, "PNG")
    return buffer.getvalue()
