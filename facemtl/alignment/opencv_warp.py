"""Sampling by OpenCV on a CPU: the fastest way for uint8 photographs that want no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facemtl.alignment.face_regions import FaceRegion, RegionPlan
from facemtl.alignment.prefilter import REACH
from facemtl.alignment.sampling import Padding

Pixels = NDArray[Any]

# Three planes are treated one by one where packing them takes longer: in regions of more pixels to one of the crop.
_PACKED_AREA = 12
_BOXED_AREA = 7


@cache
def opencv_major() -> int:
    """Major version of the OpenCV that is installed, 0 if there is none."""
    try:
        import cv2
    except ImportError:
        return 0
    return int(cv2.__version__.split(".")[0])


def warp_regions(
    images: Sequence[Tensor], plan: RegionPlan, size: tuple[int, int], *, padding: Padding, antialias: bool
) -> Tensor:
    """Sample a crop for each face as :func:`~facemtl.alignment.region_sampling.sample_regions` does, to 1/255.

    OpenCV warps four channels in the time of one and three in that of three, so that small regions are packed into
    four.

    Args:
        images: ``(3, height, width)`` uint8 each, on the CPU.
        plan: What each face needs.
        size: Height and width of the crops.
        padding: Outside the photograph is black, or the nearest pixel.
        antialias: Whether ``plan`` has prefilters.

    Returns:
        ``(faces, 3, *size)`` of 0 to 255: uint8, or float32 if anti-aliased.
    """
    import cv2

    crops = torch.empty(len(plan.regions), 3, *size, dtype=torch.float32 if antialias else torch.uint8)
    matrices, weights = plan.matrices.numpy(), plan.weights.numpy()
    edge = cv2.BORDER_CONSTANT if padding == "zeros" else cv2.BORDER_REPLICATE
    views = [_views(image) for image in images]
    for target, region, matrix, box in zip(crops.numpy(), plan.regions, matrices, weights, strict=True):
        parts = [_halve(view, region, edge) for view in views[region.image]]
        rows, columns = region.size()
        if rows * columns <= (_BOXED_AREA if region.reach else _PACKED_AREA) * size[0] * size[1]:
            parts = [_pack(parts)]
        for channel, part in enumerate(parts):
            ready = _box(part, region.reach, box)
            direct = target[channel] if ready.ndim == 2 and ready.dtype == target.dtype else None
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            warped = cv2.warpAffine(ready, matrix, size[::-1], dst=direct, flags=flags, borderMode=edge)
            if warped.ndim == 3:
                _unpack(warped, target)
            elif direct is None:
                target[channel] = warped
    return crops


def _views(image: Tensor) -> list[Pixels]:
    """An image as OpenCV takes it without a copy: whole if its channels lie together, else each channel."""
    array = image.numpy()
    if image.stride(0) == 1 and image.stride(2) == 3:
        return [array.transpose(1, 2, 0)]
    return [plane if plane.strides[1] == 1 else np.ascontiguousarray(plane) for plane in array]


def _pack(parts: list[Pixels]) -> Pixels:
    """Pixels of four channels, the last of no meaning."""
    import cv2

    if len(parts) == 3:
        whole = [np.ascontiguousarray(part) for part in parts]  # eight times faster than merging parts of planes
        return cv2.merge([*whole, whole[0]])
    return cv2.cvtColor(parts[0], cv2.COLOR_RGB2RGBA)


def _unpack(pixels: Pixels, target: Pixels) -> None:
    import cv2

    if pixels.dtype == target.dtype:
        cv2.split(pixels, [*target, *(np.empty_like(target[0]) for _ in range(pixels.shape[2] - 3))])
    else:
        target[...] = pixels[..., :3].transpose(2, 0, 1)


def _halve(pixels: Pixels, region: FaceRegion, edge: int) -> Pixels:
    """Cut, halve and pad, as :mod:`~facemtl.alignment.region_sampling` does, in uint8."""
    import cv2

    (top, bottom, left, right), sides = region.inside(*pixels.shape[:2])
    part = pixels[top:bottom, left:right]
    for _ in range(region.level):
        down, across = part.shape[0] % 2, part.shape[1] % 2
        if down or across:
            part = cv2.copyMakeBorder(part, 0, down, 0, across, edge)
        part = cv2.resize(part, (part.shape[1] // 2, part.shape[0] // 2), interpolation=cv2.INTER_AREA)
    if any(sides):
        part = cv2.copyMakeBorder(part, sides[2], sides[3], sides[0], sides[1], edge)
    return part


def _box(pixels: Pixels, reach: int, weights: Pixels) -> Pixels:
    """The box, in float32: with another rounding the whole would be more than 1/255 off."""
    import cv2

    if reach == 0:
        return pixels
    box = weights[REACH - reach : REACH + reach + 1]
    return cv2.sepFilter2D(pixels, cv2.CV_32F, box, box)[reach:-reach, reach:-reach]
