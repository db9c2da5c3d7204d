from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from facemtl.alignment.templates import FaceTemplate
from facemtl.data.align_folder import align_folder
from facemtl.data.align_journal import AlignJournal
from facemtl.data.align_settings import AlignSettings
from facemtl.data.contact_sheet import draw_contact_sheets
from facemtl.data.photograph_list import list_photographs
from tests import pictures
from tests.planted_faces import PlantedDetector


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return pictures.photographs(tmp_path / "photos", 4)


def align(source: Path, destination: Path, **options: object) -> None:
    options = {"workers": 0, "landmarks": source.parent / "landmarks.txt"} | options
    align_folder(source, destination, **options)  # type: ignore[arg-type]


def test_other_settings_are_refused_and_named(tmp_path: Path, source: Path) -> None:
    crops = tmp_path / "crops"
    align(source, crops)
    before = (crops / "manifest.csv").read_bytes()
    with pytest.raises(ValueError, match=r'other settings: size was "112x112", now "224x224". Choose another folder'):
        align(source, crops, settings=AlignSettings(template=FaceTemplate.arcface(224)))
    with pytest.raises(ValueError, match=r'format was "png", now "jpg of quality 80"; policy was "largest", now "all"'):
        align(source, crops, settings=AlignSettings(image_format="jpg", quality=80, policy="all"))
    with pytest.raises(ValueError, match=r"detector was null, now .*shift=0.0.*; landmarks was .* now null"):
        align(source, crops, landmarks=None, detector=PlantedDetector())
    with open(tmp_path / "landmarks.txt", "a") as file:
        file.write("gone.png 1 2 3 4 5 6 7 8 9 10\n")
    with pytest.raises(ValueError, match=r"landmarks was \"landmarks.txt \(sha256 .*now \"landmarks.txt \(sha256"):
        align(source, crops)
    other = pictures.photographs(tmp_path / "other" / "photos", 1)
    with pytest.raises(ValueError, match=r"source was \".*photos\", now \".*other/photos\""):
        align(other, crops, landmarks=tmp_path / "landmarks.txt")
    assert (crops / "manifest.csv").read_bytes() == before
    align(source, crops, settings=AlignSettings(template=FaceTemplate.arcface(224)), restart=True)


def test_another_detector_is_another_setting(tmp_path: Path, source: Path) -> None:
    align(source, tmp_path / "crops", landmarks=None, detector=PlantedDetector())
    with pytest.raises(ValueError, match=r"detector was .*shift=0.0.* now .*shift=1.5"):
        align(source, tmp_path / "crops", landmarks=None, detector=PlantedDetector(shift=1.5))


def test_folders_of_others_are_not_written_into(tmp_path: Path, source: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("mine")
    for restart in (False, True):
        with pytest.raises(ValueError, match="'destination' must be empty or made by facemtl align, got '.*full'"):
            align(source, tmp_path / "full", restart=restart)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious.txt"]
    for destination in (source, tmp_path):
        with pytest.raises(ValueError, match="'destination' must not be or hold the source"):
            align(source, destination)
    with pytest.raises(ValueError, match="'destination' must be a folder, got the file"):
        align(source, tmp_path / "landmarks.txt")
    with pytest.raises(OSError, match="Not a directory"):
        align(source, tmp_path / "landmarks.txt" / "crops")


def test_a_folder_is_aligned_by_one_process_at_a_time(tmp_path: Path, source: Path) -> None:
    with AlignJournal(tmp_path / "crops", {}), pytest.raises(ValueError, match="another process is aligning into"):
        align(source, tmp_path / "crops")


def test_damaged_journals_are_refused_or_mended(tmp_path: Path, source: Path) -> None:
    align(source, tmp_path / "crops")
    journal = tmp_path / "crops" / ".facemtl-align" / "journal.jsonl"
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], lines[1], b'{"source":1}\n', b"rubbish\n", *lines[3:]]))
    align(source, tmp_path / "crops")
    assert journal.read_bytes() == whole
    journal.write_bytes(b"rubbish\n" + whole)
    with pytest.raises(ValueError, match=r"the journal '.*journal.jsonl' is damaged. Choose another folder"):
        align(source, tmp_path / "crops")
    journal.write_bytes(whole.replace(b'"facemtl align":1', b'"facemtl align":7'))
    with pytest.raises(ValueError, match=r"journal.jsonl' is of version 7, wanted 1"):
        align(source, tmp_path / "crops")


