"""Meshes for tests of the renderer, and a rasteriser that is too plain to be wrong."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from facemtl.data.synthetic.background import Background
from facemtl.data.synthetic.camera import Camera
from facemtl.data.synthetic.lighting import Light
from facemtl.data.synthetic.render import Heads
from facemtl.data.synthetic.topology import topology_of

GRID = 64  # steps of a pixel


class PlainFragments(NamedTuple):
    """As :class:`~facemtl.data.synthetic.rasterise.Fragments`."""

    triangles: Tensor
    barycentrics: Tensor
    depth: Tensor
    clear: Tensor
    """``(batch, height, width)``, whether the nearest triangle is nearer by more than float32 can tell."""


def plain_rasteriser(vertices: Tensor, triangles: Tensor, *, size: tuple[int, int], cull: bool) -> PlainFragments:
    """A loop over triangles and pixels in float64."""
    shown = torch.full((len(vertices), *size), -1)
    weights = torch.zeros(len(vertices), *size, 3, dtype=torch.float64)
    depths = torch.full((len(vertices), *size), math.inf, dtype=torch.float64)
    second = depths.clone()
    for picture in range(len(vertices)):
        for number, corners in enumerate(vertices[picture][triangles].double()):
            if not corners.isfinite().all() or corners[:, 2].min() <= 1e-3:
                continue
            points = ((corners[:, :2] * GRID).round() / GRID).tolist()
            for row in range(size[0]):
                for column in range(size[1]):
                    found = _weights(points, column, row, cull=cull)
                    if found is None:
                        continue
                    over = [w / z for w, z in zip(found, corners[:, 2].tolist(), strict=True)]
                    depth, place = 1 / sum(over), (picture, row, column)
                    second[place] = min(second[place], max(depth, float(depths[place])))
                    if depth < depths[place]:
                        shown[place], depths[place] = number, depth
                        weights[place] = torch.tensor(over, dtype=torch.float64) * depth
    return PlainFragments(shown, weights, depths, (second > depths * (1 + 1e-5)) | depths.isinf())


def _weights(points: list[list[float]], x: float, y: float, *, cull: bool) -> list[float] | None:
    (ax, ay), (bx, by), (cx, cy) = points
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area == 0 or (cull and area > 0):
        return None
    sense = math.copysign(1, area)
    weights = []
    for (px, py), (qx, qy) in ((points[1], points[2]), (points[2], points[0]), (points[0], points[1])):
        dx, dy = sense * (qx - px), sense * (qy - py)
        value = dx * (y - py) - dy * (x - px)
        if value < 0 or (value == 0 and not (dy < 0 or (dy == 0 and dx > 0))):
            return None
        weights.append(value / abs(area))
    return weights


def grid_mesh(columns: int, rows: int) -> tuple[Tensor, Tensor]:
    """Points ``(vertices, 2)`` of a grid of squares at whole numbers, y up, and triangles that face +z."""
    y, x = torch.meshgrid(torch.arange(rows + 1.0), torch.arange(columns + 1.0), indexing="ij")
    at = (torch.arange(rows)[:, None] * (columns + 1) + torch.arange(columns)).flatten()
    right, up = at + 1, at + columns + 1
    triangles = torch.cat((torch.stack((at, right, up + 1), 1), torch.stack((at, up + 1, up), 1)))
    return torch.stack((x, y), -1).view(-1, 2), triangles


def sphere(radius: float = 8.0, *, columns: int = 24, rows: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, triangles and texture coordinates of a sphere; u runs around y, v from top to bottom."""
    points, triangles = grid_mesh(columns, rows)
    u, v = points[:, 0] / columns, 1 - points[:, 1] / rows
    around, down = 2 * math.pi * u, math.pi * v
    vertices = radius * torch.stack((-down.sin() * around.sin(), down.cos(), -down.sin() * around.cos()), 1)
    # the poles' triangles have no area and may go
    sides = vertices[triangles]
    area = torch.linalg.cross(sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0]).norm(dim=-1)
    triangles = triangles[area > 1e-4]
    return vertices, triangles, torch.stack((u, v), 1)[triangles]


def spheres(batch: int, *, albedo: float = 0.5, map_side: int = 32) -> Heads:
    """A batch of equal matt spheres of 8 cm that show no bumps, with landmarks somewhere on them."""
    vertices, triangles, places = sphere()
    maps = torch.zeros(batch, 6, map_side, map_side)
    maps[:, :3] = albedo
    landmarks = torch.tensor([[-3.0, 1, 7], [3, 1, 7], [0, -1, 8], [-2, -4, 6], [2, -4, 6]])
    return Heads(
        vertices.expand(batch, -1, -1),
        landmarks.expand(batch, -1, -1),
        torch.ones(len(vertices)),
        maps,
        topology_of(triangles, places, num_vertices=len(vertices)),
    )


def frontal_camera(batch: int, *, scale: float = 5.0, distance: float = 100.0) -> Camera:
    """Cameras that see heads from the front."""
    zero = torch.zeros(batch)
    return Camera(zero, zero, zero, zero + distance, zero + scale, zero, zero)


def ambient_light(batch: int, level: float = 1.0) -> Light:
    """The same white light from everywhere."""
    ambient = torch.zeros(batch, 9, 3)
    ambient[:, 0] = level
    directions = torch.tensor([0.0, 0.0, 1.0]).expand(batch, 3, 3)
    return Light(ambient, directions, torch.zeros(batch, 3, 3), torch.zeros(batch))


def black(batch: int) -> Background:
    """Nothing behind the heads."""
    shapes = torch.zeros(batch, 1)
    pairs = torch.ones(batch, 1, 2)
    return Background(
        torch.zeros(batch, 2, 2, 3), pairs, pairs, shapes, shapes, shapes + 1, torch.zeros(batch, 1, 3), shapes
    )
