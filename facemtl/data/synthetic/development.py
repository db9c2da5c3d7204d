"""What a camera makes of light: focus, exposure, white balance, contrast, noise."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl.data.synthetic.random_numbers import Purpose, draw_uniform, to_normal

_TILE = 256  # pixels of the noise's side


class Development(NamedTuple):
    """How a batch of pictures is developed."""

    exposure: Tensor
    """``(batch,)`` stops."""
    balance: Tensor
    """``(batch, 3)`` factors of red, green and blue."""
    contrast: Tensor
    """``(batch,)`` around 1."""
    saturation: Tensor
    """``(batch,)`` around 1, 0 for grey."""
    blur: Tensor
    """``(batch,)`` in [0, 1]: sharp, to what neighbouring pixels share as much as they can."""
    noise: Tensor
    """``(batch,)``, its standard deviation in mid-grey, in shares of white."""
    noise_at: Tensor
    """``(batch, 2)`` int64, the first row and column of the noise."""


def draw_development(seed: int, faces: Tensor) -> Development:
    """Draw how pictures are developed; row i depends on ``seed`` and ``faces[i]`` alone."""
    uniform = draw_uniform(seed, Purpose.CAMERA, faces, count=16)[:, 4:]
    normal = to_normal(uniform[:, :5])
    warmth, tint = 0.05 * normal[:, 1], 0.02 * normal[:, 2]
    return Development(
        exposure=(0.25 * normal[:, 0]).float(),
        balance=torch.stack((1 + warmth, 1 - tint, 1 - warmth), 1).float(),
        contrast=(1.18 + 0.1 * normal[:, 3]).float(),
        saturation=(1 + 0.12 * normal[:, 4]).float(),
        blur=(uniform[:, 5] ** 2).float(),
        noise=(0.002 + 0.014 * uniform[:, 6] ** 3).float(),
        noise_at=(uniform[:, 7:9] * _TILE).long(),
    )


def develop(images: Tensor, development: Development) -> Tensor:
    """Turn linear ``(batch, 3, height, width)`` into sRGB in [0, 1].

    Bright light is pressed together as film does, so that highlights keep their form.
    """
    factor = (2.0**development.exposure)[:, None] * development.balance
    light = _defocused(images, development.blur) * factor[..., None, None]
    light = light * (1 + light * 0.11) / (1 + 0.55 * light)
    grey = (light * light.new_tensor([0.2126, 0.7152, 0.0722])[:, None, None]).sum(1, keepdim=True)
    light = (grey + development.saturation[:, None, None, None] * (light - grey)).clamp(0, 1)
    # below 0.0031308 sRGB's curve is the straight line, which lies under the other there and above it elsewhere
    encoded = (1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055).minimum(12.92 * light)
    encoded = 0.45 + development.contrast[:, None, None, None] * (encoded - 0.45)
    return (encoded + _grain(development, images.shape[2], images.shape[3])).clamp(0, 1)


def _defocused(images: Tensor, blur: Tensor) -> Tensor:
    """Each pixel shares with its neighbours, by a binomial of three pixels; as much light as before."""
    share = (0.25 * blur)[:, None, None, None]
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = padded[:, :, 1:-1] + share * (padded[:, :, :-2] - 2 * padded[:, :, 1:-1] + padded[:, :, 2:])
    return rows[..., 1:-1] + share * (rows[..., :-2] - 2 * rows[..., 1:-1] + rows[..., 2:])


def _grain(development: Development, height: int, width: int) -> Tensor:
    """``(batch, 3, height, width)`` noise: pieces of one field that is the same everywhere."""
    tile = _noise_tile().to(development.noise)
    rows, columns = (
        (development.noise_at[:, axis, None] + torch.arange(side, device=tile.device)) % _TILE
        for axis, side in enumerate((height, width))
    )
    places = (rows[:, :, None] * _TILE + columns[:, None]).flatten()
    grain = tile.flatten(1).index_select(1, places).view(3, -1, height, width).transpose(0, 1)
    return grain * development.noise[:, None, None, None]


@cache
def _noise_tile() -> Tensor:
    """``(3, tile, tile)``: mostly of brightness, some of colour, of standard deviation 1; without a seam."""
    uniform = draw_uniform(0, Purpose.CAMERA, torch.zeros(1, dtype=torch.int64), count=4 * _TILE**2)
    field = to_normal(uniform).view(4, _TILE, _TILE)
    # neighbours are alike: sensors share colours between pixels
    field = field + 0.5 * (field.roll(1, 1) + field.roll(1, 2)) + 0.25 * field.roll((1, 1), (1, 2))
    noise = field[:1] + 0.3 * field[1:]
    return (noise / noise.std()).float()
