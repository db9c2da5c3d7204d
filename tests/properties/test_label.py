from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from facemtl import label_manifest
from tests.labelled_colours import UNKNOWN, age, gender, write_colours
from tests.planted_estimator import BrightnessEstimator

faces = st.lists(
    st.tuples(st.sampled_from([UNKNOWN, 0.0, 41.5, 100.0]), st.sampled_from([-1, 0, 1]), st.booleans()),
    min_size=1,
    max_size=9,
)


@settings(max_examples=25)
@given(faces=faces, batch_size=st.integers(1, 10), overwrite=st.booleans(), genders=st.booleans())
def test_each_label_is_the_known_one_or_the_estimate(
    faces: list[tuple[float, int, bool]], batch_size: int, overwrite: bool, genders: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_colours(Path(folder), [face[0] for face in faces], [face[1] for face in faces])
        for index, (_, _, broken) in enumerate(faces):
            if broken:
                manifest.path(index).write_bytes(b"no photograph")
        labelled = label_manifest(
            manifest, BrightnessEstimator(genders=genders), batch_size=batch_size, overwrite=overwrite
        )
    num_ages = num_genders = 0
    names = []
    for index, (known_age, known_gender, broken) in enumerate(faces):
        want_age, want_gender = overwrite or np.isnan(known_age), overwrite or known_gender < 0
        if broken:
            names += [f"{index:03d}.png"] if want_age or want_gender else []
            want_age = want_gender = False
        want_gender &= genders
        num_ages, num_genders = num_ages + want_age, num_genders + want_gender
        np.testing.assert_allclose(labelled.manifest.ages[index], age(index) if want_age else known_age, rtol=1e-5)
        assert labelled.manifest.genders[index] == (gender(index) if want_gender else known_gender)
    assert (labelled.num_ages, labelled.num_genders) == (num_ages, num_genders)
    assert [one.name for one in labelled.broken] == names


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), count=st.integers(1, 8))
def test_labelling_twice_is_labelling_once(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    ages = np.where(random.random(count) < 0.5, np.nan, random.uniform(0, 100, count))
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_colours(Path(folder), ages.tolist(), random.integers(-1, 2, count).tolist())
        once = label_manifest(manifest, BrightnessEstimator())
        again = label_manifest(once.manifest, BrightnessEstimator())
    assert (again.num_ages, again.num_genders, again.broken) == (0, 0, ())
    np.testing.assert_array_equal(again.manifest.ages, once.manifest.ages)
    np.testing.assert_array_equal(again.manifest.genders, once.manifest.genders)
