from __future__ import annotations

import pytest
import torch

from facemtl.layers.reversal import GradientReversal, dann_strength, reverse_gradient


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_strength_must_be_finite_and_not_negative(strength: float) -> None:
    message = f"'strength' must be finite and at least 0, got {strength}"
    with pytest.raises(ValueError, match=message):
        GradientReversal(strength=strength)
    with pytest.raises(ValueError, match=message):
        reverse_gradient(torch.ones(1), strength=strength)
    reversal = GradientReversal()
    with pytest.raises(ValueError, match=message):
        reversal.strength = strength
    assert reversal.strength == 1.0


def test_progress_outside_the_training_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'progress' must lie in \[0, 1\], got 1.5"):
        dann_strength(1.5)
    with pytest.raises(ValueError, match="'gamma' must be positive and finite, got 0"):
        dann_strength(0.5, gamma=0)
