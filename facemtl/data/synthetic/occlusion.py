"""How much of the sky each vertex sees: dark eye sockets, nostrils and ears for the price of a number a vertex."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Unit normals ``(..., vertices, 3)``, each the mean of its triangles' weighted by their areas."""
    a, b, c = vertices[..., triangles, :].unbind(-2)
    face = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total.index_add_(-2, triangles[:, corner], face)
    return F.normalize(total, dim=-1)


def occlusion_of(vertices: Tensor, triangles: Tensor, reach: Tensor, *, directions: int = 64) -> Tensor:
    """The share of a cosine-weighted hemisphere that is open within ``reach`` ``(vertices,)``, for each vertex.

    Every ray is tried against every triangle: minutes, once, for an asset that ships.
    """
    normals = vertex_normals(vertices, triangles)
    a, b, c = vertices[triangles].unbind(1)
    open_share = torch.zeros(len(vertices), dtype=vertices.dtype)
    for number in range(directions):
        # a Fibonacci spiral over the disc, lifted to the hemisphere: cosine-weighted directions without chance
        radius = math.sqrt((number + 0.5) / directions)
        angle = number * math.pi * (3 - math.sqrt(5))
        local = torch.tensor([radius * math.cos(angle), radius * math.sin(angle), math.sqrt(1 - radius**2)])
        rays = _turned(local.to(vertices.dtype), normals)
        for start in range(0, len(vertices), 512):
            part = slice(start, start + 512)
            origins = vertices[part] + 0.02 * normals[part]
            open_share[part] += (~_hits(origins, rays[part], a, b, c, reach[part])).to(vertices.dtype)
    return open_share / directions


def _turned(local: Tensor, normals: Tensor) -> Tensor:
    """A direction given about +z, turned about each normal."""
    helper = torch.where(normals[:, :1].abs() < 0.9, torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0]))
    tangent = F.normalize(torch.linalg.cross(helper.to(normals.dtype), normals), dim=-1)
    other = torch.linalg.cross(normals, tangent)
    return local[0] * tangent + local[1] * other + local[2] * normals


def _hits(origins: Tensor, rays: Tensor, a: Tensor, b: Tensor, c: Tensor, reach: Tensor) -> Tensor:
    """Whether each ray meets any triangle within reach (Möller and Trumbore)."""
    first, second = b - a, c - a
    p = torch.linalg.cross(rays[:, None], second[None].expand(len(rays), -1, -1))
    determinant = (p * first).sum(-1)
    inverse = 1 / torch.where(determinant.abs() < 1e-9, torch.inf, determinant)
    t = origins[:, None] - a
    u = (t * p).sum(-1) * inverse
    q = torch.linalg.cross(t, first[None].expand_as(t))
    v = (q * rays[:, None]).sum(-1) * inverse
    distance = (q * second).sum(-1) * inverse
    return ((u >= 0) & (v >= 0) & (u + v <= 1) & (distance > 1e-3) & (distance < reach[:, None])).any(-1)
