"""Sampling on a CPU: each face from the part of its photograph that it needs, the rest is never touched."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl.alignment.face_regions import FaceRegion, RegionPlan
from facemtl.alignment.prefilter import REACH, halve, pad
from facemtl.alignment.sampling import Padding, sampled_dtype

# Up to this side float32 shares of a side, as grid_sample wants coordinates, are good to 6e-5 pixels.
_SINGLE_SIDE = 800
# Faces whose coordinates are made at once: they stay in the cache until they are used.
_FACES_AT_ONCE = 8


def sample_regions(
    images: Sequence[Tensor], plan: RegionPlan, size: tuple[int, int], *, padding: Padding, fill: float
) -> Tensor:
    """Sample a crop for each face; differentiable in images and matrices.

    Coordinates of float images, and of uint8 in large regions, are float64. The small ones of uint8 images are float32
    and up to 6e-5 pixels off, which is a sixtieth of a grey level between black and white.

    Args:
        images: ``(channels, height, width)`` each, uint8 or floating point.
        plan: What each face needs.
        size: Height and width of the crops.
        padding: As in :func:`~facemtl.alignment.sampling.sample_bilinear`.
        fill: Likewise.

    Returns:
        ``(faces, channels, *size)``, float64 if images are, else float32.
    """
    offset = fill if padding == "zeros" else 0.0
    crops: list[Tensor] = []
    for first in range(0, len(plan.regions), _FACES_AT_ONCE):
        some = slice(first, first + _FACES_AT_ONCE)
        regions = plan.regions[some]
        single = all(images[r.image].dtype == torch.uint8 and max(r.size()) <= _SINGLE_SIDE for r in regions)
        dtype = torch.float32 if single else torch.float64
        grids = _grids(plan.matrices[some], regions, size, dtype).split(1)
        for region, grid, weights in zip(regions, grids, plan.weights[some].unbind(), strict=True):
            image = images[region.image]
            pixels = _prefilter(image, region, weights, padding, offset).to(dtype)
            crop = F.grid_sample(pixels, grid, padding_mode=padding, align_corners=False)
            crops.append(crop.to(sampled_dtype(image)))
    together = torch.cat(crops)
    return together + offset if offset else together


def _grids(matrices: Tensor, regions: list[FaceRegion], size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """``(faces, height, width, 2)`` as grid_sample wants it: -1 and 1 are the outer edges of the outermost pixels."""
    pixel = 2 / matrices.new_tensor([region.size()[::-1] for region in regions])
    linear, shift = matrices[:, :, :2] * pixel[..., None], (matrices[:, :, 2] + 0.5) * pixel - 1
    along = linear[:, None, :, 0] * torch.arange(size[1], dtype=matrices.dtype)[:, None]
    down = linear[:, None, :, 1] * torch.arange(size[0], dtype=matrices.dtype)[:, None] + shift[:, None]
    return along.to(dtype)[:, None] + down.to(dtype)[:, :, None]


def _prefilter(image: Tensor, region: FaceRegion, weights: Tensor, padding: Padding, offset: float) -> Tensor:
    """Cut, halve and box: ``(1, channels, height, width)`` minus ``offset``, which zeros stand for afterwards."""
    (top, bottom, left, right), sides = region.inside(*image.shape[1:])
    pixels = image[None, :, top:bottom, left:right].to(sampled_dtype(image))
    if offset:
        pixels = pixels - offset
    for _ in range(region.level):
        pixels = halve(pixels, padding, 0.0)
    pixels = pad(pixels, sides, padding, 0.0)
    if region.reach == 0:
        return pixels
    weight = weights[REACH:].to(pixels).unbind()
    return _box(_box(pixels, weight, region.reach, 2), weight, region.reach, 3)


def _box(pixels: Tensor, weight: tuple[Tensor, ...], reach: int, axis: int) -> Tensor:
    """Weighted sum of shifted pixels; a convolution of one channel is ten times slower on a CPU."""
    length = pixels.shape[axis] - 2 * reach
    total = pixels.narrow(axis, reach, length) * weight[0]
    for distance in range(1, reach + 1):
        pair = pixels.narrow(axis, reach - distance, length) + pixels.narrow(axis, reach + distance, length)
        total = torch.addcmul(total, pair, weight[distance])
    return total
