"""Photographs, faces planted in them and their crops, for the tests of paste_back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facemtl.alignment.masks import face_mask
from facemtl.alignment.paste_back import paste_back
from facemtl.alignment.paste_sampling import Affine, resample, samples_wanted


def planted(scale: float, turn: float, centre: tuple[float, float], size: tuple[int, int]) -> Tensor:
    """``(1, 2, 3)`` float64: the photograph's ``centre`` lands in the middle of a crop of ``size``."""
    cosine, sine = scale * math.cos(turn), scale * math.sin(turn)
    x, y = centre
    middle_x, middle_y = (size[1] - 1) / 2, (size[0] - 1) / 2
    rows = [
        [cosine, -sine, middle_x - cosine * x + sine * y],
        [sine, cosine, middle_y - sine * x - cosine * y],
    ]
    return torch.tensor([rows], dtype=torch.float64)


def smooth(height: int, width: int, *, seed: int = 0, wavelength: float = 150.0) -> Tensor:
    """``(1, 3, height, width)`` float64 in [-0.8, 0.8]: waves of no less than this many pixels."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.arange(height, dtype=torch.float64)[:, None], torch.arange(width, dtype=torch.float64)
    waves = []
    for turn, phase in (2 * math.pi * torch.rand(3, 2, generator=generator, dtype=torch.float64)).tolist():
        along = x * math.cos(turn) + y * math.sin(turn)
        waves.append(0.8 * torch.sin(2 * math.pi * along / wavelength + phase))
    return torch.stack(waves)[None]


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Pixels that have nothing to do with their neighbours, in the whole range of ``dtype``."""
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.uint8:
        return torch.randint(0, 256, shape, generator=generator, dtype=dtype)
    return (torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype)


def cut(photograph: Tensor, matrices: Tensor, size: tuple[int, int], *, antialias: bool = True) -> Tensor:
    """The crop of one face out of ``(1, 3, height, width)``, zeros beyond its edges."""
    to_photograph = Affine(*matrices.flatten().tolist()).inverse()
    samples = samples_wanted(to_photograph, photograph) if antialias else 1
    return resample(photograph, to_photograph, size, samples=samples)


def masked(photograph: Tensor, matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """Where the default mask is not 0, bool ``(height, width)``: found by drawing it with a margin of none."""
    canvas = torch.zeros(1, 3, *photograph.shape[-2:], dtype=torch.float64)
    mask = face_mask(*size)
    drawn = paste_back(canvas, torch.ones(1, 3, *size, dtype=torch.float64), matrices, mask=mask)
    return drawn[0, 0] != 0


def naive_paste(photograph: Tensor, crop: Tensor, mask: Tensor, matrix: Tensor, *, apart: bool = False) -> Tensor:
    """Pixel by pixel in float64: invert, sample the masked crop and the mask between their pixels, blend.

    ``apart`` samples crop and mask each for itself instead, as most code does.
    """
    inverse = torch.linalg.inv(torch.cat((matrix.double(), torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64))))
    forward = torch.linalg.inv(inverse)
    result = photograph.clone().double()
    height, width = mask.shape
    for row in range(photograph.shape[1]):
        for column in range(photograph.shape[2]):
            x, y, _ = (forward @ torch.tensor([column, row, 1.0], dtype=torch.float64)).tolist()
            left, top = math.floor(x), math.floor(y)
            colour, share, plain = torch.zeros(3, dtype=torch.float64), 0.0, torch.zeros(3, dtype=torch.float64)
            for i, j in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                if 0 <= i < height and 0 <= j < width:
                    weight = (1 - abs(y - i)) * (1 - abs(x - j))
                    colour += weight * mask[i, j].double() * crop[:, i, j].double()
                    plain += weight * crop[:, i, j].double()
                    share += weight * float(mask[i, j])
            if share != 0:
                result[:, row, column] = (share * plain if apart else colour) + (1 - share) * result[:, row, column]
    return result
