"""Area sampling without a look at the faces: one way for every scale, which compiles, exports and runs on a GPU."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl._core.precision import widest_dtype
from facemtl.alignment.prefilter import REACH, choose_prefilter, halve
from facemtl.alignment.sampling import Padding, flatten, places, sampled_dtype


def sample_areas(
    images: Tensor,
    matrices: Tensor,
    image_index: Tensor | None,
    size: tuple[int, int],
    *,
    padding: Padding = "zeros",
    fill: float = 0.0,
) -> Tensor:
    """Sample crops as :func:`~facemtl.alignment.sampling.sample_bilinear` does, but without aliasing.

    All photographs are halved to the last pixel (a third of their pixels), and each face reads from the level that it
    needs; its box and the bilinear weights meet in 8 × 8 taps, which are shared along rows and columns. No step waits
    for a scale to come from the device.
    """
    dtype = sampled_dtype(images)
    faces, channels = matrices.shape[0], images.shape[1]
    index = torch.arange(faces, device=images.device) if image_index is None else image_index
    levels = [images, *_reduce(images, padding, fill)]
    matrices = matrices.to(widest_dtype(images))
    prefilter = choose_prefilter(matrices, len(levels) - 1)
    sides = torch.tensor([level.shape[2:] for level in levels], device=index.device)[prefilter.level]
    shrunk = torch.exp2(prefilter.level.to(matrices))[:, None, None]
    x, y = ((place + 0.5) / shrunk - 0.5 for place in places(matrices, size, matrices.dtype))
    weights = prefilter.weights().to(dtype)
    row, across = _taps(y, weights, sides[:, 0], padding)
    column, along = _taps(x, weights, sides[:, 1], padding)
    whole, reduced = _photographs(images, index, prefilter.level), _reduced(levels[1:], index, prefilter.level)
    unreduced = (prefilter.level == 0)[:, None, None, None, None]
    crops = torch.zeros(faces, channels, *size, dtype=dtype, device=images.device)
    for tap in range(2 * REACH + 2):
        pixels = whole.read(row[..., tap], column, channels).to(dtype)
        if len(levels) > 1:
            pixels = torch.where(unreduced, pixels, reduced.read(row[..., tap], column, channels))
        crops = crops + (pixels * along[:, None]).sum(-1) * across[:, None, ..., tap]
    if padding == "zeros" and fill != 0.0:
        crops = crops + fill * (1 - across.sum(-1) * along.sum(-1))[:, None]
    return crops


class _Source(NamedTuple):
    """Pixels in a row, and for each face where its image starts and the steps to the next channel, row and column."""

    flat: Tensor
    steps: Tensor

    def read(self, row: Tensor, column: Tensor, channels: int) -> Tensor:
        """Return ``(faces, channels, height, width, taps)`` at rows without and columns with taps."""
        start, channel, down, right = self.steps[:, :, None, None].unbind(1)
        place = (start + row * down)[..., None] + column * right[..., None]
        channel = channel[..., None, None] * torch.arange(channels, device=row.device)[:, None, None, None]
        return self.flat[place[:, None] + channel]


def _photographs(images: Tensor, index: Tensor, level: Tensor) -> _Source:
    flat, (whole, *rest) = flatten(images)
    start = index * whole
    steps = torch.stack((start, *(torch.full_like(start, step) for step in rest)), 1)
    return _Source(flat, torch.where((level == 0)[:, None], steps, 0))


def _reduced(levels: list[Tensor], index: Tensor, level: Tensor) -> _Source:
    if not levels:
        return _Source(index, index)
    begin, table = 0, []
    for images in levels:
        rows, columns = images.shape[2:]
        table.append((begin, math.prod(images.shape[1:]), rows * columns, columns, 1))
        begin += images.numel()
    start, whole, *rest = torch.tensor(table, device=index.device)[(level - 1).clamp_min(0)].unbind(1)
    steps = torch.stack((start + index * whole, *rest), 1)
    flat = torch.cat([images.reshape(-1) for images in levels])
    return _Source(flat, torch.where((level > 0)[:, None], steps, 0))


def _reduce(images: Tensor, padding: Padding, fill: float) -> list[Tensor]:
    levels: list[Tensor] = []
    while max(images.shape[2:]) > 1:
        images = halve(images, padding, fill)
        levels.append(images)
    return levels


def _taps(place: Tensor, weights: Tensor, length: Tensor, padding: Padding) -> tuple[Tensor, Tensor]:
    """Pixels along an axis and their weights, both ``(faces, height, width, 8)``: a box on either neighbour."""
    first = place.detach().floor()
    share = (place - first).to(weights)[..., None]
    spread = F.pad(weights, (0, 1))[:, None, None] * (1 - share) + F.pad(weights, (1, 0))[:, None, None] * share
    tap = first.long()[..., None] + torch.arange(-REACH, REACH + 2, device=place.device)
    last = length[:, None, None, None] - 1
    if padding == "zeros":
        spread = torch.where((tap >= 0) & (tap <= last), spread, 0.0)
    return torch.minimum(tap.clamp_min(0), last), spread
