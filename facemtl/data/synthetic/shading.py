"""What colour a point of skin, lip or eye shows: light times surface, for many points at once.

Points come as planes ``(batch, points)``, a picture a row, because torch is fastest along long axes; a vector is three
of them. Skin lets light in and out again beside where it fell: red light farthest. So its shadows are softened, red
most (wrapped Lambert), and red light sees less of the bumps than blue.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from facemtl.data.synthetic.lighting import Light, harmonics, surrounding

Vector = tuple[Tensor, Tensor, Tensor]

_WRAPS = (0.44, 0.2, 0.13)  # of red, green and blue in skin: how far light creeps round an edge
_BLUR = (0.6, 0.3, 0.15)  # shares of the smooth normal that they see
_LAMP = 30.0  # how much brighter a lamp is than a white surface that it lights
_FACING_REFLECTANCE = 0.034  # of skin and of eyes, both mostly water


class Surface(NamedTuple):
    """The points that are seen; planes are ``(batch, points)``, vectors three of them in the camera's directions."""

    normal: Vector
    """Of the smooth surface, of length 1."""
    bumped: Vector
    """With wrinkles and pores, of length 1."""
    to_viewer: Vector
    """Of length 1."""
    albedo: Vector
    """Share of red, green and blue light that comes back."""
    gloss: Tensor
    """In [0, 1], 0 for matt cloth, 0.35 for dry skin, 0.55 for an oily nose, 0.95 for a wet eye."""
    scattering: Tensor
    """In [0, 1], 1 for skin: how much light wanders inside."""
    openness: Tensor
    """In [0, 1], the share of the surrounding that is not hidden."""
    lit: Tensor
    """In [0, 1], 0 in the main light's shadow."""


def shade(surface: Surface, light: Light) -> Vector:
    """Linear red, green and blue of the points."""
    # what is hidden from the surrounding is hidden from lights, too, though less
    visible = (surface.openness * 1.6).clamp(max=1.0)
    lit = visible * surface.lit
    shine = _reflection(surface, light)
    for number in range(light.directions.shape[1]):
        direction, colour = _columns(light.directions[:, number]), _columns(light.colours[:, number])
        highlight = _highlight(surface, direction) * (visible if number else lit)
        shine = [part + share * highlight for part, share in zip(shine, colour, strict=True)]
    diffuse = (part + main for part, main in zip(_ambient(surface, light), _main_light(surface, light), strict=True))
    red, green, blue = (a * d + s for a, d, s in zip(surface.albedo, diffuse, shine, strict=True))
    return red, green, blue


def _main_light(surface: Surface, light: Light) -> Vector:
    """What the main light gives a matt surface, scattered inside as in skin."""
    direction, colour = _columns(light.directions[:, 0]), _columns(light.colours[:, 0])
    facing, smooth = _dot(surface.bumped, direction), _dot(surface.normal, direction)
    difference = (smooth - facing) * surface.scattering
    open_share = (surface.openness * 1.6).clamp(max=1.0)
    lit, crept = surface.lit * open_share, surface.scattering * ((1 - surface.lit) * open_share)
    red, green, blue = (
        # red light goes farthest round an edge, and into the edge of a shadow
        ((facing + _BLUR[channel] * difference + wrap) / (1 + wrap)).clamp_min(0)
        * (lit + (0.4 * _WRAPS[channel]) * crept)
        * colour[channel]
        for channel, wrap in enumerate(_WRAPS[channel] * surface.scattering for channel in range(3))
    )
    return red, green, blue


def _columns(values: Tensor) -> Vector:
    x, y, z = (value[:, None] for value in values.unbind(1))
    return x, y, z


def _dot(first: Vector, second: Vector) -> Tensor:
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def _sum(first: Vector, second: Vector) -> Vector:
    return first[0] + second[0], first[1] + second[1], first[2] + second[2]


def _ambient(surface: Surface, light: Light) -> Vector:
    """Light of the surrounding. Where it is hidden, red comes back from the skin around: crevices are reddish."""
    polynomials = harmonics(*surface.bumped)
    around = surrounding(light)
    red, green, blue = (_weighted(polynomials, around[..., channel]) for channel in range(3))
    hidden = (1 - surface.openness) * surface.scattering
    open_red = surface.openness + 0.25 * hidden * surface.openness
    return red.clamp_min(0) * open_red, green.clamp_min(0) * surface.openness, blue.clamp_min(0) * surface.openness


def _highlight(surface: Surface, to_light: Vector) -> Tensor:
    """Light mirrored at the surface: GGX's distribution with Karis's short form of visibility and Fresnel."""
    facing = _dot(surface.bumped, to_light)
    half = _sum(surface.to_viewer, to_light)
    length = _dot(half, half).rsqrt()
    on_normal, on_light = _dot(surface.bumped, half) * length, _dot(to_light, half) * length
    roughness = (1 - 0.93 * surface.gloss).square()
    square = roughness.square()
    spread = on_normal.clamp(0, 1).square() * (square - 1) + 1
    grazing = (1 - on_light.clamp(0, 1)).square().square()
    fresnel = _FACING_REFLECTANCE + (1 - _FACING_REFLECTANCE) * grazing * (1 - on_light.clamp(0, 1))
    shape = square / (spread.square() * (on_light.square().clamp_min(0.1) * (4 * roughness + 2)))
    # no lamp is a point: its image in an eye is no brighter than the lamp
    return shape.clamp_max(_LAMP) * fresnel * (4 * surface.gloss).clamp_max(1) * facing.clamp(0, 1)


def _reflection(surface: Surface, light: Light) -> list[Tensor]:
    """The surrounding mirrored in the surface: a sheen towards the edges, more of it on smooth skin and on eyes."""
    facing = _dot(surface.bumped, surface.to_viewer)
    x, y, z = (2 * facing * n - v for n, v in zip(surface.bumped, surface.to_viewer, strict=True))
    grazing = 1 - facing.clamp(0, 1)
    fresnel = _FACING_REFLECTANCE + (0.6 * surface.gloss) * grazing.square().square() * grazing
    weight = fresnel * surface.openness * surface.gloss
    # what is mirrored is less blurred than what lights a matt surface: its directions stand out more
    polynomials = (torch.ones_like(x), 1.6 * x, 1.6 * y, 1.6 * z)
    return [weight * _weighted(polynomials, light.ambient[..., channel]).clamp_min(0) for channel in range(3)]


def _weighted(polynomials: tuple[Tensor, ...], weights: Tensor) -> Tensor:
    """Sum of planes, each times its column of ``(batch, columns)``."""
    total = polynomials[0] * weights[:, :1]
    for at, polynomial in enumerate(polynomials[1:], 1):
        total = total + polynomial * weights[:, at, None]
    return total
