"""The body of the hair: the scalp raised to it, and a curtain that hangs behind the face where hair is long."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from facemtl.data.synthetic.appearance_factors import AppearanceFactors, HairStyle
from facemtl.data.synthetic.atlas import Cell
from facemtl.data.synthetic.hair import hair_amounts, hairline_shift
from facemtl.data.synthetic.hair_fields import HairField
from facemtl.data.synthetic.noise import smoothstep
from facemtl.data.synthetic.person import Traits

CURTAIN_CELL = Cell(0.015, 0.702, 0.21, 0.742)
"""Of the maps: a corner that the head leaves free."""

_COLUMNS, _ROWS = 46, 12
_FRONT = 57.0  # degrees from the front, where the curtain begins
# Centimetres of hair on the top and on the sides, by style.
_TOP = torch.tensor([0.02, 0.25, 1.1, 1.9, 1.3, 1.1, 0.45, 3.2])
_SIDES = torch.tensor([0.02, 0.18, 0.5, 0.8, 0.8, 1.1, 0.35, 2.6])


class CurtainMesh(NamedTuple):
    """The curtain's triangles, both of its sides."""

    triangles: Tensor
    """``(triangles, 3)`` of its own vertices."""
    texture_coordinates: Tensor
    """``(triangles, 3, 2)``."""
    openness: Tensor
    """``(vertices,)``."""


def curtain_mesh() -> CurtainMesh:
    """A grid of columns from before one ear around the back to the other, an outer and an inner side."""
    quads, places = [], []
    for side in (0, 1):
        base = side * _COLUMNS * _ROWS
        for row in range(_ROWS - 1):
            for column in range(_COLUMNS - 1):
                a, b = base + row * _COLUMNS + column, base + row * _COLUMNS + column + 1
                c, d = a + _COLUMNS, b + _COLUMNS
                corners = [(a, c, b), (b, c, d)] if side == 0 else [(a, b, c), (b, d, c)]
                quads += corners
                places += [[_place(corner - base) for corner in triangle] for triangle in corners]
    inner = torch.linspace(0.55, 0.3, _ROWS).repeat_interleave(_COLUMNS)
    outer = torch.full((_COLUMNS * _ROWS,), 0.9)
    return CurtainMesh(torch.tensor(quads), torch.tensor(places), torch.cat((outer, inner)))


def _place(vertex: int) -> tuple[float, float]:
    row, column = divmod(vertex, _COLUMNS)
    cell = CURTAIN_CELL
    return (
        cell.left + (cell.right - cell.left) * column / (_COLUMNS - 1),
        cell.top + (cell.bottom - cell.top) * row / (_ROWS - 1),
    )


def hair_thickness(factors: AppearanceFactors, traits: Traits, ages: Tensor, field: HairField) -> Tensor:
    """``(batch, vertices)`` centimetres by which hair raises the surface of the head."""
    _, recession, fullness = hair_amounts(factors, traits, ages)
    above = hairline_shift(factors, field, recession)
    top = smoothstep(field.height, 4.0, 9.5)
    thick = (
        _SIDES.to(field.above)[factors.hair_style][:, None] * (1 - top)
        + _TOP.to(field.above)[factors.hair_style][:, None] * top
    )
    parted = (factors.hair_style == int(HairStyle.PARTED)).float()[:, None]
    side = torch.where(factors.shift[:, :1] < 0.5, field.side, -field.side)
    swept = 1 + parted * (0.55 * side * smoothstep(above, 0.0, 3.0))
    edge = smoothstep(above, -0.2, 2.2)
    grown = fullness * (0.55 + 0.45 * smoothstep(ages, 1.0, 6.0)) * factors.hair_volume
    return thick * swept * edge * (grown * (1 - 0.5 * recession))[:, None]


def curtain_vertices(factors: AppearanceFactors, ages: Tensor, head: Tensor) -> Tensor:
    """``(batch, curtain vertices, 3)`` around heads ``(batch, vertices, 3)``; a point where hair is not long.

    Args:
        factors: Of the people.
        ages: Years; small children have no long hair.
        head: Vertices of the scalp, raised by their hair.
    """
    long = (factors.hair_style == int(HairStyle.LONG)) & (ages >= 3)
    # the head's own width and depth at the height of the ears
    width = head[..., 0].abs().amax(1) - 0.9
    back, top = head[..., 2].amin(1), head[..., 1].amax(1)
    angles = torch.linspace(_FRONT, 360 - _FRONT, _COLUMNS, dtype=head.dtype, device=head.device) * (math.pi / 180)
    rows = torch.linspace(0, 1, _ROWS, dtype=head.dtype, device=head.device)[:, None]
    length = factors.hair_length * (0.6 + 0.4 * smoothstep(ages, 4.0, 14.0))
    ragged = 0.8 * torch.sin(angles * 7.3 + 9 * factors.shift[:, :1]) + 0.5 * torch.sin(
        angles * 17 + factors.hair_volume[:, None]
    )
    high = (0.62 * top)[:, None, None]
    y = high - (high + length[:, None, None] + ragged[:, None]) * rows
    wave = 0.16 * torch.sin(6 * rows * (1 + factors.hair_volume[:, None, None]) + 3 * angles)
    flare = 1.0 + 0.10 * factors.hair_volume[:, None, None] * smoothstep(rows, 0.2, 0.8) + 0.02 * wave
    cap = 0.80 + 0.20 * smoothstep(rows, 0.0, 0.22)
    middle = (0.5 * (back - 1.0))[:, None, None]
    x = (width * 1.04)[:, None, None] * torch.sin(angles) * flare * cap + wave
    z = middle + (-middle + 0.2) * torch.cos(angles) * flare * cap
    outer = torch.stack((x, y.expand_as(x), z), -1).flatten(1, 2)
    inner = outer * outer.new_tensor([0.985, 1.0, 0.985])
    both = torch.cat((outer, inner), 1)
    return torch.where(long[:, None, None], both, head.new_tensor([0.0, -2.0, -9.0]))
