"""The two tables that an alignment leaves: manifest.csv and rejected.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from facemtl.alignment.templates import LANDMARKS
from facemtl.data.align_journal import Crop, Outcome

BOX_COLUMNS = ("left", "top", "right", "bottom")
_MATRIX = ("m00", "m01", "m02", "m10", "m11", "m12")
MANIFEST_COLUMNS = (
    "source",
    "crop",
    *BOX_COLUMNS,
    "score",
    *(f"{name}_{axis}" for name in LANDMARKS for axis in "xy"),
    *_MATRIX,
    "residual",
)
"""Columns of manifest.csv; the labels of an input manifest follow. The matrix carries photograph to crop."""

_Labels = Mapping[str, Mapping[str, str]]


def manifest_csv(outcomes: Sequence[Outcome], labels: _Labels, label_columns: Sequence[str]) -> bytes:
    """A row for each crop."""
    listed = any(crop.label is not None for outcome in outcomes for crop in outcome.crops)
    columns = [*label_columns, *(["label"] if listed and "label" not in label_columns else [])]
    rows = [[*MANIFEST_COLUMNS, *(_renamed(name, MANIFEST_COLUMNS) for name in columns)]]
    for outcome in outcomes:
        known = labels.get(outcome.source, {})
        for crop in outcome.crops:
            rows.append(_crop_row(outcome, crop) + [known.get(name, _own(crop, name)) for name in columns])
    return _csv(rows)


def rejected_csv(outcomes: Sequence[Outcome], labels: _Labels, label_columns: Sequence[str]) -> bytes:
    """A row for each photograph without a crop: which, why, and what was said of it in detail."""
    own = ("source", "reason", "detail")
    rows = [[*own, *(_renamed(name, own) for name in label_columns)]]
    for outcome in outcomes:
        if outcome.refusal is not None:
            known = labels.get(outcome.source, {})
            rows.append([outcome.source, *outcome.refusal, *(known.get(name, "") for name in label_columns)])
    return _csv(rows)


def _crop_row(outcome: Outcome, crop: Crop) -> list[str]:
    numbers: list[float | None] = [
        *(crop.box if crop.box is not None else (None,) * 4),
        crop.score,
        *(value for point in crop.landmarks for value in point),
        *(value for row in crop.matrix for value in row),
        crop.residual,
    ]
    return [outcome.source, crop.name, *("" if value is None else f"{value:.9g}" for value in numbers)]


def _own(crop: Crop, name: str) -> str:
    return crop.label or "" if name == "label" else ""


def _renamed(name: str, own: Sequence[str]) -> str:
    """A label that is called like a column of ours keeps its values under another name."""
    return f"input_{name}" if name in own else name


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")
