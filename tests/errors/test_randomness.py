"""What is said of numbers that cannot be a seed, a step or a place."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from facemtl.training.randomness import seed_step, step_generator

PLACE = {"seed": 0, "step": 0, "rank": 0}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"seed": -1}, ValueError, "'seed' must be at least 0, got -1"),
        ({"seed": 2**64}, ValueError, f"'seed' must be at most {2**64 - 1}, got {2**64}"),
        ({"step": -3}, ValueError, "'step' must be at least 0, got -3"),
        ({"rank": 0.5}, TypeError, r"'rank' must be a whole number, got 0\.5"),
        ({"phase": 2**32}, ValueError, f"'phase' must be at most {2**32 - 1}, got {2**32}"),
    ],
)
def test_seed_step(change: dict[str, Any], error: type[Exception], message: str) -> None:
    state = torch.get_rng_state()
    with pytest.raises(error, match=f"seed_step: {message}"):
        seed_step(**(PLACE | change))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"skip": -1}, ValueError, "'skip' must be at least 0, got -1"),
        ({"skip": 1.0}, TypeError, r"'skip' must be a whole number, got 1\.0"),
        ({"purpose": -1}, ValueError, "'purpose' must be at least 0, got -1"),
        ({"step": 2**64}, ValueError, f"'step' must be at most {2**64 - 1}, got {2**64}"),
    ],
)
def test_step_generator(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"step_generator: {message}"):
        step_generator(**({"seed": 0, "step": 0, "purpose": 1} | change))
