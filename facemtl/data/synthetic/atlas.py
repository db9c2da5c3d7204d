"""Where each part of the head lies in its texture maps."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor


class Island(IntEnum):
    """A connected piece of the head's surface in the texture maps. Left and right are the viewer's."""

    HEAD = 0
    MOUTH = 1
    """The inside of the mouth."""
    NECK = 2
    LEFT_LIDS = 3
    """The inner side of the lids and the socket behind them."""
    RIGHT_LIDS = 4
    LEFT_EYE = 5
    """The front half of the eyeball."""
    RIGHT_EYE = 6


class Cell(NamedTuple):
    """A rectangle of the maps, in fractions of their width and height, y downwards."""

    left: float
    top: float
    right: float
    bottom: float


CELLS: dict[Island, Cell] = {
    Island.HEAD: Cell(0.01, 0.01, 0.99, 0.74),
    Island.MOUTH: Cell(0.01, 0.77, 0.19, 0.99),
    Island.NECK: Cell(0.21, 0.77, 0.39, 0.99),
    Island.LEFT_LIDS: Cell(0.41, 0.77, 0.49, 0.99),
    Island.RIGHT_LIDS: Cell(0.51, 0.77, 0.59, 0.99),
    Island.LEFT_EYE: Cell(0.61, 0.79, 0.79, 0.97),
    Island.RIGHT_EYE: Cell(0.81, 0.79, 0.99, 0.97),
}
"""The maps are square; so are the cells of the eyes, whose irises are round."""

# Where MakeHuman's base mesh has the pieces, u and v from the lower left: found by looking at its texture coordinates.
_MAKEHUMAN: dict[Island, tuple[float, float, float, float]] = {
    Island.HEAD: (0.641, 0.149, 0.9945, 0.8185),
    Island.MOUTH: (0.758, 0.011, 0.925, 0.137),
    Island.NECK: (0.325, 0.918, 0.436, 0.959),
    Island.LEFT_LIDS: (0.011, 0.546, 0.078, 0.634),
    Island.RIGHT_LIDS: (0.085, 0.546, 0.152, 0.634),
    Island.LEFT_EYE: (0.800, 0.943, 0.8135, 0.958),
    Island.RIGHT_EYE: (0.7595, 0.943, 0.7735, 0.958),
}


def island_of(centre: Tensor) -> int:
    """The island that a triangle of MakeHuman's texture layout is in, by its centre (u, v); −1 for the tongue."""
    u, v = centre.tolist()
    for island, (left, bottom, right, top) in _MAKEHUMAN.items():
        if left <= u <= right and bottom <= v <= top:
            return int(island)
    return -1


def place_in_atlas(island: Island, corners: Tensor) -> Tensor:
    """Turn MakeHuman's texture coordinates ``(..., 2)`` of an island into our maps'; the head lies sideways there."""
    left, bottom, right, top = _MAKEHUMAN[island]
    u = (corners[..., 0] - left) / (right - left)
    v = (corners[..., 1] - bottom) / (top - bottom)
    x, y = (v, u) if island == Island.HEAD else (u, 1 - v)
    cell = CELLS[island]
    return torch.stack((cell.left + x * (cell.right - cell.left), cell.top + y * (cell.bottom - cell.top)), -1)


def place_eye(island: Island, offsets: Tensor) -> Tensor:
    """Places of an eyeball's points; their ``offsets`` (right, up) from the pupil are in units of its radius."""
    cell = CELLS[island]
    centre = torch.tensor([(cell.left + cell.right) / 2, (cell.top + cell.bottom) / 2])
    half = (cell.right - cell.left) / 2
    return centre + offsets * torch.tensor([half, -half])
