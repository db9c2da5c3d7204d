"""Learning rates for any settings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemtl.training.schedule import WarmupSteps


@st.composite
def settings(draw: st.DrawFn) -> dict[str, Any]:
    warmup = draw(st.integers(0, 50))
    milestones = draw(st.lists(st.integers(max(warmup, 1), 200), unique=True, max_size=4).map(sorted))
    return {
        "peak": draw(st.floats(1e-3, 10.0)),
        "warmup": warmup,
        "milestones": tuple(milestones),
        "factor": draw(st.floats(0.01, 1.0)),
        "floor": draw(st.sampled_from([0.0, 1e-4])),
    }


@given(options=settings())
def test_rises_to_the_peak_then_never_rises(options: dict[str, Any]) -> None:
    schedule = WarmupSteps(**options)
    rates = [schedule.at(step) for step in range(1, 220)]
    rising, falling = rates[: schedule.warmup], rates[schedule.warmup :]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert max(rates) == pytest.approx(schedule.peak)
    assert all(0.0 < rate <= schedule.peak * (1 + 1e-12) for rate in rates)
    assert all(rate >= schedule.floor for rate in falling)


@given(options=settings())
def test_falls_by_the_factor_after_each_milestone(options: dict[str, Any]) -> None:
    schedule = WarmupSteps(**options)
    for milestone in schedule.milestones:
        before, after = schedule.at(milestone), schedule.at(milestone + 1)
        expected = schedule.peak * schedule.factor ** (schedule.milestones.index(milestone) + 1)
        assert after == pytest.approx(max(expected, schedule.floor))
        assert after <= before or schedule.factor == 1.0
