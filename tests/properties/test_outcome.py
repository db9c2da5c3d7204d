"""Which faces a picture shows, whatever the labels."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from facemtl.data.joined_faces import JoinedFaces
from facemtl.training.outcome import faces_to_show
from tests.coloured_records import colours

faces = st.lists(
    st.tuples(st.integers(-1, 5), st.one_of(st.floats(0, 100, width=32), st.just(math.nan))), min_size=1, max_size=12
)


@given(drawn=faces, people=st.integers(1, 8))
def test_people_are_shown_once_from_the_youngest_on(drawn: list[tuple[int, float]], people: int) -> None:
    part = colours(9, [who for who, _ in drawn])
    part.columns.ages[:] = np.float32([age for _, age in drawn])
    joined = JoinedFaces([part])
    shown = faces_to_show(joined, people=people)
    again = faces_to_show(joined, people=people)
    assert torch.equal(shown.images, again.images)
    assert shown.labels == again.labels
    known = {who for who, age in drawn if who >= 0 and not math.isnan(age)}
    everyone = known or {who for who, _ in drawn}  # nobody's age is known: people all the same
    assert len(shown.labels) == len(shown.images) == min(people, len(everyone))
    pixels = shown.images[:, :, 0, 0].add(1).mul(127.5).round().long().tolist()
    places = [green for _, green, _ in pixels]
    chosen = [drawn[place] for place in places]
    assert len({who for who, _ in chosen}) == len(chosen)
    if known:
        ages = [age for _, age in chosen]
        assert ages == sorted(ages)
        assert {who for who, _ in chosen} <= known
        assert min(abs(age - 5) for _, age in chosen) == min(
            abs(age - 5) for who, age in drawn if who in known and age == age
        )
    for label, (_, age) in zip(shown.labels, chosen, strict=True):
        assert label == ("age unknown" if math.isnan(age) else f"{age:.0f} years")
