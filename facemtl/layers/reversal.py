"""Gradient reversal: the identity forwards, a negated gradient backwards."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class _ReverseGradient(torch.autograd.Function):
    """``forward(x) = x``; ``backward(g) = -strength * g``, itself differentiable to any order."""

    @staticmethod
    def forward(features: Tensor, strength: float) -> Tensor:
        return features.view_as(features)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.strength = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(features: Tensor, *, strength: float = 1.0) -> Tensor:
    """Return ``features`` unchanged; gradients that flow back through it are multiplied by ``-strength``.

    An adversary that reads reversed features learns its task while the features unlearn it: one backward pass plays
    both sides of the minimax game.

    Args:
        features: Any tensor, any dtype.
        strength: λ, finite and at least 0. 0 stops the gradient.

    Returns:
        A view of ``features``.

    Raises:
        ValueError: If ``strength`` is negative or not finite.

    References:
        Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015, Eq. 4.

    Example:
        >>> import torch
        >>> features = torch.ones(2, requires_grad=True)
        >>> reverse_gradient(features, strength=0.5).sum().backward()
        >>> features.grad
        tensor([-0.5000, -0.5000])
    """
    _check_strength("reverse_gradient", strength)
    return _ReverseGradient.apply(features, float(strength))


def dann_strength(progress: float, *, gamma: float = 10.0) -> float:
    """Strength of gradient reversal at ``progress``: rises smoothly from 0 to (almost) 1.

    ``2 / (1 + exp(-gamma * progress)) - 1``: the adversary learns before it pushes.

    Args:
        progress: Share of the training that is done, in [0, 1].
        gamma: Steepness; 10 in the paper.

    Returns:
        The strength, in [0, 1).

    Raises:
        ValueError: If ``progress`` lies outside [0, 1] or ``gamma`` is not positive.

    References:
        Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016, section 5.2.

    Example:
        >>> [round(dann_strength(p), 3) for p in (0.0, 0.1, 0.5, 1.0)]
        [0.0, 0.462, 0.987, 1.0]
    """
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"dann_strength: 'progress' must lie in [0, 1], got {progress}.")
    if not (gamma > 0.0 and math.isfinite(gamma)):
        raise ValueError(f"dann_strength: 'gamma' must be positive and finite, got {gamma}.")
    return math.tanh(gamma * progress / 2.0)


class GradientReversal(nn.Module):
    """Gradient reversal as a layer: identity forwards, ``-strength`` times the gradient backwards.

    MTLFace puts it between the identity feature and the age adversary, with a constant strength of 1. For DANN's warm
    start set the attribute as training goes: ``reversal.strength = dann_strength(step / total_steps)``. The strength is
    a plain number, not a parameter: it is not saved in the state dict. Under `torch.compile` a changing strength
    is a changing constant; dynamo makes it dynamic after the first change.

    Args:
        strength: λ, finite and at least 0.

    Shape:
        - Input: any shape, any dtype.
        - Output: the same tensor's view.

    Raises:
        ValueError: If ``strength`` is negative or not finite, at construction and at each later assignment.

    References:
        Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015; MTLFace (CVPR 2021), Eq. 3.

    Example:
        >>> import torch
        >>> features = torch.randn(4, 8, requires_grad=True)
        >>> reversal = GradientReversal(strength=2.0)
        >>> reversal(features).sum().backward()
        >>> bool((features.grad == -2.0).all())
        True
    """

    def __init__(self, *, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength

    @property
    def strength(self) -> float:
        """How strongly the reversed gradient is weighted (λ)."""
        return self._strength

    @strength.setter
    def strength(self, value: float) -> None:
        _check_strength(type(self).__name__, value)
        self._strength = float(value)

    def forward(self, features: Tensor) -> Tensor:
        """Return ``features`` unchanged."""
        return reverse_gradient(features, strength=self._strength)

    def extra_repr(self) -> str:
        """Show the strength in ``repr``."""
        return f"strength={self._strength:g}"


def _check_strength(where: str, strength: float) -> None:
    if not (strength >= 0.0 and math.isfinite(strength)):
        raise ValueError(f"{where}: 'strength' must be finite and at least 0, got {strength}.")
