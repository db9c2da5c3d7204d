"""Which column of a table holds what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from facemtl.data.label_tokens import AgeRanges
from facemtl.data.manifest_problems import ManifestError

# Names that the field uses. Those of an earlier row count before those of a later one: a table of crops names both the
# crop and its source, and where there is an "identity", an "id" is a row's number.
_NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "filename": (
        ("crop",),
        ("filename", "file_name", "file", "filepath", "file_path", "path", "image", "image_path", "img", "img_path"),
        ("image_id", "source"),
        ("name",),
    ),
    "identity": (
        ("identity", "identity_id", "person", "person_id", "subject", "subject_id", "celeb_id"),
        ("id",),
        ("label", "class", "class_id"),
    ),
    "age": (("age",),),
    "age_low": (("age_low",),),
    "age_high": (("age_high",),),
    "gender": (("gender", "sex"),),
}


class ColumnPlaces(NamedTuple):
    """Places of the columns in a row; None is a column that the table does not have."""

    filename: int
    identity: int | None
    age: int | None
    age_range: tuple[int, int] | None
    gender: int | None


def find_columns(
    header: Sequence[str], columns: Mapping[str, str], *, age_ranges: AgeRanges, where: str
) -> ColumnPlaces:
    """Find the columns by the names that the caller gave, or by those that the field uses.

    Raises:
        ManifestError: If a name is not there or there twice, there is none for the files, or ages are ranges and are
            not to be read as their middles.
    """
    cleaned = [field.strip().lower() for field in header]
    unwanted = set(columns) - set(_NAMES)
    if unwanted:
        raise ManifestError(f"{where}: 'columns' may name {', '.join(_NAMES)}; got {sorted(unwanted)[0]!r}.")
    places = {role: _place(role, cleaned, columns.get(role), where) for role in _NAMES}
    name = places["filename"]
    if name is None:
        raise ManifestError(
            f"{where}: expected a header line with a column for the files' names, got the columns {list(header)!r}. "
            'Call one "filename", or pass columns={"filename": ...}.'
        )
    ends = (places["age_low"], places["age_high"])
    if ends[0] is None or ends[1] is None or places["age"] is not None:
        return ColumnPlaces(name, places["identity"], places["age"], None, places["gender"])
    if age_ranges == "refuse":
        raise ManifestError(
            f"{where}: expected ages, got ranges of ages in the columns {header[ends[0]]!r} and {header[ends[1]]!r}. "
            'Pass age_ranges="midpoint" to use the middle of each.'
        )
    return ColumnPlaces(name, places["identity"], None, (ends[0], ends[1]), places["gender"])


def _place(role: str, header: Sequence[str], wanted: str | None, where: str) -> int | None:
    rows = ((wanted.strip().lower(),),) if wanted is not None else _NAMES[role]
    for names in rows:
        found = [place for place, field in enumerate(header) if field in names]
        if len(found) == 1:
            return found[0]
        if found:
            raise ManifestError(
                f"{where}: expected one column for '{role}', got {[header[place] for place in found]!r}. "
                f'Choose with columns={{"{role}": ...}}.'
            )
    if wanted is not None:
        raise ManifestError(f"{where}: expected a column {wanted!r} for '{role}', got {list(header)!r}.")
    return None
