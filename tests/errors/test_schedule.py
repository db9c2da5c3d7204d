"""What is said of learning rates that cannot be."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from facemtl.training.schedule import WarmupSteps, set_learning_rate


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup": -1}, "'warmup' must be at least 0, got -1"),
        ({"peak": 0.0}, "'peak' must be positive and finite, got 0.0"),
        ({"peak": math.inf}, "'peak' must be positive and finite, got inf"),
        ({"factor": 0.0}, r"'factor' must lie in \(0, 1\], got 0.0"),
        ({"factor": 1.5}, r"'factor' must lie in \(0, 1\], got 1.5"),
        ({"floor": 0.2}, r"'floor' must lie in \[0, peak=0.1\], got 0.2"),
        ({"floor": math.nan}, r"'floor' must lie in \[0, peak=0.1\], got nan"),
        ({"milestones": (9,)}, r"not before the end of the warm-up at 10, got \(9,\)"),
        ({"milestones": (20, 20)}, r"'milestones' must rise, .* got \(20, 20\)"),
        ({"milestones": (30, 20)}, r"'milestones' must rise, .* got \(30, 20\)"),
        ({"warmup": 0, "milestones": (0,)}, "'milestones' must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"WarmupSteps: .*{message}"):
        WarmupSteps(**({"warmup": 10, "milestones": (20, 30)} | options))


def test_steps_count_from_one() -> None:
    schedule = WarmupSteps(warmup=10, milestones=())
    with pytest.raises(ValueError, match=r"WarmupSteps\.at: 'step' must be at least 1, got 0"):
        schedule.at(0)
    with pytest.raises(TypeError, match=r"WarmupSteps\.at: 'step' must be a whole number, got 1\.5"):
        schedule.at(1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_a_rate_that_cannot_be(value: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(ValueError, match=f"set_learning_rate: 'value' must be finite and at least 0, got {value}"):
        set_learning_rate(optimizer, value)
    assert optimizer.param_groups[0]["lr"] == 0.1
