from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from facemtl.training.curves import draw_curves
from facemtl.training.metrics_file import MetricSeries
from facemtl.training.report import write_report

LOSS = {"a/loss": MetricSeries(np.arange(3), np.ones(3))}


def test_curves_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="'panels' must name metrics of the run, got 'a/los' for 'x'. They are a/loss"):
        draw_curves(LOSS, panels={"x": ["a/los"]})
    with pytest.raises(ValueError, match=r"'metrics' must hold a measured metric, got none in \['b'\]"):
        draw_curves({"b": MetricSeries(np.arange(1), np.array([np.nan]))})
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'draw_curves needs matplotlib: pip install "facemtl\[train\]"'):
        draw_curves(LOSS)


def test_a_report_is_whole_or_absent(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"write_report: 'path' must end in '\.html', got .*a\.txt"):
        write_report(tmp_path / "a.txt", title="", settings={}, metrics_csv=None, grid_png=None, figures=None)
    for files in ({"metrics_csv": tmp_path / "no.csv"}, {"grid_png": tmp_path / "no.png"}):
        options = {"metrics_csv": None, "grid_png": None, **files}
        with pytest.raises(FileNotFoundError, match="no"):
            write_report(tmp_path / "a.html", title="", settings={}, figures=None, **options)
    (tmp_path / "a.csv").write_text("nonsense\n")
    with pytest.raises(ValueError, match="must begin with 'step,', got 'nonsense'"):
        write_report(
            tmp_path / "a.html", title="", settings={}, metrics_csv=tmp_path / "a.csv", grid_png=None, figures=None
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
