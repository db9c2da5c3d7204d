"""Which triangle each pixel shows: a z-buffer in torch alone, for batches, on any device.

No kept library fits: PyTorch3D, nvdiffrast and kaolin have no wheels on the registry, pyrender and moderngl want a
display or EGL, open3d and mitsuba are hundreds of megabytes and draw one picture at a time. A head is a few thousand
triangles of a few pixels each, for which testing the pixels of each triangle's box, all triangles at once, is fast.

Corners are rounded to a grid of 1/64 pixel, as graphics cards do it. On this grid the question on which side of an
edge a pixel lies has an exact answer, so that triangles that share an edge leave no hole and cover no pixel twice.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from facemtl._core.checks import check_floating, check_rank, check_size
from facemtl.data.synthetic.triangle_boxes import BoxedTriangles, Kind, box_triangles, places_where

_TESTED_AT_ONCE = 2**17  # pixels: a few float32 planes of this length stay in the second cache
_WEIGHED_AT_ONCE = 2**15
_LAST = 0x7FFFFFFF


class Fragments(NamedTuple):
    """What each pixel of a batch of pictures shows."""

    triangles: Tensor
    """``(batch, height, width)`` int64, −1 where there is none."""
    barycentrics: Tensor
    """``(batch, height, width, 3)`` of the point that is seen, right in perspective; they sum to 1, or 0 for none."""
    depth: Tensor
    """``(batch, height, width)`` in the unit of the vertices' depth, infinite where there is none."""


class CoveredPixels(NamedTuple):
    """The same without the pixels that show nothing, for shading."""

    places: Tensor
    """``(covered,)`` int64, rising: places in the flattened ``(batch, height, width)``."""
    triangles: Tensor
    """``(covered,)`` int64."""
    barycentrics: Tensor
    """``(3, covered)``."""
    depth: Tensor
    """``(covered,)``."""
    counts: Tensor
    """``(batch,)``, of each picture's."""
    shape: tuple[int, int, int]
    """Batch, height and width."""

    @property
    def pictures(self) -> Tensor:
        """``(covered,)``, the picture of the batch that each is in."""
        places = torch.arange(self.shape[0], device=self.counts.device)
        return places.repeat_interleave(self.counts, output_size=len(self.places))

    def dense(self) -> Fragments:
        """Spread over the pictures."""
        total = math.prod(self.shape)
        triangles = self.triangles.new_full((total,), -1).index_copy_(0, self.places, self.triangles)
        barycentrics = self.barycentrics.new_zeros(total, 3).index_copy_(0, self.places, self.barycentrics.T)
        depth = self.depth.new_full((total,), torch.inf).index_copy_(0, self.places, self.depth)
        return Fragments(triangles.view(self.shape), barycentrics.view(*self.shape, 3), depth.view(self.shape))


def rasterise(
    vertices: Float[Tensor, "batch vertices 3"],
    triangles: Int64[Tensor, "triangles 3"],
    *,
    size: tuple[int, int],
    cull: bool = True,
) -> Fragments:
    """Find the nearest triangle of each pixel.

    A pixel belongs to a triangle if its centre lies inside; on an edge, if the edge is the triangle's top or left one.
    Where two triangles are equally near, the one that is listed first is seen. So the result depends on neither the
    rest of the batch nor the machine's threads. Triangles without area are left out, and those that reach to the
    camera or behind it are left out whole, not clipped. Visibility has no gradient: what is interpolated has.

    Args:
        vertices: x and y in pixels, whose centres lie at whole numbers, y downwards; and the depth, positive.
        triangles: Corners of each, counter-clockwise on the picture if it is seen from outside.
        size: Height and width of the pictures.
        cull: Leave out triangles that are seen from behind.

    Returns:
        :class:`Fragments`.

    Raises:
        ShapeError: If ``vertices`` or ``triangles`` have another shape.
        TypeError: If ``vertices`` are no floating-point numbers.

    Example:
        >>> import torch
        >>> corners = torch.tensor([[[0.0, 0.0, 50.0], [0.0, 3.0, 50.0], [3.0, 0.0, 50.0]]])
        >>> rasterise(corners, torch.tensor([[0, 1, 2]]), size=(3, 4)).triangles[0]
        tensor([[ 0,  0,  0, -1],
                [ 0,  0, -1, -1],
                [ 0, -1, -1, -1]])
    """
    return find_covered(vertices, triangles, size=size, cull=cull).dense()


