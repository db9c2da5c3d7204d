from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from facemtl import label_manifest
from facemtl.data.estimators import EstimatedAttributes
from tests.labelled_colours import UNKNOWN, age, write_colours
from tests.planted_estimator import BrightnessEstimator


class Answer:
    """Says the same of every face, as an estimator must not."""

    input_size = (24, 20)

    def __init__(self, age: float, gender: int | None = None) -> None:
        self.age, self.gender = age, gender

    def __call__(self, images: Tensor) -> EstimatedAttributes:
        genders = None if self.gender is None else torch.full((len(images),), self.gender)
        return EstimatedAttributes(torch.full((len(images),), self.age), genders)


def test_broken_photographs_are_told_and_left_as_they_were(tmp_path: Path) -> None:
    manifest = write_colours(tmp_path, [UNKNOWN, UNKNOWN, 30.0, UNKNOWN, UNKNOWN], [-1, 1, -1, -1, 0])
    (tmp_path / "000.png").write_bytes(b"")
    (tmp_path / "001.png").write_bytes(b"<html>")
    (tmp_path / "002.png").unlink()
    (tmp_path / "003.png").write_bytes((tmp_path / "003.png").read_bytes()[:50])
    labelled = label_manifest(manifest, BrightnessEstimator(), batch_size=2)
    names, reasons = zip(*labelled.broken, strict=True)
    assert names == ("000.png", "001.png", "002.png", "003.png")
    assert reasons[0] == "empty file"
    assert all(reasons)
    np.testing.assert_array_equal(labelled.manifest.ages[:4], np.float32([UNKNOWN, UNKNOWN, 30.0, UNKNOWN]))
    assert labelled.manifest.ages[4] == pytest.approx(age(4), abs=1e-4)
    assert labelled.manifest.genders.tolist() == [-1, 1, -1, -1, 0]
    assert (labelled.num_ages, labelled.num_genders) == (1, 0)


def test_the_estimator_must_answer_for_each_face(tmp_path: Path) -> None:
    manifest = write_colours(tmp_path, [UNKNOWN] * 3, [-1] * 3)
    with pytest.raises(ValueError, match=r"must give ages of shape \(3,\), got \(4,\)"):
        label_manifest(manifest, BrightnessEstimator(extra=1))

    class OneGender(Answer):
        def __call__(self, images: Tensor) -> EstimatedAttributes:
            return super().__call__(images)._replace(genders=torch.zeros(1, dtype=torch.int64))

    with pytest.raises(ValueError, match=r"must give genders of shape \(3,\), got \(1,\)"):
        label_manifest(manifest, OneGender(30.0))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.5, 100.5, 2021.0])
def test_ages_must_be_years(tmp_path: Path, wrong: float) -> None:
    manifest = write_colours(tmp_path, [UNKNOWN] * 3, [-1] * 3)
    with pytest.raises(ValueError, match=rf"must give ages in \[0, 100\], got {wrong:g} for '000\.png'"):
        label_manifest(manifest, Answer(wrong))


@pytest.mark.parametrize("wrong", [-1, 2, 256, 257])  # of which int8 would make 0 and 1
def test_genders_must_be_known(tmp_path: Path, wrong: int) -> None:
    manifest = write_colours(tmp_path, [UNKNOWN] * 3, [-1] * 3)
    with pytest.raises(ValueError, match=rf"must give genders of 0 or 1, got {wrong} for '000\.png'"):
        label_manifest(manifest, Answer(30.0, wrong))


def test_options_out_of_range(tmp_path: Path) -> None:
    manifest = write_colours(tmp_path, [UNKNOWN], [-1])
    with pytest.raises(ValueError, match=r"'batch_size' must be at least 1, got 0"):
        label_manifest(manifest, BrightnessEstimator(), batch_size=0)
    with pytest.raises(ValueError, match=r"'workers' must be at least 0, got -1"):
        label_manifest(manifest, BrightnessEstimator(), workers=-1)
