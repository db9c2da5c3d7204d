"""Random numbers of people and pictures: each row is a pure function of seed, purpose and index, on every machine."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from facemtl.data.random_words import random_words


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
    """
    rows = [random_words(seed, (int(purpose), int(index), 0), count=count) for index in indices]
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
