"""The part of its photograph that a face needs: cut out before anything is computed on it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from facemtl.alignment.prefilter import Prefilter, choose_prefilter


class FaceRegion(NamedTuple):
    """A rectangle of a photograph that has been halved ``level`` times, in pixels of that.

    Rows ``top`` to ``bottom`` and columns ``left`` to ``right``, the latter excluded, with ``reach`` pixels all round
    for the box to end in. They may stick out of the photograph by twice ``reach``: nothing changes farther out.
    """

    image: int
    level: int
    reach: int
    top: int
    bottom: int
    left: int
    right: int

    def size(self) -> tuple[int, int]:
        """Return rows and columns without the outermost ``reach`` pixels, which the box uses up."""
        return self.bottom - self.top - 2 * self.reach, self.right - self.left - 2 * self.reach

    def inside(self, height: int, width: int) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
        """Return the photograph's pixels to cut, as top, bottom, left, right, and what to pad after halving them.

        The padding is left, right, above and below.
        """
        k = 2**self.level
        rows, columns = -(-height // k), -(-width // k)
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.bottom, rows), min(self.right, columns)
        cut = (top * k, min(bottom * k, height), left * k, min(right * k, width))
        return cut, (left - self.left, self.right - right, top - self.top, self.bottom - bottom)


class RegionPlan(NamedTuple):
    """How to make each crop from a small part of its photograph."""

    regions: list[FaceRegion]
    matrices: Tensor
    """``(faces, 2, 3)`` crop to region without its outermost ``reach`` pixels, differentiable."""

    weights: Tensor
    """``(faces, 2 * REACH + 1)``, the box along each axis, differentiable."""


def plan_regions(
    matrices: Tensor, index: Tensor, sides: Tensor, size: tuple[int, int], *, antialias: bool
) -> RegionPlan:
    """Find the region of each face and carry its matrix there; reads the matrices, so they should be on a CPU.

    Args:
        matrices: ``(faces, 2, 3)`` crop to photograph, float64.
        index: ``(faces,)`` the image that each face is in.
        sides: ``(faces, 2)`` height and width of that image.
        size: Height and width of the crops.
        antialias: Whether a prefilter is chosen, or none.
    """
    if antialias:
        levels = torch.frexp((sides.amax(1) - 1).double())[1]
        prefilter = choose_prefilter(matrices, levels)
    else:
        none = torch.zeros_like(index)
        prefilter = Prefilter(none, none, torch.ones_like(matrices[:, 0, 0]))
    shrunk = torch.exp2(prefilter.level.to(matrices))[:, None]
    linear, shift = matrices[:, :, :2] / shrunk[..., None], (matrices[:, :, 2] + 0.5) / shrunk - 0.5
    with torch.no_grad():
        along = linear[:, :, 0] * (size[1] - 1)
        down = linear[:, :, 1] * (size[0] - 1)
        low = along.clamp_max(0) + down.clamp_max(0) + shift
        high = along.clamp_min(0) + down.clamp_min(0) + shift
        last = torch.ceil(sides.flip(1) / shrunk) - 1
        reach = prefilter.reach[:, None]
        low = torch.minimum(low.floor().clamp_min(-1e9), last + reach).clamp_min(0 - reach)
        high = torch.minimum(high.floor() + 1, last + reach).maximum(low)
        corners = torch.cat((low - reach, high + reach + 1), 1).long()
    rows = torch.stack((index, prefilter.level, prefilter.reach, *corners[:, [1, 3, 0, 2]].unbind(1)), 1).tolist()
    carried = torch.cat((linear, (shift - low)[..., None]), 2)
    return RegionPlan([FaceRegion(*row) for row in rows], carried, prefilter.weights())
