"""Millions of names in two arrays."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import SupportsIndex, overload

import numpy as np
import numpy.typing as npt

_AT_ONCE = 2**16  # Python numbers in memory while names are read one after another


class PackedNames(Sequence[str]):
    """A sequence of names that costs their bytes and eight more each.

    A list of Python strings costs some fifty bytes more for each name, and every worker process that reads one copies
    it, since reading writes reference counts. This is one block of bytes that forked workers share.

    Args:
        data: All names one after another, UTF-8; bytes that are no UTF-8 are kept (Python's ``surrogateescape``).
        offsets: ``(names + 1,)`` int64, where each name begins, and the end of the last.

    Raises:
        ValueError: If ``offsets`` does not rise from 0 to the length of ``data``.

    Example:
        >>> names = PackedNames.pack(["a.jpg", "b c.jpg"])
        >>> len(names), names[1], names[-2], list(names[:1])
        (2, 'b c.jpg', 'a.jpg', ['a.jpg'])
    """

    __slots__ = ("data", "offsets")

    def __init__(self, data: bytes, offsets: npt.NDArray[np.int64]) -> None:
        offsets = np.ascontiguousarray(offsets, np.int64)
        if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(data):
            raise ValueError(f"PackedNames: 'offsets' must rise from 0 to {len(data)}, got {offsets}.")
        if (offsets[1:] < offsets[:-1]).any():
            raise ValueError(f"PackedNames: 'offsets' must rise, got {offsets}.")
        self.data, self.offsets = data, offsets

    @classmethod
    def pack(cls, names: Iterable[str]) -> PackedNames:
        """Pack names."""
        return cls.pack_bytes([encode_name(name) for name in names])

    @classmethod
    def pack_bytes(cls, names: Sequence[bytes]) -> PackedNames:
        """Pack names that are encoded already."""
        return cls(b"".join(names), ends_of(np.fromiter(map(len, names), np.int64, len(names))))

    def take(self, indices: npt.NDArray[np.int64]) -> PackedNames:
        """The names at ``indices``, in this order."""
        data, starts, stops = self.data, self.offsets[indices].tolist(), self.offsets[indices + 1].tolist()
        return PackedNames.pack_bytes([data[start:stop] for start, stop in zip(starts, stops, strict=True)])

    def encoded(self) -> Iterator[bytes]:
        """Each name as bytes."""
        data, start = self.data, 0
        for first in range(1, len(self.offsets), _AT_ONCE):
            for stop in self.offsets[first : first + _AT_ONCE].tolist():
                yield data[start:stop]
                start = stop

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[str]:
        return map(decode_name, self.encoded())

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> PackedNames: ...

    def __getitem__(self, index: SupportsIndex | slice) -> str | PackedNames:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"PackedNames: 'index' must lie in [{-len(self)}, {len(self)}), got {place}.")
        place %= len(self)
        return decode_name(self.data[self.offsets[place] : self.offsets[place + 1]])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedNames):
            return NotImplemented
        return self.data == other.data and np.array_equal(self.offsets, other.offsets)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"PackedNames([{shown}{', …' if len(self) > 3 else ''}], {len(self)} names)"


def encode_name(name: str) -> bytes:
    """A name as bytes; the system's names that are no text keep their own."""
    return name.encode("utf-8", "surrogateescape")


def decode_name(name: bytes) -> str:
    """What :func:`encode_name` encoded."""
    return name.decode("utf-8", "surrogateescape")


def ends_of(lengths: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Offsets of pieces that have these lengths, which is 0 and where each of them ends."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
