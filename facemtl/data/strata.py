"""An endless walk over strata of a set that visits all strata equally often, and all members of one equally often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facemtl.data.permutation import EpochPermutations
from facemtl.data.random_words import random_words


class StratifiedStretch(NamedTuple):
    """Part of a walk over strata."""

    strata: npt.NDArray[np.int64]
    """Number of the stratum at each place."""
    members: npt.NDArray[np.int64]
    """The member drawn at each place."""


class StratifiedWalk:
    """Cycle after cycle, each visits all strata once in an order of its own; the c-th cycle takes c-th members.

    With C strata, place p belongs to cycle c = ⌊p / C⌋. As each cycle visits each stratum once, cycle c is the c-th
    visit to every stratum: which member that takes is known without walking there. Within a stratum of n members
    each visit c, …, c + n − 1 of an epoch takes another member.

    Args:
        members: Those of each stratum; no stratum is empty.
        seed: Of the run.
        purpose: Tells the random numbers of this walk from those of others; ``purpose`` + 1 is taken too.
    """

    def __init__(self, members: Sequence[npt.NDArray[np.integer]], *, seed: int, purpose: int) -> None:
        self._members, self._seed, self._purpose = members, seed, purpose
        self._walks = [
            EpochPermutations(len(stratum), seed=seed, purpose=purpose + 1, part=part)
            for part, stratum in enumerate(members)
        ]

    def stretch(self, start: int, stop: int) -> StratifiedStretch:
        """What lies at the places ``start`` to ``stop`` − 1 of the walk."""
        num_strata = len(self._members)
        first, last = start // num_strata, -(-stop // num_strata)
        words = random_words(
            self._seed, (self._purpose, 0, 0), start=first * num_strata, count=(last - first) * num_strata
        )
        cycles = np.argsort(words.reshape(-1, num_strata), axis=1, kind="stable")
        strata = cycles.reshape(-1)[start - first * num_strata : stop - first * num_strata].astype(np.int64)
        members = np.empty(stop - start, np.int64)
        visits = np.arange(start, stop) // num_strata
        for stratum in np.unique(strata):
            places = np.flatnonzero(strata == stratum)  # visits rise by one from place to place
            drawn = self._walks[stratum].stretch(int(visits[places[0]]), int(visits[places[-1]]) + 1)
            members[places] = self._members[stratum][drawn]
        return StratifiedStretch(strata, members)
