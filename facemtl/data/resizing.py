"""Images at another size."""

from __future__ import annotations

from torch import Tensor


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return ``(3, height, width)`` uint8 at another size, averaged where it shrinks; the image itself if it has it.

    The aspect is not kept.
    """
    if image.shape[-2:] == size:
        return image
    from torchvision.transforms.v2 import functional  # type: ignore[import-untyped]

    scaled: Tensor = functional.resize(image, list(size), antialias=True)
    return scaled
