"""What is said of modules that have nothing to train."""

from __future__ import annotations

import math

import pytest
from torch import nn

from facemtl.training.parameter_groups import weight_decay_groups


def test_nothing_learns() -> None:
    with pytest.raises(ValueError, match="'modules' must have a parameter that requires a gradient, got none"):
        weight_decay_groups(nn.Linear(2, 2).requires_grad_(False), nn.ReLU())


@pytest.mark.parametrize("decay", [-5e-4, math.nan, math.inf])
def test_decay_out_of_range(decay: float) -> None:
    with pytest.raises(ValueError, match=f"'weight_decay' must be finite and at least 0, got {decay}"):
        weight_decay_groups(nn.Linear(2, 2), weight_decay=decay)
