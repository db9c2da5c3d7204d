"""What manifests, labels in names and joins say when something is wrong."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from facemtl.data.identity_map import check_identity_map, load_identity_map, save_identity_map
from facemtl.data.join_labels import join_labels
from facemtl.data.manifest import Manifest, read_manifest
from facemtl.data.manifest_problems import ManifestError
from facemtl.data.name_labels import manifest_from_names
from facemtl.data.packed_names import PackedNames


def _write(folder: Path, text: str, name: str = "labels.txt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def _manifest(names: list[str], people: list[str] | None = None) -> Manifest:
    count = len(names)
    who = np.full(count, -1, np.int64) if people is None else np.zeros(count, np.int64)
    return Manifest(
        Path(),
        PackedNames.pack(names),
        who,
        np.full(count, 30, np.float32),
        np.ones(count, np.int8),
        PackedNames.pack(people or []),
    )


def test_the_message_shows_twenty_and_the_error_has_all(tmp_path: Path) -> None:
    path = _write(tmp_path, "".join(f"0 {number}.jpg 131 1\n" for number in range(30)))
    with pytest.raises(ManifestError, match=r"got 30 in 30 lines.*on_problem") as caught:
        read_manifest(path, check_files=False)
    assert [problem.line for problem in caught.value.problems] == list(range(1, 31))
    message = str(caught.value)
    assert "line 20: age out of range, got '131'" in message
    assert "line 21:" not in message
    assert "and 10 more" in message
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == message
    assert again.problems == caught.value.problems


def test_a_row_tells_all_its_faults(tmp_path: Path) -> None:
    path = _write(tmp_path, "0 ../a.jpg 131 2\n")
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert {problem.kind for problem in caught.value.problems} == {"unsafe name", "age out of range", "unknown gender"}


@pytest.mark.parametrize(
    ("name", "text"),
    [("m.txt", ""), ("m.txt", "\n \n"), ("m.csv", ""), ("m.csv", "\n\n"), ("m.csv", "filename,age\n")],
)
def test_a_manifest_without_faces_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(ManifestError, match="at least one face|header line"):
        read_manifest(_write(tmp_path, text, name))


def test_a_manifest_of_faults_alone_is_refused_when_they_are_dropped(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="at least one face") as caught:
        read_manifest(_write(tmp_path, "0 a.jpg 131 1\n"), check_files=False, on_problem="drop")
    assert len(caught.value.problems) == 1


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"gone\.txt.*cannot be read"):
        read_manifest(tmp_path / "gone.txt")
    with pytest.raises(ManifestError, match="'root' must be a folder"):
        read_manifest(_write(tmp_path, "0 a.jpg 1 1\n"), root=tmp_path / "gone")
    pytest.importorskip("pyarrow")
    with pytest.raises(ManifestError, match="cannot be read as Parquet"):
        read_manifest(_write(tmp_path, "PAR1 but no more", "labels.parquet"))


@pytest.mark.parametrize(
    ("header", "columns", "said"),
    [
        ("age,gender", {}, "column for the files' names"),
        ("filename,path", {}, r"one column for 'filename'.*'filename', 'path'"),
        ("filename,age", {"identity": "star"}, "'star' for 'identity'"),
        ("filename,age", {"sex": "age"}, "got 'sex'"),
        ("filename,age_low,age_high", {}, 'age_ranges="midpoint"'),
    ],
)
def test_headers(tmp_path: Path, header: str, columns: dict[str, str], said: str) -> None:
    path = _write(tmp_path, header + "\na.jpg,3,4\n", "labels.csv")
    with pytest.raises(ManifestError, match=said):
        read_manifest(path, check_files=False, columns=columns)


def test_a_quote_that_is_not_closed_ends_the_reading(tmp_path: Path) -> None:
    path = _write(tmp_path, 'filename,age\na.jpg,3\n"b.jpg,4\n', "labels.csv")
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, check_files=False, on_problem="drop")
    assert caught.value.problems[0].line == 3


def test_a_row_of_another_width_names_both_widths(tmp_path: Path) -> None:
    path = _write(tmp_path, "filename,age\na.jpg,3,1\nb.jpg,4\n", "labels.csv")
    with pytest.raises(ManifestError, match=r"line 2: malformed row.*expected 2 fields as in the header, got 3"):
        read_manifest(path, check_files=False)


@pytest.mark.parametrize("option", ["format", "on_problem", "age_ranges"])
def test_options(tmp_path: Path, option: str) -> None:
    with pytest.raises(ValueError, match=f"'{option}' must be one of .*got 'other'"):
        read_manifest(tmp_path, **{option: "other"})  # type: ignore[arg-type]


def test_a_manifest_checks_its_columns() -> None:
    sound = _manifest(["a.jpg", "b.jpg"])
    parts = {name: getattr(sound, name) for name in ("root", "filenames", "identities", "ages", "genders")}
    parts["identity_names"] = sound.identity_names
    for name, value, kind, said in (
        ("ages", np.float32([1]), ValueError, r"'ages' must have shape \(2,\).*got \(1,\)"),
        ("ages", np.float64([1, 2]), TypeError, "float64"),
        ("ages", np.float32([1, 130]), ValueError, r"'ages'.*got 130\.0 at index 1"),
        ("ages", np.float32([np.inf, 1]), ValueError, "'ages'.*got inf at index 0"),
        ("genders", np.int8([2, 1]), ValueError, "'genders'.*got 2 at index 0"),
        ("identities", np.array([0, -1]), ValueError, "'identities'.*got 0 at index 0"),
    ):
        with pytest.raises(kind, match=said):
            Manifest(**{**parts, name: value})


def test_selection() -> None:
    manifest = _manifest(["a.jpg", "b.jpg"])
    with pytest.raises(ValueError, match="got 1 twice"):
        manifest.select([1, -1])
    with pytest.raises(IndexError, match="got 2"):
        manifest.select([2])
    with pytest.raises(ValueError, match=r"\(3,\)"):
        manifest.select(np.ones(3, np.bool_))
    with pytest.raises(ValueError, match=r"got \[\]"):
        manifest.select([])


@pytest.mark.parametrize(
    ("name", "person", "file"),
    [
        ("a\nb.jpg", None, "m.txt"),
        (" a.jpg", None, "m.txt"),
        ("../a.jpg", None, "m.csv"),
        ("a//b.jpg", None, "m.csv"),
        ("a.jpg", "two words", "m.txt"),
        ("a.jpg", "-1", "m.csv"),
        ("a.jpg", "nan", "m.csv"),
        ("\udcff.jpg", None, "m.parquet"),
    ],
)
def test_what_a_format_cannot_hold_is_not_written(tmp_path: Path, name: str, person: str | None, file: str) -> None:
    if file.endswith("parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=r"Manifest\.save"):
        _manifest([name], None if person is None else [person]).save(tmp_path / file)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_regular_files_and_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    os.mkfifo(root / "pipe.jpg")
    (root / "self.jpg").symlink_to(root / "self.jpg")
    (tmp_path / "secret.jpg").touch()
    (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    path = _write(tmp_path, "".join(f"0 {name}.jpg 3 1\n" for name in ("pipe", "self", "out")))
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, root=root)
    assert [problem.kind for problem in caught.value.problems] == ["no regular file", "missing file", "link leads out"]


def test_names_without_labels_are_all_told(tmp_path: Path) -> None:
    for name in ("001A02.JPG", "one.jpg", "002A131.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(ManifestError, match=r"got 2 that are not") as caught:
        manifest_from_names(tmp_path, naming="fgnet")
    assert {(problem.value, problem.kind) for problem in caught.value.problems} == {
        ("one.jpg", "no label in the name"),
        ("002A131.jpg", "age out of range"),
    }
    kept = manifest_from_names(tmp_path, naming="fgnet", on_problem="drop")
    assert list(kept.filenames) == ["001A02.JPG"]
    assert len(kept.problems) == 2
    with pytest.raises(ValueError, match="got 'imdb'"):
        manifest_from_names(tmp_path, naming="imdb")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'folder' must be a folder"):
        manifest_from_names(tmp_path / "gone", naming="fgnet")


def test_joins_of_nothing(tmp_path: Path) -> None:
    path = _write(tmp_path, "0 x/a.jpg 3 1\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    with pytest.raises(ManifestError, match=r"labels such as 'x/a\.jpg' and images such as 'a\.jpg'"):
        join_labels(path, tmp_path / "images")
    with pytest.raises(ValueError, match="'images' must be a folder"):
        join_labels(path, tmp_path / "gone")
    (tmp_path / "images" / "a.png").touch()
    with pytest.raises(ValueError, match=r"got 'a\.jpg' and 'a\.png'"):
        join_labels(path, tmp_path / "images", ignore_suffix=True)


def test_identity_maps_that_differ(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"3 identities .* got 2: 2 missing \('7', '8'\); 1 new \('9'\)"):
        check_identity_map(["6", "7", "8"], ["6", "9"])
    with pytest.raises(ValueError, match=r"2 with another number \('a', 'b'\)"):
        check_identity_map(["a", "b"], ["b", "a"])
    path = tmp_path / "map.json"
    save_identity_map(["a", "é", "\udcff"], path)
    check_identity_map(load_identity_map(path), ["a", "é", "\udcff"])
    for text in ("", "{}", "[1]", '["a", "a"]', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ValueError, match="map.json"):
            load_identity_map(path)
    with pytest.raises(ValueError, match="cannot be read"):
        load_identity_map(tmp_path / "gone.json")
