from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from facemtl.training.metrics_file import read_metrics
from facemtl.training.metrics_log import MetricsLog

NAMES = ["recognition/identity", "recognition/age", "synthesis/age"]


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard shows."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_the_file_is_a_plain_csv(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, NAMES, tensorboard=False) as log:
        log.write(10, {"recognition/identity": 0.1, "recognition/age": float("inf")})
        log.write(20, {"synthesis/age": 1 / 3})
        with open(tmp_path / "metrics.csv", newline="") as file:  # while the run goes on
            rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["10", "20"]
    assert [row["recognition/identity"] for row in rows] == ["0.1", ""]
    assert [row["synthesis/age"] for row in rows] == ["", repr(1 / 3)]
    series = read_metrics(tmp_path / "metrics.csv")
    assert list(series) == NAMES
    assert series["recognition/age"].values.tolist() == [float("inf")]
    assert (series["synthesis/age"].steps.tolist(), series["synthesis/age"].values.tolist()) == ([20], [1 / 3])
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_and_csv_show_a_resumed_run_as_one(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, NAMES) as log:
        for step in range(1, 8):
            log.write(step, {"recognition/identity": step})
    with MetricsLog(tmp_path, NAMES, resume_at=4) as log:
        for step in range(5, 9):
            log.write(step, {"recognition/identity": 100.0 + step})
    wanted = [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 105.0), (6, 106.0), (7, 107.0), (8, 108.0)]
    steps, values = read_metrics(tmp_path / "metrics.csv")["recognition/identity"]
    assert list(zip(steps.tolist(), values.tolist(), strict=True)) == wanted
    assert scalars(tmp_path, "recognition/identity") == wanted


def test_a_run_that_starts_anew_shows_nothing_of_the_one_before(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, ["old"]) as log:
        log.write(1, {"old": 3.0})
        log.write(9, {"old": 3.0})
    with MetricsLog(tmp_path, NAMES) as log:
        log.write(2, {"recognition/age": 7.0})
    assert (tmp_path / "metrics.csv").read_text() == "step," + ",".join(NAMES) + "\n2,,7.0,\n"
    assert scalars(tmp_path, "recognition/age") == [(2, 7.0)]
    assert scalars(tmp_path, "old") == []


def test_what_is_written_is_there_at_once(tmp_path: Path) -> None:
    """A killed process leaves what it had written, in both."""
    log = MetricsLog(tmp_path, NAMES)
    log.write(3, {"synthesis/age": 2.5})
    assert read_metrics(tmp_path / "metrics.csv")["synthesis/age"].steps.tolist() == [3]
    assert scalars(tmp_path, "synthesis/age") == [(3, 2.5)]
    log.close()


def test_a_long_file_reads_back_exactly(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(500, 2)) * 10.0 ** np.arange(-250, 250)[:, None]
    with MetricsLog(tmp_path, ["a", "b"], tensorboard=False) as log:
        for step, (one, other) in enumerate(values):
            log.write(step, {"b": np.float64(other), "a": one})
    series = read_metrics(tmp_path / "metrics.csv")
    assert (np.stack([series["a"].values, series["b"].values], axis=1) == values).all()
