"""Heads to pictures: which triangle each pixel shows, then the colour of each such point once (deferred shading)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl._core.checks import ShapeError, check_rank, check_size, shape_text
from facemtl.data.synthetic.background import Background, paint
from facemtl.data.synthetic.camera import Camera, apply_matrices, project, turn
from facemtl.data.synthetic.lighting import Light
from facemtl.data.synthetic.occlusion import vertex_normals
from facemtl.data.synthetic.rasterise import CoveredPixels, find_covered, interpolate_corners, interpolate_vertices
from facemtl.data.synthetic.shading import Surface, Vector, shade

MAP_CHANNELS = ("red", "green", "blue", "height", "gloss", "scattering")
"""Of texture maps: linear albedo; height in centimetres; gloss and scattering as shading.Surface has them."""


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


class Mesh(NamedTuple):
    """A batch of heads of one topology."""

    vertices: Tensor
    """``(batch, vertices, 3)`` centimetres."""
    triangles: Tensor
    """``(triangles, 3)``."""
    texture_coordinates: Tensor
    """``(triangles, 3, 2)`` of the corners, in [0, 1], y downwards."""
    landmarks: Tensor
    """``(batch, 5, 3)`` centimetres."""
    openness: Tensor
    """``(vertices,)`` or ``(batch, vertices)`` in [0, 1], the share of the surrounding that each vertex sees."""


def render(
    mesh: Mesh,
    maps: Tensor,
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
        mesh: Of the heads.
        maps: ``(batch, 6, map height, map width)`` of each head, :data:`MAP_CHANNELS`.
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
        ShapeError: If ``maps`` do not have six channels or not one row for each head.
    """
    _check(mesh, maps)
    turned = turn(mesh.vertices, camera)
    pixels = project(turned, camera, size=size)
    landmarks = project(turn(mesh.landmarks, camera), camera, size=size)[..., :2]
    if matrices is not None:
        pixels, landmarks = apply_matrices(matrices, pixels), apply_matrices(matrices, landmarks)
    fine = (size[0] * supersampling, size[1] * supersampling)
    spread = torch.tensor([supersampling, supersampling, 1], device=pixels.device, dtype=pixels.dtype)
    middle = torch.tensor([0.5, 0.5, 0], device=pixels.device, dtype=pixels.dtype)
    covered = find_covered((pixels + middle) * spread - middle, mesh.triangles, size=fine)
    colours, padded = _colours(mesh, maps, turned, camera, light, covered)
    return _gather(colours, padded, covered, paint(background, size=size), landmarks, supersampling)


class _Padded(NamedTuple):
    """Covered pixels as rows of one length, a picture a row: short rows repeat their last pixel."""

    order: Tensor
    """``(batch, points)`` into the covered pixels."""
    places: Tensor
    """``(batch, points)`` in the flattened pictures; one past their end in rows without a pixel."""


def _pad(covered: CoveredPixels) -> _Padded:
    batch, height, width = covered.shape
    counts = torch.bincount(covered.pictures, minlength=batch)
    longest = int(counts.max()) if batch else 0
    steps = torch.minimum(torch.arange(longest, device=counts.device), (counts - 1).clamp_min(0)[:, None])
    order = ((counts.cumsum(0) - counts)[:, None] + steps).clamp_max(max(0, len(covered.places) - 1))
    places = covered.places.index_select(0, order.flatten()).view(order.shape) if longest else order
    return _Padded(order, torch.where(counts[:, None] > 0, places, batch * height * width))


def _colours(
    mesh: Mesh, maps: Tensor, turned: Tensor, camera: Camera, light: Light, covered: CoveredPixels
) -> tuple[Vector, _Padded]:
    """Linear red, green and blue ``(batch, points)`` of the covered pixels."""
    padded = _pad(covered)
    order = padded.order.flatten()
    batch, points = padded.order.shape
    rows = covered._replace(
        triangles=covered.triangles.index_select(0, order),
        barycentrics=covered.barycentrics.index_select(1, order),
        places=torch.arange(batch, device=order.device).repeat_interleave(points)
        * (covered.shape[1] * covered.shape[2]),
    )
    normals = vertex_normals(turned, mesh.triangles)
    openness = mesh.openness.expand(batch, -1)[..., None]
    of_vertices = interpolate_vertices(torch.cat((turned, normals, openness), -1), rows, mesh.triangles)
    x, y, z, normal_x, normal_y, normal_z, openness = of_vertices.T.contiguous().view(-1, batch, points)
    normal = _unit(normal_x, normal_y, normal_z)
    at = interpolate_corners(mesh.texture_coordinates, rows).view(batch, 1, points, 2)
    texture = _sample(maps, at)
    slope_u, slope_v = _slopes(maps, at, texture[3])
    directions = _height_directions(turned, mesh, rows).view(-1, batch, points)
    leaning = [n - slope_u * directions[axis] - slope_v * directions[3 + axis] for axis, n in enumerate(normal)]
    bumped = _unit(leaning[0], leaning[1], leaning[2])
    to_viewer = _unit(-x, -y, camera.distance[:, None] - z)
    surface = Surface(
        normal,
        bumped,
        to_viewer,
        (texture[0], texture[1], texture[2]),
        texture[4],
        texture[5],
        openness,
        torch.ones_like(x),
    )
    return shade(surface, light), padded


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


def _height_directions(turned: Tensor, mesh: Mesh, rows: CoveredPixels) -> Tensor:
    """``(6, points)``: by which vectors a normal leans for a slope along u and one along v, at each point.

    They are the gradients of u and v on the triangle, per centimetre.
    """
    a, b, c = (turned.index_select(1, mesh.triangles[:, corner]) for corner in range(3))
    first, second = b - a, c - a
    uv = mesh.texture_coordinates
    (u1, v1), (u2, v2) = (uv[:, 1] - uv[:, 0]).T, (uv[:, 2] - uv[:, 0]).T
    normal = torch.linalg.cross(first, second)
    area = normal.square().sum(-1, keepdim=True).clamp_min(1e-12)
    # the gradient of a function with values 0, 1, 0 at the corners, and of one with 0, 0, 1
    of_b, of_c = torch.linalg.cross(second, normal) / area, torch.linalg.cross(normal, first) / area
    along_u = u1[:, None] * of_b + u2[:, None] * of_c
    along_v = v1[:, None] * of_b + v2[:, None] * of_c
    table = torch.cat((along_u, along_v), -1).flatten(0, 1)
    return table.index_select(0, rows.pictures * len(mesh.triangles) + rows.triangles).T.contiguous()


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


def _check(mesh: Mesh, maps: Tensor) -> None:
    check_rank("render", "mesh.vertices", mesh.vertices, ("batch", "vertices", "3"))
    check_rank("render", "maps", maps, ("batch", str(len(MAP_CHANNELS)), "height", "width"))
    check_size("render", "maps", maps, 0, "batch", len(mesh.vertices), advice="Give each head its own maps.")
    check_size("render", "maps", maps, 1, "channels", len(MAP_CHANNELS))
    if mesh.texture_coordinates.shape != (*mesh.triangles.shape, 2):
        raise ShapeError(
            f"render: 'mesh.texture_coordinates' must have shape {(*mesh.triangles.shape, 2)}, "
            f"got {shape_text(mesh.texture_coordinates)}."
        )
