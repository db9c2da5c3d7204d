"""Hair of head, brows and beard on the maps: how much of the skin it hides, its colour, its relief."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from facemtl.data.synthetic.ageing_shape import childhood_share
from facemtl.data.synthetic.appearance_factors import AppearanceFactors, Beard, HairStyle
from facemtl.data.synthetic.atlas import Island
from facemtl.data.synthetic.hair_fields import HairField, hair_field
from facemtl.data.synthetic.hair_zones import brow_coordinates
from facemtl.data.synthetic.noise import box_of, smooth_noise, smoothstep
from facemtl.data.synthetic.person import Traits
from facemtl.data.synthetic.skin_fields import beard_zones
from facemtl.data.synthetic.surface_maps import SurfaceMaps

_BARE = (0.75, 1.10, 1.65)
_DARK = (3.5, 3.5, 3.1)
_RED = (-0.35, 0.45, 0.85)
_GREY = (0.95, 1.0, 1.05)
# Absorbances of hair: without pigment of age, by eumelanin, by pheomelanin, and of grey hair.


class Hair(NamedTuple):
    """Maps of a batch of people."""

    cover: Tensor
    """``(batch, size, size)`` in [0, 1], how much of the skin is hidden."""
    albedo: Tensor
    """``(batch, 3, size, size)`` of the hair."""
    height: Tensor
    """``(batch, size, size)`` centimetres."""


def hair_amounts(factors: AppearanceFactors, traits: Traits, ages: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Greyness, recession and fullness of the hair, each ``(batch,)`` in [0, 1]."""
    grey = torch.sigmoid((ages - factors.grey_age) / 5.5)
    years = ((ages - 20) / 50).clamp(0, 1.1)
    recession = (factors.balding * 1.25 * years * traits.gender + 0.25 * factors.balding * years).clamp(0, 1)
    fullness = smoothstep(ages, -0.6, 3.5) * (1 - 0.28 * years * (0.4 + factors.balding))
    return grey, recession, fullness.clamp(0.12, 1)


def hairline_shift(factors: AppearanceFactors, field: HairField, recession: Tensor) -> Tensor:
    """``(batch, …)`` centimetres above each person's hairline of the field's places; a fringe hangs below it."""
    view = (-1,) + (1,) * field.above.dim()
    front = 1 - smoothstep(field.azimuth, 30.0, 58.0)
    lowered = (factors.hair_style == int(HairStyle.FRINGE)).float().view(view) * 2.7 * front
    raised = factors.hairline.view(view) * front
    return field.above - raised + lowered - recession.view(view) * field.recession


