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

    def to(self, device: torch.device | str) -> Light:
        """Move all to a device."""
        return Light(*(value.to(device) for value in self))


def harmonics(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    """The nine polynomials of a unit vector up to the second order, each between −1 and 1 or so; the first is 1."""
    return torch.ones_like(x), x, y, z, x * y, y * z, 1.5 * z * z - 0.5, x * z, x * x - y * y


def draw_light(seed: int, faces: Tensor) -> Light:
    """Draw the light of pictures: windows, rooms, overcast and sunny days, lamps.

    Args:
        seed: The data set's.
        faces: ``(batch,)`` int64 indices of pictures.

    Returns:
        :class:`Light`; row i depends on ``seed`` and ``faces[i]`` alone.
    """
    uniform = draw_uniform(seed, Purpose.LIGHT, faces, count=40)
    normal = to_normal(uniform[:, 20:])
    share = 0.3 + 0.45 * uniform[:, 0]  # of the main light in all
    azimuth = 40 * normal[:, 0]
    elevation = 32 + 18 * normal[:, 1]
    key = _direction(azimuth, elevation.clamp(-10, 75))
    fill = _direction(-azimuth + 25 * normal[:, 2], 10 + 15 * normal[:, 3])
    rim = _direction(torch.where(uniform[:, 1] < 0.5, -1.0, 1.0) * (130 + 20 * normal[:, 4]), 30 + 15 * normal[:, 5])
    key_colour, fill_colour, rim_colour, sky = (
        _temperature(4.0 * normal[:, 6 + number] * step) for number, step in enumerate((0.25, 0.25, 0.3, 0.2))
    )
    strengths = (share, 0.25 * uniform[:, 2] * (1 - share), 0.8 * uniform[:, 3] ** 2 * (uniform[:, 4] < 0.4))
    colours = [
        colour * strength[:, None]
        for colour, strength in zip((key_colour, fill_colour, rim_colour), strengths, strict=True)
    ]
    return Light(
        ambient=_ambient(0.75 * (1 - share)[:, None] * sky, uniform[:, 5:8], normal[:, 10:18]).float(),
        directions=torch.stack((key, fill, rim), 1).float(),
        colours=torch.stack(colours, 1).float(),
        softness=uniform[:, 8].float(),
    )


def _ambient(level: Tensor, uniform: Tensor, normal: Tensor) -> Tensor:
    """``(batch, 9, 3)``: brighter from above, and uneven as rooms are; never dark from anywhere."""
    up = 0.25 + 0.35 * uniform[:, 0]
    uneven = 0.09 * normal
    uneven[:, 1] = uneven[:, 1] * 0.5 + up
    uneven[:, 2] = uneven[:, 2] + 0.1  # what is behind the camera lights the face more than what is behind the face
    uneven[:, 3:] *= 0.6
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
