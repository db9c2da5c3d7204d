"""Who is learnt from and who is held out, face by face, from manifests and record files together."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facemtl.data.joined_faces import JoinedFaces
from facemtl.data.manifest import Manifest, read_manifest
from facemtl.data.pack_records import pack_records
from facemtl.data.record_writer import RecordWriter
from facemtl.training.training_faces import TrainingFaces, open_training_faces
from tests.labelled_colours import UNKNOWN, write_colours

SIDE = 16
Face = tuple[str, float, tuple[int, ...]]
"""Who, how old, and which colour: a face of this test has no other of its kind."""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """12 faces of Ada, Bo, Cy, Di, Ed and Flo; two faces are of nobody known."""
    colours = write_colours(tmp_path / "faces", [*map(float, range(10)), UNKNOWN, UNKNOWN], [0, 1] * 6)
    names = np.array(["Ada", "Bo", "Cy", "Di", "Ed", "Flo"])[colours.identities].tolist()
    names[3] = names[7] = "-1"
    rows = [
        f"{name},{colours.filenames[row]},{'' if np.isnan(age) else age},1\n"
        for row, (name, age) in enumerate(zip(names, colours.ages, strict=True))
    ]
    path = tmp_path / "faces" / "labels.csv"
    path.write_text("id,filename,age,gender\n" + "".join(rows))
    return path


def tinted(root: Path, ages: list[float], blue: int, size: tuple[int, int]) -> Manifest:
    """Faces of colours that no other source has."""
    colours = write_colours(root, ages, [1] * len(ages), size=size)
    for row in range(len(colours)):
        Image.new("RGB", size[::-1], (20 * row, 255 - 20 * row, blue)).save(colours.path(row))
    return colours


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """8 faces of four people in insightface's layout."""
    colours = tinted(tmp_path / "more", [20.0 + number for number in range(8)], 100, (20, 24))
    pack_records(colours, tmp_path / "packed.rec")
    return tmp_path / "packed.rec"


@pytest.fixture
def gapped(tmp_path: Path) -> Path:
    """Records without a list of people, whose numbers have gaps: 5, 5, 900000000, −1 and 7."""
    colours = tinted(tmp_path / "gapped", [40.0 + number for number in range(5)], 200, (30, 30))
    with RecordWriter(tmp_path / "gapped.rec") as writer:
        for row, person in enumerate((5, 5, 900_000_000, -1, 7)):
            data = (colours.root / colours.filenames[row]).read_bytes()
            writer.write(data, labels=person)
    return tmp_path / "gapped.rec"


