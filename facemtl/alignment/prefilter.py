"""What a photograph goes through before faces larger than their crop are sampled from it, so that nothing aliases.

A pixel of a crop covers ``scale`` by ``scale`` pixels of the photograph, turned. Bilinear sampling reads four of them
and lets the rest alias. Here the photograph is first halved until a pixel of the crop covers 2.75 to 5.5 pixels each
way; a box of fractional width then makes up the rest of the area's variance, and one bilinear sample, which has a
variance itself, reads the result. All three have the same variance in every direction, so that they meet the turned
square to second order whatever the roll.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl.alignment.sampling import Padding, sampled_dtype

# Pixels of the halved photograph to a pixel of the crop, at least. With fewer, the blur of bilinear sampling shows,
# which is nothing on a pixel and most between two. Against the area's mean: 46 dB at 2.75, 44 at 2.5, 41 at 2.
_SPAN = 2.75
REACH = 3
"""Widest box, in pixels to each side: twice 2.75 asks for a variance of 2.6, and seven pixels have 4."""


class Prefilter(NamedTuple):
    """What is done for each face."""

    level: Tensor
    """``(faces,)`` int64, how often the photograph is halved."""

    reach: Tensor
    """``(faces,)`` int64, pixels of the box to each side, 0 to 3: the outermost count ``edge``, the others 1."""

    edge: Tensor
    """``(faces,)`` in [0, 1], differentiable in the scale."""

    def weights(self) -> Tensor:
        """Return the box, ``(faces, 2 * REACH + 1)``, whose sum is 1."""
        distance = torch.arange(-REACH, REACH + 1, device=self.reach.device).abs()
        reach = self.reach[:, None]
        weights = torch.where(distance == reach, self.edge[:, None], (distance < reach).to(self.edge))
        return weights / weights.sum(1, keepdim=True)


def choose_prefilter(matrices: Tensor, levels: int | Tensor) -> Prefilter:
    r"""Match the variance of the area that a pixel of the crop covers.

    In pixels of the photograph halved to :math:`1/k`, with :math:`r = scale / k`, an area of bilinearly interpolated
    pixels has a variance of :math:`r^2 / 12 + 1 / 6k^2` along each axis. A mean of :math:`k` pixels has
    :math:`(1 - 1/k^2) / 12` and bilinear sampling :math:`1/6`; the box has the difference. A face of scale 1 or less
    has no box, and from 1 to 1.25 it is faded in.

    Args:
        matrices: ``(faces, 2, 3)`` crop to photograph.
        levels: How often the photograph may be halved, for all faces or for each.
    """
    scale = matrices[:, :, 0].square().sum(1).clamp_min(1e-12).sqrt()
    level = (scale.detach() / _SPAN).log2().floor().clamp_min(0)
    level = torch.minimum(level, torch.as_tensor(levels, dtype=level.dtype, device=level.device))
    shrunk = torch.exp2(level)
    ratio = (scale / shrunk).clamp_max(2 * _SPAN)
    variance = ratio.square() / 12 + (0.25 / shrunk.square() - 0.25)
    variance = torch.where(level == 0, variance * (4 * (scale - 1)).clamp(0, 1), variance)
    reach = (variance > 0).to(variance) + (variance > 2 / 3) + (variance > 2)
    # The variance of 2 reach - 1 whole pixels and two that count edge is (inner + 2 edge reach²) / (whole + 2 edge).
    whole = (2 * reach - 1).clamp_min(0)
    inner = reach * (reach - 1) * (2 * reach - 1) / 3
    edge = (variance * whole - inner) / (2 * (reach.square() - variance)).clamp_min(1e-3)
    return Prefilter(level.long(), reach.long(), torch.where(reach > 0, edge, torch.ones_like(edge)))


def halve(images: Tensor, padding: Padding, fill: float) -> Tensor:
    """Means of 2 × 2 pixels; where a side is odd, the last pixel's partner is as the padding has it."""
    down, right = images.shape[2] % 2, images.shape[3] % 2
    return F.avg_pool2d(pad(images.to(sampled_dtype(images)), (0, right, 0, down), padding, fill), 2)


def pad(images: Tensor, sides: tuple[int, int, int, int], padding: Padding, fill: float) -> Tensor:
    """Add columns left and right and rows above and below, as the padding has them."""
    if not any(sides):
        return images
    if padding == "border":
        return F.pad(images, sides, mode="replicate")
    return F.pad(images, sides, value=fill)
