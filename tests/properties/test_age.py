from __future__ import annotations

import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from facemtl.layers.age import AgeGroups, expectation, expected_age
from facemtl.layers.ordinal import coral_age, corn_age

seeds = st.integers(0, 2**16)
ages = st.floats(0.0, 100.0, width=32)
edges = st.lists(st.floats(0.0, 100.0, exclude_max=True, width=32), min_size=1, max_size=9, unique=True).map(
    lambda values: tuple(sorted(values))
)


def logits(seed: int, batch: int, bins: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(batch, bins, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(edges=edges, values=st.lists(ages, max_size=20))
@example(edges=(10.0, 20.0, 30.0, 40.0, 50.0, 60.0), values=[10.0, 10.5, 11.0, 60.0, 61.0, 100.0, 0.0])
def test_group_is_the_number_of_edges_exceeded(edges: tuple[float, ...], values: list[float]) -> None:
    groups = AgeGroups(edges)
    got = groups.groups_of(torch.tensor(values, dtype=torch.float32))
    assert got.dtype == torch.int64
    assert got.tolist() == [sum(value > edge for edge in edges) for value in values]
    assert groups.num_groups == len(edges) + 1 == len(groups.labels) == len(set(groups.labels))


@given(edges=edges)
def test_an_edge_belongs_to_the_group_below_it(edges: tuple[float, ...]) -> None:
    on_edges = torch.tensor(edges, dtype=torch.float32)
    beyond = on_edges.nextafter(torch.tensor(200.0))
    groups = AgeGroups(edges)
    assert groups.groups_of(on_edges).tolist() == list(range(len(edges)))
    assert groups.groups_of(beyond).tolist() == list(range(1, len(edges) + 1))


@given(year=st.integers(0, 100), dtype=st.sampled_from((torch.uint8, torch.int16, torch.int64, torch.float16)))
def test_groups_take_any_real_dtype(year: int, dtype: torch.dtype) -> None:
    groups = AgeGroups()
    want = sum(year > edge for edge in groups.edges)
    assert groups.groups_of(torch.tensor([year]).to(dtype)).tolist() == [want]


@given(num_groups=st.integers(4, 8), year=st.integers(0, 100))
def test_labels_of_presets_name_the_whole_years_of_their_group(num_groups: int, year: int) -> None:
    groups = AgeGroups.preset(num_groups)
    assert groups.num_groups == num_groups
    label = groups.labels[int(groups.groups_of(torch.tensor([float(year)])))]
    if label.endswith("−"):
        assert year <= int(label[:-1])
    elif label.endswith("+"):
        assert year >= int(label[:-1])
    else:
        low, high = map(int, label.split("–"))
        assert low <= year <= high


@given(seed=seeds, batch=st.integers(0, 4), bins=st.integers(1, 130), scale=st.floats(0.0, 1e3))
def test_expected_age_stays_in_range(seed: int, batch: int, bins: int, scale: float) -> None:
    for dtype in (torch.float32, torch.float64):
        years = expected_age(logits(seed, batch, bins, scale).to(dtype))
        assert years.shape == (batch,)
        assert years.dtype == dtype
        assert bool(((years >= 0) & (years <= bins - 1)).all())


@given(bins=st.integers(2, 130), ulps=st.integers(-4, 4))
def test_probabilities_that_round_past_1_expect_no_age_past_the_last(bins: int, ulps: int) -> None:
    sure = torch.zeros(1, bins)
    sure[0, -1] = 1.0 + ulps * torch.finfo(torch.float32).eps
    assert bins - 1 - 1e-4 <= float(expectation(sure)) <= bins - 1


@given(bins=st.integers(1, 200), level=st.floats(-50.0, 50.0, width=32))
def test_uniform_logits_expect_the_middle_exactly(bins: int, level: float) -> None:
    assert expected_age(torch.full((1, bins), level)).tolist() == [(bins - 1) / 2]


@given(seed=seeds, bins=st.integers(2, 60), shift=st.floats(-20.0, 20.0))
def test_expected_age_ignores_a_shift_and_mirrors(seed: int, bins: int, shift: float) -> None:
    values = logits(seed, 3, bins)
    torch.testing.assert_close(expected_age(values + shift), expected_age(values), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(expected_age(values.flip(1)), bins - 1 - expected_age(values), rtol=1e-10, atol=1e-10)


@given(seed=seeds)
def test_half_precision_logits_are_read_in_float32(seed: int) -> None:
    values = logits(seed, 4, 101).bfloat16()
    years = expected_age(values)
    assert years.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(expected_age(values), years)
    torch.testing.assert_close(years.double(), expected_age(values.double()), rtol=1e-5, atol=1e-5)


@given(seed=seeds, batch=st.integers(0, 5), ranks=st.integers(1, 100), scale=st.floats(0.0, 50.0))
def test_ordinal_ages_stay_in_range(seed: int, batch: int, ranks: int, scale: float) -> None:
    values = logits(seed, batch, ranks, scale)
    for read in (coral_age, corn_age):
        rank, expectation = read(values), read(values, read="expectation")
        assert bool(((rank >= 0) & (rank <= ranks) & (rank == rank.round())).all())
        assert bool(((expectation >= 0) & (expectation <= ranks + 1e-9)).all())


@given(seed=seeds, ranks=st.integers(2, 30))
def test_corn_reads_the_chain_rule(seed: int, ranks: int) -> None:
    values = logits(seed, 3, ranks)
    exceeds = values.sigmoid().cumprod(dim=1)
    torch.testing.assert_close(corn_age(values, read="expectation"), exceeds.sum(dim=1), rtol=1e-10, atol=1e-12)
    # The chain rule turns conditional logits into CORAL's unconditional ones.
    torch.testing.assert_close(corn_age(values), coral_age(exceeds.logit()))
