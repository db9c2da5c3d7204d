"""Which photographs there are: a folder's, or those that a list names."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from facemtl.data.listed_paths import listed_name, read_lines, stays_inside
from facemtl.data.photographs import IMAGE_SUFFIXES

_WHERE = "list_photographs"
_NAME_COLUMNS = ("source", "filename", "file", "path", "image", "image_id", "name")
# The paper's label lines, `id filename age gender`: the file's name may hold spaces, the numbers around it do not.
_LABEL_LINE = re.compile(r"(\S+)\s+(.+?)\s+(-?\d+(?:\.\d+)?)\s+(\S+)")


class Photograph(NamedTuple):
    """A photograph to be read, or the reason why it must not be."""

    name: str
    """Relative to the root, with slashes."""

    labels: Mapping[str, str] = {}
    """What a manifest says of it (identity, age, …)."""

    refusal: tuple[str, str] | None = None
    """Reason and detail, if it is known already that it cannot be used."""


class PhotographList(NamedTuple):
    """The photographs of a folder or a list."""

    root: Path
    """Folder that the names are relative to."""

    photographs: list[Photograph]
    """Sorted by name for a folder, in the list's order for a list; no name twice."""

    label_columns: tuple[str, ...] = ()
    """Names of the labels, in the manifest's order."""

    passed_over: int = 0
    """Files of a folder that have no image's name."""


def list_photographs(
    source: str | Path, *, root: str | Path | None = None, leave_out: Path | None = None
) -> PhotographList:
    r"""List the photographs of a folder and its subfolders, or those of a manifest.

    A manifest is a CSV with a header line that has a column ``source``, ``filename``, ``file``, ``path``, ``image``,
    ``image_id`` or ``name`` (all other columns are labels); or the paper's lines ``id filename age gender``; or just a
    name a line.

    Args:
        source: A folder or a manifest.
        root: Folder that a manifest's names are relative to; by default the manifest's own.
        leave_out: A folder below ``source`` that is not looked into.

    Returns:
        :class:`PhotographList`.

    Raises:
        ValueError: If there is no such folder or file, no photograph in it, or a line of a manifest is wrong; says
            which line.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.txt"
        >>> _ = path.write_text("0 images/000_00.jpg 44 1\n")
        >>> list_photographs(path).photographs[0].labels
        {'identity': '0', 'age': '44', 'gender': '1'}
    """
    source = Path(source)
    if source.is_dir():
        if root is not None:
            raise ValueError(f"{_WHERE}: 'root' goes with a manifest, but {str(source)!r} is a folder. Leave it out.")
        found = _list_folder(source, leave_out)
    elif source.is_file():
        found = _list_manifest(source, Path(root) if root is not None else source.parent)
    else:
        raise ValueError(f"{_WHERE}: {str(source)!r} is neither a folder nor a file.")
    if not found.photographs:
        raise ValueError(f"{_WHERE}: there is no photograph in {str(source)!r} ({found.passed_over} other files).")
    return found


def _list_folder(root: Path, leave_out: Path | None) -> PhotographList:
    real_root = root.resolve()
    left_out = leave_out.resolve() if leave_out is not None else None
    if left_out is not None and left_out.is_relative_to(real_root):
        left_out = root / left_out.relative_to(real_root)
    photographs: list[Photograph] = []
    passed_over = 0
    for folder, errors, entries in _walk(root, left_out):
        photographs += [Photograph(_name(root, folder), refusal=("folder cannot be read", why)) for why in errors]
        for entry in entries:
            name = _name(root, Path(entry.path))
            if entry.is_dir(follow_symlinks=False):
                continue
            if entry.is_symlink() and entry.is_dir():
                photographs.append(Photograph(name, refusal=("link to a folder is not followed", "")))
            elif os.path.splitext(entry.name)[1].lower() not in IMAGE_SUFFIXES:
                passed_over += 1
            else:
                photographs.append(Photograph(name, refusal=_refusal(real_root, Path(entry.path))))
    return PhotographList(root, sorted(photographs, key=lambda photograph: photograph.name), (), passed_over)