class HairPainter(nn.Module):
    """Paint hair.

    Args:
        maps: Of the head.
    """

    _above: Tensor
    _recession: Tensor
    _azimuth: Tensor
    _side: Tensor
    _level: Tensor
    _strands: Tensor
    _edge: Tensor
    _curls: Tensor
    _clumps: Tensor
    _whiskers: Tensor
    _stubble: Tensor
    _along: Tensor
    _across: Tensor
    _bristles: Tensor
    _beards: Tensor
    _head: Tensor
    _ears: Tensor

    def __init__(self, maps: SurfaceMaps) -> None:
        super().__init__()
        size = (maps.islands.shape[0], maps.islands.shape[1])
        places = maps.positions
        field = hair_field(places)
        along, across = brow_coordinates(places)
        head = (maps.islands == int(Island.HEAD)).float()
        # strands run down the maps, from the crown; a lean of the hair bends them
        strands = 0.75 * smooth_noise(91, size, (46.0, 1.6)) + 0.6 * smooth_noise(92, size, (70.0, 5.0))
        buffers = {
            "above": field.above,
            "recession": field.recession,
            "azimuth": field.azimuth,
            "side": field.side,
            "level": field.height,
            "strands": strands,
            "edge": 0.7 * smooth_noise(93, size, (6.0, 1.3)) + 0.9 * smooth_noise(90, size, (9.0, 5.0)),
            "curls": smooth_noise(94, size, (4.5, 4.5)),
            "clumps": smooth_noise(95, size, (30.0, 12.0)),
            "whiskers": smooth_noise(96, size, (2.4, 1.4)),
            "stubble": smooth_noise(97, size, (1.5, 1.5)),
            "along": along,
            "across": across,
            "bristles": smooth_noise(98, size, (2.0, 1.4)),
            "beards": beard_zones(maps),
            "head": head,
            "ears": maps.regions[..., 2],
        }
        self._brow_box = box_of((head > 0) & (along > -0.1) & (along < 1.1) & (across.abs() < 1.2))
        self._beard_box = box_of((head > 0) & (buffers["beards"].amax(0) > 0.01))
        for name, value in buffers.items():
            self.register_buffer(f"_{name}", value, persistent=False)

    @property
    def _field(self) -> HairField:
        return HairField(self._above, self._recession, self._azimuth, self._side, self._level)

    def forward(self, factors: AppearanceFactors, traits: Traits, ages: Tensor) -> Hair:
        """Paint the hair of people at ``ages`` ``(batch,)`` in years."""
        grey, recession, fullness = hair_amounts(factors, traits, ages)
        scalp, scalp_height = self._scalp(factors, recession, fullness)
        bare = 1 - scalp
        height = scalp_height * scalp
        brows = self._brows(factors, ages)
        bare[:, *self._brow_box] *= 1 - brows
        height[:, *self._brow_box] += 0.035 * brows
        beard, beard_height = self._beard(factors, traits, ages)
        bare[:, *self._beard_box] *= 1 - beard
        height[:, *self._beard_box] += beard_height * beard
        streak = self._streaks(factors)
        pigment = hair_absorbance(factors, grey, ages)
        salt = (grey * 1.3)[:, None, None] * 0.5 * self._clumps
        albedo = torch.exp(-pigment[:, :, None, None] - 0.30 * streak[:, None] + 0.25 * salt[:, None])
        # brows grey ten years after the scalp, and never wholly
        pigment = hair_absorbance(factors, 0.7 * torch.sigmoid((ages - factors.grey_age - 10) / 6), ages)
        bristles = self._bristles[self._brow_box]
        albedo[:, :, *self._brow_box] = torch.exp(-pigment[:, :, None, None] - 0.2 * bristles)
        return Hair(1 - bare, albedo.clamp(0.004, 0.8), height)

    def _streaks(self, factors: AppearanceFactors) -> Tensor:
        curly = (factors.hair_style == int(HairStyle.CURLY)).float()[:, None, None]
        return self._strands + curly * (1.4 * self._curls - self._strands)

    def _scalp(self, factors: AppearanceFactors, recession: Tensor, fullness: Tensor) -> tuple[Tensor, Tensor]:
        style = factors.hair_style[:, None, None]
        above = hairline_shift(factors, self._field, recession)
        soft = torch.where(style <= int(HairStyle.CROPPED), 1.1, 0.55)
        cover = smoothstep(above + 0.24 * self._edge, -0.35 * soft, 1.35 * soft)
        thin = fullness[:, None, None] - 0.45 * recession[:, None, None] * smoothstep(self._level, 6.0, 10.0)
        seen = smoothstep(thin + 0.22 * self._strands + 0.1 * self._clumps, 0.05, 0.55)
        shaved = torch.where(style == int(HairStyle.SHAVED), 0.28, 1.0)
        shaved = torch.where(style == int(HairStyle.CROPPED), 0.86 + 0.05 * self._stubble, shaved)
        relief = torch.where(style <= int(HairStyle.CROPPED), 0.012, 0.055)
        cover = cover * seen * shaved * self._head * (1 - 0.97 * self._ears)
        return cover.clamp(0, 1), relief * self._streaks(factors)

    def _brows(self, factors: AppearanceFactors, ages: Tensor) -> Tensor:
        along, across_map, bristles = (part[self._brow_box] for part in (self._along, self._across, self._bristles))
        young = childhood_share(ages)[:, None, None]
        old = ((ages - 50) / 50).clamp(0, 1)[:, None, None]
        height, tilt = factors.brow_place.unbind(1)
        across = across_map - height[:, None, None] - tilt[:, None, None] * (along - 0.5)
        taper = smoothstep(along, -0.08, 0.14) * (1 - smoothstep(along, 0.62, 1.08))
        half = 0.36 * factors.brow_thickness[:, None, None] * (1 - 0.35 * young) * (0.35 + 0.65 * taper)
        body = 1 - smoothstep(across.abs() + 0.09 * bristles, 0.45 * half, 1.25 * half)
        dense = (0.78 + 0.2 * (factors.brow_thickness - 1))[:, None, None] * (1 - 0.45 * young) * (1 - 0.35 * old)
        light = (0.55 + 0.45 * factors.hair_dark)[:, None, None]
        return (body * taper * dense * light * (0.82 + 0.18 * bristles)).clamp(0, 0.95)

    def _beard(self, factors: AppearanceFactors, traits: Traits, ages: Tensor) -> tuple[Tensor, Tensor]:
        grown = (smoothstep(ages, 15.0, 20.0) * traits.gender)[:, None, None]
        kind = factors.beard[:, None, None]
        whiskers, stubble = self._whiskers[self._beard_box], self._stubble[self._beard_box]
        everywhere, above, goatee = self._beards[:, *self._beard_box]
        long_hair = torch.where(kind == int(Beard.FULL), everywhere, torch.zeros_like(everywhere))
        long_hair = torch.where(kind == int(Beard.MOUSTACHE), above, long_hair)
        long_hair = torch.where(kind == int(Beard.GOATEE), torch.maximum(goatee, 0.85 * above), long_hair)
        dense = smoothstep(long_hair + 0.16 * whiskers, 0.3, 0.85)
        shadow = torch.where(kind == int(Beard.STUBBLE), 0.34, 0.10) * (0.4 + 0.6 * factors.hair_dark)[:, None, None]
        shadow = shadow * everywhere * (0.75 + 0.35 * stubble).clamp(0.2, 1.4)
        cover = grown * torch.maximum(0.92 * dense, shadow)
        return cover.clamp(0, 0.95), 0.05 * whiskers * long_hair


def hair_absorbance(factors: AppearanceFactors, grey: Tensor, ages: Tensor) -> Tensor:
    """``(batch, 3)``; children are fairer than they will be."""
    dark = factors.hair_dark * (1 - 0.35 * childhood_share(ages) * (factors.hair_dark < 0.85))
    bare, brown, red, white = (dark.new_tensor(colour) for colour in (_BARE, _DARK, _RED, _GREY))
    pigment = bare + dark[:, None] * brown + factors.hair_red[:, None] * red * (1 - 0.6 * dark)[:, None]
    return pigment + 0.92 * grey[:, None] * (white - pigment)
