from __future__ import annotations

import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from facemtl.layers.filter_bank import FilterBankLayout, bank_from_dense, bank_to_dense
from tests.references.masked_conditional import starts_of


def layout_or_none(num_groups: int, unit: int, shared_fraction: float) -> FilterBankLayout | None:
    try:
        return FilterBankLayout(num_groups=num_groups, unit=unit, shared_fraction=shared_fraction)
    except ValueError:
        return None


sizes = {"num_groups": st.integers(1, 9), "unit": st.integers(1, 40), "shared_fraction": st.floats(0.0, 0.5)}


@given(**sizes)
@example(num_groups=7, unit=128, shared_fraction=1 / 8)
@example(num_groups=7, unit=128, shared_fraction=0.1)
@example(num_groups=4, unit=6, shared_fraction=0.5)
def test_masks_have_the_declared_counts_and_overlaps(num_groups: int, unit: int, shared_fraction: float) -> None:
    layout = layout_or_none(num_groups, unit, shared_fraction)
    assume(layout is not None)
    masks = layout.masks().long()
    overlap = masks @ masks.T
    assert masks.shape == (num_groups, layout.channels)
    assert (masks.sum(0) >= 1).all()  # no channel of nobody
    for first in range(num_groups):
        for second in range(num_groups):
            want = {0: unit, 1: layout.shared}.get(abs(first - second), 0)
            assert overlap[first, second] == want
    assert layout.shared >= shared_fraction * unit - 1e-6
    assert layout.shared < shared_fraction * unit + 1


@given(**sizes)
@example(num_groups=7, unit=10, shared_fraction=0.3)
def test_starts_follow_the_recurrence_of_the_sources(num_groups: int, unit: int, shared_fraction: float) -> None:
    # Where (1 - s) * unit is a whole number, the recurrence as written may lose one channel to rounding; ours may not.
    step = (1 - shared_fraction) * unit
    assume(abs(step - round(step)) > 1e-6 or step == round(step))
    layout = layout_or_none(num_groups, unit, shared_fraction)
    assume(layout is not None)
    assert list(layout.starts) == starts_of(num_groups, unit, shared_fraction)


@given(**sizes)
def test_pairs_that_act_are_those_within_a_span(num_groups: int, unit: int, shared_fraction: float) -> None:
    layout = layout_or_none(num_groups, unit, shared_fraction)
    assume(layout is not None)
    masks = layout.masks()
    assert int((masks[:, :, None] & masks[:, None, :]).any(0).sum()) == layout.num_pairs


@given(**sizes, seed=st.integers(0, 2**16), kernel=st.sampled_from([1, 3]))
def test_dense_and_compact_are_inverse(
    num_groups: int, unit: int, shared_fraction: float, seed: int, kernel: int
) -> None:
    layout = layout_or_none(num_groups, unit, shared_fraction)
    assume(layout is not None)
    generator = torch.Generator().manual_seed(seed)
    bank = torch.randn(layout.num_pairs, kernel, kernel, generator=generator)
    dense = bank_to_dense(bank, layout, fill=7.0)
    assert torch.equal(bank_from_dense(dense, layout), bank)
    masks = layout.masks()
    acts = (masks[:, :, None] & masks[:, None, :]).any(0)
    assert (dense[: layout.channels, : layout.channels][~acts] == 7.0).all()


@given(**sizes)
def test_split_is_a_view_of_the_spans(num_groups: int, unit: int, shared_fraction: float) -> None:
    layout = layout_or_none(num_groups, unit, shared_fraction)
    assume(layout is not None)
    values = torch.arange(2.0 * layout.channels).view(2, layout.channels)
    split = layout.split(values, 1)
    assert split.shape == (num_groups, 2, unit)
    assert split.untyped_storage().data_ptr() == values.untyped_storage().data_ptr()
    for part, span in zip(split, layout.spans, strict=True):
        assert torch.equal(part, values[:, span])
