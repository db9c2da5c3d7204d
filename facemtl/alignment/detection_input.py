"""Photographs as detectors take them: a batch, or a list of different sizes; uint8, or floats in [-1, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from facemtl._core.checks import ShapeError, check_rank, check_values, shape_text
from facemtl._core.pixels import OVERSHOOT


def check_photographs(where: str, images: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Return the photographs one by one, ``(3, height, width)`` each, if they are uint8 or floats in [-1, 1]."""
    if isinstance(images, Tensor):
        advice = "Add an axis with images.unsqueeze(0)." if images.dim() == 3 else ""
        check_rank(where, "images", images, ("images", "3", "height", "width"), advice=advice)
    photographs = list(images)
    for index, image in enumerate(photographs):
        name = f"images[{index}]"
        if not isinstance(image, Tensor):
            raise TypeError(
                f"{where}: '{name}' must be a tensor, got {type(image).__name__}. "
                "Call torch.from_numpy(image).movedim(-1, 0) on an RGB array."
            )
        _check_photograph(where, name, image)
    return photographs


def check_range(where: str, name: str, images: Tensor, *, at_once: bool) -> None:
    """Check that floats are finite and lie in [-1, 1]; ``at_once`` waits for a GPU, as ``check_values`` says."""
    check_values(
        images.abs() <= OVERSHOOT,
        images,
        f"{where}: '{name}' must be finite and lie in [-1, 1]",
        advice=lambda value: "Scale pixels with facemtl.to_model_input(images)." if abs(value) > OVERSHOOT else "",
        at_once=at_once,
    )


def photograph_sizes(where: str, images: Tensor | Sequence[Tensor]) -> list[tuple[int, int]]:
    """(height, width) of each photograph."""
    return [(int(image.shape[1]), int(image.shape[2])) for image in check_photographs(where, images)]


def reduced_copy(image: Tensor, longest_side: int | None) -> Tensor:
    """Shrink ``(3, height, width)`` to a longest side of ``longest_side``, anti-aliased; a smaller one stays itself."""
    height, width = image.shape[1:]
    if longest_side is None or max(height, width) <= longest_side:
        return image
    scale = longest_side / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    # Half precision and uint8 on some devices have no anti-aliased resize.
    working = image if image.dtype == torch.uint8 and image.device.type == "cpu" else image.float()
    smaller = F.interpolate(working[None], size=size, mode="bilinear", antialias=True, align_corners=False)[0]
    return smaller.round().to(torch.uint8) if image.dtype == torch.uint8 and smaller.is_floating_point() else smaller


def restore_points(points: Tensor, *, copy: Tensor, image: Tensor) -> Tensor:
    """Carry ``(..., 2)`` points, (x, y), from a reduced copy back into its photograph, pixel centre to pixel centre."""
    scale = points.new_tensor((image.shape[2] / copy.shape[2], image.shape[1] / copy.shape[1]))
    return (points + 0.5) * scale - 0.5


def _check_photograph(where: str, name: str, image: Tensor) -> None:
    advice = ""
    if image.dim() == 3 and image.shape[0] == 1:
        advice = " Repeat the gray channel with images.expand(-1, 3, -1, -1)."
    elif image.dim() == 3 and image.shape[0] == 4:
        advice = " Drop alpha with images[:, :3]."
    elif image.dim() == 3 and image.shape[-1] in (3, 4):
        advice = " Move channels first with images.movedim(-1, -3)."
    if image.dim() != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ShapeError(f"{where}: '{name}' must have shape (3, height, width), got {shape_text(image)}.{advice}")
    if image.dtype == torch.uint8:
        return
    if not image.is_floating_point():
        raise TypeError(
            f"{where}: '{name}' must be uint8 or floating point, got {image.dtype}. "
            "Scale pixels with facemtl.to_model_input(images)."
        )
    check_range(where, name, image, at_once=True)
