"""Faces in a record file of MXNet's kind, as insightface distributes them: read in place, at random, without MXNet."""

from __future__ import annotations

import logging
import mmap
import os
import stat
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from facemtl.data.face_layout import COLUMNS, Layout, face_rows, find_layout, label_rows, range_rows
from facemtl.data.record_checksums import checksums_path, read_checksums
from facemtl.data.record_format import Mapped, RecordError, find_parts
from facemtl.data.record_header import RecordHeader, unpack_header
from facemtl.data.record_index import read_index
from facemtl.data.record_table import Damage, RecordTable, indexed_table, keyed_by_id, scanned_table

OnDamage = Literal["raise", "skip"]

_LOGGER = logging.getLogger("facemtl.data")


class Record(NamedTuple):
    """One record with all that its header says."""

    labels: tuple[float, ...]
    """At least one."""
    id: int
    id2: int
    image: bytes
    """The image file; empty in records that hold none."""


class RecordFile:
    """Labels and image files of all faces in a ``.rec`` file.

    Opening reads the headers of all records into arrays; an image is then a slice of the memory map, with no system
    call and no copy. An object may be used after a fork, and pickled: the new process maps the file itself.

    In insightface's layout record 0 tells which keys are faces, and all others are left out. Any other file is a list
    of faces. The first label is the identity, kept as it stands. Ages and genders are read from files that say what
    their labels are, as :func:`facemtl.pack_records` writes them, or where ``columns`` says it.

    Without an index beside it the whole file is read once for the places of its records.

    RecordIO has no checksums. What is found without: wrong words, lengths that do not lead to the next record, entries
    of the index that lead nowhere or are missing, labels that cannot be true, and faces whose identity is not that of
    their range. What is not: another true-looking label where there are no ranges, and changed images, of which
    decoders find some. With the ``.crc`` file that :class:`facemtl.RecordWriter` writes beside, every changed label is
    found on opening, and every changed image by :meth:`verify`.

    The file must not be truncated while it is read: the system ends processes that look at what is gone.

    Args:
        path: The ``.rec`` file; ``.idx`` and ``.crc`` beside it are used if they are there.
        columns: What the labels of a face are, in this order: ``"identity"``, ``"age"``, ``"gender"``, or None for
            others. By default what the file says, or the identity alone.
        use_index: ``False`` finds the records in the file itself, and does not look at its index.
        on_damage: ``"raise"``, or ``"skip"`` to leave out damaged records, which are counted in ``num_damaged``. A file
            with more faults than sound faces raises all the same.

    Raises:
        RecordError: If the file cannot be read, or is damaged and ``on_damage`` is ``"raise"``.
        ValueError: If an option is none of those above.

    Example:
        >>> import tempfile, pathlib
        >>> from facemtl.data.record_writer import RecordWriter
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "faces.rec"
        >>> with RecordWriter(path) as writer:
        ...     for identity in (0, 0, 1):
        ...         _ = writer.write(b"an image file", labels=identity)
        >>> records = RecordFile(path)
        >>> records.identities, bytes(records.payload(2))
        (array([0, 0, 1]), b'an image file')
    """

    def __init__(
        self,
        path: str | Path,
        *,
        columns: Sequence[str | None] | None = None,
        use_index: bool = True,
        on_damage: OnDamage = "raise",
    ) -> None:
        _check_options(columns, on_damage)
        self.path = Path(path)
        self._data, self._stamp = _map(self.path)
        self._view: memoryview | None = memoryview(self._data)
        damage = Damage(self.path)
        index = self.path.with_suffix(".idx")
        self.indexed = use_index and index.exists()
        width = max(2, len(COLUMNS) if columns is None else len(columns))
        if self.indexed:
            table = indexed_table(self._data, read_index(index), damage, columns=width)
        else:
            table = scanned_table(self._data, damage, columns=width)
        table = self._checked(table, damage)
        if not self.indexed:
            table = keyed_by_id(table, damage)
        layout = find_layout(self._data, table, damage)
        self.columns = _chosen(columns, layout)
        self._all_keys, self._all_offsets = table.keys, table.offsets
        self._set_faces(_faces(table, layout, self.columns, damage))
        self.num_damaged, self.damage = damage.count, tuple(damage.first)
        self._judge(on_damage)

    def _set_faces(self, faces: RecordTable) -> None:
        self.keys, self._offsets, self._starts, self._ends = faces.keys, faces.offsets, faces.starts, faces.ends
        self._parted = faces.parted
        unknown = np.full(len(faces), np.nan, np.float32)
        found = {name: faces.labels[:, place] for place, name in enumerate(self.columns)}
        self.identities: npt.NDArray[np.int64] = np.nan_to_num(found.get("identity", unknown), nan=-1).astype(np.int64)
        self.ages: npt.NDArray[np.float32] = np.ascontiguousarray(found.get("age", unknown))
        self.genders: npt.NDArray[np.int8] = np.nan_to_num(found.get("gender", unknown), nan=-1).astype(np.int8)

    def __len__(self) -> int:
        return len(self._starts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}): {len(self):,} faces of {self.num_identities:,} identities"

    @property
    def num_identities(self) -> int:
        """One more than the largest identity, as a classifier needs; identities without a face count too."""
        return int(self.identities.max(initial=-1)) + 1

    def payload(self, index: int, /) -> memoryview:
        """The image file of face ``index``, in the order of the keys: a view of the memory map.

        Raises:
            IndexError: If there is no such face.
            RecordError: If the file was changed since it was opened, and this process has not mapped it yet.
        """
        try:
            start, end = self._starts.item(index), self._ends.item(index)
        except IndexError:
            raise IndexError(f"RecordFile.payload: 'index' must lie in [0, {len(self)}), got {index}.") from None
        view = self._view
        if view is None or end < 0:
            return self._slow_payload(index)
        return view[start:end]

    def record(self, key: int) -> Record:
        """The record of a key as it stands, be it a face or not.

        Raises:
            KeyError: If there is none, or it is damaged.
        """
        row = int(np.searchsorted(self._all_keys, key))
        if row == len(self._all_keys) or self._all_keys[row] != key:
            raise KeyError(f"RecordFile.record: there is no record of key {key}.")
        whole, header = self._whole(int(self._all_offsets[row]))
        return Record(header.labels, header.id, header.id2, whole[header.size :])

    def verify(self) -> list[RecordError]:
        """Compare all images with the checksums beside the file, which reads it whole.

        Returns:
            All faults; none if every byte is as it was written.

        Raises:
            RecordError: If there are no checksums.
        """
        checksums = read_checksums(checksums_path(self.path))
        rows = dict(zip(checksums["offset"].tolist(), checksums["image"].tolist(), strict=True))
        faults = []
        for number, offset in enumerate(self._all_offsets.tolist()):
            whole, header = self._whole(offset)
            if zlib.crc32(memoryview(whole)[header.size :]) != rows.get(offset):
                faults.append(RecordError(self.path, "its image is not what was written", number, offset))
        return faults

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_data": None, "_view": None}

    def _slow_payload(self, index: int) -> memoryview:
        self._mapped()
        if self._ends[index] >= 0:
            return self.payload(index)
        whole, header = self._whole(int(self._offsets[index]))
        return memoryview(whole)[header.size :]

    def _mapped(self) -> Mapped:
        """The memory map of this process."""
        if self._view is None:
            self._data, stamp = _map(self.path)
            if stamp != self._stamp:
                raise RecordError(self.path, "the file was changed since it was opened", advice="Open it again.")
            self._view = memoryview(self._data)
        return self._data

    def _whole(self, offset: int) -> tuple[bytes, RecordHeader]:
        """A record of several parts or one, joined, and its header."""
        data = self._mapped()
        parts = find_parts(data, offset, len(data))
        header = parts if isinstance(parts, str) else unpack_header(whole := parts.join(data))
        if isinstance(header, str):
            raise RecordError(self.path, f"the file was changed since it was opened: {header}", None, offset)
        return whole, header

    def _checked(self, table: RecordTable, damage: Damage) -> RecordTable:
        """Leave out records whose header is not what was written, if there are checksums."""
        path = checksums_path(self.path)
        if not path.exists():
            return table
        checksums = read_checksums(path)
        places = np.searchsorted(checksums["offset"], table.offsets).clip(max=len(checksums) - 1)
        wrong = np.ones(len(table), bool)
        if len(checksums):
            found = np.array(self._header_sums(table), np.uint32)
            wrong = (checksums["offset"][places] != table.offsets) | (checksums["header"][places] != found)
        if self.indexed:
            wrong |= table.keys.astype(np.uint64) != table.ids
        advice = "If another program rewrote the file, remove the .crc file."
        damage.add_all("its labels or its key are not what was written", table.numbers, table.offsets, wrong, advice)
        if len(table) < len(checksums) and not damage.count:
            damage.add(f"{len(checksums) - len(table):,} records that were written are missing", advice=advice)
        return table.select(~wrong)

    def _header_sums(self, table: RecordTable) -> list[int]:
        view, crc = memoryview(self._data), zlib.crc32
        return [
            crc(view[offset + 8 : start] if end >= 0 else table.parted[offset].join(self._data)[:start])
            for offset, start, end in zip(
                table.offsets.tolist(), table.starts.tolist(), table.ends.tolist(), strict=True
            )
        ]

    def _judge(self, on_damage: OnDamage) -> None:
        """Raise if the caller wants that, or if more is damaged than sound; otherwise tell of what is left out."""
        if not self.num_damaged:
            return
        first = self.damage[0]
        if on_damage == "raise" or self.num_damaged > len(self):
            advice = 'Pass on_damage="skip" to read the rest.' if self.num_damaged <= len(self) else ""
            more = f"{self.num_damaged - 1:,} more faults were found, and {len(self):,} faces are sound."
            advice = " ".join(filter(None, (first.advice, advice, more if self.num_damaged > 1 else "")))
            raise RecordError(first.path, first.reason, first.record, first.offset, advice)
        _LOGGER.warning(
            "RecordFile: %d faults, of which the first is %s %d faces are left.", self.num_damaged, first, len(self)
        )


