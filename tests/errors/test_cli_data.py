from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from facemtl import RecordFile, RecordWriter, SynthesisSettings, synthesize_folder
from facemtl.cli import data, main
from facemtl.data.manifest import read_manifest
from tests.planted_estimator import write_channel_network


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of a few faces; no test writes into its folder."""
    settings = SynthesisSettings(num_identities=3, faces_per_identity=2, size=32)
    return synthesize_folder(tmp_path_factory.mktemp("faces") / "made", settings).manifest


def failure(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["data", *map(str, arguments)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("facemtl: ")
    assert printed.err.count("\n") == 1
    return printed.err


FAULTS = (
    "0 000000/000.jpg 130 1\n"  # line 1
    "0 000000/001.jpg 20 1\n"
    "1 ../faces/b.jpg 20 1\n"  # line 3
    "1 000001/000.jpg 30-39 0\n"  # line 4
    "2 nowhere.jpg 20 7\n"  # line 5, twice
    "2 000000/001.jpg 20 1\n"  # line 6
    "2\n"  # line 7
)
KINDS = [
    (1, "age out of range, got '130'"),
    (3, "unsafe name, got '../faces/b.jpg'"),
    (4, "age is a range, got '30-39'"),
    (5, "missing file, got 'nowhere.jpg'"),
    (5, "unknown gender, got '7'"),
    (6, "duplicate row, got '000000/001.jpg'"),
    (7, "malformed row, got '2'"),
]


def planted(folder: Path) -> Path:
    path = folder / "planted.txt"
    path.write_text(FAULTS)
    return path


@pytest.mark.parametrize("command", ["stats", "balance", "records", "label"])
def test_all_faults_are_listed(command: str, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = {"balance": ["out.csv"], "records": ["out.rec"], "label": ["out.csv", "model.onnx"]}
    arguments = [str(tmp_path / name) for name in outputs.get(command, [])]
    assert main(["data", command, str(planted(tmp_path)), *arguments, "--root", str(faces.parent)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    first, *others = printed.err.splitlines()
    assert first.startswith("facemtl: read_manifest: ")
    assert "got 7 in 6 lines" in first
    assert "with --on-problem drop." in first
    assert len(others) == len(KINDS)
    for line, (number, kind) in zip(sorted(others), KINDS, strict=True):
        assert line.startswith(f"  line {number}: {kind}")
    assert [path.name for path in tmp_path.iterdir()] == ["planted.txt"]


def test_more_faults_than_a_message_holds_are_listed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.txt").write_text("".join(f"0 {index}.jpg {200 + index} 1\n" for index in range(57)))
    assert main(["data", "stats", str(tmp_path / "labels.txt"), "--no-check-files"]) == 1
    lines = capsys.readouterr().err.splitlines()[1:]
    assert len(lines) == 57
    assert lines[56].startswith("  line 57: age out of range, got '256'")


def test_faulty_rows_can_be_dropped(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = planted(tmp_path)
    options = ["--root", str(faces.parent), "--on-problem", "drop"]
    assert main(["data", "stats", str(path), *options]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("1 face")
    told = sorted(printed.err.splitlines())
    assert len(told) == len(KINDS)
    for line, (number, kind) in zip(told, KINDS, strict=True):
        assert line.startswith(f"Left out: line {number}: {kind}")
    assert main(["data", "records", str(path), str(tmp_path / "a.rec"), *options, "--age-ranges", "midpoint"]) == 0
    printed = capsys.readouterr()
    assert "age is a range" not in printed.err
    assert RecordFile(tmp_path / "a.rec").ages.tolist() == [20.0, 34.5]
    path.write_text("".join(f"0 {index}.jpg 20 1\n" for index in range(14)) + "0 000000/000.jpg 20 1\n")
    assert main(["data", "stats", str(path), *options]) == 0
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 11
    assert told[-1] == "Left out: 4 more faults; --on-problem raise lists all."


def test_errors_are_one_line(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.csv"
    assert "'nothing.csv': cannot be read: No such file" in failure(capsys, "stats", "nothing.csv")
    assert "'root' must be a folder, got 'nowhere'" in failure(capsys, "stats", faces, "--root", "nowhere")
    assert "got none of" in (told := failure(capsys, "balance", faces, out))
    assert "--on-empty leave_out" in told
    assert "got -1" in failure(capsys, "balance", faces, out, "--seed", "-1")
    assert "got 0" in failure(capsys, "records", faces, out.with_suffix(".rec"), "--quality", "0")
    assert "'nowhere/config.json' cannot be read" in failure(capsys, "label", faces, out, "nowhere")
    assert "there is no file 'nowhere.onnx'" in failure(capsys, "label", faces, out, "nowhere.onnx")
    network = write_channel_network(tmp_path / "a.onnx", [[0], [0], [0]], [350])
    assert "gave 350 years" in failure(capsys, "label", faces, out, network, "--overwrite")
    assert "'batch_size' must be at least 1, got 0" in failure(
        capsys, "label", faces, out, network, "--batch-size", "0"
    )
    assert "'num_identities' must be at least 1, got 0" in failure(
        capsys, "synthesize", tmp_path / "made", "--identities", "0"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_records_are_not_overwritten_unasked(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.rec").write_bytes(b"mine")
    assert "exists. Pass --overwrite, or another name." in failure(capsys, "records", faces, tmp_path / "a.rec")
    assert (tmp_path / "a.rec").read_bytes() == b"mine"


def test_broken_images_stop_records(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "labels.txt").write_text("0 a.jpg 20 1\n")
    assert "a.jpg': empty file" in failure(capsys, "records", tmp_path / "labels.txt", tmp_path / "a.rec")
    assert not (tmp_path / "a.rec").exists()


def test_folders_of_others_are_refused(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").touch()
    assert "holds other files" in failure(capsys, "synthesize", tmp_path)
    told = failure(capsys, "synthesize", faces.parent, "--identities", "3", "--ages", "2", "--size", "33")
    assert "holds faces of other settings, see synthesis.json" in told
    assert read_manifest(faces).num_identities == 3


@pytest.mark.parametrize(
    ("arguments", "calls", "continues"),
    [
        (("stats", "FACES"), "manifest_statistics", False),
        (("balance", "FACES", "out.csv"), "balance_manifest", False),
        (("records", "FACES", "out.rec"), "pack_records", True),
        (("label", "FACES", "out.csv", "a.onnx"), "label_manifest", False),
        (("synthesize", "out"), "synthesize_folder", True),
    ],
)
@pytest.mark.parametrize("signalled", [False, True])
def test_interruptions_say_whether_the_command_continues(
    arguments: tuple[str, ...],
    calls: str,
    continues: bool,
    signalled: bool,
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        if signalled:
            signal.raise_signal(signal.SIGTERM)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    write_channel_network(tmp_path / "a.onnx", [[0], [0], [0]], [30])
    monkeypatch.setattr(data, calls, interrupt)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["data", *(str(faces) if word == "FACES" else word for word in arguments)]) == 130
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().err == f"Interrupted.{' The same command continues.' if continues else ''}\n"


def test_interrupted_records_do_continue(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from facemtl.data.progress import Progress

    counted: list[int] = []
    really_add = Progress.add

    def add(bar: Progress, count: int) -> None:
        really_add(bar, count)
        counted.append(count)
        if len(counted) == 4 and not continuing:
            raise KeyboardInterrupt

    continuing = False
    monkeypatch.setattr(Progress, "add", add)
    command = ["data", "records", str(faces), str(tmp_path / "a.rec")]
    assert main(command) == 130
    assert capsys.readouterr().err == "Interrupted. The same command continues.\n"
    assert not (tmp_path / "a.rec").exists()
    counted.clear()
    continuing = True
    written: list[int] = []
    write = RecordWriter.write

    def counting(self: RecordWriter, *arguments: Any, key: int, **options: Any) -> None:
        written.append(key)
        write(self, *arguments, key=key, **options)

    monkeypatch.setattr(RecordWriter, "write", counting)
    assert main(command) == 0
    assert written == [5, 6, 0, 7, 8, 9]  # two faces, then the ranges; the first four are there
    assert sum(counted) == 6  # the bar counts all
    assert RecordFile(tmp_path / "a.rec").identities.tolist() == [0, 0, 1, 1, 2, 2]
    assert not list(tmp_path.glob("*.part"))


def test_tracebacks_are_for_those_who_ask(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", "nothing.csv", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["stats"], ["weigh"], ["balance", "a", "b", "--on-empty", "shrug"]])
def test_unknown_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["data", *arguments])
    assert caught.value.code == 2


MISSING = """
import sys
sys.modules[sys.argv[1]] = None
from facemtl.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("tyro", ("stats", "FACES"), 'facemtl needs tyro: pip install "facemtl[cli]"'),
        ("matplotlib", ("stats", "FACES", "--figure", "out.png"), "pip install 'facemtl[data]'"),
        ("pyarrow", ("balance", "FACES", "out.parquet", "--on-empty", "leave_out"), "pip install 'facemtl[data]'"),
        ("tqdm", ("records", "FACES", "out.rec"), 'progress needs tqdm: pip install "facemtl[cli]"'),
        ("onnxruntime", ("label", "FACES", "out.csv", "a.onnx"), 'pip install "facemtl[onnx]"'),
        ("tqdm", ("synthesize", "out"), 'progress needs tqdm: pip install "facemtl[cli]"'),
    ],
)
def test_missing_packages_name_their_extra(
    module: str, arguments: tuple[str, ...], message: str, faces: Path, tmp_path: Path
) -> None:
    words = [str(faces) if word == "FACES" else word for word in arguments]
    done = subprocess.run(
        [sys.executable, "-c", MISSING, module, "data", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "synthesis.json"]
