"""Every face is counted once in each table, where its label says."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facemtl.data.statistics import manifest_statistics
from facemtl.layers.age import AgeGroups
from tests.labelled_manifests import manifest_with

_age = st.one_of(st.just(math.nan), st.integers(0, 100).map(float), st.floats(0, 100, width=32))
_faces = st.lists(st.tuples(st.integers(-1, 6), _age, st.integers(-1, 1)), min_size=1, max_size=60)
_edges = st.lists(st.integers(0, 99), min_size=1, max_size=8, unique=True).map(sorted)


@given(_faces, _edges)
def test_counts_are_those_of_a_loop(faces: list[tuple[int, float, int]], edges: list[int]) -> None:
    statistics = manifest_statistics(
        manifest_with(*zip(*faces, strict=True), num_identities=7), age_groups=AgeGroups(tuple(map(float, edges)))
    )
    years, groups = np.zeros((101, 3), int), np.zeros((len(edges) + 1, 3), int)
    unknown = [0, 0, 0]
    for _, age, gender in faces:
        column = {0: 0, 1: 1, -1: 2}[gender]
        if math.isnan(age):
            unknown[column] += 1
        else:
            years[math.floor(age), column] += 1
            groups[sum(age > edge for edge in edges), column] += 1
    sizes = Counter(Counter(who for who, _, _ in faces if who >= 0).values())
    np.testing.assert_array_equal(statistics.years, years)
    np.testing.assert_array_equal(statistics.groups, groups)
    assert statistics.without_age.tolist() == unknown
    assert statistics.people.tolist() == [list(item) for item in sorted(sizes.items())]
    assert statistics.without_identity == sum(who < 0 for who, _, _ in faces)
    assert statistics.num_faces == len(faces) == statistics.genders.sum()
    assert statistics.num_identities == len({who for who, _, _ in faces} - {-1})


@given(_faces, st.floats(0, 1))
def test_quantiles_are_those_of_the_sorted_sizes(faces: list[tuple[int, float, int]], share: float) -> None:
    statistics = manifest_statistics(manifest_with(*zip(*faces, strict=True), num_identities=7))
    sizes = sorted(Counter(who for who, _, _ in faces if who >= 0).values())
    place = next((at for at in range(len(sizes)) if at + 1 >= share * len(sizes)), 0)
    assert statistics.faces_per_identity(share) == (sizes[place] if sizes else 0)


@given(_faces)
def test_the_table_tells_all_faces(faces: list[tuple[int, float, int]]) -> None:
    statistics = manifest_statistics(manifest_with(*zip(*faces, strict=True), num_identities=7))
    lines = statistics.table().splitlines()
    body = [line.split() for line in lines[lines.index("") + 2 :]]
    counts = {row[0]: [int(number) for number in row[-6:-2]] for row in body if row[0] != "all"}
    for row in counts.values():
        assert sum(row[:3]) == row[3]
    assert sum(row[3] for row in counts.values()) == len(faces)
    assert f"{len(faces)} faces, {statistics.num_identities} people" in lines[0]
    assert len({len(line) for line in lines[lines.index("") + 1 :]}) == 1  # columns stand under each other