def _faces(table: RecordTable, layout: Layout | None, columns: tuple[str | None, ...], damage: Damage) -> RecordTable:
    good = face_rows(table, layout, damage)
    faces = table.select(good)
    sound = label_rows(faces, columns, damage)
    if layout is not None and "identity" in columns:
        rows = np.flatnonzero(good)
        good[rows[~sound]] = False
        together = range_rows(table, good, columns.index("identity"), layout, damage)
        return table.select(good & together)
    return faces.select(sound)


def _chosen(columns: Sequence[str | None] | None, layout: Layout | None) -> tuple[str | None, ...]:
    if columns is not None:
        return tuple(columns)
    if layout is None or layout.columns is None:
        return ("identity",)
    return tuple(name or None for name in layout.columns[: len(COLUMNS)])


def _check_options(columns: Sequence[str | None] | None, on_damage: OnDamage) -> None:
    if on_damage not in ("raise", "skip"):
        raise ValueError(f'RecordFile: \'on_damage\' must be "raise" or "skip", got {on_damage!r}.')
    if columns is None:
        return
    named = [name for name in columns if name is not None]
    if not named or not set(named) <= set(COLUMNS) or len(set(named)) < len(named):
        raise ValueError(f"RecordFile: 'columns' must be some of {COLUMNS} or None, each once, got {tuple(columns)}.")


def _map(path: Path) -> tuple[Mapped, tuple[int, int]]:
    """Map a regular file; gives its size and time of change as well."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise RecordError(path, "not a regular file")
            if status.st_size == 0:
                raise RecordError(path, "empty file", advice="Was it written to its end?")
            return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), (status.st_size, status.st_mtime_ns)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RecordError(path, f"cannot be read ({error.strerror or error})") from error
