"""Which triangles of pictures can be seen at all, the box of pixels that each can lie in, and its edges there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_GRID = 64  # steps of a pixel that corners are rounded to
_NEAR = 1e-3  # of the depth's unit; what is nearer than this is at the camera or behind it
_FAR_OFF = 2.0**17  # pixels; beyond it products of two coordinates are no longer exact in float64
_EXACT = 16  # pixels; for smaller triangles sums of products of two coordinates are exact in float32
_SIDES = (3, 5, 8, _EXACT)


class Kind(NamedTuple):
    """A kind of box."""

    width: int
    height: int
    dtype: torch.dtype
    """The precision in which the edges of its triangles are exact."""


class BoxedTriangles(NamedTuple):
    """Triangles that may be seen, of all pictures, each with a box of pixels that holds all of its own.

    Those with boxes of one kind stand together.
    """

    numbers: Tensor
    """``(boxed,)`` int64, the picture of the batch times the number of triangles, plus the triangle's place."""
    corners: Tensor
    """``(3, 3, boxed)`` float32: x and y in whole steps of the grid, and inverse depth, of the three corners."""
    start: Tensor
    """``(2, boxed)`` float32, the box's first pixel (x, y)."""
    kinds: tuple[Kind, ...]
    counts: tuple[int, ...]
    """Of triangles of each kind."""

    def alike(self) -> Iterator[tuple[tuple[Kind, ...], tuple[int, ...], BoxedTriangles]]:
        """Give the kinds of one precision, how many triangles each has, and these triangles."""
        first = 0
        for dtype in (torch.float32, torch.float64):
            which = [at for at, kind in enumerate(self.kinds) if kind.dtype == dtype]
            counts = tuple(self.counts[at] for at in which)
            part = slice(first, first := first + sum(counts))
            yield (
                tuple(self.kinds[at] for at in which),
                counts,
                self._replace(numbers=self.numbers[part], corners=self.corners[..., part], start=self.start[:, part]),
            )

    def edges(self, dtype: torch.dtype) -> Tensor:
        """Edge functions, at least 0 inside on all three sides, and nowhere else.

        A pixel that lies on an edge is inside if that is a top or left one, so that of two triangles that share it
        just one has the pixel. The values are whole numbers and halves, and exact.

        Returns:
            ``(3, 3, boxed)``, for each side the value at the box's first pixel, and steps to the next column and row.
        """
        start = self.start.to(dtype) * _GRID
        x, y = self.corners[:2].to(dtype) - start[:, None]
        clockwise = ((x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])).sign()  # to the eye: y points down
        dx, dy = ((values.roll(-1, 0) - values) * clockwise for values in (x, y))
        on_edge = (dy < 0) | ((dy == 0) & (dx > 0))
        return torch.stack((dy * x - dx * y - 0.5 * (~on_edge).to(dtype), -_GRID * dy, _GRID * dx), 1)

    def planes(self, values: Tensor) -> Tensor:
        """What is linear on the picture, from ``values (..., 3, boxed)`` at the corners.

        Returns:
            ``(..., 3, boxed)``, the value at the box's first pixel, and steps to the next column and row.
        """
        x, y = self.corners[:2].to(values.dtype) / _GRID - self.start.to(values.dtype)[:, None]
        (bx, cx), (by, cy) = x[1:] - x[0], y[1:] - y[0]
        scale = 1 / (bx * cy - by * cx)
        a, b, c = values.unbind(-2)
        b, c = b - a, c - a
        to_right, down = (b * cy - c * by) * scale, (c * bx - b * cx) * scale
        return torch.stack((a - to_right * x[0] - down * y[0], to_right, down), -2)


def box_triangles(vertices: Tensor, triangles: Tensor, size: tuple[int, int], *, cull: bool) -> BoxedTriangles:
    """Find the triangles of ``(batch, vertices, 3)`` that can hold a pixel's centre, and their boxes."""
    corners, low, high = _corners(vertices, triangles)
    limits = torch.tensor([[size[1] - 1], [size[0] - 1]], device=low.device, dtype=low.dtype)
    first = (low / _GRID).ceil().clamp_min(0)
    sides = torch.minimum((high / _GRID).floor(), limits) - first + 1
    (ax, bx, cx), (ay, by, cy) = corners[:2].double()
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    # y points down: what is counter-clockwise to the eye has a negative area
    seen = (area < 0 if cull else area != 0) & (sides >= 1).all(0) & (corners[2] > 0).all(0)
    chosen = places_where(seen)
    kinds = _kinds(size)
    kind = _kind_of(sides.index_select(1, chosen), (high - low).amax(0).index_select(0, chosen), size)
    kind, order = kind.sort(stable=True)
    chosen = chosen.index_select(0, order)
    extents = torch.tensor([kind[:2] for kind in kinds], device=low.device, dtype=low.dtype).T.index_select(
        1, kind.long()
    )
    # shifted back where the box would leave the picture
    start = torch.minimum(first.index_select(1, chosen), limits + 1 - extents)
    counts = tuple(torch.bincount(kind, minlength=len(kinds)).tolist())
    corners = corners.flatten(0, 1).index_select(1, chosen).view(3, 3, -1)
    return BoxedTriangles(chosen, corners, start, kinds, counts)


def places_where(mask: Tensor) -> Tensor:
    """The places in ``(n,)`` where it is true, rising; NumPy is five times as fast as torch here."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero()[:, 0]


def _corners(vertices: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(3, 3, batch * triangles)``, x, y (steps) and inverse depth of the corners, and the extents of x and y.

    Where a coordinate makes no sense, the inverse depth is 0.
    """
    x, y, depth = vertices.unbind(-1)
    sound = (x.abs() < _FAR_OFF) & (y.abs() < _FAR_OFF) & (depth > _NEAR) & (depth < torch.inf)
    values = torch.stack(((x * _GRID).round(), (y * _GRID).round(), 1 / depth))
    values = torch.where(sound, values, 0.0).flatten(0, 1)
    corners = torch.stack(
        [values.index_select(1, triangles[:, corner]).view(3, len(x) * len(triangles)) for corner in range(3)], 1
    )
    return corners, corners[:2].amin(1), corners[:2].amax(1)


def _kinds(size: tuple[int, int]) -> tuple[Kind, ...]:
    """Boxes of all shapes: small ones, and those of wide triangles, up to the picture."""
    small = [(width, height, torch.float32) for width in _SIDES for height in _SIDES]
    wide = _wide_sides(size)
    kinds = (*small, *((width, height, torch.float64) for width in wide for height in wide))
    return tuple(Kind(min(width, size[1]), min(height, size[0]), dtype) for width, height, dtype in kinds)


def _wide_sides(size: tuple[int, int]) -> list[int]:
    sides = [_EXACT // 2]
    while sides[-1] < max(size):
        sides.append(2 * sides[-1])
    return sides


def _kind_of(sides: Tensor, extent: Tensor, size: tuple[int, int]) -> Tensor:
    kinds = []
    for bounds in (_SIDES, _wide_sides(size)):
        edges = torch.tensor(bounds, device=sides.device, dtype=sides.dtype)
        width, height = torch.bucketize(sides, edges, out_int32=True)
        kinds.append(width * len(bounds) + height)
    return torch.where(extent < _EXACT * _GRID, kinds[0], kinds[1] + len(_SIDES) ** 2).to(torch.uint8)
