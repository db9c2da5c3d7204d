"""Several data sets as one: real faces and synthetic ones, a folder and a record file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

from facemtl.data.broken_images import BrokenCount
from facemtl.data.encoded_faces import EncodedFaces, FaceColumns
from facemtl.data.samples import FaceSample


class JoinedFaces(Dataset[FaceSample]):
    """Data sets of faces, one after the other; the people of each are people of their own.

    torch's ``ConcatDataset`` would take identity 0 of one and identity 0 of the next for the same person, and ask for
    one face at a time.

    Args:
        parts: Data sets whose images have one size; identities of each count from 0.

    Attributes:
        columns: Labels of all faces, identities numbered on from part to part.
        first_identities: Number that identity 0 of each part has here.

    Raises:
        ValueError: If there is no part.

    Example:
        >>> from facemtl.data.bundled import bundled_faces
        >>> both = JoinedFaces([bundled_faces(), bundled_faces()])
        >>> len(both), both.num_identities, both[2048].identity, both[2048].index
        (4096, 512, 256, 2048)
    """

    def __init__(self, parts: Sequence[EncodedFaces]) -> None:
        if not parts:
            raise ValueError("JoinedFaces: 'parts' must be at least one data set, got none.")
        self.parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        people = [int(part.columns.identities.max(initial=-1)) + 1 for part in parts]
        self.first_identities = tuple(int(first) for first in np.cumsum([0, *people[:-1]]))
        self.num_identities = sum(people)
        self.columns = FaceColumns(
            np.concatenate([self._renumbered(number) for number in range(len(parts))]),
            np.concatenate([part.columns.ages for part in parts]),
            np.concatenate([part.columns.genders for part in parts]),
        )

    @property
    def broken_count(self) -> BrokenCount:
        """Faces asked for and broken images met so far, in all parts."""
        counts = [part.broken_count for part in self.parts]
        return BrokenCount(sum(count.asked for count in counts), sum(count.broken for count in counts))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> FaceSample:
        """One face; ``DataLoader`` asks for a batch at once instead, through ``__getitems__``."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[FaceSample]:
        """Several faces, in the order of ``indices``; those of one part are decoded together."""
        places = [self._place(index) for index in indices]
        samples: dict[int, FaceSample] = {}
        for number, part in enumerate(self.parts):
            own = [row for row, (owner, _) in enumerate(places) if owner == number]
            if not own:
                continue
            first = self.first_identities[number]
            for row, sample in zip(own, part.__getitems__([places[row][1] for row in own]), strict=True):
                samples[row] = sample._replace(
                    identity=sample.identity + first if sample.identity >= 0 else sample.identity,
                    index=sample.index + int(self._starts[number]),
                )
        return [samples[row] for row in range(len(places))]

    def name(self, index: int) -> str:
        """What messages call face ``index``: its file, or the number of its record."""
        number, place = self._place(index)
        return self.parts[number].name(place)

    def _place(self, index: int) -> tuple[int, int]:
        """Part and place in it of a face."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"JoinedFaces: 'index' must lie in [0, {len(self)}), got {index}.")
        index = int(index) % len(self)
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return number, index - int(self._starts[number])

    def _renumbered(self, number: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        identities = self.parts[number].columns.identities.astype(np.int64)
        return np.where(identities >= 0, identities + self.first_identities[number], identities)