def described(faces: JoinedFaces | None, names: tuple[str, ...]) -> list[Face]:
    """As they are delivered."""
    samples = faces.__getitems__(range(len(faces))) if faces is not None else []
    return [
        (names[sample.identity], sample.age, tuple(sample.image[:, SIDE // 2, SIDE // 2].tolist()))
        for sample in samples
    ]


def colour_counts(*parts: JoinedFaces | None) -> Counter[tuple[int, ...]]:
    faces = [face for part in parts if part is not None for face in part.__getitems__(range(len(part)))]
    return Counter(tuple(face.image[:, SIDE // 2, SIDE // 2].tolist()) for face in faces)


def names_held_out(faces: TrainingFaces) -> set[str]:
    """The files that nobody learns from."""
    assert faces.held_out is not None
    return {faces.held_out.name(index) for index in range(len(faces.held_out))}


def check_numbers(faces: TrainingFaces) -> None:
    """Identities count from 0 without gaps, each with its name."""
    for part in (faces.training, faces.held_out):
        if part is not None:
            assert np.unique(part.columns.identities).tolist() == list(range(part.num_identities))
    assert len(faces.identity_names) == len(set(faces.identity_names)) == faces.training.num_identities


def test_a_manifest_is_learnt_from_by_name(manifest: Path) -> None:
    faces = open_training_faces([manifest], image_size=SIDE)
    check_numbers(faces)
    assert faces.held_out is None
    assert faces.nameless == 2
    assert sorted(faces.identity_names) == ["Ada", "Bo", "Cy", "Di", "Ed", "Flo"]
    table = read_manifest(manifest)
    wanted = [(row, table.identity_names[who]) for row, who in enumerate(table.identities.tolist()) if who >= 0]
    got = described(faces.training, faces.identity_names)
    assert [name for name, _, _ in got] == [name for _, name in wanted]
    np.testing.assert_array_equal([age for _, age, _ in got], [table.ages[row] for row, _ in wanted])
    assert [faces.training.name(place) for place in range(10)] == [str(table.path(row)) for row, _ in wanted]


def test_all_sources_are_accounted_for_and_nobody_is_on_both_sides(manifest: Path, packed: Path, gapped: Path) -> None:
    sources = [packed, manifest, gapped]
    whole = open_training_faces(sources, image_size=SIDE)
    check_numbers(whole)
    assert whole.nameless == 3
    assert whole.identity_names[:4] == ("0/0", "0/1", "0/2", "0/3")
    assert {"1/Ada", "1/Flo"} <= set(whole.identity_names)
    assert whole.identity_names[-3:] == ("2/5", "2/7", "2/900000000")
    everyone = described(whole.training, whole.identity_names)
    assert len(everyone) == 8 + 10 + 4
    people = {colour: name for name, _, colour in everyone}
    for held_out in (0, 1, 5, 11):
        faces = open_training_faces(sources, held_out_people=held_out, image_size=SIDE, seed=held_out)
        check_numbers(faces)
        assert faces.training.num_identities == 13 - held_out
        assert (faces.held_out.num_identities if faces.held_out else 0) == held_out
        assert faces.nameless == 3
        assert colour_counts(faces.training, faces.held_out) == colour_counts(whole.training)
        learnt = described(faces.training, faces.identity_names)
        assert [name for name, _, _ in learnt] == [people[colour] for _, _, colour in learnt]
        judged = {people[colour] for colour in colour_counts(faces.held_out)}
        assert not judged & set(faces.identity_names)
        assert len(judged) == held_out


def test_people_without_a_face_are_not_drawn(gapped: Path) -> None:
    """Numbers with gaps: 900,000,001 people if each number were one."""
    drawn = [names_held_out(open_training_faces([gapped], held_out_people=1, seed=seed)) for seed in range(12)]
    assert {frozenset(names) for names in drawn} == {
        frozenset({"record 0", "record 1"}), frozenset({"record 2"}), frozenset({"record 4"})
    }  # fmt: skip


def test_the_draw_is_the_seeds(manifest: Path, packed: Path) -> None:
    draws = [
        names_held_out(open_training_faces([manifest, packed], held_out_people=4, seed=seed))
        for seed in (0, 0, 1, 2, 3)
    ]
    assert draws[0] == draws[1]
    assert len({frozenset(names) for names in draws}) == 4
    more = names_held_out(open_training_faces([manifest, packed], held_out_people=5, seed=0))
    assert draws[0] < more, "one more person, the others as before"


def test_the_fingerprint_tells_who_and_how_old(manifest: Path, tmp_path: Path) -> None:
    def fingerprint(path: Path, held_out: int = 0) -> int:
        return open_training_faces([path], held_out_people=held_out).fingerprint

    table = read_manifest(manifest)
    first = fingerprint(manifest)
    assert fingerprint(manifest) == first
    assert fingerprint(manifest, held_out=1) != first
    ages, identities = table.ages.copy(), table.identities.copy()
    ages[4] += 1
    identities[0], identities[2] = identities[2], identities[0]
    for number, changed in enumerate((replace(table, ages=ages), replace(table, identities=identities))):
        path = manifest.parent / f"changed-{number}.csv"
        changed.save(path)
        assert fingerprint(path) != first
    same = manifest.parent / "same.csv"
    table.save(same)
    assert fingerprint(same) == first


def test_bundled_faces_by_default() -> None:
    faces = open_training_faces(held_out_people=16, image_size=SIDE)
    check_numbers(faces)
    assert faces.held_out is not None
    assert (len(faces.training), len(faces.held_out), faces.nameless) == (1920, 128, 0)
    assert faces.training[0].image.shape == (3, SIDE, SIDE)
    together = {faces.training.name(index) for index in range(1920)} | names_held_out(faces)
    assert len(together) == 2048
