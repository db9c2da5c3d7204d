"""What a camera makes of light: exposure, white balance, contrast, lens, noise, compression."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from facemtl.data.synthetic.random_numbers import Purpose, draw_uniform, to_normal


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

    def to(self, device: torch.device | str) -> Development:
        """Move all to a device."""
        return Development(*(value.to(device) for value in self))


def draw_development(seed: int, faces: Tensor) -> Development:
    """Draw how pictures are developed; row i depends on ``seed`` and ``faces[i]`` alone."""
    normal = to_normal(draw_uniform(seed, Purpose.CAMERA, faces, count=16)[:, 4:])
    warmth, tint = 0.05 * normal[:, 1], 0.02 * normal[:, 2]
    return Development(
        exposure=(0.25 * normal[:, 0]).float(),
        balance=torch.stack((1 + warmth, 1 - tint, 1 - warmth), 1).float(),
        contrast=(1.12 + 0.1 * normal[:, 3]).float(),
        saturation=(1 + 0.12 * normal[:, 4]).float(),
    )


def develop(images: Tensor, development: Development) -> Tensor:
    """Turn linear ``(batch, 3, height, width)`` into sRGB in [0, 1].

    Bright light is pressed together as film does, so that highlights keep their form.
    """
    factor = (2.0**development.exposure)[:, None] * development.balance
    light = images * factor[..., None, None]
    light = light * (1 + light * 0.11) / (1 + 0.55 * light)
    grey = (light * light.new_tensor([0.2126, 0.7152, 0.0722])[:, None, None]).sum(1, keepdim=True)
    light = (grey + development.saturation[:, None, None, None] * (light - grey)).clamp(0, 1)
    encoded = torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp_min(1e-8) ** (1 / 2.4) - 0.055)
    return (0.45 + development.contrast[:, None, None, None] * (encoded - 0.45)).clamp(0, 1)
