"""Where hair grows on the average adult head, for whoever paints it: the hairline and the arcs of the brows.

Both are functions of places on the average young adult (:attr:`SurfaceMaps.positions`), so they follow every head.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

_AXIS_Z = -9.0  # centimetres; the upright line about which azimuths are counted runs through the middle of the skull
# Azimuth in degrees (0 is the front) and height of the hairline in centimetres above the eyes: forehead, temple corner,
# sideburn before the ear, over the ear and behind it, nape.
_HAIRLINE = (
    (0.0, 5.9),
    (22.0, 5.9),
    (34.0, 5.4),
    (44.0, 3.6),
    (54.0, 1.8),
    (62.0, -2.2),
    (74.0, -2.6),
    (86.0, 1.0),
    (104.0, 0.6),
    (116.0, -4.0),
    (145.0, -7.5),
    (180.0, -8.2),
)
# How many centimetres the hairline climbs by the time that all has gone: the corners first, the forelock later.
_RECESSION = ((0.0, 3.0), (15.0, 4.0), (34.0, 7.0), (50.0, 4.0), (62.0, 0.0), (180.0, 0.0))
# x and y of the brows in centimetres, from the nose outwards, on the side where x is positive.
_BROW = ((1.25, 1.25), (2.4, 1.75), (3.7, 2.1), (4.6, 1.9), (5.5, 1.25))


def above_hairline(positions: Tensor, recession: Tensor | float = 0.0) -> Tensor:
    """Give how far above the hairline each place is.

    Args:
        positions: ``(..., 3)`` centimetres on the average adult.
        recession: 0, none, to 1, as far as it gets; broadcast over the places.

    Returns:
        ``(...)`` centimetres, positive where hair grows; ears count as the head beside them.
    """
    azimuth = torch.atan2(positions[..., 0].abs(), positions[..., 2] - _AXIS_Z) * (180 / math.pi)
    line = _along(azimuth, _HAIRLINE) + recession * _along(azimuth, _RECESSION)
    return positions[..., 1] - line


def brow_coordinates(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Give places along and across the brow of their own side.

    Args:
        positions: ``(..., 3)`` centimetres on the average adult.

    Returns:
        How far along the brow, 0 at the nose and 1 at the temple, beyond these outside [0, 1]; and how far above its
        middle line in centimetres. Places on the back of the head are far above.
    """
    x, y = positions[..., 0].abs(), positions[..., 1]
    along = (x - _BROW[0][0]) / (_BROW[-1][0] - _BROW[0][0])
    across = y - _along(x, _BROW)
    return along, torch.where(positions[..., 2] > -4.0, across, 100.0)


def _along(at: Tensor, knots: tuple[tuple[float, float], ...]) -> Tensor:
    """Linear between knots, constant outside."""
    total = torch.full_like(at, knots[0][1])
    for (start, low), (end, high) in pairwise(knots):
        total = total + (high - low) * ((at - start) / (end - start)).clamp(0, 1)
    return total