def _walk(root: Path, left_out: Path | None) -> Iterator[tuple[Path, list[str], list[os.DirEntry[str]]]]:
    """Each folder below ``root`` with its entries, or with the error that hides them; links are not followed."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        if folder == left_out:
            continue
        try:
            with os.scandir(folder) as scan:
                entries = list(scan)
        except OSError as error:
            yield folder, [error.strerror or str(error)], []
            continue
        waiting += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        yield folder, [], entries


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _refusal(real_root: Path, path: Path) -> tuple[str, str] | None:
    """A link may point elsewhere below the root, not out of it."""
    if path.is_symlink():
        try:
            target = path.resolve()
        except (OSError, RuntimeError) as error:  # a link to itself
            return "cannot be read", str(error)
        if not target.is_relative_to(real_root):
            return "link leads out of the folder", str(target)
    return None


def _list_manifest(path: Path, root: Path) -> PhotographList:
    if not root.is_dir():
        raise ValueError(f"{_WHERE}: 'root' must be a folder, got {str(root)!r}.")
    lines = read_lines(_WHERE, path)
    header = next(csv.reader(lines[:1]), [])
    column = next((name for name in _NAME_COLUMNS if name in [field.strip().lower() for field in header]), None)
    if column is not None:
        columns, rows = _csv_rows(path, lines, column)
    else:
        columns, rows = _line_rows(path, lines)
    real_root = root.resolve()
    first_line: dict[str, int] = {}
    photographs = []
    for line, text, labels in rows:
        name = listed_name(_WHERE, path, line, text)
        if name in first_line:
            raise ValueError(
                f"{_WHERE}: {str(path)!r}, line {line}: {name!r} repeats line {first_line[name]}. Remove one."
            )
        first_line[name] = line
        refusal = None if stays_inside(real_root, root / name) else ("link leads out of the folder", "")
        photographs.append(Photograph(name, labels, refusal))
    return PhotographList(root, photographs, tuple(columns))


_Rows = list[tuple[int, str, dict[str, str]]]


def _csv_rows(path: Path, lines: Sequence[str], column: str) -> tuple[list[str], _Rows]:
    # Quoted fields may hold line ends, so the reader counts the lines.
    reader = csv.reader([line + "\n" for line in lines])
    try:
        header = [field.strip() for field in next(reader)]
        index = [field.lower() for field in header].index(column)
        rows: _Rows = []
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                raise ValueError(
                    f"{_WHERE}: {str(path)!r}, line {reader.line_num}: expected {len(header)} fields as in the header, "
                    f"got {len(fields)}."
                )
            labels = {name: value for at, (name, value) in enumerate(zip(header, fields, strict=True)) if at != index}
            rows.append((reader.line_num, fields[index], labels))
    except csv.Error as error:
        raise ValueError(f"{_WHERE}: {str(path)!r}, line {reader.line_num}: {error}.") from error
    columns = [name for at, name in enumerate(header) if at != index]
    if len(set(columns)) != len(columns):
        raise ValueError(f"{_WHERE}: {str(path)!r}, line 1: a column's name occurs twice in {header}.")
    return columns, rows


def _line_rows(path: Path, lines: Sequence[str]) -> tuple[list[str], _Rows]:
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered or _LABEL_LINE.fullmatch(numbered[0][1].strip()) is None:
        return [], [(number, line, {}) for number, line in numbered]
    rows: _Rows = []
    for number, line in numbered:
        match = _LABEL_LINE.fullmatch(line.strip())
        if match is None:
            raise ValueError(
                f"{_WHERE}: {str(path)!r}, line {number}: expected 'id filename age gender', got {line!r}."
            )
        identity, name, age, gender = match.groups()
        rows.append((number, name, {"identity": identity, "age": age, "gender": gender}))
    return ["identity", "age", "gender"], rows
