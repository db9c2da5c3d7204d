"""An independent recogniser verifies people on our crops as well as on its own; the full figures are a benchmark's."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.verify_crops import Dlib, area_under_curve, best_threshold, compare_alignments, draw_pairs
from tests.conftest import SHARED


def test_area_is_the_share_of_couples_in_the_right_order() -> None:
    random = np.random.default_rng(3)
    distances = random.integers(0, 12, 60) / 10  # with ties
    same = random.random(60) < 0.4
    couples = [(a < b) + 0.5 * (a == b) for a in distances[same] for b in distances[~same]]
    assert area_under_curve(distances, same) == pytest.approx(np.mean(couples))


def test_no_other_threshold_is_better() -> None:
    random = np.random.default_rng(4)
    distances = random.permutation(80) / 80
    same = distances + random.normal(0, 0.2, 80) < 0.5
    best = np.mean((distances <= best_threshold(distances, same)) == same)
    assert best == max(np.mean((distances <= threshold) == same) for threshold in distances)


def test_pairs_are_balanced_and_true() -> None:
    people = np.repeat(np.arange(10), 6)
    pairs, same = draw_pairs(people, 100, seed=0)
    assert same.sum() == 50
    assert len({tuple(pair) for pair in pairs.tolist()}) == 100
    assert ((people[pairs[:, 0]] == people[pairs[:, 1]]) == same).all()


@pytest.mark.slow
def test_dlib_verifies_people_as_well_on_our_crops() -> None:
    if not (SHARED / "faces" / "lfw" / "labels.txt").is_file():
        pytest.skip("the real photographs are not on this machine")
    pytest.importorskip("dlib")
    try:
        recogniser = Dlib()
    except ImportError:
        pytest.skip("face_recognition_models is not on this machine")
    result = compare_alignments(recogniser, SHARED / "faces", pairs=200, calibration_people=8, most_people=16, seed=1)
    assert result["missed"]["ours"] <= 2
    assert result["pairs"] >= 190
    assert result["ours"].area > 0.99
    # A pair or two of the sample may fall either way.
    assert result["ours"].area > result["own"].area - 0.003
    assert result["ours"].accuracy > result["own"].accuracy - 0.015
