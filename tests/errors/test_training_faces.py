"""What runs refuse to learn from, and what they say about it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from facemtl.data.broken_images import BrokenImageError
from facemtl.data.joined_faces import JoinedFaces
from facemtl.data.manifest import ManifestError
from facemtl.data.record_format import RecordError
from facemtl.data.record_subset import RecordSubset
from facemtl.training.training_faces import open_training_faces
from tests.labelled_colours import write_colours


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Six faces of three people."""
    colours = write_colours(tmp_path, [*map(float, range(6))], [0] * 6)
    colours.save(tmp_path / "labels.csv")
    return tmp_path / "labels.csv"


@pytest.mark.parametrize("held_out", [2, 3, -1])
def test_too_many_people_held_out(manifest: Path, held_out: int) -> None:
    message = (
        "open_training_faces: 'held_out_people' must lie in [0, 1], so that two of the 3 people are left to learn "
        f"from, got {held_out}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        open_training_faces([manifest], held_out_people=held_out)


def test_nobody_to_tell_apart(manifest: Path) -> None:
    lines = manifest.read_text().splitlines()
    manifest.with_name("one.csv").write_text("\n".join(lines[:3]) + "\n")
    with pytest.raises(ValueError, match=r"'sources' must show at least two people .* got 1\."):
        open_training_faces([manifest.with_name("one.csv")])
    manifest.with_name("files.csv").write_text("filename\n000.png\n")
    with pytest.raises(ValueError, match=r"'sources' must show at least two people .* got 0\."):
        open_training_faces([manifest.with_name("files.csv")])


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=re.escape(repr(str(tmp_path / "none.csv")))):
        open_training_faces([tmp_path / "none.csv"])
    with pytest.raises(RecordError, match=re.escape(str(tmp_path / "none.rec"))):
        open_training_faces([tmp_path / "none.rec"])
    (tmp_path / "wrong.REC").write_bytes(b"not records at all")
    with pytest.raises(RecordError, match=re.escape(str(tmp_path / "wrong.REC"))):
        open_training_faces([tmp_path / "wrong.REC"])


def test_a_broken_image_stops_the_run_or_is_stood_in_for(manifest: Path, tmp_path: Path) -> None:
    broken = manifest.parent / "003.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    faces = open_training_faces([manifest], image_size=16, on_broken="raise")
    with pytest.raises(BrokenImageError, match=re.escape(repr(str(broken)))):
        faces.training[3]
    report = tmp_path / "broken.jsonl"
    faces = open_training_faces([manifest], image_size=16, broken_report=report)
    assert faces.training[3].index != 3
    assert "003.png" in report.read_text()
    assert faces.training.broken_count == (1, 1)


@pytest.mark.parametrize("index", [6, -7])
def test_a_face_that_there_is_not(manifest: Path, index: int) -> None:
    training = open_training_faces([manifest]).training
    for ask in (training.__getitem__, training.name):
        with pytest.raises(IndexError, match=rf"JoinedFaces: 'index' must lie in \[0, 6\), got {index}"):
            ask(index)


def test_nothing_to_join() -> None:
    with pytest.raises(ValueError, match="JoinedFaces: 'parts' must be at least one data set, got none"):
        JoinedFaces([])


class Three:
    identities, ages, genders = np.array([5, 7, -1]), np.float32([3, 40, 80]), np.int8([0, 1, -1])

    def payload(self, index: int, /) -> bytes:
        return b""


@pytest.mark.parametrize("places", [[], [1, 1], [[0, 1]]])
def test_places_that_are_not_different(places: list[int]) -> None:
    message = f"RecordSubset: 'indices' must be different places, at least one, got {places}"
    with pytest.raises(ValueError, match=re.escape(message)):
        RecordSubset(Three(), places)


@pytest.mark.parametrize(("places", "said"), [([0, 3], "0 to 3"), ([-1, 2], "-1 to 2")])
def test_places_outside(places: list[int], said: str) -> None:
    with pytest.raises(IndexError, match=re.escape(f"RecordSubset: 'indices' must lie in [0, 3), got {said}.")):
        RecordSubset(Three(), places)
