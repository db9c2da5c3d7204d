"""The light on a face: a surrounding that is soft, and up to three lights with a direction."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl.data.synthetic.random_numbers import Purpose, draw_uniform, to_normal

NUM_LIGHTS = 3
"""Key, fill and rim."""


class Light(NamedTuple):
    """Light of a batch of pictures, in the camera's directions: x right, y up, z to the viewer; linear RGB."""

    ambient: Tensor
    """``(batch, 9, 3)``, what a white matt surface returns, by its normal: coefficients of :func:`harmonics`."""
    directions: Tensor
    """``(batch, lights, 3)`` unit vectors to the lights; the first is the main one, which casts shadows."""
    colours: Tensor
    """``(batch, lights, 3)``, what a white matt surface returns that faces the light."""
    softness: Tensor
    """``(batch,)`` of the main light's shadows, in [0, 1]: bare bulb to overcast sky."""


def harmonics(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    """The nine polynomials of a unit vector up to the second order, each between −1 and 1 or so; the first is 1."""
    return torch.ones_like(x), x, y, z, x * y, y * z, 1.5 * z * z - 0.5, x * z, x * x - y * y


def surrounding(light: Light) -> Tensor:
    """``(batch, 9, 3)``: the ambient light, and the lights without shadows as if they belonged to it.

    A matt surface blurs a light so much that polynomials of second order are within 0.1 of max(0, cosine).
    """
    x, y, z = light.directions[:, 1:].unbind(-1)
    # the cosine of the angle between two vectors, max(0, t), is 1/4 + t/2 + 5/16 (3 t² − 1)/2 to the second order
    first = (torch.full_like(x, 0.25), 0.5 * x, 0.5 * y, 0.5 * z)
    second = (3 * x * y, 3 * y * z, 1.5 * z * z - 0.5, 3 * x * z, 0.75 * (x * x - y * y))
    weights = torch.stack((*first, *(0.3125 * part for part in second)), 1)
    return light.ambient + (weights[..., None] * light.colours[:, None, 1:]).sum(2)


def draw_light(seed: int, faces: Tensor) -> Light:
    """Draw the light of pictures: windows, rooms, overcast and sunny days, lamps, flashes.

    Args:
        seed: The data set's.
        faces: ``(batch,)`` int64 indices of pictures.

    Returns:
        :class:`Light`; row i depends on ``seed`` and ``faces[i]`` alone.
    """
    uniform = draw_uniform(seed, Purpose.LIGHT, faces, count=40)
    normal = to_normal(uniform[:, 20:])
    softness = uniform[:, 8] ** 0.7
    share = 0.5 + 0.4 * uniform[:, 0]  # of the main light in all
    flash = uniform[:, 9] < 0.12
    azimuth = torch.where(flash, 5.0, 42.0) * normal[:, 0]
    elevation = torch.where(flash, 8 + 4 * normal[:, 1], (35 + 17 * normal[:, 1]).clamp(-5, 72))
    key = _direction(azimuth, elevation)
    fill = _direction(-azimuth + 25 * normal[:, 2], 10 + 15 * normal[:, 3])
    rim = _direction(torch.where(uniform[:, 1] < 0.5, -1.0, 1.0) * (125 + 18 * normal[:, 4]), 25 + 15 * normal[:, 5])
    key_colour, fill_colour, rim_colour, sky = (
        _temperature(normal[:, 6 + number] * step) for number, step in enumerate((0.8, 0.8, 1.0, 0.6))
    )
    strengths = (1.1 * share, 0.35 * uniform[:, 2] * (1 - share), 0.9 * uniform[:, 3] * (uniform[:, 4] < 0.35))
    colours = [
        colour * strength[:, None]
        for colour, strength in zip((key_colour, fill_colour, rim_colour), strengths, strict=True)
    ]
    light = Light(
        ambient=_ambient(0.9 * (1 - share)[:, None] * sky, uniform[:, 5:8], normal[:, 10:18]),
        directions=torch.stack((key, fill, rim), 1),
        colours=torch.stack(colours, 1),
        softness=softness,
    )
    # cameras expose for the face: most of what light is missing is made up for
    factor = (0.85 / brightness(light)) ** 0.85
    light = light._replace(ambient=light.ambient * factor[:, None, None], colours=light.colours * factor[:, None, None])
    return Light(*(value.float() for value in light))


def brightness(light: Light) -> Tensor:
    """``(batch,)``, what a white matt face returns that looks at the viewer: the mean over slightly turned surfaces."""
    normals = torch.tensor([[-0.6, 0.0, 0.8], [0.6, 0.0, 0.8], [0.0, 0.3, 0.954], [0.0, -0.3, 0.954]])
    normals = normals.to(light.ambient)
    polynomials = torch.stack(harmonics(*normals.unbind(1)), 1)
    around = (polynomials[..., None] * surrounding(light)[:, None]).sum(2)
    facing = (normals * light.directions[:, :1]).sum(2).clamp_min(0)
    return (around + facing[..., None] * light.colours[:, :1]).mean((1, 2))


def _ambient(level: Tensor, uniform: Tensor, normal: Tensor) -> Tensor:
    """``(batch, 9, 3)``: brighter from above, and uneven as rooms are; never dark from anywhere."""
    uneven = 0.15 * normal
    uneven[:, 1] = 0.5 * uneven[:, 1] + 0.2 + 0.3 * uniform[:, 0]
    uneven[:, 3:] *= 0.4
    ground = torch.stack((0.1 * uniform[:, 1], -0.02 * uniform[:, 1], -0.1 * uniform[:, 1]), -1)  # warm from below
    colours = torch.ones_like(level)[:, None] * uneven[:, :, None]
    colours[:, 1] = colours[:, 1] - ground
    return level[:, None] * torch.cat((torch.ones_like(level)[:, None], colours), 1)


def _direction(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Unit vectors ``(batch, 3)``: azimuth in degrees from the viewer to the right, elevation up."""
    around, up = azimuth * (math.pi / 180), elevation * (math.pi / 180)
    return F.normalize(torch.stack((around.sin() * up.cos(), up.sin(), around.cos() * up.cos()), -1), dim=-1)


def _temperature(warmth: Tensor) -> Tensor:
    """Colours ``(batch, 3)`` of light by warmth: −3 for a blue sky to 3 for a candle; as bright as white light."""
    colour = torch.stack((1 + 0.11 * warmth, 1 + 0.012 * warmth, 1 - 0.12 * warmth), -1).clamp_min(0.3)
    return colour / (colour * torch.tensor([0.2126, 0.7152, 0.0722], dtype=colour.dtype)).sum(-1, keepdim=True)
