"""Pyramid pooling: a map of any size summarised by a fixed number of cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl._core.checks import ShapeError, check_feature_map, shape_text
from facemtl._core.shapes import FeatureMap


def pyramid_pool(
    features: FeatureMap, *, reduce: Literal["mean", "max"] = "mean", grid_sizes: Sequence[int] = (1, 2, 3)
) -> Tensor:
    """Pool ``features`` over grids of n×n cells, one grid for each n in ``grid_sizes``.

    The cells are those of adaptive pooling: cell i of n along an axis of length L covers the pixels from
    ``floor(i·L/n)`` up to and without ``ceil((i+1)·L/n)``. They overlap where n does not divide L, as 2 and 3 do not
    divide 7, and share pixels where L < n, so that any map of at least 1×1 will do. torch's own adaptive pooling of
    such sizes does not run on MPS and has no deterministic gradient on CUDA; here means are one product with an
    averaging matrix, and maxima are taken over fixed slices. Pixels that tie for a maximum share its gradient.

    Args:
        features: ``(batch, channels, height, width)``, floating point.
        reduce: ``"mean"`` or ``"max"`` over each cell.
        grid_sizes: Cells along a side of each grid, each at least 1.

    Returns:
        ``(batch, channels · Σ n²)``: grid after grid, in each the cells of a channel row by row, channel after channel.

    Raises:
        ShapeError: If ``features`` has not four axes or no pixel.
        TypeError: If ``features`` is not floating point.
        ValueError: If ``reduce`` is neither of the two, or ``grid_sizes`` is empty or has a number below 1.

    References:
        He et al., "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition", ECCV 2014.

    Example:
        >>> import torch
        >>> ramp = torch.arange(9.0).reshape(1, 1, 3, 3)
        >>> pyramid_pool(ramp, reduce="max", grid_sizes=(1, 2))
        tensor([[8., 4., 5., 7., 8.]])
        >>> pyramid_pool(torch.randn(2, 512, 7, 7)).shape
        torch.Size([2, 7168])
    """
    check_feature_map("pyramid_pool", "features", features)
    if features.shape[2] == 0 or features.shape[3] == 0:
        raise ShapeError(f"pyramid_pool: 'features' must have at least one pixel, got {shape_text(features)}.")
    if reduce not in ("mean", "max"):
        raise ValueError(f"pyramid_pool: 'reduce' must be 'mean' or 'max', got {reduce!r}.")
    num_cells(grid_sizes)
    pool = _mean_cells if reduce == "mean" else _max_cells
    return torch.cat([pool(features, cells).flatten(1) for cells in grid_sizes], dim=1)


def num_cells(grid_sizes: Sequence[int]) -> int:
    """Cells of all grids together, ``Σ n²``; each grid must have at least one."""
    if not grid_sizes or any(cells < 1 for cells in grid_sizes):
        raise ValueError(f"pyramid_pool: 'grid_sizes' must be at least one number, each at least 1, got {grid_sizes}.")
    return sum(cells * cells for cells in grid_sizes)


def _mean_cells(features: Tensor, cells: int) -> Tensor:
    """``(batch, channels, cells²)`` means: cells are rectangles, so their weights are products of weights by axis."""
    rows = _averaging_weights(features, 2, cells)
    columns = _averaging_weights(features, 3, cells)
    weights = (rows[:, None, :, None] * columns[None, :, None, :]).flatten(2).flatten(0, 1)
    return F.linear(features.flatten(2), weights)


def _averaging_weights(features: Tensor, axis: int, cells: int) -> Tensor:
    """``(cells, length)``: row i averages the pixels of cell i along ``axis``. Made on the device, not copied to it."""
    length = features.shape[axis]
    pixel = torch.arange(length, device=features.device)
    cell = torch.arange(cells, device=features.device)[:, None]
    inside = (pixel >= cell * length // cells) & (pixel < -(-(cell + 1) * length // cells))
    return inside.to(features.dtype) / inside.sum(dim=1, keepdim=True)


def _max_cells(features: Tensor, cells: int) -> Tensor:
    """``(batch, channels, cells, cells)`` maxima, along one axis and then along the other."""
    for axis in (2, 3):
        length = features.shape[axis]
        starts = [cell * length // cells for cell in range(cells)]
        ends = [-(-(cell + 1) * length // cells) for cell in range(cells)]
        parts = [features.narrow(axis, a, b - a).amax(dim=axis) for a, b in zip(starts, ends, strict=True)]
        features = torch.stack(parts, dim=axis)
    return features
