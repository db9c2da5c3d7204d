from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facemtl.training.curves import _smoothed, _thinned


@given(count=st.integers(1, 400), seed=st.integers(0, 1000), share=st.floats(0, 0.5))
def test_smoothing_equals_a_mean_of_each_window(count: int, seed: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=count)
    values[generator.random(count) < share] = np.nan
    smoothed = _smoothed(values)
    widest = max(count // 40, min(2, count // 10))
    for place in range(count):
        reach = min(widest, place, count - 1 - place)
        if np.isnan(values[place]):
            assert np.isnan(smoothed[place])
        else:
            window = values[place - reach : place + reach + 1]
            assert abs(smoothed[place] - np.nanmean(window)) < 1e-9


@given(count=st.integers(1, 5000), seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_thinning_keeps_ends_and_extremes(count: int, seed: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    steps, values = np.arange(count) * 3, generator.normal(size=count)
    values[generator.random(count) < share] = np.nan
    kept_steps, kept = _thinned(steps, values)
    assert len(kept) <= 802
    assert (np.diff(kept_steps) > 0).all()
    assert (kept_steps[0], kept_steps[-1]) == (steps[0], steps[-1])
    np.testing.assert_array_equal(kept, values[kept_steps // 3])
    if np.isfinite(values).any():
        assert (np.nanmin(kept), np.nanmax(kept)) == (np.nanmin(values), np.nanmax(values))
