"""The head's surface in the layout of its texture maps: what a painter of skin needs to know about each texel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from facemtl.data.synthetic.head_model import HeadModel
from facemtl.data.synthetic.occlusion import vertex_normals
from facemtl.data.synthetic.rasterise import interpolate, rasterise


class SurfaceMaps(NamedTuple):
    """Square maps of the average young adult.

    Texels beside the islands carry what the nearest island has, so that whatever is painted as a function of these
    maps has no seams.
    """

    islands: Tensor
    """``(size, size)`` int64, the :class:`~facemtl.data.synthetic.atlas.Island`; −1 far from all."""
    positions: Tensor
    """``(size, size, 3)`` centimetres."""
    normals: Tensor
    """``(size, size, 3)`` unit vectors."""
    regions: Tensor
    """``(size, size, regions)`` in [0, 1], of :data:`~facemtl.data.synthetic.head_asset.REGIONS`."""
    occlusion: Tensor
    """``(size, size)`` in [0, 1], how open to the sky."""


def draw_surface_maps(head: HeadModel, *, size: int, margin: int = 4) -> SurfaceMaps:
    """Draw what lies at each texel.

    Args:
        head: Its average young adult gives the surface.
        size: Width and height of the maps.
        margin: By how many texels each island grows beyond its border.

    Returns:
        :class:`SurfaceMaps`; the centre of texel (row, column) is at the texture coordinates
        (column + ½, row + ½) / size.
    """
    vertices = head.average_adult()
    normals = vertex_normals(vertices, head.triangles)
    values = torch.cat((vertices, normals, head.regions, head.occlusion[:, None]), 1)
    corners = head.texture_coordinates.flatten(0, 1) * size - 0.5
    flat = torch.cat((corners, torch.full_like(corners[:, :1], 2.0)), 1)
    apart = torch.arange(len(flat), device=flat.device).view(-1, 3)
    fragments = rasterise(flat[None], apart, size=(size, size), cull=False)
    drawn = interpolate(values[head.triangles], fragments, apart)[0]
    shown = fragments.triangles[0]
    islands = torch.where(shown >= 0, head.islands[shown], -1)
    islands, drawn = _grown(islands, drawn, margin)
    positions, normals, regions, occlusion = drawn.split((3, 3, head.regions.shape[1], 1), -1)
    return SurfaceMaps(
        islands, positions, torch.nn.functional.normalize(normals, dim=-1), regions.contiguous(), occlusion[..., 0]
    )


def _grown(islands: Tensor, values: Tensor, margin: int) -> tuple[Tensor, Tensor]:
    """Let empty texels take over from a neighbour that is not, again and again."""
    for step in range(margin):
        shifts = (
            ((0, 1), (0, -1), (1, 0), (-1, 0)) if step % 2 else ((1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (1, 0))
        )
        before_islands, before_values = islands, values
        for shift in shifts:
            moved = torch.roll(before_islands, shift, (0, 1))
            take = (islands < 0) & (moved >= 0)
            islands = torch.where(take, moved, islands)
            values = torch.where(take[..., None], torch.roll(before_values, shift, (0, 1)), values)
    return islands, values
