"""Which pixels of a photograph a crop reaches, and which pixels of a crop the photograph covers."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from facemtl.alignment.paste_sampling import Affine

# Positions nearer to the photograph's edge than this lie on it, but for rounding.
_SLACK = 1e-3


class Region(NamedTuple):
    """A rectangle of a photograph's pixels; ``bottom`` and ``right`` are the first beyond it."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns; 0 or less where the rectangle is empty."""
        return self.bottom - self.top, self.right - self.left

    def of(self, photograph: Tensor) -> Tensor:
        """View ``(3, height, width)`` inside the rectangle."""
        return photograph[:, self.top : self.bottom, self.left : self.right]

    def bands(self, pixels: int) -> list[Region]:
        """Cut into bands of rows, of about so many pixels each."""
        step = max(1, pixels // max(1, self.right - self.left))
        tops = range(self.top, self.bottom, step)
        return [self._replace(top=top, bottom=min(top + step, self.bottom)) for top in tops]


def find_region(to_photograph: Affine, crops: Tensor, photograph: Tensor, samples: int) -> Region:
    """Bounding box of the crop and the one pixel around it into which interpolation fades, as far as it is in view."""
    height, width = crops.shape[-2:]
    corners = [to_photograph(x, y) for x in (-1, width) for y in (-1, height)]
    reach = 0.5 if samples > 1 else 0.0
    (left, right), (top, bottom) = (
        (max(0, math.ceil(min(values) - reach)), min(side, math.floor(max(values) + reach) + 1))
        for values, side in zip(zip(*corners, strict=True), (photograph.shape[-1], photograph.shape[-2]), strict=True)
    )
    return Region(top, bottom, left, right)


def find_covered(to_photograph: Affine, crop: Tensor, photograph: Tensor) -> Tensor | None:
    """Bool ``(h, w)``: crop pixels that saw the photograph alone and no padding; None if all of them did."""
    height, width = crop.shape[-2:]
    x = torch.arange(width, dtype=crop.dtype, device=crop.device)
    y = torch.arange(height, dtype=crop.dtype, device=crop.device).unsqueeze(1)
    covered: Tensor | None = None
    # A pixel of an anti-aliased crop is a mean over pixels up to about one step away; one that is not shrunk lies
    # between the pixels next to it.
    reach = to_photograph.stride() if to_photograph.stride() > 1.0 + _SLACK else 0.0
    for along, across, start, side in (
        (*to_photograph[:3], photograph.shape[-1]),
        (*to_photograph[3:], photograph.shape[-2]),
    ):
        low, high = reach - _SLACK, side - 1 - reach + _SLACK
        ends = [start + along * x + across * y for x in (0, width - 1) for y in (0, height - 1)]
        if min(ends) < low or max(ends) > high:
            place = x * along + (y * across + start)
            inside = (place >= low) & (place <= high)
            covered = inside if covered is None else covered & inside
    return covered
