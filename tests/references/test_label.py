from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facemtl import MTLFace, MTLFaceEstimator, OnnxEstimator, label_manifest, read_photograph, to_model_input
from tests.labelled_colours import UNKNOWN, age, gender, write_colours
from tests.planted_estimator import BrightnessEstimator, write_channel_network

AGES = [UNKNOWN, 20.0, UNKNOWN, 30.0, UNKNOWN]
GENDERS = [-1, 1, 0, -1, -1]


def test_unknown_labels_are_filled_and_known_ones_stay(tmp_path: Path) -> None:
    manifest = write_colours(tmp_path, AGES, GENDERS)
    labelled = label_manifest(manifest, BrightnessEstimator())
    assert labelled.manifest.ages.tolist() == pytest.approx([age(0), 20.0, age(2), 30.0, age(4)], abs=1e-4)
    assert labelled.manifest.genders.tolist() == [gender(0), 1, 0, gender(3), gender(4)]
    assert (labelled.num_ages, labelled.num_genders, labelled.broken) == (3, 3, ())
    # what was given is as it was, and people and names are the same
    np.testing.assert_array_equal(manifest.ages, np.float32(AGES))
    assert manifest.genders.tolist() == GENDERS
    assert list(labelled.manifest.filenames) == list(manifest.filenames)
    assert labelled.manifest.identities.tolist() == [0, 0, 1, 1, 2]
    assert labelled.manifest.root == tmp_path


def test_overwriting_estimates_all(tmp_path: Path) -> None:
    manifest = write_colours(tmp_path, AGES, GENDERS)
    labelled = label_manifest(manifest, BrightnessEstimator(), overwrite=True)
    assert labelled.manifest.ages.tolist() == pytest.approx([age(index) for index in range(5)], abs=1e-4)
    assert labelled.manifest.genders.tolist() == [gender(index) for index in range(5)]
    assert (labelled.num_ages, labelled.num_genders) == (5, 5)


def test_estimators_of_age_alone_leave_genders(tmp_path: Path) -> None:
    labelled = label_manifest(
        write_colours(tmp_path, AGES, GENDERS), BrightnessEstimator(genders=False), overwrite=True
    )
    assert labelled.manifest.genders.tolist() == GENDERS
    assert (labelled.num_ages, labelled.num_genders) == (5, 0)


def test_photographs_whose_labels_are_known_are_not_read(tmp_path: Path) -> None:
    manifest = write_colours(tmp_path, [10.0, UNKNOWN, 30.0], [1, 0, -1])
    (tmp_path / "000.png").unlink()
    estimator = BrightnessEstimator()
    assert label_manifest(manifest, estimator).broken == ()
    assert estimator.batches == [2]
    (tmp_path / "001.png").unlink()
    (tmp_path / "002.png").unlink()
    estimator = BrightnessEstimator()
    known = write_colours(tmp_path / "known", [10.0, 20.0], [1, 0])
    assert label_manifest(known, estimator).num_ages == 0
    assert estimator.batches == []


def test_faces_come_in_batches_at_the_estimators_size(tmp_path: Path) -> None:
    manifest = write_colours(tmp_path, [UNKNOWN] * 7, [-1] * 7, size=(50, 31))
    estimator = BrightnessEstimator((16, 12))
    labelled = label_manifest(manifest, estimator, batch_size=3)
    assert estimator.batches == [3, 3, 1]
    assert labelled.manifest.ages.tolist() == pytest.approx([age(index) for index in range(7)], abs=1e-4)


def test_onnx_and_mtlface_label_as_they_estimate(tmp_path: Path) -> None:
    manifest = write_colours(tmp_path / "faces", [UNKNOWN] * 3, [-1] * 3, size=(112, 112))
    network = write_channel_network(
        tmp_path / "a.onnx", [[1 / 2.55], [0], [0]], [0], gender=[[1, 0], [0, 1], [0, 0]], size=(112, 112)
    )
    labelled = label_manifest(manifest, OnnxEstimator(network, mean=0, std=1, gender_output="genders"))
    assert labelled.manifest.ages.tolist() == pytest.approx([age(index) for index in range(3)], abs=1e-3)
    assert labelled.manifest.genders.tolist() == [gender(index) for index in range(3)]
    model = MTLFace.paper2021(depth=18, width=4, embedding_dimension=8)
    faces = torch.stack([read_photograph(manifest.path(index)) for index in range(3)])
    by_model = label_manifest(manifest, MTLFaceEstimator(model))
    assert by_model.manifest.ages.tolist() == pytest.approx(
        model.estimate_age(to_model_input(faces)).tolist(), abs=1e-3
    )
    assert by_model.manifest.genders.tolist() == [-1, -1, -1]


@pytest.mark.dist
def test_worker_processes_give_the_same(tmp_path: Path) -> None:
    manifest = write_colours(tmp_path, [UNKNOWN, 5.0] * 5, [-1, -1, 0, 1, -1] * 2)
    (tmp_path / "004.png").write_bytes(b"?")
    alone = label_manifest(manifest, BrightnessEstimator(), batch_size=2)
    shared = label_manifest(manifest, BrightnessEstimator(), batch_size=2, workers=2)
    np.testing.assert_array_equal(alone.manifest.ages, shared.manifest.ages)
    np.testing.assert_array_equal(alone.manifest.genders, shared.manifest.genders)
    assert alone[1:] == shared[1:]
    assert [one.name for one in alone.broken] == ["004.png"]
