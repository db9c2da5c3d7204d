"""Patterns without chance: the same on every machine."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl.data.random_words import random_words

_PATTERNS = 109  # the purpose of these random words


def smooth_noise(number: int, shape: tuple[int, int], cells: tuple[float, float]) -> Tensor:
    """Draw numbers of mean 0 and deviation 1 that change over distances of ``cells`` texels (down, across)."""
    rows, columns = (max(2, round(length / cell) + 3) for length, cell in zip(shape, cells, strict=True))
    words = random_words(0, (_PATTERNS, number, 0), count=rows * columns)
    grid = torch.from_numpy((words >> np.uint64(40)).astype(np.float32) / 2**24).view(1, 1, rows, columns)
    noise = F.interpolate(grid, size=shape, mode="bicubic", align_corners=False)[0, 0]
    return (noise - noise.mean()) / noise.std()


def octaves(number: int, shape: tuple[int, int], cell: float, *, count: int = 3) -> Tensor:
    """Sum noises of ever smaller cells and strengths."""
    total = sum(
        (smooth_noise(number + step, shape, (cell / 2**step, cell / 2**step)) * 0.6**step for step in range(count)),
        torch.zeros(shape),
    )
    return total / total.std()


def smoothstep(values: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """0 below ``low`` to 1 above ``high``, without corners."""
    share = ((values - low) / (high - low)).clamp(0, 1)
    return share * share * (3 - 2 * share)


def box_of(wanted: Tensor) -> tuple[slice, slice]:
    """The rows and columns of a map that are wanted."""
    rows, columns = wanted.nonzero(as_tuple=True)
    return slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1)
