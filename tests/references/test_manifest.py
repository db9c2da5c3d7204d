"""Real label files and real names: what the readers make of them, against plain readings of the same."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from facemtl.data.datasets import FaceDataset
from facemtl.data.join_labels import join_labels
from facemtl.data.manifest import read_manifest
from facemtl.data.manifest_problems import ManifestError
from facemtl.data.name_labels import NameLabels, labels_from_name, manifest_from_names
from tests.conftest import SHARED


def _shared(name: str) -> Path:
    path = SHARED / "faces" / name
    if not path.is_file():
        pytest.skip(f"{path.name} is not on this machine")
    return path


def test_lfw_reads_as_its_lines_say() -> None:
    path = _shared("lfw/labels.txt")
    manifest = read_manifest(path)
    rows = [line.split() for line in path.read_text().splitlines()]
    assert (len(manifest), manifest.num_identities) == (2884, 423)
    assert list(manifest.filenames) == [row[1] for row in rows]
    assert [manifest.identity_names[who] for who in manifest.identities] == [row[0] for row in rows]
    np.testing.assert_array_equal(manifest.ages, np.array([row[2] for row in rows], np.float32))
    np.testing.assert_array_equal(manifest.genders, np.array([row[3] for row in rows], np.int8))
    sample = FaceDataset(manifest, size=(250, 250))[7]
    assert sample.identity == manifest.identities[7]


def test_fairface_needs_a_word_on_its_ranges() -> None:
    path = _shared("fairface/labels.csv")
    with pytest.raises(ManifestError, match="age_low"):
        read_manifest(path)
    manifest = read_manifest(path, age_ranges="midpoint")
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    middles = [(int(row["age_low"]) + int(row["age_high"])) / 2 for row in rows]
    assert len(manifest) == 540
    np.testing.assert_array_equal(manifest.ages, np.array(middles, np.float32))
    np.testing.assert_array_equal(manifest.genders, [row["gender"] == "male" for row in rows])
    assert manifest.num_identities == 0


@pytest.mark.parametrize(
    ("naming", "name", "labels"),
    [
        ("fgnet", "001A02.JPG", ("001", "02", "")),
        ("fgnet", "images/082a18B.jpg", ("082", "18", "")),
        ("cacd", "14_Aaron_Johnson_0001.jpg", ("Aaron_Johnson", "14", "")),
        ("cacd", "62_Robin_Williams_0012.jpg", ("Robin_Williams", "62", "")),
        ("cacd", "53_Gérard_Depardieu_0003.jpg", ("Gérard_Depardieu", "53", "")),
        ("cacd", "29_Mary-Kate_O'Neil_Jr._0001.jpg", ("Mary-Kate_O'Neil_Jr.", "29", "")),
        ("utkface", "26_1_0_20170116171041935.jpg", ("", "26", "female")),
        ("utkface", "1_0_2_20161219140530307.jpg.chip.jpg", ("", "1", "male")),
        ("utkface", "61_1_20170109142408075.jpg", None),  # gender or race is missing: nobody can tell which
        ("morph", "009055_1M54.JPG", ("009055", "54", "M")),
        ("morph", "Album2/150324_00F19.JPG", ("150324", "19", "F")),
        ("agedb", "0_MariaCallas_35_f.jpg", ("MariaCallas", "35", "f")),
        ("agedb", "10023_Mary_Jr_101_f.jpg", ("Mary_Jr", "101", "f")),
        ("folders", "0000045/001.jpg", ("0000045", "", "")),
        ("folders", "train/n000002/0001_01.jpg", ("train/n000002", "", "")),
        ("folders", "nan/0001_01.jpg", None),
        ("folders", "7 /0001_01.jpg", None),
        ("folders", "loose.jpg", None),
        ("fgnet", "A02.JPG", None),
        ("fgnet", "001A.JPG", None),
        ("cacd", "Aaron_Johnson_0001.jpg", None),
        ("utkface", "39_2_0_20170116174525125.jpg", None),
        ("utkface", "53__0_20170116184028385.jpg", None),
        ("morph", "009055_1X54.JPG", None),
        ("agedb", "0_MariaCallas_35.jpg", None),
    ],
)
def test_names_of_the_public_sets(naming: str, name: str, labels: tuple[str, str, str] | None) -> None:
    found = labels_from_name(name, naming=naming)  # type: ignore[arg-type]
    assert found == (NameLabels(*labels) if labels is not None else None)


def test_a_folder_of_utkface_has_its_genders_turned(tmp_path: Path) -> None:
    for name in ("26_0_1_20170116.jpg", "30_1_1_20170117.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    manifest = manifest_from_names(tmp_path, naming="utkface")
    assert manifest.genders.tolist() == [1, 0]
    assert manifest.identities.tolist() == [-1, -1]
    manifest.save(tmp_path / "labels.csv")
    assert read_manifest(tmp_path / "labels.csv").ages.tolist() == [26.0, 30.0]


def test_identities_of_numbers_are_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text("10 a 1 1\n9 b 1 1\n007 c 1 1\n7 d 1 1\n")
    assert list(read_manifest(tmp_path / "m.txt", check_files=False).identity_names) == ["007", "7", "9", "10"]
    (tmp_path / "m.txt").write_text("10 a 1 1\n9 b 1 1\nx c 1 1\n")
    assert list(read_manifest(tmp_path / "m.txt", check_files=False).identity_names) == ["10", "9", "x"]


def test_other_extracted_formats_join(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("5 5/0.jpg 31 1\n5 5/1.jpg 35 1\n6 6/0.jpg 20 0\n")
    for name in ("5/1.png", "6/0.png", "6/9.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    joined = join_labels(tmp_path / "labels.txt", tmp_path / "images", ignore_suffix=True)
    assert list(joined.manifest.filenames) == ["5/1.png", "6/0.png"]
    assert joined.manifest.ages.tolist() == [35.0, 20.0]
    assert (joined.labels_without_image, joined.images_without_label) == (1, 1)


def test_a_column_of_ranges_and_columns_of_other_names(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("photo,star,age,sex\na.jpg,Ada,20-29,Female\nb.jpg,Bo,70+,Male\nc.jpg,,more than 70,\n")
    columns = {"filename": "photo", "identity": "star"}
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, check_files=False, columns=columns)
    assert [(p.line, p.kind) for p in caught.value.problems] == [(line, "age is a range") for line in (2, 3, 4)]
    manifest = read_manifest(path, check_files=False, columns=columns, age_ranges="midpoint")
    assert manifest.ages.tolist() == [24.5, 85.0, 85.0]
    assert manifest.genders.tolist() == [0, 1, -1]
    assert manifest.identities.tolist() == [0, 1, -1]


def test_parquet_of_pandas_types(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(
        {
            "path": ["a.jpg", "b.jpg", None],
            "id": pyarrow.array([3.0, None, 12.0]),
            "age": pyarrow.array([31, 131, None], pyarrow.int32()),
            "extra": [[1], [2], [3]],
            "gender": pyarrow.array([1.0, float("nan"), 0.0]),
        }
    )
    parquet.write_table(table, tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match="row 2: age out of range") as caught:
        read_manifest(tmp_path / "m.parquet", check_files=False)
    assert [(p.line, p.kind) for p in caught.value.problems] == [(2, "age out of range"), (3, "unsafe name")]
    manifest = read_manifest(tmp_path / "m.parquet", check_files=False, on_problem="drop")
    assert (list(manifest.identity_names), manifest.ages.tolist(), manifest.genders.tolist()) == (["3"], [31.0], [1])


def test_damaged_parquet_is_refused_or_reads_the_same(tmp_path: Path) -> None:
    """Pages carry checksums; what lies outside of them is metadata, which has no labels."""
    pytest.importorskip("pyarrow")
    rows = "".join(f"{number // 3} {number}.jpg {number} {number % 2}\n" for number in range(60))
    (tmp_path / "m.txt").write_text(rows)
    sound = read_manifest(tmp_path / "m.txt", check_files=False)
    sound.save(tmp_path / "m.parquet")
    content = (tmp_path / "m.parquet").read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for place in generator.integers(4, len(content) // 2, 100).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(generator.integers(8))
        (tmp_path / "d.parquet").write_bytes(bytes(damaged))
        try:
            found = read_manifest(tmp_path / "d.parquet", check_files=False)
        except ManifestError:
            refused += 1
            continue
        assert list(found.filenames) == list(sound.filenames)
        np.testing.assert_array_equal(found.ages, sound.ages)
        np.testing.assert_array_equal(found.genders, sound.genders)
    assert refused > 20


def test_files_are_not_asked_for_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        (tmp_path / f"{number}.jpg").touch()
    (tmp_path / "m.csv").write_text("filename\n" + "".join(f"{number}.jpg\n" for number in range(200)))
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
    assert len(read_manifest(tmp_path / "m.csv")) == 200
    assert len(listed) == 1
