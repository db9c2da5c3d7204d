"""Which faces there are, and what is known of each: who, how old, which gender."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from facemtl.data.identity_order import number_identities
from facemtl.data.label_tokens import AgeRanges
from facemtl.data.manifest_checks import absent_files, repeated_names
from facemtl.data.manifest_columns import ColumnPlaces, find_columns
from facemtl.data.manifest_lines import read_label_lines
from facemtl.data.manifest_parquet import read_parquet
from facemtl.data.manifest_problems import ManifestError, ManifestProblem
from facemtl.data.manifest_rows import RowBlock, gather_rows
from facemtl.data.manifest_tables import read_csv
from facemtl.data.packed_names import PackedNames

ManifestFormat = Literal["auto", "lines", "csv", "parquet"]
OnProblem = Literal["raise", "drop"]


@dataclass(frozen=True, eq=False)
class Manifest:
    """Names and labels of faces in files, some bytes a face.

    Arrays of numbers and one block of names, about 60 bytes a face, where a table of Python objects takes several
    hundred. :func:`facemtl.read_manifest` and :func:`facemtl.manifest_from_names` make one; ``dataclasses.replace``
    gives it other labels.

    Args:
        root: Folder that the names are relative to.
        filenames: Name of each face's file, with slashes.
        identities: ``(faces,)`` int64, 0 … ``num_identities`` − 1; −1 where nobody said.
        ages: ``(faces,)`` float32, years in [0, 100]; NaN is unknown.
        genders: ``(faces,)`` int8, 1 male, 0 female; −1 is unknown.
        identity_names: The id that each identity had.
        problems: Faults of the rows that were dropped on reading.

    Raises:
        ValueError: If a column has another length than ``filenames``, or a label is out of its range.
        TypeError: If a column has another dtype.

    Example:
        >>> import numpy as np
        >>> from facemtl.data.packed_names import PackedNames
        >>> manifest = Manifest(
        ...     Path("faces"), PackedNames.pack(["a.jpg", "b.jpg"]), np.array([0, -1]), np.float32([31, np.nan]),
        ...     np.int8([1, 0]), PackedNames.pack(["Ada"]))
        >>> len(manifest), manifest.num_identities, manifest.path(1).as_posix()
        (2, 1, 'faces/b.jpg')
    """

    root: Path
    filenames: PackedNames
    identities: npt.NDArray[np.int64]
    ages: npt.NDArray[np.float32]
    genders: npt.NDArray[np.int8]
    identity_names: PackedNames
    problems: tuple[ManifestProblem, ...] = ()

    def __post_init__(self) -> None:
        count, people = len(self.filenames), len(self.identity_names)
        for name, column, kind in (
            ("identities", self.identities, np.int64),
            ("ages", self.ages, np.float32),
            ("genders", self.genders, np.int8),
        ):
            if column.shape != (count,):
                raise ValueError(f"Manifest: '{name}' must have shape ({count},) as 'filenames', got {column.shape}.")
            if column.dtype != kind:
                raise TypeError(f"Manifest: '{name}' must have dtype {np.dtype(kind)}, got {column.dtype}.")
        _check_range("identities", self.identities, (self.identities >= -1) & (self.identities < people), people - 1)
        _check_range("ages", self.ages, np.isnan(self.ages) | ((self.ages >= 0) & (self.ages <= 100)), 100)
        _check_range("genders", self.genders, (self.genders >= -1) & (self.genders <= 1), 1)

    def __len__(self) -> int:
        return len(self.filenames)

    @property
    def num_identities(self) -> int:
        """How many people there are."""
        return len(self.identity_names)

    def path(self, index: int) -> Path:
        """Where the file of face ``index`` is."""
        return self.root / self.filenames[index]

    def select(self, indices: Sequence[int] | npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Manifest:
        """Some of the faces, in the order of ``indices`` (or where a mask is true); identities are numbered anew.

        Raises:
            ValueError: If there is no index, one occurs twice, or a mask has another length.
            IndexError: If there is no such face.
        """
        wanted = np.asarray(indices)
        if wanted.dtype == np.bool_:
            if wanted.shape != (len(self),):
                raise ValueError(f"Manifest.select: a mask must have shape ({len(self)},), got {wanted.shape}.")
            wanted = np.flatnonzero(wanted)
        if wanted.ndim != 1 or len(wanted) == 0 or wanted.dtype.kind not in "iu":
            raise ValueError(f"Manifest.select: 'indices' must be a list of whole numbers, got {indices!r}.")
        wrong = (wanted < -len(self)) | (wanted >= len(self))
        if wrong.any():
            raise IndexError(
                f"Manifest.select: 'indices' must lie in [{-len(self)}, {len(self)}), got {wanted[wrong][0]}."
            )
        wanted = wanted.astype(np.int64) % len(self)
        values, counts = np.unique(wanted, return_counts=True)
        if (counts > 1).any():
            raise ValueError(f"Manifest.select: 'indices' must not repeat a face, got {values[counts > 1][0]} twice.")
        numbered = number_identities(self.identities[wanted], self.identity_names)
        return Manifest(
            self.root,
            self.filenames.take(wanted),
            numbered.identities,
            self.ages[wanted],
            self.genders[wanted],
            numbered.names,
        )

    def save(self, path: str | Path) -> None:
        """Write a manifest that :func:`facemtl.read_manifest` reads to the same labels, whole or not at all.

        Args:
            path: ``*.csv``, ``*.parquet`` (needs pyarrow), or any other name for lines ``id filename age gender``.

        Raises:
            ValueError: If a name or an id cannot be written in this format.
            OSError: If the disk is full, say.
        """
        from facemtl.data.manifest_writer import write_manifest

        write_manifest(self, Path(path))


def read_manifest(
    path: str | Path,
    *,
    root: str | Path | None = None,
    format: ManifestFormat = "auto",  # noqa: A002 - the word that the field uses
    check_files: bool = True,
    on_problem: OnProblem = "raise",
    age_ranges: AgeRanges = "refuse",
    columns: Mapping[str, str] | None = None,
) -> Manifest:
    r"""Read the names and labels of faces, and find everything that is wrong with them in one pass.

    Lines are the paper's, ``id filename age gender`` (1 male, 0 female; the name may hold blanks). CSV and Parquet have
    named columns: one for the files (``filename``, ``file``, ``path``, ``image``, …) and any of ``identity`` or ``id``,
    ``age`` and ``gender`` or ``sex``. Labels that are empty, ``-1`` or ``nan`` are unknown; losses leave them out. An
    age outside [0, 100], or a label that is no label, is a fault, never a guess.

    Args:
        path: The manifest.
        root: Folder that its names are relative to; by default its own.
        format: ``"auto"`` goes by the ending: ``.csv``, ``.parquet`` or ``.pq``, else lines.
        check_files: Whether each file must be there, as a regular file below ``root`` whatever links lead to it. Lists
            each folder once.
        on_problem: ``"raise"``, or ``"drop"`` to leave out rows with a fault and keep their faults in ``problems``.
            Of rows with the same name the first is kept.
        age_ranges: What becomes of ranges of ages, ``30-39``, ``70+`` or two columns ``age_low`` and ``age_high``:
            ``"refuse"``, or ``"midpoint"`` to use the mean of the two ends (34.5; an open end is 100).
        columns: Names of columns where they are others: ``{"filename": "photo", "identity": "star"}``.

    Returns:
        :class:`~facemtl.data.manifest.Manifest`, in the order of the rows.

    Raises:
        ManifestError: With all faults and their lines, in ``problems``; or if no row is left.
        ImportError: If pyarrow is missing for Parquet.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.txt"
        >>> _ = path.write_text("12 a b.jpg 31 1\n7 c.jpg 130 0\n7 ../d.jpg 20 2\n")
        >>> manifest = read_manifest(path, check_files=False, on_problem="drop")
        >>> manifest.filenames[0], manifest.ages, manifest.identity_names[0]
        ('a b.jpg', array([31.], dtype=float32), '12')
        >>> [(problem.line, problem.kind) for problem in manifest.problems]
        [(2, 'age out of range'), (3, 'unsafe name'), (3, 'unknown gender')]
    """
    path = Path(path)
    _check_options(format, on_problem, age_ranges)
    folder = Path(root) if root is not None else path.parent
    if check_files and not folder.is_dir():
        raise ManifestError(f"read_manifest: 'root' must be a folder, got {str(folder)!r}.")
    where = f"read_manifest: {str(path)!r}"
    kind = _format_of(path) if format == "auto" else format
    try:
        blocks = _blocks(path, kind, columns or {}, age_ranges, where)
        return assemble(
            blocks,
            folder,
            check_files=check_files,
            on_problem=on_problem,
            age_ranges=age_ranges,
            where=where,
            unit="row" if kind == "parquet" else "line",
        )
    except OSError as error:
        raise ManifestError(f"{where}: cannot be read: {error.strerror or error}.") from error


def assemble(
    blocks: Iterable[RowBlock],
    root: Path,
    *,
    check_files: bool,
    on_problem: OnProblem,
    age_ranges: AgeRanges = "refuse",
    where: str,
    unit: str,
) -> Manifest:
    """Rows to a manifest, or to the error that names all their faults."""
    rows = gather_rows(blocks, age_ranges=age_ranges)
    named = np.flatnonzero(rows.named)
    problems = [*rows.problems, *repeated_names(rows.names, rows.lines, named)]
    if check_files:
        problems += absent_files(root, rows.names, rows.lines, named)
    problems.sort(key=lambda problem: problem.line)
    if problems and on_problem == "raise":
        count = len({problem.line for problem in problems})
        raise ManifestError(
            f"{where}: expected no faults, got {len(problems)} in {count} {unit}s. Mend them, or leave such rows out "
            'with on_problem="drop".',
            problems,
            unit=unit,
        )
    faulty = np.isin(rows.lines, [problem.line for problem in problems])
    if faulty.all():
        raise ManifestError(f"{where}: expected at least one face, got none.", problems, unit=unit)
    numbered = number_identities(rows.identities, rows.identity_names)
    whole = Manifest(root, rows.names, numbered.identities, rows.ages, rows.genders, numbered.names, tuple(problems))
    return replace(whole.select(~faulty), problems=tuple(problems)) if faulty.any() else whole


def _blocks(path: Path, kind: str, columns: Mapping[str, str], age_ranges: AgeRanges, where: str) -> Iterable[RowBlock]:
    if kind == "lines":
        if columns:
            raise ManifestError(f"{where}: 'columns' goes with CSV and Parquet, but this is read as lines.")
        return read_label_lines(path)

    def find(header: Sequence[str]) -> ColumnPlaces:
        return find_columns(header, columns, age_ranges=age_ranges, where=where)

    return read_csv(path, find, where=where) if kind == "csv" else read_parquet(path, find, where=where)


def _format_of(path: Path) -> ManifestFormat:
    suffixes = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
    return cast(ManifestFormat, suffixes.get(path.suffix.lower(), "lines"))


def _check_options(format: str, on_problem: str, age_ranges: str) -> None:  # noqa: A002
    for name, value, allowed in (
        ("format", format, ("auto", "lines", "csv", "parquet")),
        ("on_problem", on_problem, ("raise", "drop")),
        ("age_ranges", age_ranges, ("refuse", "midpoint")),
    ):
        if value not in allowed:
            raise ValueError(f"read_manifest: '{name}' must be one of {', '.join(map(repr, allowed))}, got {value!r}.")


def _check_range(name: str, column: npt.NDArray[np.generic], good: npt.NDArray[np.bool_], highest: int) -> None:
    if not good.all():
        place = int(np.argmin(good))
        raise ValueError(
            f"Manifest: '{name}' must be at most {highest} and not negative (or unknown), got {column[place]} at index "
            f"{place}."
        )
