"""An endless walk over a set: each member once an epoch, each epoch in an order of its own, from any place at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from facemtl.data.random_words import random_words


class EpochPermutations:
    """Epoch after epoch of 0 to ``size`` − 1, each permuted anew; any stretch of the walk can be asked for.

    The order of an epoch sorts random words, one a member: every order is equally likely, up to two equal words among
    2⁶⁴. The two epochs asked for last are kept, 4 bytes a member each, so that only the first batch of an epoch waits
    for the sort (a quarter of a second for two million members).

    Args:
        size: Number of members, at least 1.
        seed: Of the run.
        purpose: Tells the random numbers of this walk from those of others.
        part: The same, for one of many walks of a purpose.
    """

    def __init__(self, size: int, *, seed: int, purpose: int, part: int = 0) -> None:
        self._size, self._seed, self._purpose, self._part = size, seed, purpose, part
        self._kept: dict[int, npt.NDArray[np.signedinteger]] = {}

    def epoch(self, number: int) -> npt.NDArray[np.signedinteger]:
        """Order of epoch ``number``, ``(size,)``."""
        if number not in self._kept:
            words = random_words(self._seed, (self._purpose, number, self._part), count=self._size)
            order = np.argsort(words, kind="stable")
            order = order.astype(np.int32) if self._size < 2**31 else order
            self._kept = {**dict(list(self._kept.items())[-1:]), number: order}
        return self._kept[number]

    def stretch(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Members at the places ``start`` to ``stop`` − 1 of the walk."""
        members = np.zeros(stop - start, np.int64)
        place = start
        while place < stop and self._size > 1:
            number, offset = divmod(place, self._size)
            length = min(self._size - offset, stop - place)
            members[place - start : place - start + length] = self.epoch(number)[offset : offset + length]
            place += length
        return members
