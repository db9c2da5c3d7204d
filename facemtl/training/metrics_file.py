"""The file of a run's metrics: a row a step, a column a metric."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

METRICS_FILE = "metrics.csv"
STEP = "step"


class MetricSeries(NamedTuple):
    """One metric over the run."""

    steps: npt.NDArray[np.int64]
    """``(rows,)`` steps at which it was written."""
    values: npt.NDArray[np.float64]
    """``(rows,)`` its values; NaN and infinities as they were."""


def read_metrics(path: str | Path) -> dict[str, MetricSeries]:
    """Read a ``metrics.csv`` that :class:`MetricsLog` wrote, of a finished, running or killed run.

    Args:
        path: The file. A last line that was cut short is left out.

    Returns:
        A series for each column, in the order of the file; blanks are left out, so a metric that was never written has
        an empty series.

    Raises:
        ValueError: If the file is no such file, or is damaged before its last line.
        OSError: If it cannot be read.
    """
    header, rows = read_rows(Path(path))
    table = [line.split(",")[1:] for _, line in rows]
    steps = np.array([step for step, _ in rows], np.int64)
    series = {}
    for place, name in enumerate(header):
        there = np.array([bool(row[place]) for row in table], bool)
        values = np.array([float(row[place]) for row in table if row[place]], np.float64)
        series[name] = MetricSeries(steps[there], values)
    return series


def read_rows(path: Path) -> tuple[tuple[str, ...], list[tuple[int, str]]]:
    """Columns, and step and text of each row; what stands after the last line break was cut short and is left out."""
    lines = path.read_bytes().decode("utf-8", "replace").split("\n")[:-1]
    if not lines or lines[0].split(",")[0] != STEP:
        raise ValueError(f"read_metrics: {str(path)!r} must begin with 'step,', got {lines[0] if lines else ''!r}.")
    header = tuple(lines[0].split(",")[1:])
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            step, *cells = line.split(",")
            if len(cells) != len(header):
                raise ValueError("wrong number of cells")
            _ = [float(cell) for cell in cells if cell]
            rows.append((int(step), line))
        except ValueError:
            if number == len(lines):
                break  # a machine that lost power leaves such a line
            raise ValueError(
                f"read_metrics: line {number} of {str(path)!r} must be a step and {len(header)} numbers, got "
                f"{line[:80]!r}. Delete the line, or move the file away."
            ) from None
    return header, rows


def checked_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the names, if they can head the columns of the file."""
    if isinstance(columns, str) or not columns:
        raise ValueError(f"MetricsLog: 'columns' must be names of metrics, at least one, got {columns!r}.")
    for place, name in enumerate(columns):
        if not name or name == STEP or name in columns[:place] or not name.isprintable() or set(name) & set(',"'):
            raise ValueError(
                f"MetricsLog: 'columns' must be different names without commas or quotes, and none of them {STEP!r}, "
                f"got {name!r}."
            )
    return tuple(columns)
