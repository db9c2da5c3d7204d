"""Skin: what absorbs light in it, how rough it is, and what years do to it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from facemtl.data.synthetic.ageing_shape import childhood_share, late_share
from facemtl.data.synthetic.appearance_factors import AppearanceFactors
from facemtl.data.synthetic.atlas import Island
from facemtl.data.synthetic.noise import box_of, octaves, smooth_noise, smoothstep
from facemtl.data.synthetic.skin_fields import lash_lines, redness, shadows_of_eyes, wrinkles
from facemtl.data.synthetic.surface_maps import SurfaceMaps

# Absorbances of red, green and blue light: what comes back is exp(−sum). Fitted by eye to photographed skins.
_BASE = (0.36, 0.78, 0.98)
_MELANIN = (1.80, 2.06, 2.18)
_BLOOD = (0.04, 0.42, 0.34)
_SALLOW = (0.02, 0.06, 0.20)

# Of each of skin_fields.wrinkles: centimetres at 80, and by how much of late_share it comes early.
_DEPTHS = (0.070, 0.075, 0.062, 0.180, 0.105, 0.030)
_EARLY = (0.02, 0.0, 0.04, 0.16, 0.06, 0.0)


class Skin(NamedTuple):
    """Maps of a batch of people."""

    absorbance: Tensor
    """``(batch, 3, size, size)``; albedo is exp(−absorbance)."""
    height: Tensor
    """``(batch, size, size)`` centimetres."""
    gloss: Tensor
    """``(batch, size, size)``."""


class SkinPainter(nn.Module):
    """Paint skin: sums of maps that all people share, with weights of the person and the age.

    Args:
        maps: Of the head.
    """

    _shared: Tensor
    _folds: Tensor
    _pores: Tensor
    _gloss: Tensor
    _spots: Tensor
    _front: Tensor
    _freckled: Tensor
    _exposed: Tensor

    def __init__(self, maps: SurfaceMaps) -> None:
        super().__init__()
        size = (maps.islands.shape[0], maps.islands.shape[1])
        lips, _, _, face = maps.regions.unbind(-1)
        self._face = box_of((maps.islands == int(Island.HEAD)) & (maps.positions[..., 2] > -9.0))
        mouth = (maps.islands == int(Island.MOUTH)).float()
        lips = smoothstep(lips, 0.25, 0.75)
        lines = lips * (smooth_noise(61, size, (60.0, 3.0)) - 0.3) * 0.5
        red = redness(maps)
        shared = torch.stack(
            (
                torch.ones(size),
                red,
                lips,
                lines,
                shadows_of_eyes(maps),
                lash_lines(maps),
                octaves(62, size, 40.0),
                octaves(66, size, 12.0),
                mouth,
            )
        )
        for name, value in (
            ("_shared", shared.flatten(1)),
            ("_folds", wrinkles(maps).flatten(1)),
            ("_pores", octaves(71, size, 3.0, count=2) * (0.3 + 0.7 * face) * (1 - 0.7 * lips)),
            ("_gloss", _gloss_of(maps, lips)),
            ("_spots", torch.stack((_spots(75, size, 4.0), _spots(79, size, 5.0)))),
            ("_front", maps.positions[self._face][..., :2].movedim(-1, 0).contiguous()),
            ("_freckled", red[self._face].clamp(0, 0.6) * 1.6),
            ("_exposed", smoothstep(maps.positions[self._face][..., 2], -9.0, -6.0)),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(self, factors: AppearanceFactors, ages: Tensor) -> Skin:
        """Paint the skin of people at ``ages`` ``(batch,)`` in years."""
        size = self._gloss.shape
        late = late_share(ages)
        absorbance = (self._weights(factors, ages) @ self._shared).view(len(ages), 3, *size)
        self._add_marks(absorbance, factors, late)
        depths = self._folds.new_tensor(_DEPTHS) * (
            (late[:, None] + self._folds.new_tensor(_EARLY) * (1 - childhood_share(ages))[:, None]).clamp_min(0)
            * factors.wrinkling[:, None]
        )
        height = (depths @ self._folds).view(-1, *size)
        # less light finds its way out of a furrow than the slope of its sides tells
        absorbance = absorbance + (-3.2 * height).clamp_min(0)[:, None] * _colour(0.8, 1.0, 1.05, like=absorbance)
        height = height + (0.0015 + 0.0035 * (1 - childhood_share(ages)) + 0.003 * late)[:, None, None] * self._pores
        gloss = self._gloss * (1 - 0.22 * late - 0.12 * childhood_share(ages))[:, None, None]
        return Skin(absorbance, height, gloss)

    def _weights(self, factors: AppearanceFactors, ages: Tensor) -> Tensor:
        """``(batch, 3, shared maps)``."""
        late, young = late_share(ages), childhood_share(ages)
        melanin = factors.melanin * (1 - 0.15 * young)
        blood = factors.blood * (1 + 0.25 * young - 0.25 * late)
        base, brown, red, sallow = (self._folds.new_tensor(c) for c in (_BASE, _MELANIN, _BLOOD, _SALLOW))
        even = base + melanin[:, None] * brown + blood[:, None] * red + (0.5 * late)[:, None] * sallow
        flush = (0.55 + 0.35 * young + 0.25 * late)[:, None] * red
        dark = melanin[:, None].clamp(0, 1)
        lips = (0.25 + 0.9 * factors.lip_red)[:, None] * red * (1.15 - 0.5 * late)[:, None] + dark * red.new_tensor(
            [0.05, 0.1, 0.1]
        )
        lips = lips - 0.25 * dark * brown * 0.6
        rings = (0.10 + 0.25 * late + 0.12 * factors.wrinkling * (1 - young))[:, None] * red.new_tensor(
            [0.5, 0.75, 0.6]
        )
        lashes = (1.3 + 0.9 * (1 - young))[:, None] * red.new_tensor([1.0, 1.05, 1.1]) * (1.1 - 0.35 * late)[:, None]
        blotches = (0.03 + 0.055 * late + 0.02 * (1 - young))[:, None] * (red + 0.25 * brown)
        grain = (0.022 + 0.045 * late)[:, None] * (0.6 * red + 0.3 * brown)
        inside = red.new_tensor([1.2, 2.0, 1.9]).expand(len(ages), -1)
        lines = 0.35 * red.expand(len(ages), -1)
        return torch.stack((even, flush, lips, lines, rings, lashes, blotches, grain, inside), -1)

    def _add_marks(self, absorbance: Tensor, factors: AppearanceFactors, late: Tensor) -> None:
        """Add freckles and moles, which stay, and spots that come with age, to ``(batch, 3, size, size)`` in place."""
        colour = absorbance.new_tensor([0.55, 0.95, 1.25])[:, None, None]
        x, y = self._front
        for row, (across, down) in enumerate((factors.shift * absorbance.shape[-1]).long().tolist()):
            freckles, spots = torch.roll(self._spots, (down, across), (1, 2))[:, *self._face]
            marks = 0.75 * factors.freckles[row] * self._freckled * freckles
            marks = marks + 0.26 * (late[row] * factors.wrinkling[row]) * spots
            for right, up, radius in factors.moles[row][factors.moles[row, :, 2] > 0]:
                distance = torch.hypot(x - right, y - up)
                marks = marks + 1.4 * (1 - smoothstep(distance, 0.5 * radius, 1.3 * radius))
            absorbance[row, :, *self._face] += colour * (marks * self._exposed)


def _gloss_of(maps: SurfaceMaps, lips: Tensor) -> Tensor:
    places = maps.positions
    shine = torch.exp(-0.5 * ((places[..., 0] / 2.2).square() + ((places[..., 1] - 4) / 1.8).square()))
    nose = torch.exp(-0.5 * ((places[..., 0] / 0.9).square() + ((places[..., 1] + 3.8) / 1.6).square()))
    gloss = 0.36 + 0.10 * shine + 0.14 * nose * (places[..., 2] > -3) + 0.20 * lips
    return torch.where(maps.islands == int(Island.MOUTH), 0.6, gloss)


def _spots(number: int, size: tuple[int, int], cell: float) -> Tensor:
    """Scattered spots in [0, 1]: the peaks of a noise."""
    return smoothstep(smooth_noise(number, size, (cell, cell)), 1.3, 2.1)


def _colour(red: float, green: float, blue: float, *, like: Tensor) -> Tensor:
    return like.new_tensor([red, green, blue]).view(1, 3, 1, 1)
