"""What a manifest is made of: ages, genders, and faces of each person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facemtl.data.datasets import LabelledFiles
from facemtl.data.label_columns import age_group_column, whole_numbers
from facemtl.layers.age import AgeGroups

_WHERE = "manifest_statistics"
_YEARS = 101
GENDERS = ("female", "male", "unknown")
"""What the columns of counts by gender are."""


@dataclass(frozen=True, eq=False)
class ManifestStatistics:
    """Counts of faces by age and gender, and of people by their number of faces.

    The figures of the paper's supplement, Fig. A.1, and what it leaves out: whatever is unknown has a place of its own,
    so that every face is counted once in each table.

    Args:
        age_groups: Where ages are cut.
        years: ``(101, 3)`` int64 faces of each completed year of age, 0 to 100; female, male, gender unknown.
        groups: ``(groups, 3)`` int64 faces of each age group, by gender.
        without_age: ``(3,)`` int64 faces whose age is unknown, by gender.
        people: ``(sizes, 2)`` int64, rising numbers of faces and how many people have so many.
        without_identity: Faces of whom nobody said who they are.
    """

    age_groups: AgeGroups
    years: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    without_age: npt.NDArray[np.int64]
    people: npt.NDArray[np.int64]
    without_identity: int

    @property
    def num_faces(self) -> int:
        """All faces, those without labels too."""
        return int(self.groups.sum() + self.without_age.sum())

    @property
    def num_identities(self) -> int:
        """People with a face at least."""
        return int(self.people[:, 1].sum())

    @property
    def genders(self) -> npt.NDArray[np.int64]:
        """``(3,)`` faces that are female, male and of unknown gender."""
        return np.asarray(self.groups.sum(axis=0) + self.without_age)

    def faces_per_identity(self, share: float | int) -> int:
        """The number of faces that ``share`` of the people do not exceed, 0.5 for the median; 0 if nobody is known.

        Raises:
            ValueError: If ``share`` lies outside [0, 1].
        """
        if not 0 <= share <= 1:
            raise ValueError(f"ManifestStatistics.faces_per_identity: 'share' must lie in [0, 1], got {share}.")
        if not self.num_identities:
            return 0
        reached = np.cumsum(self.people[:, 1]) >= share * self.num_identities
        return int(self.people[int(reached.argmax()), 0])

    def table(self) -> str:
        """The counts as lines of text, for a terminal or a report."""
        return "\n".join(_lines(self))


def manifest_statistics(manifest: LabelledFiles, *, age_groups: AgeGroups | None = None) -> ManifestStatistics:
    """Count a manifest's faces by age and gender, and its people by their number of faces.

    Args:
        manifest: Names and labels; no file is opened.
        age_groups: Where ages are cut; the paper's seven groups by default.

    Returns:
        :class:`~facemtl.data.statistics.ManifestStatistics`; :func:`facemtl.draw_statistics` draws it.

    Raises:
        ValueError: If there is no face, columns have different lengths, or a label is out of its range.
        TypeError: If labels are not numbers.

    Example:
        >>> from types import SimpleNamespace
        >>> manifest = SimpleNamespace(  # as read_manifest gives it
        ...     ages=[8.5, 31.0, float("nan")], genders=[1, 0, -1], identities=[0, 0, 1])
        >>> statistics = manifest_statistics(manifest)
        >>> statistics.genders.tolist(), statistics.people.tolist(), statistics.years[8].tolist()
        ([1, 1, 1], [[1, 1], [2, 1]], [0, 1, 0])
    """
    age_groups = age_groups if age_groups is not None else AgeGroups()
    groups = age_group_column(_WHERE, manifest.ages, age_groups)
    genders = whole_numbers(_WHERE, "genders", manifest.genders, highest=1, length=len(groups))
    identities = whole_numbers(_WHERE, "identities", manifest.identities, length=len(groups))
    columns = np.where(genders < 0, 2, genders)
    known = groups >= 0
    years = np.asarray(manifest.ages)[known].astype(np.int64)
    _, sizes = np.unique(identities[identities >= 0], return_counts=True)
    return ManifestStatistics(
        age_groups,
        _by_gender(years, columns[known], _YEARS),
        _by_gender(groups[known], columns[known], age_groups.num_groups),
        np.bincount(columns[~known], minlength=3),
        np.stack(np.unique(sizes, return_counts=True), axis=1),
        int((identities < 0).sum()),
    )


def _by_gender(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], num_rows: int) -> npt.NDArray[np.int64]:
    return np.bincount(3 * rows + columns, minlength=3 * num_rows).reshape(num_rows, 3)


def _lines(statistics: ManifestStatistics) -> Iterator[str]:
    people = statistics.num_identities
    unknown = f", {statistics.without_identity:,} faces of unknown people" if statistics.without_identity else ""
    yield f"{statistics.num_faces:,} faces, {people:,} people{unknown}"
    if people:
        named = statistics.num_faces - statistics.without_identity
        least, median, most = (statistics.faces_per_identity(share) for share in (0, 0.5, 1))
        yield f"faces a person: {least:,} to {most:,}, median {median:,}, mean {named / people:.1f}"
    yield ""
    rows = [*zip(statistics.age_groups.labels, statistics.groups.tolist(), strict=True)]
    rows += [("unknown", statistics.without_age.tolist()), ("all ages", statistics.genders.tolist())]
    yield from _aligned(
        [
            ("age", *GENDERS, "all", "share"),
            *(
                (label, *(f"{count:,}" for count in counts), f"{sum(counts):,}", _share(sum(counts), statistics))
                for label, counts in rows
            ),
        ]
    )


def _share(count: int, statistics: ManifestStatistics) -> str:
    return f"{100 * count / statistics.num_faces:.1f} %"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        numbers = (text.rjust(width) for text, width in zip(others, widths[1:], strict=True))
        yield "  ".join((first.ljust(widths[0]), *numbers))
