"""The text file beside a record file that says where each record starts: `.idx`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facemtl.data.record_format import RecordError

_TAB, _NEWLINE, _ZERO, _NINE = b"\t\n09"
_MOST_DIGITS = 18  # a number of more may not fit into int64


class RecordIndex(NamedTuple):
    """Keys of records and where they start, in the order of the file's lines."""

    keys: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]


def read_index(path: Path) -> RecordIndex:
    """Read lines of ``key<TAB>offset``.

    Raises:
        RecordError: If the file cannot be read, or a line is anything else.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise RecordError(path, f"cannot be read ({error.strerror or error})") from error
    text = text.replace(b"\r\n", b"\n")
    if text and not text.endswith(b"\n"):
        text += b"\n"
    letters = np.frombuffer(text, np.uint8)
    (separators,) = np.nonzero((letters < _ZERO) | (letters > _NINE))
    wanted = np.where(np.arange(len(separators)) % 2, _NEWLINE, _TAB)
    digits = np.diff(separators, prepend=-1) - 1
    wrong = (letters[separators] != wanted) | (digits < 1) | (digits > _MOST_DIGITS)
    if wrong.any() or len(separators) % 2:
        place = int(separators[np.argmax(wrong)]) if wrong.any() else len(text)
        line = text.count(b"\n", 0, place) + 1
        got = text[:place].rpartition(b"\n")[2] + text[place:].partition(b"\n")[0]
        raise RecordError(path, f"line {line:,} must be a key, a tab and an offset, got {got[:80]!r}", line - 1, place)
    numbers = np.fromstring(text.decode("ascii"), np.int64, sep=" ")  # any white space separates
    return RecordIndex(np.ascontiguousarray(numbers[0::2]), np.ascontiguousarray(numbers[1::2]))


def index_text(keys: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> bytes:
    """Lines of an index, in the order of the keys."""
    order = np.argsort(keys, kind="stable")
    pairs = zip(keys[order].tolist(), offsets[order].tolist(), strict=True)
    return "".join(f"{key}\t{offset}\n" for key, offset in pairs).encode("ascii")
