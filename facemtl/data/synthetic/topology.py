"""What all heads of one mesh have in common: which vertices make a triangle, and where it lies in the texture maps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl._core.checks import ShapeError, check_rank, check_size, shape_text


class Topology(NamedTuple):
    """Triangles, and what follows from them; made once by :func:`topology_of`."""

    triangles: Tensor
    """``(triangles, 3)`` int64, vertices, counter-clockwise seen from outside."""
    charted: Tensor
    """``(triangles, 3)`` int64, charted vertices: one with two places in the maps is two of these."""
    charts: Tensor
    """``(triangles,)`` int64, the connected piece of the maps that each lies in."""
    sources: Tensor
    """``(charted,)`` int64, the vertex of each charted vertex."""
    texture_coordinates: Tensor
    """``(charted, 2)`` in [0, 1], y downwards."""
    incident: Tensor
    """``(3 · triangles,)`` int64, triangles around the first vertex, then those around the second, …"""
    starts: Tensor
    """``(vertices,)`` int64, where each vertex's begin."""


class TriangleFrames(NamedTuple):
    """Directions on each triangle of each head, as planes ``(triangles, batch)``."""

    area: tuple[Tensor, Tensor, Tensor]
    """The outward normal, as long as twice the area."""
    along_u: tuple[Tensor, Tensor, Tensor]
    """The gradient of the texture coordinate u, per centimetre."""
    along_v: tuple[Tensor, Tensor, Tensor]


def topology_of(triangles: Tensor, texture_coordinates: Tensor, *, num_vertices: int) -> Topology:
    """Prepare a mesh.

    Args:
        triangles: ``(triangles, 3)``.
        texture_coordinates: ``(triangles, 3, 2)`` of the corners, in [0, 1], y downwards.
        num_vertices: Of the mesh.

    Raises:
        ShapeError: If the shapes do not fit.
    """
    check_rank("topology_of", "triangles", triangles, ("triangles", "3"))
    check_size("topology_of", "triangles", triangles, 1, "corners", 3)
    if texture_coordinates.shape != (*triangles.shape, 2):
        raise ShapeError(
            f"topology_of: 'texture_coordinates' must have shape {(*triangles.shape, 2)}, "
            f"got {shape_text(texture_coordinates)}."
        )
    corners = torch.cat((triangles.flatten()[:, None].double(), texture_coordinates.flatten(0, 1).double()), 1)
    charted, numbers = corners.unique(dim=0, return_inverse=True)
    flat = triangles.flatten()
    order = flat.argsort(stable=True)
    counts = torch.bincount(flat, minlength=num_vertices)
    return Topology(
        triangles=triangles,
        charted=numbers.view(triangles.shape),
        charts=_pieces(numbers.view(triangles.shape), len(charted)),
        sources=charted[:, 0].long(),
        texture_coordinates=charted[:, 1:].to(texture_coordinates.dtype),
        incident=order // 3,
        starts=counts.cumsum(0) - counts,
    )


def _pieces(triangles: Tensor, num_vertices: int) -> Tensor:
    """Which triangles are connected: the lowest vertex that each can be reached from."""
    lowest = torch.arange(num_vertices, device=triangles.device)
    while True:
        of_triangles = lowest[triangles].amin(1)
        reached = lowest.scatter_reduce(0, triangles.flatten(), of_triangles.repeat_interleave(3), "amin")
        reached = reached[reached]
        if torch.equal(reached, lowest):
            return of_triangles
        lowest = reached


def triangle_frames(vertices: Tensor, topology: Topology) -> TriangleFrames:
    """Measure the triangles of heads ``(batch, vertices, 3)``."""
    # the batch last: a corner's coordinates of all heads lie side by side
    planes = vertices.permute(2, 1, 0).contiguous()
    a, b, c = ([plane.index_select(0, topology.triangles[:, corner]) for plane in planes] for corner in range(3))
    first, second = [q - p for p, q in zip(a, b, strict=True)], [q - p for p, q in zip(a, c, strict=True)]
    area = _cross(first, second)
    square = (area[0] * area[0] + area[1] * area[1] + area[2] * area[2]).clamp_min(1e-12)
    places = topology.texture_coordinates[topology.charted]
    (u1, v1), (u2, v2) = (places[:, 1] - places[:, 0]).T[..., None], (places[:, 2] - places[:, 0]).T[..., None]
    # gradients of what is 1 at the second corner, and at the third, and 0 at the others
    of_second, of_third = _cross(second, area), _cross(area, first)
    along_u = [(u1 * p + u2 * q) / square for p, q in zip(of_second, of_third, strict=True)]
    along_v = [(v1 * p + v2 * q) / square for p, q in zip(of_second, of_third, strict=True)]
    return TriangleFrames(area, (along_u[0], along_u[1], along_u[2]), (along_v[0], along_v[1], along_v[2]))


def smooth_normals(frames: TriangleFrames, topology: Topology) -> Tensor:
    """Unit normals ``(batch, vertices, 3)``, each the mean of its triangles' weighted by their areas."""
    batch = frames.area[0].shape[1]
    table = torch.cat(frames.area, 1)
    total = F.embedding_bag(topology.incident, table, topology.starts, mode="sum") if batch else table[:0]
    x, y, z = total.view(len(topology.starts), 3, batch).unbind(1)
    # written out: torch's own norm adds in another order in another batch
    scale = (x * x + y * y + z * z).clamp_min(1e-24).rsqrt()
    return torch.stack(((x * scale).T, (y * scale).T, (z * scale).T), -1)


def _cross(
    first: list[Tensor] | tuple[Tensor, ...], second: list[Tensor] | tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        first[1] * second[2] - first[2] * second[1],
        first[2] * second[0] - first[0] * second[2],
        first[0] * second[1] - first[1] * second[0],
    )