def find_covered(vertices: Tensor, triangles: Tensor, *, size: tuple[int, int], cull: bool = True) -> CoveredPixels:
    """As :func:`rasterise`, but give the covered pixels only."""
    batch, (height, width) = len(vertices), size
    nearest, boxed = _nearest(vertices, triangles, size=size, cull=cull)
    counts = (nearest.view(batch, height * width) > 0).sum(1)
    places = places_where(nearest)
    picture = torch.arange(batch, device=places.device).repeat_interleave(counts, output_size=len(places))
    shown = _LAST - (nearest.index_select(0, places) & _LAST)
    lookup = _Lookup(boxed, batch * len(triangles))
    # the planes of a part stay in the processor's cache
    parts = [
        lookup.weigh(part[0] * len(triangles) + part[1], part[2] - part[0] * height * width, width)
        for part in zip(*(of_all.split(_WEIGHED_AT_ONCE) for of_all in (picture, shown, places)), strict=True)
    ]
    weights, depth = (torch.cat(values, -1) for values in zip(*parts, strict=True))
    return CoveredPixels(places, shown, weights, depth, counts, (batch, height, width))


def measure_depth(vertices: Tensor, triangles: Tensor, *, size: tuple[int, int], cull: bool = True) -> Tensor:
    """As :func:`rasterise`, but give the depth alone, ``(batch, height, width)``."""
    nearest, _ = _nearest(vertices, triangles, size=size, cull=cull)
    return (1 / (nearest >> 32).int().view(torch.float32)).view(len(vertices), *size)


def _nearest(
    vertices: Tensor, triangles: Tensor, *, size: tuple[int, int], cull: bool
) -> tuple[Tensor, BoxedTriangles]:
    """Keys of the flattened pixels, 0 for none: bits of the inverse depth, then the triangle's place from the end.

    Positive numbers sort as their bits do.
    """
    check_rank("rasterise", "vertices", vertices, ("batch", "vertices", "3"))
    check_size("rasterise", "vertices", vertices, 2, "x, y and depth", 3)
    check_floating("rasterise", "vertices", vertices)
    check_rank("rasterise", "triangles", triangles, ("triangles", "3"))
    check_size("rasterise", "triangles", triangles, 1, "corners", 3)
    height, width = size
    boxed = box_triangles(vertices.detach().float(), triangles, size, cull=cull)
    nearest = torch.zeros(len(vertices) * height * width, dtype=torch.int64, device=vertices.device)
    for kinds, counts, alike in boxed.alike():
        dtype = kinds[0].dtype
        planes = torch.cat((alike.edges(dtype), alike.planes(alike.corners[2:].to(dtype))))
        picture = alike.numbers.div(max(1, len(triangles)), rounding_mode="floor")
        places = (picture * height + alike.start[1].long()) * width + alike.start[0].long()
        keys = _LAST - (alike.numbers - picture * len(triangles))
        for kind, *group in zip(kinds, planes.split(counts, -1), places.split(counts), keys.split(counts), strict=True):
            step = max(1, _TESTED_AT_ONCE // (kind.width * kind.height))
            for part in zip(*(of_kind.split(step, -1) for of_kind in group), strict=True):
                if len(part[-1]):
                    _draw(nearest, *part, kind=kind, width=width)
    return nearest, boxed


def interpolate(attributes: Tensor, fragments: Fragments, triangles: Tensor) -> Tensor:
    """Give attributes of vertices or corners at each pixel; their gradient flows.

    Args:
        attributes: Of vertices, ``(batch, vertices, channels)``; or of the triangles' corners, the same in each
            picture, ``(triangles, 3, channels)``. The shape tells which: should both fit, they are corners'.
        fragments: Of :func:`rasterise`.
        triangles: ``(triangles, 3)``.

    Returns:
        ``(batch, height, width, channels)``, 0 where nothing is seen.
    """
    batch, height, width = fragments.triangles.shape
    seen = fragments.triangles >= 0
    places = places_where(seen.flatten())
    covered = CoveredPixels(
        places,
        fragments.triangles.flatten()[places],
        fragments.barycentrics.view(-1, 3)[places].T,
        fragments.depth.flatten()[places],
        seen.sum((1, 2)),
        (batch, height, width),
    )
    corners = attributes.shape[:2] == triangles.shape
    values = (
        interpolate_corners(attributes, covered) if corners else interpolate_vertices(attributes, covered, triangles)
    )
    dense = values.new_zeros(batch * height * width, attributes.shape[-1]).index_copy(0, places, values)
    return dense.view(batch, height, width, -1)


def interpolate_vertices(attributes: Tensor, covered: CoveredPixels, triangles: Tensor) -> Tensor:
    """``(covered, channels)`` of attributes ``(batch, vertices, channels)``."""
    places = triangles.index_select(0, covered.triangles)
    if attributes.shape[0] > 1:
        places = places + (covered.pictures * attributes.shape[1])[:, None]
    return _weighted_rows(attributes.flatten(0, 1), places, covered)


def interpolate_corners(attributes: Tensor, covered: CoveredPixels) -> Tensor:
    """``(covered, channels)`` of attributes ``(triangles, 3, channels)``, the same in each picture."""
    places = 3 * covered.triangles[:, None] + torch.arange(3, device=covered.triangles.device)
    return _weighted_rows(attributes.flatten(0, 1), places, covered)


def _weighted_rows(table: Tensor, rows: Tensor, covered: CoveredPixels) -> Tensor:
    if len(rows) == 0:  # embedding_bag has no gradient for none
        return table[:0].sum(0) + table.new_zeros(0, table.shape[1])
    weights = covered.barycentrics.T.to(table.dtype).contiguous()
    # gather and weighted sum in one pass over memory
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)


