"""Where skin differs over a face: maps of redness, folds and hair growth that people have in common."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facemtl.data.synthetic.atlas import Island
from facemtl.data.synthetic.noise import octaves, smooth_noise, smoothstep
from facemtl.data.synthetic.surface_maps import SurfaceMaps


def blob(places: Tensor, x: float, y: float, wide: float, high: float) -> Tensor:
    """A soft spot on both sides of the face, 1 in its middle; centimetres."""
    across = (places[..., 0].abs() - x) / wide
    up = (places[..., 1] - y) / high
    front = smoothstep(places[..., 2], -9.0, -5.0)
    return torch.exp(-0.5 * (across * across + up * up)) * front


def distance_to_path(places: Tensor, path: tuple[tuple[float, float], ...]) -> tuple[Tensor, Tensor]:
    """Distance in centimetres from a line through points (x ≥ 0, y), and how far along it, 0 to 1; both sides."""
    point = torch.stack((places[..., 0].abs(), places[..., 1]), -1)
    nearest = torch.full(point.shape[:-1], 1e3)
    along = torch.zeros_like(nearest)
    pieces = len(path) - 1
    for number in range(pieces):
        start, end = torch.tensor(path[number]), torch.tensor(path[number + 1])
        way = end - start
        share = (((point - start) * way).sum(-1) / way.square().sum()).clamp(0, 1)
        distance = (point - start - share[..., None] * way).norm(dim=-1)
        closer = distance < nearest
        nearest = torch.where(closer, distance, nearest)
        along = torch.where(closer, (number + share) / pieces, along)
    behind = places[..., 2] < -8.0
    return torch.where(behind, 1e3, nearest), along


def fold(places: Tensor, path: tuple[tuple[float, float], ...], width: float) -> Tensor:
    """A furrow, −1 at its bottom with a faint rim beside it, that ends softly."""
    distance, along = distance_to_path(places, path)
    ends = smoothstep(along, 0.0, 0.25) * (1 - smoothstep(along, 0.75, 1.0))
    depth = torch.exp(-0.5 * (distance / width).square())
    rim = torch.exp(-0.5 * ((distance - 2.2 * width) / (1.2 * width)).square())
    return (0.35 * rim - depth) * ends


def redness(maps: SurfaceMaps) -> Tensor:
    """Where blood shows: cheeks, nose, ears, chin; ``(size, size)``."""
    places = maps.positions
    spots = (
        0.55 * blob(places, 4.3, -3.6, 1.9, 1.7)
        + 0.55 * blob(places, 0.0, -4.4, 1.1, 1.0)
        + 0.25 * blob(places, 0.0, -10.6, 1.4, 0.8)
        + 0.2 * blob(places, 2.6, -1.2, 1.4, 0.6)
    )
    return spots + 0.5 * maps.regions[..., 2]


def shadows_of_eyes(maps: SurfaceMaps) -> Tensor:
    """Where skin is thin and dark around the eyes."""
    places = maps.positions
    ring = blob(places, 3.1, -0.9, 1.5, 0.5) + 0.7 * blob(places, 1.9, 0.3, 0.7, 0.9)
    return ring + 0.6 * maps.regions[..., 1]


def lash_lines(maps: SurfaceMaps) -> Tensor:
    """Dark rims of the lids, the upper more than the lower."""
    size = maps.islands.shape
    found = torch.zeros(size)
    head = (maps.islands == int(Island.HEAD)) & (maps.positions[..., 2] > -4.0) & (maps.positions[..., 1].abs() < 2.2)
    rows, columns = head.nonzero(as_tuple=True)
    points = maps.positions[rows, columns]
    lids = (maps.islands == int(Island.LEFT_LIDS)) | (maps.islands == int(Island.RIGHT_LIDS))
    inner = maps.positions[lids]
    rim = inner[inner[:, 2] > inner[:, 2].quantile(0.55)]
    distance = torch.cdist(points, rim[:: max(1, len(rim) // 600)]).amin(1)
    upper = smoothstep(points[:, 1], -0.25, 0.1)
    found[rows, columns] = (1 - smoothstep(distance, 0.04, 0.24)) * (0.35 + 0.65 * upper)
    return found


def wrinkles(maps: SurfaceMaps) -> Tensor:
    """``(6, size, size)`` heights in units of their depth.

    On the forehead, between the brows, beside the eyes, from nose to mouth to chin, under the eyes, and fine lines.
    """
    places = maps.positions
    size = (maps.islands.shape[0], maps.islands.shape[1])
    bend = 0.22 * smooth_noise(41, size, (30.0, 14.0))
    x, y = places[..., 0], places[..., 1] + bend + 0.012 * places[..., 0].square()
    brow = blob(places, 0.0, 4.2, 3.0, 1.2)
    forehead = brow * _furrows((y - 2.6) / 0.82)
    glabella = blob(places, 0.55, 1.9, 0.4, 0.7) * _furrows((x.abs() + 0.3 * bend) / 0.62 - 0.4)
    dx, dy = places[..., 0].abs() - 4.1, places[..., 1] + 0.1
    angle = torch.atan2(dy, dx)
    reach = (dx.square() + dy.square()).sqrt()
    crow = smoothstep(reach, 0.5, 1.0) * (1 - smoothstep(reach, 1.6, 2.7)) * smoothstep(dx, 0.1, 0.7)
    crow = crow * _furrows(angle / 0.34 + 0.8 * bend) * smoothstep(places[..., 2], -8.0, -5.5)
    nose_mouth = 1.25 * fold(places, ((1.75, -3.9), (2.5, -5.4), (3.2, -7.2), (3.3, -8.6)), 0.23)
    chin = 0.7 * fold(places, ((2.75, -8.4), (2.75, -9.4), (2.5, -10.6)), 0.22)
    bags = fold(places, ((1.7, -0.9), (2.8, -1.75), (3.9, -1.6), (4.5, -0.9)), 0.16)
    bags = bags + 0.5 * fold(places, ((1.7, -1.4), (2.9, -2.3), (4.2, -2.2)), 0.15)
    lip = blob(places, 0.9, -6.9, 1.3, 0.5) * _furrows(x / 0.42 + bend) * (1 - maps.regions[..., 0])
    fine = 0.35 * octaves(47, size, 9.0) * maps.regions[..., 3] * (1 - maps.regions[..., 0])
    return torch.stack((forehead, glabella, crow, nose_mouth + chin, bags, fine + 0.6 * lip))


def _furrows(phase: Tensor) -> Tensor:
    """Narrow valleys between broad ridges, one each unit."""
    wave = 0.5 + 0.5 * torch.cos(2 * math.pi * phase)
    return 0.25 - wave.pow(5)


def beard_zones(maps: SurfaceMaps) -> Tensor:
    """``(3, size, size)`` in [0, 1]: where whiskers grow, the part above the mouth, and the part of a goatee."""
    places = maps.positions
    x, y = places[..., 0].abs(), places[..., 1]
    bare = maps.regions[..., 0]
    edge = -5.2 - 0.55 * (4.6 - x).clamp(0, 4) + 1.6 * smoothstep(x, 5.2, 7.4)
    cheeks = smoothstep(edge - y, -0.5, 0.7) * smoothstep(places[..., 2], -9.5, -7.0) * smoothstep(y, -12.2, -11.2)
    above = (1 - smoothstep(x, 2.0, 3.1)) * smoothstep(y, -7.9, -7.3) * (1 - smoothstep(y, -6.2, -5.7))
    goatee = (1 - smoothstep(x, 2.0, 3.2)) * (1 - smoothstep(y, -9.1, -8.5)) * smoothstep(places[..., 2], -7.0, -4.0)
    around = (1 - smoothstep((x - 2.9).abs(), 0.3, 0.7)) * smoothstep(-y, 6.2, 7.0)
    zones = torch.stack((torch.maximum(cheeks, above), above, torch.maximum(goatee, 0.9 * around * cheeks)))
    return zones * (1 - bare)
