"""Faces larger than their crop: each pixel of the crop is the mean of its area in the photograph.

A pixel of a crop covers ``scale`` by ``scale`` pixels of the photograph, turned. Bilinear sampling reads four of them
and lets the rest alias. Here the photograph is first halved until a pixel of the crop covers :data:`_SPAN` to
twice as many; a box of fractional width then makes up the rest of the area's variance (bilinear sampling itself
contributes a part); one bilinear sample reads the result. All three are symmetric with the same variance along every
direction, so that the turned square is met to second order whatever the roll.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl.alignment.sampling import Padding, flatten, places, sampled_dtype, working_dtype

# Pixels of the halved photograph for each pixel of the crop, at least: below, bilinear's own blur, which changes with
# the place between the pixels, shows. Measured at 46 dB against the area's mean; 44 dB at 2.5.
_SPAN = 2.75
# Widest box, in pixels to each side: twice _SPAN needs a variance of 2.6, seven pixels have 4.
REACH = 3


class Prefilter(NamedTuple):
    """What is done to the photograph before a bilinear sample, for each face."""

    level: Tensor
    """``(faces,)`` int64: how often the photograph is halved."""

    reach: Tensor
    """``(faces,)``: pixels of the box to each side, 0 to 3; the outermost count ``edge``, all others 1."""

    edge: Tensor
    """``(faces,)`` in [0, 1], differentiable in the scale."""


def choose_prefilter(matrices: Tensor, levels: int) -> Prefilter:
    r"""Match the variance of a ``scale`` by ``scale`` area.

    In pixels of the photograph halved ``level`` times, :math:`k = 2^{level}` and :math:`r = scale / k`, an area of
    bilinearly interpolated pixels has a variance of :math:`r^2 / 12 + 1 / 6k^2` along each axis; the mean of
    :math:`k` pixels has :math:`(1 - 1/k^2) / 12` and bilinear sampling :math:`1/6`. The difference is the box's. Between
    a scale of 1, where nothing is done, and 1.25 it is faded in.

    Args:
        matrices: ``(faces, 2, 3)`` crop to photograph.
        levels: How often the photograph may be halved.
    """
    scale = matrices[:, :, 0].square().sum(1).clamp_min(1e-12).sqrt()
    level = (scale.detach() / _SPAN).log2().floor().clamp(0, levels)
    halved = torch.exp2(level)
    ratio = (scale / halved).clamp_max(2 * _SPAN)
    variance = ratio.square() / 12 + (0.25 / halved.square() - 0.25)
    variance = torch.where(level == 0, variance * (4 * (scale - 1)).clamp(0, 1), variance)
    reach = (variance > 0).to(variance) + (variance > 2 / 3) + (variance > 2)
    # A box of 2 reach - 1 whole pixels and two of weight edge has the variance (inner + 2 edge reach²) / sum.
    whole = (2 * reach - 1).clamp_min(0)
    inner = reach * (reach - 1) * (2 * reach - 1) / 3
    edge = (variance * whole - inner) / (2 * (reach.square() - variance)).clamp_min(1e-3)
    return Prefilter(level.long(), reach.long(), torch.where(reach > 0, edge, torch.ones_like(edge)))


def box(prefilter: Prefilter) -> Tensor:
    """Weights of the box, ``(faces, 2 * REACH + 1)``, summing to 1 for each face."""
    distance = torch.arange(-REACH, REACH + 1, device=prefilter.reach.device).abs()
    reach, edge = prefilter.reach[:, None], prefilter.edge[:, None]
    weights = torch.where(distance == reach, edge, (distance < reach).to(edge))
    return weights / weights.sum(1, keepdim=True)


def sample_areas(
    images: Tensor,
    matrices: Tensor,
    image_index: Tensor | None,
    size: tuple[int, int],
    *,
    padding: Padding,
    fill: float,
) -> Tensor:
    """Sample crops from ``images`` as :func:`~facemtl.alignment.sampling.sample_bilinear` does, without aliasing.

    Nothing depends on the values of ``matrices`` but what is read: all levels of all photographs are made (a third of
    their pixels), and box and bilinear weights meet in 8 × 8 taps. So it compiles to one kernel, exports, and lets no
    GPU wait for a scale.
    """
    dtype = sampled_dtype(images)
    faces, channels = matrices.shape[0], images.shape[1]
    index = torch.arange(faces, device=images.device) if image_index is None else image_index
    pyramid = make_pyramid(images, padding, fill)
    matrices = matrices.to(working_dtype(images))
    prefilter = choose_prefilter(matrices, len(pyramid))
    weights = box(prefilter).to(dtype)
    photographs = _photographs(images, index, prefilter.level == 0)
    reduced = _reduced(pyramid, index, prefilter.level)
    halved = torch.exp2(prefilter.level.to(matrices))[:, None, None]
    x, y = ((place + 0.5) / halved - 0.5 for place in places(matrices, size, matrices.dtype))
    sides = torch.tensor([level.shape[2:] for level in (images, *pyramid)], device=index.device)[prefilter.level]
    row, across = _taps(y, weights, sides[:, 0], padding)
    column, along = _taps(x, weights, sides[:, 1], padding)
    crops = torch.zeros(faces, channels, *size, dtype=dtype, device=images.device)
    for tap in range(2 * REACH + 2):
        pixels = photographs.read(row[..., tap], column, channels).to(dtype)
        if pyramid:
            smaller = reduced.read(row[..., tap], column, channels)
            pixels = torch.where((prefilter.level == 0)[:, None, None, None, None], pixels, smaller)
        crops = crops + (pixels * along[:, None]).sum(-1) * across[:, None, ..., tap]
    if padding == "zeros" and fill != 0.0:
        crops = crops + fill * (1 - across.sum(-1) * along.sum(-1))[:, None]
    return crops


def make_pyramid(images: Tensor, padding: Padding, fill: float) -> list[Tensor]:
    """The photographs halved again and again by the mean of 2 × 2 pixels, without the photographs themselves."""
    levels: list[Tensor] = []
    level = images
    while max(level.shape[2:]) > 1:
        level = halve(level, padding, fill)
        levels.append(level)
    return levels


def halve(images: Tensor, padding: Padding, fill: float) -> Tensor:
    """Means of 2 × 2 pixels; where a side is odd, the last pixel's partner is as the padding has it."""
    down, right = images.shape[2] % 2, images.shape[3] % 2
    images = images.to(sampled_dtype(images))
    if down or right:
        if padding == "border":
            images = F.pad(images, (0, right, 0, down), mode="replicate")
        else:
            images = F.pad(images, (0, right, 0, down), value=fill)
    return F.avg_pool2d(images, 2)


