"""Records in a file as dmlc's RecordIO lays them: framing, parts, and the error that names what is wrong."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

MAGIC = 0xCED7230A
"""First word of each part of a record."""
MAGIC_BYTES = struct.pack("<I", MAGIC)
LONGEST = 2**29 - 1
"""Most bytes of one record: its length has 29 bits."""
WHOLE, FIRST, MIDDLE, LAST = range(4)
"""What the upper three bits of the second word say of a part."""

Mapped = mmap.mmap | bytes

_FRAME = struct.Struct("<II")


class RecordError(ValueError):
    """A file of records, or a record in it, is damaged or of another format.

    Args:
        path: The file.
        reason: What is wrong in a few words.
        record: Number of the record, in the order of the index or, without one, of the file.
        offset: Byte of the file at which it starts, or at which the fault lies.
        advice: What to do, where there is something.
    """

    def __init__(
        self, path: str | Path, reason: str, record: int | None = None, offset: int | None = None, advice: str = ""
    ) -> None:
        super().__init__(str(path), reason, record, offset, advice)
        self.path, self.reason, self.record, self.offset, self.advice = str(path), reason, record, offset, advice

    def __str__(self) -> str:
        number = "" if self.record is None else f", record {self.record:,}"
        offset = "" if self.offset is None else f", offset {self.offset:,}"
        return f"{self.path!r}{number}{offset}: {self.reason}.{f' {self.advice}' if self.advice else ''}"


class Parts(NamedTuple):
    """Where the bytes of a record lie."""

    spans: tuple[tuple[int, int], ...]
    """First byte and end of each part; between two parts belongs the magic word at which they were split."""
    end: int
    """Where the next record starts."""

    @property
    def size(self) -> int:
        """Bytes of the record."""
        return sum(end - start for start, end in self.spans) + 4 * (len(self.spans) - 1)

    def join(self, data: Mapped) -> bytes:
        """The record's bytes, as they were before they were split."""
        return MAGIC_BYTES.join(data[start:end] for start, end in self.spans)


def frame_record(data: bytes) -> bytes:
    """Bytes of a file that hold ``data`` as one record.

    Aligned words that equal the magic are left out and the record is split there, so that whoever looks for the magic
    finds starts of parts only.

    Raises:
        ValueError: If ``data`` is longer than a record can be.
    """
    if len(data) > LONGEST:
        raise ValueError(f"frame_record: a record must be at most {LONGEST:,} bytes, got {len(data):,}.")
    cuts = []
    place = data.find(MAGIC_BYTES)
    while place >= 0:
        aligned = place % 4 == 0
        if aligned:
            cuts.append(place)
        place = data.find(MAGIC_BYTES, place + (4 if aligned else 1))
    if not cuts:
        return b"".join((_FRAME.pack(MAGIC, WHOLE << 29 | len(data)), data, bytes(-len(data) % 4)))
    starts = [0, *(cut + 4 for cut in cuts)]
    framed = []
    for number, (start, end) in enumerate(zip(starts, [*cuts, len(data)], strict=True)):
        kind = FIRST if number == 0 else LAST if number == len(cuts) else MIDDLE
        framed += [_FRAME.pack(MAGIC, kind << 29 | (end - start)), data[start:end]]
    return b"".join((*framed, bytes(-len(data) % 4)))


def find_parts(data: Mapped, offset: int, size: int) -> Parts | str:
    """Find the parts of the record that starts at ``offset`` of ``size`` bytes; or say what is wrong with it."""
    spans: list[tuple[int, int]] = []
    while True:
        if offset + 8 > size:
            return "the file ends before the record does"
        magic, word = _FRAME.unpack_from(data, offset)
        kind, length = word >> 29, word & LONGEST
        if magic != MAGIC:
            what = "a part of the record" if spans else "a record"
            return f"{what} must start with the word {MAGIC:#010x}, got {magic:#010x}"
        if kind not in ((MIDDLE, LAST) if spans else (WHOLE, FIRST)):
            what = "a further" if spans else "the first"
            return f"{what} part of a record is marked as kind {kind}"
        end = offset + 8 + length
        if end + -length % 4 > size:
            return f"it claims {length:,} bytes, {size - offset - 8:,} are left in the file"
        spans.append((offset + 8, end))
        offset = end + -length % 4
        if kind in (WHOLE, LAST):
            return Parts(tuple(spans), offset)
        if length % 4:
            return f"a part before the last has {length:,} bytes, not a multiple of 4"
