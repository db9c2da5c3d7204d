"""Which records of a table are faces and what their labels say, in insightface's layout or without one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facemtl.data.record_format import Mapped
from facemtl.data.record_table import Damage, RecordTable

EXACT = 2**24
"""Whole numbers up to here are exact in float32."""
COLUMNS = ("identity", "age", "gender")
"""What labels can say."""

_LABELS = "facemtl labels"
_MARK = f'{{"{_LABELS}"'.encode()
_RANGES_ADVICE = 'If the identities are meant so, pass on_damage="skip" or rewrite the ranges.'


class Layout(NamedTuple):
    """First and last key as insightface's record 0 tells them, and what the labels of a face are."""

    first_range: int
    """Key of the first record that tells the faces of an identity: those below it are faces."""
    end: int
    """One more than the key of the last of these."""
    columns: tuple[str | None, ...] | None
    """Names of labels, None for others; None as a whole where the file does not say."""


def header_image(columns: Sequence[str]) -> bytes:
    """What stands in record 0 in place of an image: the names of the labels. Other readers do not look at it."""
    return json.dumps({_LABELS: list(columns)}).encode()


def find_layout(data: Mapped, table: RecordTable, damage: Damage) -> Layout | None:
    """Insightface's layout, if record 0 tells one; then every record above the faces is no face."""
    row = int(np.searchsorted(table.keys, 0))
    if row == len(table) or table.keys[row] != 0:
        return _inferred(table) if damage.count else None
    if table.counts[row] < 2:
        return None
    start, end = int(table.starts[row]), int(table.ends[row])
    content = data[start:end] if end >= 0 else b"in several parts, as only a face can be"
    if content and not content.startswith(_MARK):
        return None  # a face with several labels
    number, offset = int(table.numbers[row]), int(table.offsets[row])
    columns = _columns(content)
    if content and columns is None:
        damage.add(f"the header must name labels among {COLUMNS}, got {content[:80]!r}", number, offset)
        return None
    first, last = table.labels[row, :2].tolist()
    if not (first.is_integer() and last.is_integer() and 1 <= first <= last < 2**53):
        damage.add(
            f"the header must tell the keys of the first and last range, got {first:g} and {last:g}", number, offset
        )
        return None
    return Layout(*_exact_keys(table, int(first), int(last)), columns)


def face_rows(table: RecordTable, layout: Layout | None, damage: Damage) -> npt.NDArray[np.bool_]:
    """Which records are faces, by their keys; what is missing or stands elsewhere is counted."""
    empty = table.image_sizes() == 0
    if layout is None:
        damage.add_all("there is no image in it", table.numbers, table.offsets, empty)
        return ~empty
    faces = (table.keys >= 1) & (table.keys < layout.first_range)
    missing = layout.first_range - 1 - int(faces.sum())
    if missing and not damage.count:
        damage.add(f"{missing:,} of the {layout.first_range - 1:,} faces that the header tells of are not in the file")
    beyond = (table.keys < 0) | (table.keys >= layout.end)
    damage.add_all("the header tells of no such key", table.numbers, table.offsets, beyond)
    damage.add_all("there is no image in it", table.numbers, table.offsets, faces & empty)
    return faces & ~empty


def label_rows(table: RecordTable, columns: Sequence[str | None], damage: Damage) -> npt.NDArray[np.bool_]:
    """Which faces have labels that can be true."""
    good = np.ones(len(table), bool)
    for column, name in enumerate(columns):
        if name is None:
            continue
        values = table.labels[:, column]
        if name == "identity":
            wrong = ~((values >= -1) & (values < 2**31) & (values == np.rint(np.nan_to_num(values))))
            what = "its identity must be a whole number, −1 or more"
        elif name == "age":
            wrong = ~((values >= 0) & (values <= 100) | np.isnan(values))
            what = "its age must lie in [0, 100] years, or be NaN"
        else:
            wrong = ~np.isin(values, (-1, 0, 1))
            what = "its gender must be 1, 0 or −1"
        wrong |= table.counts <= column
        damage.add_all(what, table.numbers, table.offsets, good & wrong)
        good &= ~wrong
    return good


