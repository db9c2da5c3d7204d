from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facemtl import (
    MTLFace,
    MTLFaceEstimator,
    RecordFile,
    SynthesisSettings,
    label_manifest,
    read_photograph,
    synthesize_folder,
)
from facemtl.cli import main
from facemtl.data.balance import balance_manifest
from facemtl.data.manifest import read_manifest
from facemtl.data.statistics import manifest_statistics
from tests.planted_estimator import write_channel_network

PEOPLE, FACES, SIZE = 5, 4, 48
COMMANDS = ("stats", "balance", "records", "label", "synthesize")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of a few faces; no test writes into its folder."""
    settings = SynthesisSettings(num_identities=PEOPLE, faces_per_identity=FACES, size=SIZE)
    return synthesize_folder(tmp_path_factory.mktemp("faces") / "made", settings).manifest


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> list[str]:
    """What the command prints; and nothing on the stream of errors, where no terminal is."""
    assert main(["data", *map(str, arguments)]) == code
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out.splitlines()


def test_stats_prints_the_table_and_draws_it(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "figure.png"
    printed = run(capsys, "stats", faces, "--figure", figure)
    assert printed[0] == "20 faces, 5 people"
    assert printed == [*manifest_statistics(read_manifest(faces)).table().splitlines(), f"Look at: {figure}"]
    with Image.open(figure) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert min(pixels.shape[:2]) > 200
    assert pixels.std() > 5  # drawn on
    labels = tmp_path / "labels.txt"
    read_manifest(faces).save(labels)
    assert run(capsys, "stats", labels, "--root", faces.parent)[-1] == f"Look at: {tmp_path / 'labels.png'}"
    assert read_photograph(tmp_path / "labels.png").shape[0] == 3


def test_balance_writes_the_manifest_of_the_function(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "balanced.csv"
    options = ("--on-empty", "leave_out", "--min-faces-per-identity", "1", "--seed", "3")
    printed = run(capsys, "balance", faces, output, *options)
    expected = balance_manifest(read_manifest(faces), on_empty="leave_out", min_faces_per_identity=1, seed=3).manifest
    written = read_manifest(output, root=faces.parent)
    assert list(written.filenames) == list(expected.filenames)
    assert 0 < len(written) < PEOPLE * FACES
    assert printed == [*manifest_statistics(expected).table().splitlines(), f"Manifest: {output}"]


def test_records_read_back(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, manifest = tmp_path / "packed" / "train.rec", read_manifest(faces)
    assert run(capsys, "records", faces, output) == ["20 faces of 5 identities.", f"Records: {output}"]
    assert sorted(path.name for path in output.parent.iterdir()) == ["property", "train.crc", "train.idx", "train.rec"]
    assert (output.parent / "property").read_text() == f"{PEOPLE},{SIZE},{SIZE}\n"
    records = RecordFile(output)
    assert records.identities.tolist() == manifest.identities.tolist()  # the folder is in the order of its people
    np.testing.assert_array_equal(records.ages, manifest.ages)
    assert records.genders.tolist() == manifest.genders.tolist()
    assert bytes(records.payload(7)) == manifest.path(7).read_bytes()
    small = ("--overwrite", "--size", "32", "--labels", "identity", "--quality", "80", "--quiet")
    run(capsys, "records", faces, output, *small)
    assert (output.parent / "property").read_text() == f"{PEOPLE},32,32\n"
    assert np.isnan(RecordFile(output).ages).all()


def test_records_leave_broken_images_out(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(faces.parent, tmp_path / "faces")
    (tmp_path / "faces" / "000001" / "002.jpg").write_bytes(b"")
    command = ["data", "records", str(tmp_path / "faces" / "manifest.csv"), str(tmp_path / "a.rec")]
    assert main([*command, "--on-broken", "skip"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == "19 faces of 5 identities."
    assert printed.err == "Left out: 000001/002.jpg: empty file\n"
    assert len(RecordFile(tmp_path / "a.rec")) == 19


def unlabelled(faces: Path, folder: Path) -> Path:
    """The same faces, of which the even ones have no labels."""
    lines = faces.read_text().splitlines()
    rows = [line.split(",")[:4] for line in lines[1:]]
    kept = [row if index % 2 else [*row[:2], "", ""] for index, row in enumerate(rows)]
    path = folder / "unlabelled.csv"
    path.write_text("\n".join(["filename,identity,age,gender", *map(",".join, kept)]) + "\n")
    return path


def test_label_by_onnx(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output, truth = unlabelled(faces, tmp_path), tmp_path / "new" / "labelled.csv", read_manifest(faces)
    network = write_channel_network(
        tmp_path / "age.onnx", [[0.1], [0], [0]], [3], gender=[[0, 1], [0, 0], [0, 0]], size=("height", "width")
    )
    command = ["label", source, output, network, "--root", faces.parent, "--gender-output", "genders"]
    options = ["--age-output", "ages", "--input-size", "48", "48", "--mean", "0", "--std", "1", "--batch-size", "3"]
    assert run(capsys, *command, *options) == [
        "10 ages and 10 genders estimated, 0 images not readable.",
        f"Manifest: {output}",
    ]
    labelled = read_manifest(output, root=faces.parent)
    for index in range(PEOPLE * FACES):
        if index % 2:
            assert labelled.ages[index] == truth.ages[index]
            assert labelled.genders[index] == truth.genders[index]
        else:
            red = float(read_photograph(truth.path(index))[0].float().mean())
            assert labelled.ages[index] == pytest.approx(0.1 * red + 3, abs=1e-3)
            assert labelled.genders[index] == 1
    assert "20 ages and 20 genders" in run(capsys, *command, *options, "--overwrite")[0]
    assert run(capsys, *command, *options, "--channel-order", "bgr", "--reading", "years")
    blue = float(read_photograph(truth.path(0))[2].float().mean())
    assert read_manifest(output, root=faces.parent).ages[0] == pytest.approx(0.1 * blue + 3, abs=1e-3)


def test_label_by_a_model(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = MTLFace.paper2021(depth=18, width=4, embedding_dimension=8)
    model.save_pretrained(tmp_path / "model")
    source, output = unlabelled(faces, tmp_path), tmp_path / "labelled.parquet"
    pytest.importorskip("pyarrow")
    command = ["label", source, output, tmp_path / "model", "--root", faces.parent, "--device", "cpu"]
    assert run(capsys, *command)[0] == "10 ages and 0 genders estimated, 0 images not readable."
    expected = label_manifest(read_manifest(source, root=faces.parent), MTLFaceEstimator(model)).manifest
    np.testing.assert_allclose(read_manifest(output, root=faces.parent).ages, expected.ages, atol=1e-3)


def test_label_tells_of_broken_images(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(faces.parent, tmp_path / "faces")
    (tmp_path / "faces" / "000000" / "000.jpg").write_bytes(b"")
    source = unlabelled(faces, tmp_path / "faces")
    network = write_channel_network(tmp_path / "age.onnx", [[0], [0], [0]], [30])
    assert main(["data", "label", str(source), str(tmp_path / "out.csv"), str(network), "--workers", "0"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == "9 ages and 0 genders estimated, 1 image not readable."
    assert printed.err == "Not labelled: 000000/000.jpg: empty file\n"
    assert np.isnan(read_manifest(tmp_path / "out.csv", root=tmp_path / "faces").ages[0])


def test_synthesize_writes_faces_and_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "made"
    command = ["synthesize", folder, "--identities", "3", "--ages", "2", "--size", "32", "--format", "png"]
    options = ["--age-range", "20", "60", "--seed", "5", "--first-identity", "7"]
    closing = [f"Manifest: {folder / 'manifest.csv'}", f"Look at: {folder / 'contact_sheet.png'}"]
    assert run(capsys, *command, *options) == ["6 faces of 3 people.", *closing]
    manifest = read_manifest(folder / "manifest.csv")
    assert list(manifest.identity_names) == ["7", "8", "9"]
    assert ((manifest.ages >= 20) & (manifest.ages <= 60)).all()
    assert all(read_photograph(manifest.path(index)).shape == (3, 32, 32) for index in range(6))
    assert read_photograph(folder / "contact_sheet.png").shape == (3, 3 * 32, 2 * 32)
    assert "CC0" in (folder / "LICENSE.txt").read_text()
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    manifest.path(4).unlink()
    assert run(capsys, *command, *options) == ["6 faces (1 new) of 3 people.", *closing]
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before
    assert run(capsys, *command, *options, "--quiet")[0] == "6 faces (0 new) of 3 people."


def test_one_person_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, "synthesize", tmp_path / "a", "--identities", "1", "--ages", "1", "--size", "32")
    assert printed[0] == "1 face of 1 person."
    printed = run(capsys, "records", tmp_path / "a" / "manifest.csv", tmp_path / "a.rec")
    assert printed[0] == "1 face of 1 identity."


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_of_each_option(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from facemtl.cli import data

    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        main(["data", command, "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: facemtl data {command}")
    shown = [line.strip("│ ") for line in printed.splitlines()]  # with boxes where the terminal has them
    fields = dataclasses.fields(getattr(data, f"{command.capitalize()}Command"))
    assert len(fields) >= 6
    for field in fields:
        required = field.default is dataclasses.MISSING
        name = field.name.upper() if required else f"--{field.name.replace('_', '-')}"
        places = [place for place, line in enumerate(shown) if line.split(" ")[0].rstrip(",") == name]
        assert places, name
        told = " ".join(shown[places[-1] : places[-1] + 3])  # the text above may begin with the name, too
        # a word that is neither the name nor a type nor the default
        words = re.sub(r"\(default: [^)]*\)|\(required\)|\{[^}]*\}|--[a-z-]+|\b[A-Z]+\b", " ", told)
        assert len(re.findall(r"[a-z]{2,}", words)) >= 2, told


def test_the_module_has_the_commands() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "facemtl", "data", "--help"], capture_output=True, text=True, check=True
    )
    for command in COMMANDS:
        assert re.search(rf"^\W+{command} ", shown.stdout, re.MULTILINE)
