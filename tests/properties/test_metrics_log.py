from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facemtl.training.metrics_file import read_metrics
from facemtl.training.metrics_log import MetricsLog

ROWS = st.lists(
    st.tuples(st.integers(1, 3), st.dictionaries(st.sampled_from("ab"), st.floats(allow_nan=True))), max_size=12
)


def write(folder: Path, rows: list[tuple[int, dict[str, float]]], *, resume_at: int, names: str = "ab") -> None:
    with MetricsLog(folder, list(names), resume_at=resume_at, tensorboard=False) as log:
        for step, metrics in rows:
            log.write(step, metrics)


@given(rows=ROWS, cut=st.integers(0, 40), resume_at=st.integers(1, 40))
def test_a_file_cut_anywhere_is_gone_on_with(
    rows: list[tuple[int, dict[str, float]]], cut: int, resume_at: int
) -> None:
    """Killed at any byte after the header, resumed at any step: rows up to the step stay, whole ones only."""
    steps = np.cumsum([step for step, _ in rows]).tolist()
    rows = [(step, metrics) for step, (_, metrics) in zip(steps, rows, strict=True)]
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name), Path(name) / "metrics.csv"
        write(folder, rows, resume_at=0)
        whole = file.read_bytes()
        kept_bytes = max(len(b"step,a,b\n"), len(whole) - cut)
        file.write_bytes(whole[:kept_bytes])
        complete = whole[:kept_bytes].count(b"\n") - 1
        again = [row for row in rows if row[0] > resume_at]
        write(folder, again, resume_at=resume_at)
        kept = [row for row in rows[:complete] if row[0] <= resume_at]
        series = read_metrics(file)
        for column in "ab":
            wanted = [(step, metrics[column]) for step, metrics in kept + again if column in metrics]
            assert series[column].steps.tolist() == [step for step, _ in wanted]
            np.testing.assert_array_equal(series[column].values, [value for _, value in wanted])
        assert list(folder.iterdir()) == [file]


def test_the_order_of_the_file_is_kept(tmp_path: Path) -> None:
    write(tmp_path, [(1, {"a": 1.0})], resume_at=0)
    write(tmp_path, [(2, {"a": 2.0, "b": 3.0})], resume_at=1, names="ba")
    assert (tmp_path / "metrics.csv").read_text() == "step,a,b\n1,1.0,\n2,2.0,3.0\n"


def test_a_file_that_went_away_begins_again(tmp_path: Path) -> None:
    write(tmp_path, [(6, {"a": 1.0})], resume_at=5)
    assert (tmp_path / "metrics.csv").read_text() == "step,a,b\n6,1.0,\n"
