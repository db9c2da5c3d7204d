"""One image or layer seen through an affine map, anti-aliased: regions of it, never the whole where a part will do."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Affine(NamedTuple):
    """An affine map of the plane in Python's floats, which are float64 on every device.

    ``x' = xx * x + xy * y + x0`` and ``y' = yx * x + yy * y + y0``.
    """

    xx: float
    xy: float
    x0: float
    yx: float
    yy: float
    y0: float

    def __call__(self, x: float | int, y: float | int) -> tuple[float, float]:
        """Carry a point."""
        return self.xx * x + self.xy * y + self.x0, self.yx * x + self.yy * y + self.y0

    def seen_from(self, x: float | int, y: float | int, step: float = 1.0) -> Affine:
        """Return the map for coordinates that count from (x, y), each unit being ``step`` of the old ones."""
        x0, y0 = self(x, y)
        return Affine(self.xx * step, self.xy * step, x0, self.yx * step, self.yy * step, y0)

    def inverse(self) -> Affine:
        """Return the map back; the determinant must not be 0."""
        d = self.determinant()
        xx, xy, yx, yy = self.yy / d, -self.xy / d, -self.yx / d, self.xx / d
        return Affine(xx, xy, -xx * self.x0 - xy * self.y0, yx, yy, -yx * self.x0 - yy * self.y0)

    def determinant(self) -> float:
        """Return by how much the map enlarges areas; 0 if it is singular, negative if it mirrors."""
        return self.xx * self.yy - self.xy * self.yx

    def stride(self) -> float:
        """Return how far one step along the longer-stepping axis goes: a similarity's scale."""
        return max(math.hypot(self.xx, self.yx), math.hypot(self.xy, self.yy))


def samples_wanted(to_source: Affine, source: Tensor) -> int:
    """How many samples a side a pixel needs, so that they lie about one pixel of the source apart."""
    return min(max(1, math.ceil(to_source.stride() - 0.25)), max(source.shape[-2:]))


def resample(
    source: Tensor,
    to_source: Affine,
    size: tuple[int, int],
    *,
    samples: int = 1,
    padding: Literal["zeros", "border"] = "zeros",
) -> Tensor:
    """Sample ``(1, channels, h, w)`` bilinearly at ``size`` = (rows, columns) pixels.

    With more ``samples``, each pixel is the mean of as many samples a side, evenly spread over its area: what shrinks
    the source then averages it instead of skipping pixels.
    """
    height, width = source.shape[-2:]
    fine = to_source.seen_from(*(2 * (0.5 / samples - 0.5,)), step=1.0 / samples)
    # grid_sample wants -1 and 1 at the outer edges of the outermost pixels. Coefficients are float64 and positions
    # count from the region's corner, so that float32 grids hold them even in photographs of 10,000 pixels.
    x = torch.arange(size[1] * samples, dtype=source.dtype, device=source.device)
    y = torch.arange(size[0] * samples, dtype=source.dtype, device=source.device).unsqueeze(1)
    grid = torch.empty((1, len(y), len(x), 2), dtype=source.dtype, device=source.device)
    for axis, side, along, across, start in (
        (0, width, fine.xx, fine.xy, fine.x0),
        (1, height, fine.yx, fine.yy, fine.y0),
    ):
        torch.add(
            x * (2 * along / side), y * (2 * across / side) + ((2 * start + 1) / side - 1), out=grid[0, ..., axis]
        )
    sampled = F.grid_sample(source, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return F.avg_pool2d(sampled, samples) if samples > 1 else sampled
