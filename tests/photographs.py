"""Procedural photographs, faces planted in them, and slow references that a warp is held to."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from facemtl.alignment.similarity import transform_points
from facemtl.alignment.templates import FaceTemplate


def procedural_photograph(height: int, width: int, seed: int) -> Tensor:
    """``(3, height, width)`` uint8 with a photograph's 1/f spectrum, edges, and the noise of a camera."""
    random = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    envelope = 1 / np.maximum(np.hypot(fy, fx), 1 / max(height, width)) ** 1.4
    planes = []
    yy, xx = np.mgrid[0:height, 0:width]
    shapes = np.zeros((height, width))
    for _ in range(12):  # discs with edges as sharp as a lens leaves them
        cy, cx, r = random.uniform(0, height), random.uniform(0, width), random.uniform(0.03, 0.2) * min(height, width)
        shapes += random.uniform(-1, 1) / (1 + np.exp(np.clip((np.hypot(yy - cy, xx - cx) - r) / 0.8, -50, 50)))
    for _ in range(3):
        spectrum = envelope * (random.normal(size=envelope.shape) + 1j * random.normal(size=envelope.shape))
        plane = np.fft.irfft2(spectrum, s=(height, width))
        plane = plane / plane.std() + shapes + 0.02 * random.normal(size=plane.shape)
        planes.append(plane)
    image = np.stack(planes)
    return torch.from_numpy(np.clip(128 + 45 * image, 0, 255).astype(np.uint8))


def planted(template: FaceTemplate, scale: float, turn: float, centre: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Landmarks ``(points, 2)`` of a face in the photograph, and the ``(2, 3)`` matrix from crop to photograph."""
    a, b = scale * math.cos(turn), scale * math.sin(turn)
    x, y = (template.width - 1) / 2, (template.height - 1) / 2
    matrix = torch.tensor([[a, -b, centre[0] - a * x + b * y], [b, a, centre[1] - b * x - a * y]], dtype=torch.float64)
    return transform_points(matrix[None], template.tensor()[None])[0], matrix


def scipy_bilinear(image: Tensor, matrix: Tensor, size: tuple[int, int], *, border: bool = False) -> np.ndarray:
    """``(channels, *size)`` by scipy's order-1 spline in float64; outside is black (-1) or the nearest pixel."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float64)
    m = matrix.numpy()
    places = [m[1, 0] * x + m[1, 1] * y + m[1, 2], m[0, 0] * x + m[0, 1] * y + m[0, 2]]
    mode = "nearest" if border else "grid-constant"
    planes = image.numpy().astype(np.float64)
    return np.stack([ndimage.map_coordinates(p, places, order=1, mode=mode, cval=-1.0) for p in planes])


def area_reference(image: Tensor, matrix: Tensor, size: tuple[int, int], *, samples: int = 16) -> np.ndarray:
    """Mean of 16 × 16 bilinear samples over each pixel of the crop, the nearest pixel outside; in the image's range."""
    total = np.zeros((3, *size))
    m = matrix.double()
    for dy in (np.arange(samples) + 0.5) / samples - 0.5:
        for dx in (np.arange(samples) + 0.5) / samples - 0.5:
            moved = torch.cat((m[:, :2], m[:, 2:] + m[:, :2] @ torch.tensor([[dx], [dy]])), 1)
            total += _sample(image, moved.numpy(), size)
    return total / samples**2


def psnr(got: np.ndarray, want: np.ndarray) -> float:
    """Peak signal to noise of values in 0 to 255, in dB."""
    return float(10 * np.log10(255**2 / np.mean((got - want) ** 2)))


def _sample(image: Tensor, m: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    pixels = image.numpy()
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    u = np.clip(m[0, 0] * x + m[0, 1] * y + m[0, 2], 0, pixels.shape[2] - 1)
    v = np.clip(m[1, 0] * x + m[1, 1] * y + m[1, 2], 0, pixels.shape[1] - 1)
    left = np.minimum(u.astype(int), pixels.shape[2] - 2)
    top = np.minimum(v.astype(int), pixels.shape[1] - 2)
    fx, fy = u - left, v - top
    upper = pixels[:, top, left] * (1 - fx) + pixels[:, top, left + 1] * fx
    lower = pixels[:, top + 1, left] * (1 - fx) + pixels[:, top + 1, left + 1] * fx
    return upper * (1 - fy) + lower * fy
