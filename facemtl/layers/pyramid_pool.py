"""Pyramid pooling: a map of any size summarised by a fixed number of cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from facemtl._core.checks import ShapeError, check_feature_map, shape_text
from facemtl._core.shapes import FeatureMap


def pyramid_pool(
    features: FeatureMap, *, reduce: Literal["mean", "max"] = "mean", grid_sizes: Sequence[int] = (1, 2, 3)
) -> Tensor:
    """Pool ``features`` over grids of n×n cells, one grid for each n in ``grid_sizes``.

    The cells are those of adaptive pooling: cell i of n along an axis of length L covers the pixels from
    ``floor(i·L/n)`` up to and without ``ceil((i+1)·L/n)``. They overlap where n does not divide L, as 2 and 3 do not
    divide 7, and share pixels where L < n, so that any map of at least 1×1 will do. Cells are fixed slices: torch's own
    adaptive pooling of such sizes does not run on MPS and has no deterministic gradient on CUDA. Pixels that tie for a
    maximum share its gradient.

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
    grids = []
    for cells in grid_sizes:
        # A cell is a rectangle, so rows and columns pool one after the other.
        rows = _pool_axis(features, 2, cells, reduce)
        grids.append(_pool_axis(rows, 3, cells, reduce).flatten(1))
    return torch.cat(grids, dim=1)


def num_cells(grid_sizes: Sequence[int]) -> int:
    """Cells of all grids together, ``Σ n²``; each grid must have at least one."""
    if not grid_sizes or any(cells < 1 for cells in grid_sizes):
        raise ValueError(f"pyramid_pool: 'grid_sizes' must be at least one number, each at least 1, got {grid_sizes}.")
    return sum(cells * cells for cells in grid_sizes)


def _pool_axis(features: Tensor, axis: int, cells: int, reduce: str) -> Tensor:
    length = features.shape[axis]
    pooled = []
    for cell in range(cells):
        start, end = cell * length // cells, -(-(cell + 1) * length // cells)
        part = features.narrow(axis, start, end - start)
        pooled.append(part.mean(dim=axis) if reduce == "mean" else part.amax(dim=axis))
    return torch.stack(pooled, dim=axis)
