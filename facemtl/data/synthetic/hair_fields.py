"""Where hair grows and which way it lies, on the maps and on the vertices."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from facemtl.data.synthetic.hair_zones import above_hairline


class HairField(NamedTuple):
    """Of places on the average adult."""

    above: Tensor
    """Centimetres above the hairline of the young."""
    recession: Tensor
    """Centimetres that the hairline climbs there where all has gone."""
    azimuth: Tensor
    """Degrees from the front, 0 to 180."""
    side: Tensor
    """−1 to the viewer's left to 1 to the right."""
    height: Tensor
    """Centimetres above the eyes."""


def hair_field(positions: Tensor) -> HairField:
    """Measure ``(..., 3)`` places on the average adult."""
    above = above_hairline(positions)
    azimuth = torch.atan2(positions[..., 0].abs(), positions[..., 2] + 9.0) * (180 / math.pi)
    return HairField(
        above,
        above - above_hairline(positions, 1.0),
        azimuth,
        (positions[..., 0] / 7.5).clamp(-1, 1),
        positions[..., 1],
    )
