"""Angles and angular margins whose gradients hold at both ends of the cosine's range."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

PastPi = Literal["linear", "fold", "wrap"]


def angle_of(cosines: Tensor) -> Tensor:
    r"""Angles in [0, π] of ``cosines``, with the gradient :math:`-1/\sin\theta` kept finite.

    The true derivative is infinite at ±1. There, and for cosines that rounding has put beyond, the derivative is that
    of the nearest cosine inside that the dtype can represent: the sine in the denominator is floored at the root of
    the dtype's resolution, which no cosine inside the range reaches. (`torch.acos` gives infinity; a clamp inside
    the range gives zero, that is no gradient at all.)

    Args:
        cosines: Any shape, floating point; values slightly outside [-1, 1] count as the nearest end.

    Returns:
        Angles in radians, the same shape.

    Example:
        >>> import torch
        >>> cosines = torch.tensor([1.0, 0.0, -1.0], requires_grad=True)
        >>> angle_of(cosines).detach()
        tensor([0.0000, 1.5708, 3.1416])
    """
    resolution = torch.finfo(cosines.dtype).eps
    # Moves the value onto the end and leaves the derivative 1, where clamp's would be 0.
    cosines = cosines + (cosines.clamp(-1.0, 1.0) - cosines).detach()
    squared_sine = (1.0 - cosines) * (1.0 + cosines)
    fixed = cosines.detach()
    # Value 0, derivative -cos/sin with the sine floored; 0 - x gives +0, which atan2 needs at -1.
    tangent = 0.0 - fixed / math.sqrt(resolution) * (cosines - fixed)
    sines = torch.where(squared_sine > 0.0, squared_sine.clamp(min=resolution / 4).sqrt(), tangent)
    return torch.atan2(sines, cosines)


def angular_margin(
    cosines: Tensor, margin: float | Tensor, *, multiplier: float = 1.0, past_pi: PastPi = "linear"
) -> Tensor:
    r"""Cosine of the enlarged angle, :math:`\cos(m_1\theta + m_2)`, for target cosines.

    The derivative by the cosine, :math:`m_1 \sin(m_1\theta + m_2) / \sin\theta`, grows without bound towards
    :math:`\theta = 0`, where the direction of the pull is lost; :func:`angle_of` says what stands there.

    Past π the cosine would rise again and reward worse angles. ``past_pi`` says what to do there:

    - ``"linear"``: :math:`\cos\theta - m_2\sin m_2`, the usual fall-back of ArcFace code (it steps down at π);
    - ``"fold"``: :math:`(-1)^k\cos\phi - 2k` with :math:`k = \lfloor\phi/\pi\rfloor`, SphereFace's continuation:
      continuous and falling for any multiplier;
    - ``"wrap"``: nothing, the bare equation.

    Args:
        cosines: ``(batch,)``.
        margin: m₂ in radians, at least 0: a number, or one for each sample.
        multiplier: m₁, at least 1; ``"linear"`` needs 1.
        past_pi: See above.

    Returns:
        ``(batch,)``, to be scaled.

    Example:
        >>> import torch
        >>> angular_margin(torch.tensor([0.0]), 0.5)
        tensor([-0.4794])
    """
    enlarged = angle_of(cosines) * multiplier + margin
    shifted = enlarged.cos()
    if past_pi == "wrap":
        return shifted
    if past_pi == "fold":
        turns = (enlarged.detach() / math.pi).floor()
        return torch.where(turns % 2 == 0, shifted, -shifted) - 2.0 * turns
    penalty = margin * margin.sin() if isinstance(margin, Tensor) else margin * math.sin(margin)
    return torch.where(enlarged <= math.pi, shifted, cosines - penalty)
