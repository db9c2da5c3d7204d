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
from facemtl.data.synthetic.shading import Surface, Vector, shade
from facemtl.data.synthetic.shadow import cast_shadows
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
    padded = _pad(covered)
    colours = _colours(heads, turned, camera, light, covered, padded)
    return _gather(colours, padded, covered, paint(background, size=size), landmarks, supersampling)


class _Padded(NamedTuple):
    """Covered pixels as rows of one length, a picture a row: short rows repeat their last pixel."""

    order: Tensor
    """``(batch, points)`` into the covered pixels."""
    places: Tensor
    """``(batch, points)`` in the flattened pictures; one past their end in rows without a pixel."""


def _pad(covered: CoveredPixels) -> _Padded:
    batch, height, width = covered.shape
    counts = covered.counts
    longest = int(counts.max()) if batch else 0
    steps = torch.minimum(torch.arange(longest, device=counts.device), (counts - 1).clamp_min(0)[:, None])
    order = ((counts.cumsum(0) - counts)[:, None] + steps).clamp_max(max(0, len(covered.places) - 1))
    places = covered.places.index_select(0, order.flatten()).view(order.shape) if longest else order
    return _Padded(order, torch.where(counts[:, None] > 0, places, batch * height * width))


def _colours(
    heads: Heads, turned: Tensor, camera: Camera, light: Light, covered: CoveredPixels, padded: _Padded
) -> Vector:
    """Linear red, green and blue ``(batch, points)`` of the covered pixels."""
    topology, batch = heads.topology, len(turned)
    frames = triangle_frames(turned, topology)
    normals = smooth_normals(frames, topology)
    openness = heads.openness.expand(batch, -1)
    lit = cast_shadows(turned, normals, topology.triangles, to_light=light.directions[:, 0], softness=light.softness)
    of_vertices = torch.cat((turned, normals, torch.stack((openness, lit), -1)), -1)
    of_vertices = of_vertices.index_select(1, topology.sources)
    places = topology.texture_coordinates.expand(batch, -1, -1)
    sources = _Sources(
        torch.cat((of_vertices, places), -1),
        torch.stack([plane.flatten() for plane in (*frames.along_u, *frames.along_v)]),
    )
    # the planes of a part stay in the processor's cache; a graphics card wants all at once
    step = max(1, _POINTS_AT_ONCE // max(1, batch)) if turned.device.type == "cpu" else max(1, padded.order.shape[1])
    parts = [shade(_surface(sources, heads, camera, covered, order), light) for order in padded.order.split(step, 1)]
    red, green, blue = (torch.cat(channel, 1) for channel in zip(*parts, strict=True))
    return red, green, blue


class _Sources(NamedTuple):
    """What points are interpolated and looked up from."""

    of_vertices: Tensor
    """``(batch, charted vertices, 10)``: place, normal, openness, share of light, texture coordinates."""
    of_triangles: Tensor
    """``(6, triangles · batch)``: gradients of the texture coordinates."""


def _surface(sources: _Sources, heads: Heads, camera: Camera, covered: CoveredPixels, order: Tensor) -> Surface:
    """The surface at some of the covered pixels, ``order (batch, points)``."""
    batch, points = order.shape
    triangles = covered.triangles.index_select(0, order.flatten())
    pictures = torch.arange(batch, device=order.device)[:, None].expand(-1, points).flatten()
    rows = heads.topology.charted.index_select(0, triangles) + (pictures * sources.of_vertices.shape[1])[:, None]
    weights = covered.barycentrics.index_select(1, order.flatten()).T.contiguous()
    # gathers and weighs in one pass over memory
    values = F.embedding_bag(rows, sources.of_vertices.flatten(0, 1), mode="sum", per_sample_weights=weights)
    x, y, z, normal_x, normal_y, normal_z, openness, lit = values[:, :8].T.contiguous().view(8, batch, points)
    normal = _unit(normal_x, normal_y, normal_z)
    at = values[:, 8:].view(batch, 1, points, 2)
    texture = _sample(heads.maps, at)
    slope_u, slope_v = _slopes(heads.maps, at, texture[3])
    leans = sources.of_triangles.index_select(1, triangles * batch + pictures).view(6, batch, points)
    # the surface rises where the height does, so its normal leans the other way
    leaning = [part - slope_u * leans[axis] - slope_v * leans[3 + axis] for axis, part in enumerate(normal)]
    return Surface(
        normal=normal,
        bumped=_unit(leaning[0], leaning[1], leaning[2]),
        to_viewer=_unit(-x, -y, camera.distance[:, None] - z),
        albedo=(texture[0], texture[1], texture[2]),
        gloss=texture[4],
        scattering=texture[5],
        openness=openness,
        lit=lit,
    )


def _unit(x: Tensor, y: Tensor, z: Tensor) -> Vector:
    scale = (x * x + y * y + z * z).clamp_min(1e-12).rsqrt()
    return x * scale, y * scale, z * scale


def _sample(maps: Tensor, at: Tensor) -> Tensor:
    """``(channels, batch, points)`` of maps at texture coordinates ``(batch, 1, points, 2)``."""
    found = F.grid_sample(maps, 2 * at - 1, mode="bilinear", padding_mode="border", align_corners=False)
    return found[:, :, 0].transpose(0, 1)


def _slopes(maps: Tensor, at: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
    """How steeply the height rises with u and with v: centimetres from one side of the map to the other."""
    heights = maps[:, 3:4]
    step_u, step_v = 1 / maps.shape[3], 1 / maps.shape[2]
    aside = at + torch.tensor([step_u, 0], device=at.device, dtype=at.dtype)
    below = at + torch.tensor([0, step_v], device=at.device, dtype=at.dtype)
    return (_sample(heights, aside)[0] - height) / step_u, (_sample(heights, below)[0] - height) / step_v


def _gather(
    colours: Vector, padded: _Padded, covered: CoveredPixels, behind: Tensor, landmarks: Tensor, supersampling: int
) -> RenderedFaces:
    """Average the points of each pixel and put the heads before their background."""
    batch, height, width = covered.shape
    places = padded.places.flatten()
    layers = behind.new_zeros(3, batch * height * width + 1)
    for layer, colour in zip(layers, colours, strict=True):
        layer.index_copy_(0, places, colour.flatten())
    images = layers[:, :-1].view(3, batch, height, width).transpose(0, 1)
    cover = behind.new_zeros(batch * height * width).index_fill_(0, covered.places, 1.0).view(batch, height, width)
    depth = behind.new_full((batch * height * width,), torch.inf).index_copy_(0, covered.places, covered.depth)
    depth = depth.view(batch, height, width)
    if supersampling > 1:
        images, cover = F.avg_pool2d(images, supersampling), F.avg_pool2d(cover[:, None], supersampling)[:, 0]
        depth = -F.max_pool2d(-depth[:, None], supersampling)[:, 0]
    return RenderedFaces(images + (1 - cover)[:, None] * behind, cover, depth, landmarks)


def _check(heads: Heads) -> None:
    check_rank("render", "heads.vertices", heads.vertices, ("batch", "vertices", "3"))
    check_rank("render", "heads.maps", heads.maps, ("batch", str(len(MAP_CHANNELS)), "height", "width"))
    batch, vertices = heads.vertices.shape[0], len(heads.topology.starts)
    check_size("render", "heads.vertices", heads.vertices, 1, "vertices", vertices)
    check_size("render", "heads.maps", heads.maps, 0, "batch", batch, advice="Give each head its own maps.")
    check_size("render", "heads.maps", heads.maps, 1, "channels", len(MAP_CHANNELS))
