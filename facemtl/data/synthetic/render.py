"""Heads to pictures: which triangle each pixel shows, then the colour of each such point once (deferred shading)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl._core.checks import check_rank, check_size
from facemtl.data.synthetic.background import Background, paint
from facemtl.data.synthetic.camera import Camera, apply_matrices, project, turn
from facemtl.data.synthetic.lighting import Light
from facemtl.data.synthetic.rasterise import CoveredPixels, find_covered
from facemtl.data.synthetic.shading import shade
from facemtl.data.synthetic.shading_points import ShadingPoints, sample_pixels
from facemtl.data.synthetic.shadow import cast_shadows
from facemtl.data.synthetic.surface import SurfaceSource, coarser, surface_at, surface_source
from facemtl.data.synthetic.topology import Topology, smooth_normals, triangle_frames

MAP_CHANNELS = ("red", "green", "blue", "height", "gloss", "scattering")
"""Of texture maps: linear albedo; height in centimetres; gloss and scattering as shading.Surface has them."""


_POINTS_AT_ONCE = 2**15


class RenderedFaces(NamedTuple):
    """A batch of pictures and what is true of them."""

    images: Tensor
    """``(batch, 3, height, width)`` linear RGB, at least 0; white paper in full light is about 1."""
    mask: Tensor
    """``(batch, height, width)`` in [0, 1], the share of each pixel that the head covers."""
    depth: Tensor
    """``(batch, height, width)`` centimetres from the camera to the nearest point in each pixel, infinite for none."""
    landmarks: Tensor
    """``(batch, 5, 2)`` x and y in pixels."""


class Heads(NamedTuple):
    """A batch of heads of one mesh, in the head's own coordinates."""

    vertices: Tensor
    """``(batch, vertices, 3)`` centimetres, x to the viewer's right, y up, z to the viewer."""
    landmarks: Tensor
    """``(batch, 5, 3)`` centimetres."""
    openness: Tensor
    """``(vertices,)`` or ``(batch, vertices)`` in [0, 1], the share of the surrounding that each vertex sees."""
    maps: Tensor
    """``(batch, 6, map height, map width)``, :data:`MAP_CHANNELS` of each head's texture maps."""
    topology: Topology


def render(
    heads: Heads,
    *,
    camera: Camera,
    light: Light,
    background: Background,
    size: tuple[int, int] = (112, 112),
    matrices: Tensor | None = None,
    supersampling: int = 2,
) -> RenderedFaces:
    """Render heads.

    Args:
        heads: What to render.
        camera: Poses and distances.
        light: On the heads.
        background: Behind them.
        size: Height and width of the pictures.
        matrices: ``(batch, 2, 3)`` similarities, that lay the camera's picture onto the crop
            (:func:`~facemtl.data.synthetic.camera.aligning_matrices` of the landmarks that ``project`` gives for the
            same ``size``); without them the camera's own picture is drawn.
        supersampling: Points of a pixel's side; they are averaged as light.

    Returns:
        :class:`RenderedFaces`. A face does not depend on the rest of the batch.

    Raises:
        ValueError: If ``supersampling`` is below 1.
        ShapeError: If ``heads.maps`` do not have six channels or not one row for each head.
    """
    _check(heads)
    if supersampling < 1:
        raise ValueError(f"render: 'supersampling' must be at least 1, got {supersampling}.")
    turned = turn(heads.vertices, camera)
    pixels = project(turned, camera, size=size)
    landmarks = project(turn(heads.landmarks, camera), camera, size=size)[..., :2]
    if matrices is not None:
        pixels, landmarks = apply_matrices(matrices, pixels), apply_matrices(matrices, landmarks)
    fine = (size[0] * supersampling, size[1] * supersampling)
    spread = torch.tensor([supersampling, supersampling, 1], device=pixels.device, dtype=pixels.dtype)
    middle = torch.tensor([0.5, 0.5, 0], device=pixels.device, dtype=pixels.dtype)
    covered = find_covered((pixels + middle) * spread - middle, heads.topology.triangles, size=fine)
    sampled = sample_pixels(covered, heads.topology.charts, supersampling=supersampling)
    source = _source(heads, turned, camera, light)
    front = _colours(source, coarser(heads.maps, supersampling), light, covered, sampled.whole, size=size)
    if sampled.split.places.numel():
        edges = _colours(source, heads.maps, light, covered, sampled.split, size=fine)
        front = front + F.avg_pool2d(edges, supersampling)
    images = front + (1 - sampled.cover)[:, None] * paint(background, size=size)
    return RenderedFaces(images, sampled.cover, sampled.depth, landmarks)


def _source(heads: Heads, turned: Tensor, camera: Camera, light: Light) -> SurfaceSource:
    topology, batch = heads.topology, len(turned)
    frames = triangle_frames(turned, topology)
    normals = smooth_normals(frames, topology)
    lit = cast_shadows(turned, normals, topology.triangles, to_light=light.directions[:, 0], softness=light.softness)
    return surface_source(turned, normals, heads.openness.expand(batch, -1), lit, frames, topology, camera)


def _colours(
    source: SurfaceSource,
    maps: Tensor,
    light: Light,
    covered: CoveredPixels,
    points: ShadingPoints,
    *,
    size: tuple[int, int],
) -> Tensor:
    """Linear ``(batch, 3, height, width)`` with the colours of points at their places and black elsewhere."""
    batch, count = points.places.shape
    end = batch * size[0] * size[1]
    layers = maps.new_zeros(3, end + 1)
    # the planes of a part stay in the processor's cache; a graphics card wants all at once
    step = max(1, _POINTS_AT_ONCE // max(1, batch)) if maps.device.type == "cpu" else max(1, count)
    for samples, places in zip(points.samples.split(step, 1), points.places.split(step, 1), strict=True):
        if samples.numel():
            for layer, colour in zip(layers, shade(surface_at(source, maps, covered, samples), light), strict=True):
                layer.index_copy_(0, places.flatten(), colour.flatten())
    return layers[:, :end].view(3, batch, *size).transpose(0, 1)


def _check(heads: Heads) -> None:
    check_rank("render", "heads.vertices", heads.vertices, ("batch", "vertices", "3"))
    check_rank("render", "heads.maps", heads.maps, ("batch", str(len(MAP_CHANNELS)), "height", "width"))
    batch, vertices = heads.vertices.shape[0], len(heads.topology.starts)
    check_size("render", "heads.vertices", heads.vertices, 1, "vertices", vertices)
    check_size("render", "heads.maps", heads.maps, 0, "batch", batch, advice="Give each head its own maps.")
    check_size("render", "heads.maps", heads.maps, 1, "channels", len(MAP_CHANNELS))
