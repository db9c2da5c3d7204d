"""Some of the faces of a record file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from facemtl.data.record_dataset import LabelledRecords


class RecordSubset:
    r"""Some of the records of a file, identities numbered anew from 0: what ``Manifest.select`` is to a manifest.

    Args:
        records: All of them.
        indices: Places of those to keep, each once.

    Attributes:
        identity_numbers: The number in ``records`` of each identity here.

    Raises:
        ValueError: If no place is given or one is given twice.
        IndexError: If there is no such record.

    Example:
        >>> import numpy as np
        >>> class Three:
        ...     identities, ages, genders = np.array([5, 7, -1]), np.float32([3, 40, 80]), np.int8([0, 1, -1])
        ...     def payload(self, index):
        ...         return bytes([index])
        >>> some = RecordSubset(Three(), [1, 2])
        >>> some.identities, some.ages, some.payload(0)
        (array([ 0, -1]), array([40., 80.], dtype=float32), b'\x01')
    """

    def __init__(self, records: LabelledRecords, indices: Sequence[int] | npt.NDArray[np.integer]) -> None:
        places = np.asarray(indices, dtype=np.int64)
        count = len(records.identities)
        if places.ndim != 1 or not len(places) or len(np.unique(places)) < len(places):
            raise ValueError(f"RecordSubset: 'indices' must be different places, at least one, got {indices!r}.")
        if places.min() < 0 or places.max() >= count:
            raise IndexError(f"RecordSubset: 'indices' must lie in [0, {count}), got {places.min()} to {places.max()}.")
        self._records, self._places = records, places
        numbers = records.identities[places]
        self.identity_numbers: npt.NDArray[np.int64] = np.unique(numbers[numbers >= 0])
        self.identities: npt.NDArray[np.int64] = np.where(
            numbers >= 0, np.searchsorted(self.identity_numbers, numbers), -1
        )
        self.ages: npt.NDArray[np.float32] = records.ages[places]
        self.genders: npt.NDArray[np.int8] = records.genders[places]

    def name(self, index: int, /) -> str:
        """What messages call face ``index``: the number of its record in the whole file."""
        return f"record {self._places[index]}"

    def payload(self, index: int, /) -> bytes | memoryview:
        """The image file of face ``index``."""
        return self._records.payload(int(self._places[index]))
