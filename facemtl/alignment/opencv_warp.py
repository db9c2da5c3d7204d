"""Sampling by OpenCV on a CPU: the fastest way for uint8 photographs that want no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facemtl.alignment.face_regions import RegionPlan
from facemtl.alignment.prefilter import REACH
from facemtl.alignment.sampling import Padding

Pixels = NDArray[Any]
Sides = tuple[int, int, int, int]

# Three planes are treated one by one where packing them takes longer: in regions of more pixels to one of the crop.
_PACKED_AREA = 40
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
    images: Sequence[Tensor],
    plan: RegionPlan,
    size: tuple[int, int],
    *,
    padding: Padding,
    antialias: bool,
    output: Literal["model", "uint8"],
) -> Tensor:
    """Sample a crop for each face as :func:`~facemtl.alignment.region_sampling.sample_regions` does, to 1/255.

    OpenCV warps four channels in the time of one and three in that of three, so that all but large regions are packed
    into four.

    Args:
        images: ``(3, height, width)`` uint8 each, on the CPU.
        plan: What each face needs.
        size: Height and width of the crops.
        padding: Outside the photograph is black, or the nearest pixel.
        antialias: Whether ``plan`` has prefilters.
        output: Floats in [-1, 1] or uint8.

    Returns:
        ``(faces, 3, *size)``.
    """
    import cv2

    dtype = torch.uint8 if output == "uint8" else torch.float32
    crops = torch.empty(len(plan.regions), 3, *size, dtype=dtype)
    matrices, weights = plan.matrices.numpy(), plan.weights.numpy()
    edge = cv2.BORDER_CONSTANT if padding == "zeros" else cv2.BORDER_REPLICATE
    views = [_views(image) for image in images]
    planes = _planes(4, size, np.float32 if antialias else np.uint8)
    area = max((region.bottom - region.top) * (region.right - region.left) for region in plan.regions)
    packed = _scratch(7 * min(area, 2 * _PACKED_AREA * size[0] * size[1]))
    for target, region, matrix, box in zip(crops.numpy(), plan.regions, matrices, weights, strict=True):
        cut = region.inside(*views[region.image][0].shape[:2])
        parts = [_halve(view, region.level, cut, edge) for view in views[region.image]]
        rows, columns = region.size()
        if rows * columns <= (_BOXED_AREA if region.reach else _PACKED_AREA) * size[0] * size[1]:
            parts = [_pack(parts, packed)]
        for channel, part in enumerate(parts):
            ready = _box(part, region.reach, box)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            _store(cv2.warpAffine(ready, matrix, size[::-1], flags=flags, borderMode=edge), planes, channel)
        for plane, out in zip(planes, target, strict=False):
            _finish(plane, out)
    return crops


def _store(warped: Pixels, planes: list[Pixels], channel: int) -> None:
    """Put one channel, or all of them, into planes."""
    import cv2

    if warped.ndim == 2:
        np.copyto(planes[channel], warped)
    elif warped.dtype == planes[0].dtype:
        cv2.split(warped, planes[: warped.shape[2]])
    else:
        for number in range(3):
            np.copyto(planes[number], warped[..., number])


def _finish(plane: Pixels, target: Pixels) -> None:
    """Bring 0 to 255 into the range of ``target``."""
    import cv2

    if target.dtype == np.float32:
        cv2.addWeighted(plane, 2 / 255, plane, 0.0, -1.0, dst=target, dtype=cv2.CV_32F)
        return
    if plane.dtype == np.float32:
        np.rint(plane, out=plane)
    np.copyto(target, plane, casting="unsafe")


def _views(image: Tensor) -> list[Pixels]:
    """An image as OpenCV takes it without a copy: whole if its channels lie together, else each channel."""
    array = image.numpy()
    if image.stride(0) == 1 and image.stride(2) == 3:
        return [array.transpose(1, 2, 0)]
    return list(array)


def _pack(parts: list[Pixels], room: Pixels) -> Pixels:
    """Pixels of four channels, the last of no meaning, in ``room`` if they are uint8."""
    import cv2

    rows, columns = parts[0].shape[:2]
    length = rows * columns
    fits = parts[0].dtype == np.uint8 and 7 * length <= room.size
    target = room[: 4 * length].reshape(rows, columns, 4) if fits else None
    if len(parts) == 1:
        return cv2.cvtColor(parts[0], cv2.COLOR_RGB2RGBA, target)
    if not fits:
        return cv2.merge([*parts, parts[0]])
    whole = [plane.reshape(rows, columns) for plane in room[4 * length : 7 * length].reshape(3, length)]
    for plane, part in zip(whole, parts, strict=True):
        np.copyto(plane, part)  # merging parts of larger planes takes eight times as long
    return cv2.merge([*whole, whole[0]], target)


def _scratch(length: int) -> Pixels:
    """Bytes for one face after the other, which stay in the cache.

    They begin at an odd address: from an even one on OpenCV's merge writes past the cache, and what reads the pixels
    next waits for the memory.
    """
    return np.empty(length + 1, np.uint8)[1:]


def _planes(number: int, size: tuple[int, int], dtype: Any) -> list[Pixels]:
    """Planes that are never at a multiple of the same number of bytes, for the same reason: OpenCV's split."""
    length = size[0] * size[1]
    return [plane[1 : length + 1].reshape(size) for plane in np.empty((number, length + 3), dtype)]


def _halve(pixels: Pixels, levels: int, cut: tuple[Sides, Sides], edge: int) -> Pixels:
    """Cut, halve and pad, as :mod:`~facemtl.alignment.region_sampling` does, in uint8."""
    import cv2

    (top, bottom, left, right), sides = cut
    part = pixels[top:bottom, left:right]
    if part.strides[-1] != 1:
        part = np.ascontiguousarray(part)
    for level in range(levels):
        if level == 2:  # a third rounding could add up to more than one grey level
            part = part.astype(np.float32)
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
