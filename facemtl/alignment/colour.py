"""Giving a face the colours of the photograph that it goes into."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

# Spreads below one unit of Lab, which the eye hardly tells apart, are noise: they must not become a contrast.
_JUST_NOTICEABLE = 1.0
_LARGEST_GAIN = 2.0


def match_colours(
    crops: Float[Tensor, "faces 3 height width"],
    references: Float[Tensor, "faces 3 height width"],
    *,
    weights: Float[Tensor, "faces 1 height width"],
    statistics: Literal["mean", "mean_std"] = "mean_std",
) -> Float[Tensor, "faces 3 height width"]:
    r"""Give each crop the mean, and the spread, that its reference has in CIE Lab where ``weights`` count.

    For each face and each of L, a and b, with weighted means :math:`\mu` and standard deviations :math:`\sigma` of the
    crop (c) and the reference (r):

    .. math::
        v' = \mu_r + g\,(v - \mu_c), \qquad
        g = \operatorname{clamp}\left(\sqrt{\frac{\sigma_r^2 + 1}{\sigma_c^2 + 1}}, \frac12, 2\right)

    Reinhard et al. divide the bare deviations, in another colour space. Here the 1, in units of Lab, keeps a plain
    region from having its noise blown up, and the clamp keeps a failed synthesis from becoming a negative of
    contrast. ``"mean"`` leaves :math:`g = 1`, for edits that are meant to change the contrast, as wrinkles do.
    A face whose weights are all 0 is returned as it is.

    Args:
        crops: RGB in [-1, 1].
        references: The same places of the photograph, RGB in [-1, 1].
        weights: Where to look, at least 0.
        statistics: What to match.

    Returns:
        Crops in [-1, 1]; colours beyond what RGB holds are clipped.

    Example:
        >>> crop, photograph = torch.full((1, 3, 8, 8), -0.5), torch.full((1, 3, 8, 8), 0.25)
        >>> matched = match_colours(crop, photograph, weights=torch.ones(1, 1, 8, 8))
        >>> torch.allclose(matched, photograph, atol=1e-3)
        True

    References:
        Reinhard, Ashikhmin, Gooch, Shirley, Color Transfer between Images (IEEE CG&A 2001).
    """
    from kornia.color import lab_to_rgb, rgb_to_lab

    found, wanted = rgb_to_lab((crops + 1) / 2), rgb_to_lab((references + 1) / 2)
    mean, variance = _moments(found, weights)
    aim, aim_variance = _moments(wanted, weights)
    moved = found - mean
    if statistics == "mean_std":
        least = _JUST_NOTICEABLE**2
        gain = ((aim_variance + least) / (variance + least)).sqrt()
        moved = moved * gain.clamp(1 / _LARGEST_GAIN, _LARGEST_GAIN)
    matched: Tensor = lab_to_rgb(moved + aim, clip=True)
    return torch.where(weights.amax((2, 3), keepdim=True) > 0, matched * 2 - 1, crops)


def _moments(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    share = weights / weights.sum((2, 3), keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
    mean = (share * values).sum((2, 3), keepdim=True)
    return mean, (share * (values - mean).square()).sum((2, 3), keepdim=True)
