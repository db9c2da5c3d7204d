"""The surface at points of pictures: where it is, how it faces, and what its texture maps say there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl.data.synthetic.camera import Camera
from facemtl.data.synthetic.rasterise import CoveredPixels
from facemtl.data.synthetic.shading import Surface, Vector
from facemtl.data.synthetic.topology import Topology, TriangleFrames


class SurfaceSource(NamedTuple):
    """What points are interpolated and looked up from."""

    of_vertices: Tensor
    """``(batch · charted vertices, 10)``: place, normal, openness, share of light, texture coordinates."""
    of_triangles: Tensor
    """``(6, triangles · batch)``: gradients of the texture coordinates."""
    charted: Tensor
    """``(triangles, 3)`` int64."""
    camera: Camera


def surface_source(
    turned: Tensor,
    normals: Tensor,
    openness: Tensor,
    lit: Tensor,
    frames: TriangleFrames,
    topology: Topology,
    camera: Camera,
) -> SurfaceSource:
    """Collect what points of heads are looked up from; vertices as the camera sees them."""
    batch = len(turned)
    of_vertices = torch.cat((turned, normals, torch.stack((openness, lit), -1)), -1)
    of_vertices = of_vertices.index_select(1, topology.sources)
    places = topology.texture_coordinates.expand(batch, -1, -1)
    return SurfaceSource(
        torch.cat((of_vertices, places), -1).flatten(0, 1),
        torch.stack([plane.flatten() for plane in (*frames.along_u, *frames.along_v)]),
        topology.charted,
        camera,
    )


def surface_at(source: SurfaceSource, maps: Tensor, covered: CoveredPixels, samples: Tensor) -> Surface:
    """The surface at points, each the mean of some covered pixels.

    Args:
        source: Of the heads.
        maps: ``(batch, 6, map height, map width)``.
        covered: Pixels and their barycentrics.
        samples: ``(batch, points, samples)`` int64 into them.
    """
    batch, points, count = samples.shape
    triangles = covered.triangles.index_select(0, samples.flatten())
    pictures = torch.arange(batch, device=samples.device)[:, None]
    first = (pictures * (len(source.of_vertices) // batch)).expand(-1, points * count).reshape(-1, 1)
    rows = source.charted.index_select(0, triangles) + first
    weights = covered.barycentrics.index_select(1, samples.flatten()).T.reshape(batch * points, 3 * count)
    # gathers and weighs in one pass over memory
    values = F.embedding_bag(
        rows.view(batch * points, 3 * count), source.of_vertices, mode="sum", per_sample_weights=weights * (1 / count)
    )
    x, y, z, normal_x, normal_y, normal_z, openness, lit = values[:, :8].T.contiguous().view(8, batch, points)
    normal = unit(normal_x, normal_y, normal_z)
    at = values[:, 8:].view(batch, 1, points, 2)
    texture = _sample(maps, at)
    slope_u, slope_v = _slopes(maps, at)
    places = triangles.view(batch, points, count)[..., 0] * batch + pictures
    leans = source.of_triangles.index_select(1, places.flatten()).view(6, batch, points)
    # the surface rises where the height does, so its normal leans the other way
    leaning = [part - slope_u * leans[axis] - slope_v * leans[3 + axis] for axis, part in enumerate(normal)]
    return Surface(
        normal=normal,
        bumped=unit(leaning[0], leaning[1], leaning[2]),
        to_viewer=unit(-x, -y, source.camera.distance[:, None] - z),
        albedo=(texture[0], texture[1], texture[2]),
        gloss=texture[4],
        scattering=texture[5],
        openness=openness,
        lit=lit,
    )


def coarser(maps: Tensor, factor: int) -> Tensor:
    """Maps with the mean of ``factor × factor`` texels in each."""
    if factor == 1:
        return maps
    height, width = (max(1, side // factor) for side in maps.shape[2:])
    if (height * factor, width * factor) == maps.shape[2:]:
        # rows first, whole lines at a time: several times as fast as torch's pooling on a processor
        lines = sum((maps[:, :, row::factor] for row in range(1, factor)), maps[:, :, ::factor])
        columns = sum((lines[..., column::factor] for column in range(1, factor)), lines[..., ::factor])
        return columns * (1 / factor**2)
    return F.interpolate(maps, size=(height, width), mode="area")


def unit(x: Tensor, y: Tensor, z: Tensor) -> Vector:
    """Scale vectors to length 1."""
    scale = (x * x + y * y + z * z).clamp_min(1e-12).rsqrt()
    return x * scale, y * scale, z * scale


def _sample(maps: Tensor, at: Tensor) -> Tensor:
    """``(channels, batch, points)`` of maps at texture coordinates ``(batch, 1, points, 2)``."""
    found = F.grid_sample(maps, 2 * at - 1, mode="bilinear", padding_mode="border", align_corners=False)
    return found[:, :, 0].transpose(0, 1)


def _slopes(maps: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """How steeply the height rises with u and with v: centimetres from one side of the map to the other.

    From three places around each point, a texel apart.
    """
    texel = torch.tensor([1 / maps.shape[3], 1 / maps.shape[2]], device=at.device, dtype=at.dtype)
    around = at.new_tensor([[-0.5, -1 / 3], [0.5, -1 / 3], [0.0, 2 / 3]]) * texel
    left, right, below = (_sample(maps[:, 3:4], at + step)[0] for step in around)
    return (right - left) * maps.shape[3], (below - 0.5 * (left + right)) * maps.shape[2]
