"""Joined data sets and parts of record files give what their parts give, one face at a time."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from facemtl.data.joined_faces import JoinedFaces
from facemtl.data.record_dataset import RecordDataset
from facemtl.data.record_subset import RecordSubset
from facemtl.data.samples import FaceSample
from tests.coloured_records import SIZE, Colours, colours


def same(one: FaceSample, other: FaceSample) -> bool:
    return torch.equal(one.image, other.image) and np.array_equal(
        [float(value) for value in one[1:]], [float(value) for value in other[1:]], equal_nan=True
    )


people = st.lists(st.integers(-1, 4), min_size=1, max_size=6)


@given(parts=st.lists(people, min_size=1, max_size=4), data=st.data())
def test_joined_faces_are_those_of_their_parts(parts: list[list[int]], data: st.DataObject) -> None:
    sets = [colours(20 * number, identities) for number, identities in enumerate(parts)]
    joined = JoinedFaces(sets)
    owners = [(number, place) for number, part in enumerate(parts) for place in range(len(part))]
    counts = [max([*identities, -1]) + 1 for identities in parts]
    assert len(joined) == len(owners)
    assert joined.num_identities == sum(counts)
    assert joined.first_identities == tuple(sum(counts[:number]) for number in range(len(parts)))
    indices = data.draw(st.lists(st.integers(-len(owners), len(owners) - 1), max_size=8))
    samples = joined.__getitems__(indices)
    assert len(samples) == len(indices)
    for index, sample in zip(indices, samples, strict=True):
        place = index % len(owners)
        number, within = owners[place]
        alone = sets[number][within]
        known = alone.identity >= 0
        wanted = alone._replace(
            identity=sum(counts[:number]) + alone.identity if known else alone.identity, index=place
        )
        assert same(sample, wanted)
        assert same(joined[index], wanted)
        assert joined.name(index) == sets[number].name(within)
        labels = joined.columns
        assert (labels.identities[place], labels.genders[place]) == (wanted.identity, wanted.gender)
        np.testing.assert_equal(labels.ages[place], np.float32(wanted.age))
    assert joined.broken_count.asked == 3 * len(indices)  # the joined ones, alone, and one by one


@given(data=st.data(), identities=people)
def test_some_records_are_those_of_the_file(data: st.DataObject, identities: list[int]) -> None:
    places = data.draw(st.lists(st.integers(0, len(identities) - 1), min_size=1, max_size=len(identities), unique=True))
    whole = Colours(3, identities)
    some = RecordSubset(whole, places)
    kept = sorted({identities[place] for place in places if identities[place] >= 0})
    assert some.identity_numbers.tolist() == kept
    faces = RecordDataset(some, size=SIZE)
    for index, place in enumerate(places):
        alone = RecordDataset(whole, size=SIZE)[place]
        identity = kept.index(alone.identity) if alone.identity >= 0 else -1
        assert same(faces[index], alone._replace(identity=identity, index=index))
        assert faces.name(index) == f"record {place}"


@given(
    identities=st.lists(st.integers(0, 4), min_size=2, max_size=6),
    other=st.lists(st.integers(0, 4), min_size=2, max_size=6),
    data=st.data(),
)
def test_stand_ins_have_their_own_label_and_place(identities: list[int], other: list[int], data: st.DataObject) -> None:
    """All ages are of one group, so any whole face of the part may stand in for a broken one."""
    broken = [
        data.draw(st.frozensets(st.integers(0, len(part) - 1), max_size=1), label="broken")
        for part in (identities, other)
    ]
    sets = [
        colours(first, part, broken=gone)
        for first, part, gone in zip((31, 131), (identities, other), broken, strict=True)
    ]
    for part in sets:
        part.columns.ages[:] = 31.0
    joined = JoinedFaces(sets)
    samples = joined.__getitems__(range(len(joined)))
    for wanted, sample in enumerate(samples):
        number = int(wanted >= len(identities))
        start, people = (0, identities) if number == 0 else (len(identities), other)
        place = sample.index - start
        assert 0 <= place < len(people), "of the same part"
        assert place not in broken[number]
        assert (place == wanted - start) == (wanted - start not in broken[number])
        assert sample.image[:, 0, 0].tolist() == [(31, 131)[number] + place, place, 7]
        assert sample.identity == people[place] + (max(identities) + 1 if number else 0)
        assert sample.identity == joined.columns.identities[sample.index]
    assert joined.broken_count.asked == len(joined)
    assert joined.broken_count.broken >= sum(map(len, broken))
