"""Where all records of a mapped file lie and what their headers say, found without a loop over records."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facemtl.data.record_format import (
    FIRST,
    LAST,
    LONGEST,
    MAGIC,
    MAGIC_BYTES,
    WHOLE,
    Mapped,
    Parts,
    RecordError,
    find_parts,
)
from facemtl.data.record_header import HEADER, unpack_header
from facemtl.data.record_index import RecordIndex

_MOST_KEPT = 100
_CHUNK = 2**22
_Rows = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


@dataclass
class Damage:
    """Faults of a file: how many, and the first of them."""

    path: Path
    count: int = 0
    first: list[RecordError] = field(default_factory=list)

    def add(self, reason: str, record: int | None = None, offset: int | None = None, advice: str = "") -> None:
        """Count a fault."""
        self.count += 1
        if len(self.first) < _MOST_KEPT:
            self.first.append(RecordError(self.path, reason, record, offset, advice))

    def add_all(self, reason: str, numbers: _Rows, offsets: _Rows, wrong: _Mask, advice: str = "") -> None:
        """Count a fault for each record that is ``wrong``."""
        (rows,) = np.nonzero(wrong)
        for row in rows[: max(_MOST_KEPT - len(self.first), 0)].tolist():
            self.add(reason, int(numbers[row]), int(offsets[row]), advice)
            self.count -= 1
        self.count += len(rows)


@dataclass
class RecordTable:
    """One row a record, by its key."""

    keys: _Rows
    numbers: _Rows
    """Place in the index or, without one, in the file."""
    offsets: _Rows
    starts: _Rows
    """First byte of the image, in the file; in a record of several parts, in the joined record."""
    ends: _Rows
    """End of the image in the file; −1 in a record of several parts."""
    counts: _Rows
    """Labels of each."""
    ids: npt.NDArray[np.uint64]
    labels: npt.NDArray[np.float32]
    """``(records, columns)``: the first labels; NaN where there are fewer."""
    parted: dict[int, Parts]
    """Records of several parts, by their offset."""

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, rows: _Rows | _Mask) -> RecordTable:
        """Only these rows."""
        return RecordTable(
            self.keys[rows],
            self.numbers[rows],
            self.offsets[rows],
            self.starts[rows],
            self.ends[rows],
            self.counts[rows],
            self.ids[rows],
            self.labels[rows],
            self.parted,
        )

    def image_sizes(self) -> _Rows:
        """Bytes of each image."""
        sizes = self.ends - self.starts
        for row in np.flatnonzero(self.ends < 0).tolist():
            sizes[row] = self.parted[int(self.offsets[row])].size - self.starts[row]
        return sizes


def indexed_table(data: Mapped, index: RecordIndex, damage: Damage, *, columns: int) -> RecordTable:
    """Table of the records that an index lists; what is wrong is left out and counted in ``damage``."""
    keys, offsets = index
    numbers = np.arange(len(keys))
    good = np.ones(len(keys), bool)
    for values, what in ((keys, "its key stands in the index already"), (offsets, "its offset is another's already")):
        order = np.argsort(values, kind="stable")
        twice = np.zeros(len(values), bool)
        twice[order[1:]] = values[order[1:]] == values[order[:-1]]
        damage.add_all(what, numbers, offsets, good & twice, "Rebuild the index, or read with use_index=False.")
        good &= ~twice
    advice = "If the index belongs to another file, read with use_index=False."
    outside = (offsets % 4 != 0) | (offsets + 8 > len(data))
    damage.add_all(
        f"the file of {len(data):,} bytes can have no record there", numbers, offsets, good & outside, advice
    )
    good &= ~outside
    words = _words(data)
    missing = good.copy()
    missing[good] = words[offsets[good] // 4] != MAGIC
    damage.add_all("no record starts there, as the index says", numbers, offsets, missing, advice)
    good &= ~missing
    order = np.flatnonzero(good)
    order = order[np.argsort(offsets[order])]
    places, ends, parted, whole = _extents(data, words, offsets[order], numbers[order], damage)
    whole &= _tiled(data, places, ends, whole, np.sort(offsets), numbers[order], damage)
    rows = order[whole]
    table = _headers(data, words, keys[rows], numbers[rows], places[whole], parted, damage, columns)
    return table.select(np.argsort(table.keys))


def scanned_table(data: Mapped, damage: Damage, *, columns: int) -> RecordTable:
    """Table of all records that the file holds.

    The magic stands at the start of each part and nowhere else, so that it is looked for in the whole file at once;
    a part counts if it ends where the next one starts. Keys are the places in the file.
    """
    offsets = find_magic(data, 0, len(data))
    if not len(offsets) or offsets[0] != 0:
        damage.add("the file does not start with a record", 0, 0, "Is it a .rec file?")
    words = _words(data)
    kinds = words[np.minimum(offsets // 4 + 1, len(words) - 1)] >> 29
    kinds[offsets + 8 > len(data)] = WHOLE  # cut off after the magic
    before = np.concatenate(([LAST], kinds[:-1]))
    first = kinds <= FIRST
    stray = ~first & (np.isin(before, (WHOLE, LAST)) | (kinds > LAST))
    for offset in offsets[stray].tolist():
        damage.add("a later part of a record stands without its start", None, offset)
    starts = offsets[first]
    places, ends, parted, whole = _extents(data, words, starts, np.arange(len(starts)), damage)
    boundaries = np.append(offsets[first | stray], len(data))
    wanted = boundaries[np.searchsorted(boundaries, places, side="right")]
    whole &= _leads_on(words, places, ends, wanted, whole, damage)
    numbers = np.flatnonzero(whole)
    return _headers(data, words, numbers, numbers, places[whole], parted, damage, columns)


def keyed_by_id(table: RecordTable, damage: Damage) -> RecordTable:
    """The same records under the ids in their headers, if these are all different.

    In a file with records that hold no image, which insightface's layout has, keys mean something: there records whose
    id is another's too are damaged, unless that is the rule.
    """
    ids, counts = np.unique(table.ids, return_counts=True)
    if not len(ids) or ids[-1] >= 2**62:
        return table
    if len(ids) < len(table):
        if 2 * len(ids) <= len(table) or table.image_sizes().all():
            return table
        twice = np.isin(table.ids, ids[counts > 1])
        damage.add_all("its id is another's too", table.numbers, table.offsets, twice)
        table = table.select(~twice)
    return replace(table, keys=table.ids.astype(np.int64)).select(np.argsort(table.ids))


def find_magic(data: Mapped, start: int, end: int) -> _Rows:
    """Offsets in ``[start, end)`` of all aligned words that equal the magic."""
    words = _words(data)[: end // 4]
    first = -(-start // 4)
    found = [
        np.flatnonzero(words[place : place + _CHUNK] == MAGIC) + place for place in range(first, len(words), _CHUNK)
    ]
    return 4 * np.concatenate(found) if found else np.zeros(0, np.int64)


def _words(data: Mapped) -> npt.NDArray[np.uint32]:
    return np.frombuffer(data, "<u4", len(data) // 4)


def _extents(
    data: Mapped, words: npt.NDArray[np.uint32], offsets: _Rows, numbers: _Rows, damage: Damage
) -> tuple[_Rows, _Rows, dict[int, Parts], _Mask]:
    """Offsets, where each record ends, those of several parts, and which are whole."""
    if not len(offsets):
        return offsets, offsets.copy(), {}, np.zeros(0, bool)
    second = words[np.minimum(offsets // 4 + 1, len(words) - 1)].astype(np.int64)
    length = second & LONGEST
    ends = offsets + 8 + length + -length % 4
    whole = (second >> 29 == WHOLE) & (ends <= len(data)) & (offsets + 8 <= len(data))
    parted: dict[int, Parts] = {}
    for row in np.flatnonzero(~whole).tolist():
        found = find_parts(data, int(offsets[row]), len(data))
        if isinstance(found, str):
            damage.add(found, int(numbers[row]), int(offsets[row]))
        else:
            ends[row], whole[row] = found.end, True
            parted[int(offsets[row])] = found
    return offsets, ends, parted, whole


def _tiled(
    data: Mapped, offsets: _Rows, ends: _Rows, whole: _Mask, listed: _Rows, numbers: _Rows, damage: Damage
) -> _Mask:
    """Which records end where the next one starts: a length that was changed seldom does."""
    rows = np.flatnonzero(whole)
    good = np.ones(len(offsets), bool)
    following = np.append(offsets, len(data))
    wrong = np.zeros(len(offsets), bool)
    wrong[rows] = ends[rows] > following[rows + 1]
    damage.add_all("it reaches into the next record", numbers, offsets, wrong)
    good &= ~wrong
    gaps = [row for row in rows[ends[rows] < following[rows + 1]].tolist() if good[row]]
    first = int(offsets[0]) if len(offsets) else len(data)
    for row, start, end in [(-1, 0, first), *((row, int(ends[row]), int(following[row + 1])) for row in gaps)]:
        place = np.searchsorted(listed, start)
        if start == end or (place < len(listed) and listed[place] == start):
            continue  # a record that is listed, and damaged, which was counted
        if data[start : start + 4] == MAGIC_BYTES:
            for offset in find_magic(data, start, end).tolist():
                damage.add("the index does not list this record", None, offset, "Read with use_index=False.")
        elif row < 0:
            damage.add("the file does not start with a record", None, 0, "Is it a .rec file?")
        else:
            damage.add("its length does not lead to the next record", int(numbers[row]), int(offsets[row]))
            good[row] = False
    return good


def _leads_on(
    words: npt.NDArray[np.uint32], offsets: _Rows, ends: _Rows, wanted: _Rows, whole: _Mask, damage: Damage
) -> _Mask:
    """Which records end where the next magic stands, or where only the magic of a record is damaged."""
    wrong = whole & (ends != wanted)
    for row in np.flatnonzero(wrong & (ends + 8 <= wanted)).tolist():
        second = int(words[ends[row] // 4 + 1])
        length = second & LONGEST
        if second >> 29 == WHOLE and ends[row] + 8 + length + -length % 4 == wanted[row]:
            damage.add(f"a record must start with the word {MAGIC:#010x}", row + 1, int(ends[row]))
            wrong[row] = False
    damage.add_all("its length does not lead to the next record", np.arange(len(offsets)), offsets, wrong)
    return ~wrong


def _headers(
    data: Mapped,
    words: npt.NDArray[np.uint32],
    keys: _Rows,
    numbers: _Rows,
    offsets: _Rows,
    parted: dict[int, Parts],
    damage: Damage,
    columns: int,
) -> RecordTable:
    """Read the headers of whole records; those without a sound one are left out and counted."""
    base = offsets // 4
    length = (words[base + 1] & LONGEST).astype(np.int64)
    split = np.isin(offsets, np.fromiter(parted, np.int64, len(parted)))
    enough = split | (length >= HEADER.size)
    damage.add_all(f"a record of an image has {HEADER.size} bytes at least", numbers, offsets, ~enough)
    counts = np.zeros(len(base), np.int64)
    counts[enough & ~split] = words[base[enough & ~split] + 2]
    short = enough & ~split & (HEADER.size + 4 * counts > length)
    damage.add_all("it claims more labels than it has bytes for", numbers, offsets, short)
    good = enough & ~short
    plain = good & ~split
    labels = np.full((len(base), columns), np.nan, np.float32)
    floats = words.view("<f4")
    scalar = plain & (counts == 0)
    labels[scalar, 0] = floats[base[scalar] + 3]
    for column in range(columns):
        having = plain & (counts > column)
        labels[having, column] = floats[base[having] + 8 + column]
    ids = np.zeros(len(base), np.uint64)
    ids[plain] = words[base[plain] + 4].astype(np.uint64) | words[base[plain] + 5].astype(np.uint64) << np.uint64(32)
    starts, ends = offsets + 8 + HEADER.size + 4 * counts, offsets + 8 + length
    for row in np.flatnonzero(split).tolist():
        header = unpack_header(parted[int(offsets[row])].join(data))
        if isinstance(header, str):
            damage.add(header, int(numbers[row]), int(offsets[row]))
            good[row] = False
            continue
        vector = header.size > HEADER.size
        counts[row], ids[row] = len(header.labels) if vector else 0, header.id
        labels[row, : len(header.labels)] = header.labels[:columns]
        starts[row], ends[row] = header.size, -1
    counts = np.maximum(counts, 1)
    return RecordTable(keys, numbers, offsets, starts, ends, counts, ids, labels, parted).select(good)
