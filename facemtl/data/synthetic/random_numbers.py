"""Random numbers of people and pictures: each row is a pure function of seed, purpose and index, on every machine."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from facemtl._core.checks import check_indices
from facemtl.data.random_words import LARGEST_SEED, random_words


class Purpose(IntEnum):
    """What numbers are drawn for, so that those of a face's light say nothing of its pose."""

    TRAITS = 101
    APPEARANCE = 102
    EXPRESSION = 103
    POSE = 104
    LIGHT = 105
    BACKGROUND = 106
    AGE = 107
    CAMERA = 108


def draw_uniform(seed: int, purpose: Purpose, indices: Tensor, *, count: int) -> Tensor:
    """Draw ``count`` numbers of (0, 1) for each index.

    Args:
        seed: The data set's.
        purpose: What the numbers are for.
        indices: ``(rows,)`` int64, at least 0.
        count: How many for each.

    Returns:
        ``(rows, count)`` float64; multiples of 2⁻⁵³ plus half of one, so that neither 0 nor 1 occurs.

    Raises:
        ShapeError: If ``indices`` is not ``(rows,)``.
        TypeError: If they are no integers.
        ValueError: If one is negative, or ``seed`` is outside 0 ... 2⁶⁴ − 1.
    """
    where = f"Drawing {purpose.name.lower()}"
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"{where}: 'seed' must lie in 0 ... 2**64 - 1, got {seed}.")
    check_indices(
        where, "indices", indices, batch=len(indices) if indices.dim() else 1, limit=2**63 - 1, limit_name="2**63 - 1"
    )
    rows = [random_words(seed, (int(purpose), index, 0), count=count) for index in indices.tolist()]
    words = np.stack(rows) if rows else np.empty((0, count), np.uint64)
    return torch.from_numpy(((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)


def to_normal(uniform: Tensor, *, limit: float = 2.5) -> Tensor:
    """Standard normal numbers, cut off at ``limit``: nature has tails, but a data set of faces wants no monsters.

    The numbers are uniform draws turned by the normal's quantile function, between its values at ±``limit``.
    """
    low = torch.special.ndtr(torch.tensor(-limit, dtype=torch.float64))
    return torch.special.ndtri(low + uniform * (1 - 2 * low))


def to_choice(uniform: Tensor, weights: Tensor) -> Tensor:
    """Choose by ``(..., choices)`` weights: the index of the part of their sum that the uniform number falls into."""
    edges = weights.cumsum(-1) / weights.sum(-1, keepdim=True)
    return (uniform[..., None] > edges[..., :-1]).sum(-1)