def _draw(nearest: Tensor, planes: Tensor, places: Tensor, keys: Tensor, *, kind: Kind, width: int) -> None:
    """Let triangles compete for the pixels of their boxes.

    Args:
        nearest: The keys of all pixels so far.
        planes: ``(4, 3, triangles)`` of the edges and the inverse depth.
        places: ``(triangles,)`` of the boxes' first pixels.
        keys: ``(triangles,)`` lower halves.
        kind: Of the boxes.
        width: Of the picture.
    """
    columns = torch.arange(kind.width, device=keys.device)
    rows = torch.arange(kind.height, device=keys.device)[:, None]
    # (plane, rows, columns, triangles): the longest axis last, where torch runs along it
    value, to_right, down = (part[:, None, None] for part in planes.unbind(1))
    values = (value + down * rows[..., None].to(planes.dtype)) + to_right * columns[:, None].to(planes.dtype)
    inside = torch.minimum(torch.minimum(values[0], values[1]), values[2])
    hits = places_where((inside >= 0).flatten())
    cells = hits.div(len(keys), rounding_mode="floor")
    which = hits - cells * len(keys)
    nearness = values[3].flatten().index_select(0, hits).float().view(torch.int32)
    hit_places = places.index_select(0, which) + (rows * width + columns).flatten().index_select(0, cells)
    nearest.scatter_reduce_(0, hit_places, (nearness.long() << 32) | keys.index_select(0, which), "amax")


class _Lookup:
    """Barycentrics and depth of pixels whose triangles are known, from planes over the picture."""

    def __init__(self, boxed: BoxedTriangles, numbers: int) -> None:
        places = torch.arange(len(boxed.numbers), device=boxed.numbers.device)
        self.slots = places.new_zeros(numbers).index_copy_(0, boxed.numbers, places)
        # on the picture, the weights of the second and third corner are linear
        units = torch.eye(3, device=places.device)[1:, :, None].expand(-1, -1, len(places))
        self.table = torch.cat((boxed.planes(units).flatten(0, 1), boxed.corners[2], boxed.start))

    def weigh(self, numbers: Tensor, places: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Barycentrics ``(3, covered)``, right in perspective, and depths."""
        table = self.table.index_select(1, self.slots.index_select(0, numbers))
        second, second_x, second_y, third, third_x, third_y, *_, start_x, start_y = table
        row = places.div(width, rounding_mode="floor")
        x, y = (places - row * width) - start_x, row - start_y
        second = (second + second_x * x + second_y * y).clamp(0, 1)
        third = torch.minimum((third + third_x * x + third_y * y).clamp_min(0), 1 - second)
        weights = torch.stack((1 - second - third, second, third)) * table[6:9]
        depth = 1 / weights.sum(0)
        return weights * depth, depth
