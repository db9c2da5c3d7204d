from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from facemtl.training.metrics_file import read_metrics
from facemtl.training.metrics_log import MetricsLog


@pytest.mark.parametrize("columns", [["a", "a"], ["step"], [""], ["a,b"], ['a"b'], ["a\nb"]])
def test_names_that_would_break_the_file(tmp_path: Path, columns: list[str]) -> None:
    with pytest.raises(ValueError, match="MetricsLog: 'columns' must be different names without commas") as error:
        MetricsLog(tmp_path, columns)
    assert repr(columns[-1]) in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_no_names(tmp_path: Path) -> None:
    for columns in ([], "loss"):
        with pytest.raises(
            ValueError, match=f"'columns' must be names of metrics, at least one, got {columns!r}".replace("[", r"\[")
        ):
            MetricsLog(tmp_path, columns)
    with pytest.raises(ValueError, match="'resume_at' must be a step from 0 on, got -1"):
        MetricsLog(tmp_path, ["a"], resume_at=-1)


def test_rows_are_checked(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, ["a", "b"], tensorboard=False) as log:
        log.write(5, {"a": 1.0})
        with pytest.raises(ValueError, match="must name columns of the log, got 'c' at step 6. The columns are a, b"):
            log.write(6, {"a": 1.0, "c": 2.0})
        with pytest.raises(ValueError, match="'step' must be at least 5, the last row's, got 4"):
            log.write(4, {"a": 1.0})
    with pytest.raises(ValueError, match="the log is closed, got step 7"):
        log.write(7, {"a": 1.0})
    log.close()
    assert (tmp_path / "metrics.csv").read_text() == "step,a,b\n5,1.0,\n"
    with (
        MetricsLog(tmp_path, ["a", "b"], tensorboard=False, resume_at=5) as log,
        pytest.raises(ValueError, match="at least 5, the last row's, got 3"),
    ):
        log.write(3, {})


def test_other_columns_than_the_run_had(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, ["a", "b", "c"], tensorboard=False) as log:
        log.write(1, {"a": 1.0})
    before = (tmp_path / "metrics.csv").read_bytes()
    with pytest.raises(ValueError, match=r"goes on with, got them without b, c and with d anew. Resume with"):
        MetricsLog(tmp_path, ["a", "d"], resume_at=1)
    assert (tmp_path / "metrics.csv").read_bytes() == before


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,a\n1,1.0\n2,x\n3,1.0\n")
    with pytest.raises(ValueError, match=r"line 3 of '.*metrics.csv' must be a step and 1 numbers, got '2,x'"):
        read_metrics(path)
    with pytest.raises(ValueError, match="line 3 of"):
        MetricsLog(tmp_path, ["a"], resume_at=2)
    path.write_text("step,a\n1,1.0\n\0\0\0\0\n")  # as after a loss of power
    assert read_metrics(path)["a"].steps.tolist() == [1]
    for content in ("", "time,a\n", "step,a"):
        path.write_text(content)
        with pytest.raises(ValueError, match="must begin with 'step,', got"):
            read_metrics(path)


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match="'wandb_project': pip install wandb"):
        MetricsLog(tmp_path, ["a"], tensorboard=False, wandb_project="faces")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r'TensorBoard: pip install "facemtl\[train\]", or pass tensorboard=False'):
        MetricsLog(tmp_path, ["a"])


class FakeRun:
    """A run of Weights & Biases that remembers what it was told."""

    def __init__(self, name: str) -> None:
        self.id, self.rows, self.axes, self.finished = name, list[dict[str, float]](), list[Any](), False

    def define_metric(self, name: str, **options: str) -> None:
        self.axes.append((name, options))

    def log(self, row: dict[str, float]) -> None:
        self.rows.append(row)

    def finish(self) -> None:
        self.finished = True


def test_weights_and_biases_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    runs: list[FakeRun] = []

    def init(**options: Any) -> FakeRun:
        calls.append(options)
        runs.append(FakeRun(options["id"] or f"run{len(calls)}"))
        return runs[-1]

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for resume_at in (0, 1, 0):
        with MetricsLog(
            tmp_path, ["a"], tensorboard=False, wandb_project="faces", settings={"seed": 3}, resume_at=resume_at
        ) as log:
            log.write(resume_at + 1, {"a": 0.5})
    assert [call["id"] for call in calls] == [None, "run1", None]
    assert calls[0]["project"] == "faces"
    assert calls[0]["config"] == {"seed": 3}
    assert runs[1].rows == [{"step": 2, "a": 0.5}]
    assert runs[0].axes == [("step", {}), ("*", {"step_metric": "step"})]
    assert all(run.finished for run in runs)