FULL = """
import resource, sys
from facemtl.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))  # as a full disk: a write stops in the middle
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, source: Path) -> None:
    arguments = ["align", str(source), str(tmp_path / "crops"), "--landmarks", str(tmp_path / "landmarks.txt")]
    full = subprocess.run(
        [sys.executable, "-c", FULL, *arguments, "--workers", "0"], capture_output=True, text=True, check=False
    )
    assert full.returncode == 1
    assert full.stderr.startswith("facemtl: File too large")
    assert full.stderr.count("\n") == 1
    left = [path.name for path in (tmp_path / "crops").rglob("*") if path.is_file()]
    assert sorted(left) == ["journal.jsonl", "lock"]
    align(source, tmp_path / "crops")
    align(source, tmp_path / "fresh")
    assert (tmp_path / "crops" / "manifest.csv").read_bytes() == (tmp_path / "fresh" / "manifest.csv").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "smallest"}, r"'policy' must be one of \('largest', .* got 'smallest'"),
        ({"image_format": "gif"}, r"'image_format' must be one of \('png', 'jpg'\), got 'gif'"),
        ({"min_score": 1.5}, r"'min_score' must lie in \[0, 1\], got 1.5"),
        ({"min_face_size": -1.0}, r"'min_face_size' must be at least 0 pixels, got -1.0"),
        ({"quality": 0}, r"'quality' must lie in \[1, 100\], got 0"),
        ({"max_pixels": 0}, r"'max_pixels' must lie in \[1, 178956970\], got 0"),
    ],
)
def test_settings_are_held_to_their_ranges(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlignSettings(**options)  # type: ignore[arg-type]


def test_arguments_are_held_to_their_ranges(tmp_path: Path, source: Path) -> None:
    with pytest.raises(ValueError, match="'workers' must be at least 0, got -1"):
        align(source, tmp_path / "crops", workers=-1)
    with pytest.raises(ValueError, match="'batch_size' must be at least 1, got 0"):
        align(source, tmp_path / "crops", batch_size=0)
    with pytest.raises(ValueError, match="'faces' must be at least 1, got 0"):
        draw_contact_sheets(source, tmp_path, faces=0)
    with pytest.raises(ValueError, match=r"'.*manifest.csv' cannot be read: No such file"):
        draw_contact_sheets(source, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filename,age\na.jpg,3\nb.jpg\n", "line 3: expected 2 fields as in the header, got 1"),
        ("filename,age\na.jpg,3\n../b.jpg,4\n", "line 3: the name '../b.jpg' leaves the folder"),
        ("filename,age\n/etc/a.jpg,3\n", "line 2: the name '/etc/a.jpg' is absolute"),
        ("filename,age\n,3\n", "line 2: the name '' is empty"),
        ("filename,age,age\na.jpg,3,4\n", "line 1: a column's name occurs twice"),
        ("filename,age\na.jpg,3\nb.jpg,3\n./a.jpg,4\n", "line 4: 'a.jpg' repeats line 2"),
        ("0 a.jpg 44 1\n0 b.jpg 44\n", "line 2: expected 'id filename age gender', got '0 b.jpg 44'"),
        ("0 a.jpg 44 1\n0 ../b.jpg 44 0\n", "line 2: the name '../b.jpg' leaves the folder"),
        ("a.jpg\nb\0.jpg\n", r"line 2: the name 'b\\x00.jpg' holds a NUL"),
        ("", r"there is no photograph in '.*list.csv' \(0 other files\)"),
    ],
)
def test_manifests_are_refused_by_the_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        list_photographs(tmp_path / "list.csv")


def test_sources_are_folders_or_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'.*none' is neither a folder nor a file"):
        list_photographs(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("a.jpg")
    with pytest.raises(ValueError, match=r"there is no photograph in '.*' \(1 other files\)"):
        list_photographs(tmp_path)
    with pytest.raises(ValueError, match="'root' goes with a manifest, but '.*' is a folder"):
        list_photographs(tmp_path, root=tmp_path)
    with pytest.raises(ValueError, match="'root' must be a folder, got '.*none'"):
        list_photographs(tmp_path / "notes.txt", root=tmp_path / "none")


@pytest.mark.parametrize("absolute", [False, True])
def test_a_forged_journal_removes_nothing_outside(tmp_path: Path, source: Path, absolute: bool) -> None:
    crops, precious = tmp_path / "crops", tmp_path / "precious.png"
    align(source, crops)
    precious.write_text("mine")
    journal = crops / ".facemtl-align" / "journal.jsonl"
    name = next(crops.rglob("*.png")).relative_to(crops).as_posix()
    forged = precious.as_posix() if absolute else "../precious.png"
    text = journal.read_text()
    assert f'"{name}"' in text
    journal.write_text(text.replace(f'"{name}"', f'"{forged}"'))
    align(source, crops, restart=True)
    assert precious.read_text() == "mine"
    assert (crops / name).is_file()
