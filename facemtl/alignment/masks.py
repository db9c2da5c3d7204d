"""Where in a crop the pasted face counts, and how softly it ends."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

# Exponent of the outline |x|^4 + |y|^4 = 1: a rectangle with corners as round as a face's.
_ROUNDNESS = 4.0


def face_mask(
    height: int,
    width: int,
    *,
    feather: float = 0.15,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Float[Tensor, "1 1 height width"]:
    r"""Make a rounded rectangle that is 1 inside and fades to 0 at the crop's border.

    With x and y running from -1 to 1 between the centres of the outermost pixels, and :math:`f` the feather,

    .. math:: m = t^2 (3 - 2t), \qquad t = \operatorname{clamp}\left(\frac{1 - (x^4 + y^4)^{1/4}}{2f}, 0, 1\right)

    Value and slope are continuous, so the eye finds no line where the fading starts or ends (a linear ramp shows as
    Mach bands), and the outermost pixels are exactly 0, so that no seam is left at the crop's border.

    Args:
        height: Rows of the crop.
        width: Columns of the crop.
        feather: Width of the fading edge as a share of the crop's sides, above 0 and at most 0.5.
        dtype: Floating-point dtype of the mask.
        device: Where the mask is made.

    Returns:
        ``(1, 1, height, width)`` in [0, 1].

    Raises:
        ValueError: If a side is not positive or ``feather`` is not in (0, 0.5].

    Example:
        >>> mask = face_mask(112, 112)
        >>> mask[0, 0, 56, 56].item(), mask[0, 0, 0].max().item(), mask[0, 0, :, 111].max().item()
        (1.0, 0.0, 0.0)
    """
    if height < 1 or width < 1:
        raise ValueError(f"face_mask: 'height' and 'width' must be at least 1 pixel, got {height} x {width}.")
    if not 0 < feather <= 0.5:
        raise ValueError(f"face_mask: 'feather' must lie in (0, 0.5], a share of the crop's sides, got {feather}.")
    y = _distances(height, device).pow(_ROUNDNESS).unsqueeze(1)
    x = _distances(width, device).pow(_ROUNDNESS)
    share = ((1.0 - (x + y).pow(1.0 / _ROUNDNESS)) / (2.0 * feather)).clamp(0.0, 1.0)
    return (share.square() * (3.0 - 2.0 * share)).to(dtype)[None, None]


def _distances(side: int, device: torch.device | str | None) -> Tensor:
    """Distance of each pixel from the middle, exactly 1 at both ends."""
    index = torch.arange(side, dtype=torch.float32, device=device)
    return (2.0 * index - (side - 1)).abs() / max(side - 1, 1) if side > 1 else torch.ones_like(index)
