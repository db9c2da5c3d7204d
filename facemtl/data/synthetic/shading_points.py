"""Which points of a picture get a colour of their own.

Where all samples of a pixel lie on one smooth piece of the surface, one colour serves for all: that of their mean,
with a texture of the pixel's own fineness. Along edges each sample has its own. So a picture of four samples a pixel
costs little more than one of a single sample.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from facemtl.data.synthetic.rasterise import CoveredPixels
from facemtl.data.synthetic.triangle_boxes import places_where

_JUMP = 0.5  # centimetres of depth within a pixel, beyond which there is an edge


class ShadingPoints(NamedTuple):
    """Points in rows of one length, a picture a row: short rows repeat their last point."""

    samples: Tensor
    """``(batch, points, samples)`` int64 into the covered pixels: of which each point is the mean."""
    places: Tensor
    """``(batch, points)`` int64 in the flattened pictures; one past their end in rows that have no point."""


class SampledPixels(NamedTuple):
    """A batch of pictures by what their pixels need."""

    whole: ShadingPoints
    """Pixels with one colour, placed among the pixels."""
    split: ShadingPoints
    """Samples of the others, placed among the samples."""
    cover: Tensor
    """``(batch, height, width)`` in [0, 1], the share of samples that see a surface."""
    depth: Tensor
    """``(batch, height, width)`` of the nearest sample."""


def sample_pixels(covered: CoveredPixels, charts: Tensor, *, supersampling: int) -> SampledPixels:
    """Part pixels into those with one colour and those with several.

    Args:
        covered: Samples, ``supersampling`` times as many in each direction as pixels.
        charts: ``(triangles,)`` int64, pieces of the surface.
        supersampling: Samples of a pixel's side.
    """
    (batch, height, width), side = covered.shape, supersampling
    total = batch * height * width
    places = torch.arange(len(covered.places), device=covered.places.device)
    numbers = places.new_zeros(total).index_copy_(0, covered.places, places)
    depth = covered.depth.new_full((total,), torch.inf).index_copy_(0, covered.places, covered.depth)
    shown = charts.index_select(0, covered.triangles).float()  # floats compare faster than whole numbers
    chart = shown.new_full((total,), -1.0).index_copy_(0, covered.places, shown)

    def tiles(values: Tensor) -> list[Tensor]:
        parts = values.view(batch, height // side, side, width // side, side)
        return [parts[:, :, row, :, column] for row in range(side) for column in range(side)]

    nearest, farthest = _extremes(tiles(depth))
    lowest, highest = _extremes(tiles(chart))
    whole = (lowest == highest) & (farthest - nearest < _JUMP)
    pixels = places_where(whole.flatten())
    means = torch.stack([tile.flatten().index_select(0, pixels) for tile in tiles(numbers)], 1)
    in_whole = whole.repeat_interleave(side, 1).repeat_interleave(side, 2).flatten().index_select(0, covered.places)
    others = places_where(~in_whole)
    counts = whole.sum((1, 2))
    cover = sum((tile.isfinite().float() for tile in tiles(depth)), torch.zeros_like(nearest)) / side**2
    return SampledPixels(
        _in_rows(means, pixels, counts, end=total // side**2),
        _in_rows(others[:, None], covered.places.index_select(0, others), covered.counts - side**2 * counts, end=total),
        cover,
        nearest,
    )


def _extremes(tiles: list[Tensor]) -> tuple[Tensor, Tensor]:
    lowest = highest = tiles[0]
    for tile in tiles[1:]:
        lowest, highest = torch.minimum(lowest, tile), torch.maximum(highest, tile)
    return lowest, highest


def _in_rows(samples: Tensor, places: Tensor, counts: Tensor, *, end: int) -> ShadingPoints:
    """Points of all pictures in turn, ``counts (batch,)`` of each, as rows."""
    if len(places) == 0:
        return ShadingPoints(samples.view(len(counts), 0, samples.shape[1]), places.view(len(counts), 0))
    steps = torch.minimum(torch.arange(int(counts.max()), device=counts.device), (counts - 1).clamp_min(0)[:, None])
    order = ((counts.cumsum(0) - counts)[:, None] + steps).clamp_max(len(places) - 1)
    rows = places.index_select(0, order.flatten()).view(order.shape)
    return ShadingPoints(
        samples.index_select(0, order.flatten()).view(*order.shape, -1), torch.where(counts[:, None] > 0, rows, end)
    )