class _Source(NamedTuple):
    """Pixels in a row, and for each face where its image starts and the steps to the next channel, row and column."""

    flat: Tensor
    steps: Tensor

    def read(self, row: Tensor, column: Tensor, channels: int) -> Tensor:
        """``(faces, channels, height, width, taps)`` of rows ``(faces, height, width)`` and columns with taps."""
        start, channel, down, right = self.steps[:, :, None, None].unbind(1)
        place = (start + row * down)[..., None] + column * right[..., None]
        channel = channel[..., None, None] * torch.arange(channels, device=row.device)[:, None, None, None]
        return self.flat[place[:, None] + channel]


def _photographs(images: Tensor, index: Tensor, used: Tensor) -> _Source:
    flat, (whole, *steps) = flatten(images)
    start = index * whole
    steps = torch.stack((start, *(torch.full_like(start, step) for step in steps)), 1)
    return _Source(flat, torch.where(used[:, None], steps, 0))


def _reduced(pyramid: list[Tensor], index: Tensor, level: Tensor) -> _Source:
    if not pyramid:
        return _Source(index, index)
    start, table = 0, []
    for images in pyramid:
        rows, columns = images.shape[2:]
        table.append((start, math.prod(images.shape[1:]), rows * columns, columns, 1))
        start += images.numel()
    start, whole, *steps = torch.tensor(table, device=index.device)[(level - 1).clamp_min(0)].unbind(1)
    steps = torch.stack((start + index * whole, *steps), 1)
    return _Source(torch.cat([images.reshape(-1) for images in pyramid]), torch.where((level > 0)[:, None], steps, 0))


def _taps(place: Tensor, weights: Tensor, length: Tensor, padding: Padding) -> tuple[Tensor, Tensor]:
    """Pixels along an axis and their weights, both ``(faces, height, width, 8)``: the box, shared by two neighbours."""
    first = place.detach().floor()
    share = (place - first).to(weights)[..., None]
    spread = F.pad(weights, (0, 1))[:, None, None] * (1 - share) + F.pad(weights, (1, 0))[:, None, None] * share
    tap = first.long()[..., None] + torch.arange(-REACH, REACH + 2, device=place.device)
    last = length[:, None, None, None] - 1
    if padding == "zeros":
        spread = torch.where((tap >= 0) & (tap <= last), spread, 0.0)
    return torch.minimum(tap.clamp_min(0), last), spread
