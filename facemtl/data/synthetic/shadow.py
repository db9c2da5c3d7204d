"""The shadows that a head casts on itself: under the nose, the brows and the chin.

The head is seen from the light, and a vertex is in shadow where something is nearer to the light. How far something is
above the vertex says how blurred its shadow is (percentage-closer soft shadows, for each vertex rather than each
pixel: triangles are finer than the blur).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl.data.synthetic.rasterise import measure_depth

_SIDE = 96  # pixels of the light's picture; about 3 mm each
_AWAY = 1000.0  # centimetres to the light's camera
_LIFT = 0.2  # centimetres above its surface that a vertex is looked for, lest it shade itself
_BAND = 0.35  # centimetres over which what is nearer begins to shade


def cast_shadows(vertices: Tensor, normals: Tensor, triangles: Tensor, *, to_light: Tensor, softness: Tensor) -> Tensor:
    """Find how much of the light each vertex sees, as far as the head itself hides it.

    Args:
        vertices: ``(batch, vertices, 3)`` centimetres.
        normals: ``(batch, vertices, 3)`` unit vectors.
        triangles: ``(triangles, 3)``.
        to_light: ``(batch, 3)`` unit vectors.
        softness: ``(batch,)`` in [0, 1]: bare bulb to overcast sky.

    Returns:
        ``(batch, vertices)`` in [0, 1], 1 in full light.
    """
    right, up = _across(to_light)
    x, y, height = (_along(vertices, axis) for axis in (right, up, to_light))
    low = torch.stack((x.amin(1), y.amin(1)), 1)
    extent = torch.stack((x.amax(1), y.amax(1)), 1) - low
    scale = (_SIDE - 9) / extent.amax(1).clamp_min(1e-3)  # pixels of a centimetre
    # a margin of four pixels
    x, y = ((value - low[:, axis, None]) * scale[:, None] + 4 for axis, value in enumerate((x, y)))
    seen = torch.stack((x, _SIDE - 1 - y, _AWAY - height), -1)
    ceiling = (_AWAY - measure_depth(seen, triangles, size=(_SIDE, _SIDE))).flatten()  # minus infinity for none
    lifted = [
        value + _LIFT * _along(normals, axis) * step
        for value, axis, step in ((x, right, scale[:, None]), (y, up, scale[:, None]), (height, to_light, 1.0))
    ]
    picture = torch.arange(len(x), device=x.device)[:, None] * _SIDE**2
    wide = (0.5 + 1.5 * softness)[:, None] * scale[:, None]
    above, _ = _look_up(ceiling, lifted, picture, wide, taps=8)
    narrow = ((0.08 + 0.6 * softness)[:, None] * above).clamp(0.25, 2.5) * scale[:, None]
    _, hidden = _look_up(ceiling, lifted, picture, narrow, taps=16)
    return 1 - hidden


def _along(points: Tensor, axis: Tensor) -> Tensor:
    """``(batch, points)``; the sum is written out, as a matrix product rounds otherwise in another batch."""
    x, y, z = points.unbind(-1)
    return x * axis[:, :1] + y * axis[:, 1:2] + z * axis[:, 2:]


def _across(direction: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit vectors ``(batch, 3)`` across a direction and each other."""
    helper = torch.where(
        direction[:, 1:2].abs() < 0.9, direction.new_tensor([0, 1, 0]), direction.new_tensor([0, 0, 1])
    )
    right = F.normalize(torch.linalg.cross(helper.expand_as(direction), direction), dim=-1)
    return right, torch.linalg.cross(direction, right)


def _look_up(
    ceiling: Tensor, points: list[Tensor], picture: Tensor, radius: Tensor, *, taps: int
) -> tuple[Tensor, Tensor]:
    """How high what shades a point is above it on average, and the share of a disc around it that shades."""
    x, y, height = points
    above, hidden = torch.zeros_like(x), torch.zeros_like(x)
    for tap in range(taps):
        # a spiral of points that fills a disc evenly
        distance, angle = math.sqrt((tap + 0.5) / taps), tap * math.pi * (3 - math.sqrt(5))
        column = (x + radius * (distance * math.cos(angle)) + 0.5).clamp(0, _SIDE - 1)
        row = (_SIDE - 1 - y + radius * (distance * math.sin(angle)) + 0.5).clamp(0, _SIDE - 1)
        places = picture + row.long() * _SIDE + column.long()
        over = (ceiling.index_select(0, places.flatten()).view_as(x) - height).clamp(0, 8)
        shade = (over * (1 / _BAND)).clamp_max(1)
        above, hidden = above + over * shade, hidden + shade
    return above / hidden.clamp_min(1e-3), hidden / taps
