"""Numbers for people: 0 … N−1, in the order of the ids that they had."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facemtl.data.packed_names import PackedNames

_WHOLE = re.compile(r"-?[0-9]{1,1000}")


class Numbered(NamedTuple):
    """Identities as a network's classes."""

    identities: npt.NDArray[np.int64]
    names: PackedNames


def number_identities(codes: npt.NDArray[np.int64], names: Sequence[str]) -> Numbered:
    """Number those of ``names`` that ``codes`` mentions, in sorted order; −1 stays −1.

    The order is that of the numbers where all names in use are whole numbers (007 and 7 are two people, in that
    order), else that of the texts' code points. It depends on who is there, not on the order of the rows.
    """
    used = np.unique(codes[codes >= 0])
    texts = [names[code] for code in used.tolist()]
    whole = all(_WHOLE.fullmatch(text) for text in texts)
    order = sorted(range(len(texts)), key=(lambda at: (int(texts[at]), texts[at])) if whole else texts.__getitem__)
    places = np.full(len(names) + 1, -1, np.int64)  # the last is for unknown ones, whose code is −1
    places[used[order]] = np.arange(len(order))
    return Numbered(places[codes], PackedNames.pack([texts[at] for at in order]))
