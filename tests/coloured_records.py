"""Records in memory whose images are of one colour each, for tests of data sets."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from facemtl.data.record_dataset import RecordDataset

SIZE = (2, 2)


class Colours:
    """Records in memory, each of a colour of its own; some are broken."""

    def __init__(self, first: int, identities: list[int], *, broken: frozenset[int] = frozenset()) -> None:
        self.first, self.broken = first, broken
        self.identities = np.array(identities, np.int64)
        numbers = first + np.arange(len(identities))
        self.ages = np.where(numbers % 5 == 0, np.nan, numbers % 100).astype(np.float32)
        self.genders = (numbers % 3 - 1).astype(np.int8)

    def payload(self, index: int, /) -> bytes:
        if index in self.broken:
            return b"no image"
        file = io.BytesIO()
        Image.new("RGB", SIZE, (self.first + index, index, 7)).save(file, "PNG")
        return file.getvalue()


def colours(first: int, identities: list[int], *, broken: frozenset[int] = frozenset()) -> RecordDataset:
    return RecordDataset(Colours(first, identities, broken=broken), size=SIZE, on_broken="skip", broken_limit=1.0)
