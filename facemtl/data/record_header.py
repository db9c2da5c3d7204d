"""The header that MXNet puts before an image in a record: labels and two numbers."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

HEADER = struct.Struct("<IfQQ")
"""Number of further labels (0: the label stands here), the label, id, id2."""


class RecordHeader(NamedTuple):
    """What stands before the image in a record."""

    labels: tuple[float, ...]
    """At least one label, in float32's precision."""
    id: int
    id2: int
    size: int
    """Bytes that it takes, after which the image starts."""


def pack_header(labels: float | int | Sequence[float | int], *, number: int, second: int = 0) -> bytes:
    """Bytes of a header with its id and id2: a number is written as the one label, a sequence as a vector.

    Raises:
        ValueError: If there is no label, or a number is out of its range.
    """
    try:
        if not isinstance(labels, Sequence):
            return HEADER.pack(0, labels, number, second)
        if not labels:
            raise ValueError("pack_header: 'labels' must hold at least one label, got none.")
        return HEADER.pack(len(labels), 0.0, number, second) + struct.pack(f"<{len(labels)}f", *labels)
    except (struct.error, OverflowError) as error:
        raise ValueError(
            f"pack_header: labels must be float32, and id and id2 lie in [0, 2^64), got labels {labels}, id {number} "
            f"and id2 {second}."
        ) from error


def unpack_header(data: bytes) -> RecordHeader | str:
    """The header at the start of a record; or what is wrong with it."""
    if len(data) < HEADER.size:
        return f"a record of an image must have at least {HEADER.size} bytes, got {len(data)}"
    count, label, number, second = HEADER.unpack_from(data)
    size = HEADER.size + 4 * count
    if size > len(data):
        return f"it claims {count:,} labels, and has {len(data):,} bytes"
    labels = struct.unpack_from(f"<{count}f", data, HEADER.size) if count else (label,)
    return RecordHeader(labels, number, second, size)
