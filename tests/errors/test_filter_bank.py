from __future__ import annotations

import pytest

from facemtl.layers.filter_bank import FilterBankLayout


@pytest.mark.parametrize("fraction", [-0.1, 0.6, float("nan")])
def test_shared_fraction_outside_its_range(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"'shared_fraction' must lie in \[0, 0.5\], got {fraction}.*not neighbours"):
        FilterBankLayout(shared_fraction=fraction)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="'unit' must be at least 1, got 0"):
        FilterBankLayout(unit=0)
    with pytest.raises(ValueError, match="'num_groups' must be at least 1, got -1"):
        FilterBankLayout(num_groups=-1)


def test_a_fraction_that_rounds_beyond_one_half() -> None:
    with pytest.raises(ValueError, match=r"got 0.5 of unit=5, which rounds up to 3 channels. Choose an even unit"):
        FilterBankLayout(unit=5, shared_fraction=0.5)
