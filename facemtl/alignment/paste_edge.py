"""What to do with a crop's pixels beside the photograph's edge, some of which hold padding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# A pixel at the photograph's edge lies between crop pixels whose areas reach out of it: the farthest one that takes
# part in its interpolation is so many rings away from those that saw nothing but the photograph.
_RINGS = 4
_RAMP = 3


def extend(values: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
    """Continue ``(1, channels, h, w)`` from where ``covered``, bool ``(h, w)``, holds; also say how far, as 1 and 0.

    Each ring of pixels around the covered ones takes the mean of its neighbours inside.
    """
    share = covered.to(values.dtype)[None, None]
    for _ in range(_RINGS):
        weights = F.avg_pool2d(share, 3, stride=1, padding=1)
        means = F.avg_pool2d(values * share, 3, stride=1, padding=1) / weights.clamp_min(0.05)  # at least 1 of 9
        values = torch.where(share > 0, values, torch.where(weights > 0, means, 0.0))
        share = (weights > 0).to(values.dtype)
    return values, share


def ramp(covered: Tensor, dtype: torch.dtype) -> Tensor:
    """``(1, 1, h, w)``: 0 where not ``covered``, rising to 1 in seven pixels."""
    side = 2 * _RAMP + 1
    missing = F.pad((~covered).to(dtype)[None, None], (2 * _RAMP,) * 4, mode="replicate")
    return 1.0 - F.avg_pool2d(F.max_pool2d(missing, side, stride=1), side, stride=1)
