"""Numbers in plain writing, thousands at a time: digits, and perhaps a point and more digits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MOST_BYTES = 16  # fifteen digits and a point: as a whole number, exact in float64


def plain_numbers(
    text: bytes, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Values of the parts of ``text`` that are plain numbers, and which ones are; others have no meaning.

    ``31.25`` is 3125 / 100: both are exact in float64, so their quotient is rounded once and is just the number that
    Python's ``float`` reads. Fifteen digits at most.
    """
    lengths = stops - starts
    plain = (lengths > 0) & (lengths <= _MOST_BYTES)
    whole = np.zeros(len(starts), np.int64)
    digits, decimals, points = (np.zeros(len(starts), np.int64) for _ in range(3))
    data = np.frombuffer(text + bytes(_MOST_BYTES), np.uint8)
    for place in range(min(int(lengths.max(initial=0)), _MOST_BYTES)):
        inside = place < lengths
        byte = data[starts + place]
        digit, point = inside & (byte - np.uint8(ord("0")) <= 9), inside & (byte == ord("."))
        plain &= digit | point | ~inside
        whole = np.where(digit, 10 * whole + byte - ord("0"), whole)
        digits += digit
        decimals += digit & (points > 0)
        points += point
    plain &= (points <= 1) & (digits > decimals) & (digits < _MOST_BYTES)
    return whole / 10.0 ** np.where(plain, decimals, 0), plain
