"""Checksums beside a record file, which has none of its own: `.crc`."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facemtl.data.record_format import RecordError

CHECKSUMS = np.dtype([("offset", "<i8"), ("header", "<u4"), ("image", "<u4")])
"""Where a record starts, and CRC-32 of its header with the labels and of its image."""

_START = b"facemtl record checksums 1\n"
_COUNT = struct.Struct("<Q")
_SUM = struct.Struct("<I")


def checksums_path(path: Path) -> Path:
    """File beside a record file for its checksums."""
    return path.with_suffix(".crc")


def checksums_bytes(rows: npt.NDArray[Any]) -> bytes:
    """Content of the file: ``rows`` in order of their offsets."""
    body = rows[np.argsort(rows["offset"])].tobytes()
    return b"".join((_START, _COUNT.pack(len(rows)), body, _SUM.pack(zlib.crc32(body))))


def read_checksums(path: Path) -> npt.NDArray[Any]:
    """Read such a file.

    Raises:
        RecordError: If it cannot be read, or is not what was written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(path, f"cannot be read ({error.strerror or error})") from error
    body = data[len(_START) + _COUNT.size : -_SUM.size]
    sound = (
        data.startswith(_START)
        and len(data) >= len(_START) + _COUNT.size + _SUM.size
        and len(body) == CHECKSUMS.itemsize * _COUNT.unpack_from(data, len(_START))[0]
        and zlib.crc32(body) == _SUM.unpack_from(data, len(data) - _SUM.size)[0]
    )
    if not sound:
        raise RecordError(path, "the checksums are damaged themselves", advice="Remove this file to read without them.")
    return np.frombuffer(body, CHECKSUMS)