def range_rows(
    table: RecordTable, faces: npt.NDArray[np.bool_], identity: int, layout: Layout, damage: Damage
) -> npt.NDArray[np.bool_]:
    """Which faces have the identity of the others of their range.

    The only redundancy that the format has: all faces of a range are of one identity, so that one whose label differs
    has a damaged one. In a file with other damage, faces go too that no other bears out. Ranges beyond 2^24 are
    rounded, in glint360k for example, and not judged.
    """
    good = np.ones(len(table), bool)
    ranges = table.select((table.keys >= layout.first_range) & (table.keys < layout.end))
    start, end = ranges.labels[:, 0], ranges.labels[:, 1]
    whole = np.rint(np.nan_to_num(ranges.labels[:, :2])) == ranges.labels[:, :2]
    sound = (ranges.counts >= 2) & (start >= 1) & (start <= end) & whole.all(1)
    sound &= end <= layout.first_range
    rounded = (ranges.counts >= 2) & ((start >= EXACT) | (end >= EXACT))
    damage.add_all("it must tell the keys of an identity's faces", ranges.numbers, ranges.offsets, ~sound & ~rounded)
    used = sound & ~rounded & (start < end)
    if not used.any() and (rounded.any() or not damage.count or layout.first_range == layout.end):
        return good
    (rows,) = np.nonzero(faces)
    keys, labels = table.keys[rows], table.labels[rows, identity]
    low, high = np.searchsorted(keys, start[used]), np.searchsorted(keys, end[used])
    single = end[used] - start[used] == 1
    agree = _votes(labels, low, high, single, alone_counts=not damage.count)
    good[rows[~agree]] = False
    what = "its identity is not that of the other faces in its range"
    damage.add_all(what, table.numbers, table.offsets, ~good, _RANGES_ADVICE)
    return good


def _votes(
    labels: npt.NDArray[np.float32],
    low: npt.NDArray[np.int64],
    high: npt.NDArray[np.int64],
    single: npt.NDArray[np.bool_],
    *,
    alone_counts: bool,
) -> npt.NDArray[np.bool_]:
    """Which labels are those of most others of their range, and of one other at least if there should be one.

    ``alone_counts`` keeps labels that stand without another, or in no range, where nothing says that others were lost.
    """
    agree = np.full(len(labels), alone_counts)
    filled = low < high
    low, high, single = low[filled], high[filled], single[filled]
    if not len(low):
        return agree
    bounds = np.stack((low, high), 1)
    padded = np.append(labels, labels[-1])  # reduceat's indices must lie inside
    lowest = np.minimum.reduceat(padded, bounds.ravel())[::2]
    highest = np.maximum.reduceat(padded, bounds.ravel())[::2]
    alone = (high - low == 1) & ~single & (not alone_counts)
    steps = np.zeros(len(labels) + 1, np.int64)
    np.add.at(steps, low, 1)
    np.add.at(steps, high, -1)
    agree |= np.cumsum(steps)[:-1] > 0
    for start, end in bounds[(lowest != highest) | alone].tolist():
        values, votes = np.unique(labels[start:end], return_counts=True)
        most = values[votes.argmax()] if votes.max() > 1 and 2 * votes.max() > end - start else np.nan
        agree[start:end] &= labels[start:end] == most
    return agree


def _columns(content: bytes) -> tuple[str | None, ...] | None:
    try:
        names = tuple(json.loads(content)[_LABELS])
        named = [name for name in names if name is not None]
        return names if set(named) <= set(COLUMNS) and len(set(named)) == len(named) > 0 else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _inferred(table: RecordTable) -> Layout | None:
    """The layout of a file that has ranges, and has lost record 0."""
    ranges = table.keys[(table.image_sizes() == 0) & (table.counts == 2)]
    return Layout(int(ranges.min()), int(table.keys[-1]) + 1, None) if len(ranges) else None


def _exact_keys(table: RecordTable, first: int, last: int) -> tuple[int, int]:
    """Undo the rounding of keys beyond 2^24: faces have images, ranges have none."""
    if last >= EXACT:
        last = int(table.keys[-1]) + 1
    if first < EXACT:
        return first, last
    near = table.select((table.keys >= first - 4) & (table.keys <= first + 4))
    empty = near.keys[near.image_sizes() == 0]
    return (int(empty.min()) if len(empty) else first), last
