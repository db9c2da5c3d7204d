"""Lists of five landmarks a face, as CelebA and insightface publish them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from facemtl.data.listed_paths import listed_name, read_lines

_WHERE = "read_landmark_list"


class ListedFace(NamedTuple):
    """A face as a landmark list gives it."""

    name: str
    """The photograph, relative to the folder of photographs."""

    line: int
    """Line of the list, from 1."""

    landmarks: tuple[tuple[float, float], ...] | None
    """Five (x, y) in the order of :data:`~facemtl.alignment.templates.LANDMARKS`; None if the line has none."""

    box: tuple[float, float, float, float] | None = None
    """Left, top, right, bottom, if the list has boxes."""

    score: float | None = None
    """The detector's score, if the list has one."""

    label: str | None = None
    """The class, if the list has one."""


def read_landmark_list(path: str | Path) -> list[ListedFace]:
    r"""Read a list of landmarks, whichever of the published formats it has; its content says which.

    * CelebA's ``list_landmarks_celeba.txt`` and ``list_landmarks_align_celeba.txt``: a line with the count, a line
      with the names of the columns, then ``name x1 y1 … x5 y5`` (or that as CSV with a header line, as Kaggle has it;
      or without any header). CelebA's "lefteye" is the eye on the viewer's left, so its order is ours.
    * insightface's alignment ``.lst``: tabs between ``aligned path label``, then, where the face was detected, four
      numbers of the box and ten of the landmarks, ``x1 … x5 y1 … y5``.
    * insightface's ``ijbb_name_5pts_score.txt``: ``name x1 y1 … x5 y5 score``.

    Args:
        path: The list. UTF-8, with or without a byte order mark, any line ends; spaces in names are kept.

    Returns:
        A :class:`ListedFace` for each line, in the list's order. Several lines may name one photograph: several faces.

    Raises:
        ValueError: If the format is none of these, a line does not keep to it, the count is wrong, a line is repeated
            or a name leaves the folder. Says which line.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "list_landmarks_celeba.txt"
        >>> header = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y "
        >>> header += "leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
        >>> _ = path.write_text(f"1\n{header}\n000001.jpg 165 184 244 176 196 249 194 271 266 260\n")
        >>> read_landmark_list(path)[0].landmarks
        ((165.0, 184.0), (244.0, 176.0), (196.0, 249.0), (194.0, 271.0), (266.0, 260.0))

    References:
        Liu et al., Deep learning face attributes in the wild (ICCV 2015): CelebA.
    """
    path = Path(path)
    numbered = [(number, line) for number, line in enumerate(read_lines(_WHERE, path), start=1) if line.strip()]
    count, numbered = _after_header(path, numbered)
    if not numbered:
        raise ValueError(f"{_WHERE}: {str(path)!r} lists no face.")
    parse = _format_of(path, *numbered[0])
    faces = [parse(path, number, line) for number, line in numbered]
    if count is not None and count != len(faces):
        raise ValueError(
            f"{_WHERE}: {str(path)!r}, line 1: the count must be the number of faces = {len(faces)}, got {count}. "
            "Is the list cut off? Otherwise correct the count."
        )
    _check_unique(path, faces)
    return faces


def _after_header(path: Path, numbered: list[tuple[int, str]]) -> tuple[int | None, list[tuple[int, str]]]:
    """Take CelebA's count and names of columns off."""
    count = None
    if numbered and numbered[0][1].strip().isdecimal():
        count = int(numbered[0][1])
        numbered = numbered[1:]
    if numbered and "lefteye_x" in numbered[0][1].lower():
        columns = [name for name in numbered[0][1].lower().replace(",", " ").split() if name.endswith(("_x", "_y"))]
        wanted = [
            f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
        ]
        if columns != wanted:
            raise ValueError(
                f"{_WHERE}: {str(path)!r}, line {numbered[0][0]}: the columns must be {' '.join(wanted)}, "
                f"got {' '.join(columns)}."
            )
        numbered = numbered[1:]
    elif count is not None and len(numbered) == 0:
        raise ValueError(f"{_WHERE}: {str(path)!r} lists no face.")
    return count, numbered


_Parse = Callable[[Path, int, str], ListedFace]


def _format_of(path: Path, number: int, line: str) -> _Parse:
    """Tell the format by the first line of data."""
    fields = line.split("\t")
    if len(fields) >= 3 and fields[0].strip() in ("0", "1"):
        return _parse_lst
    if _numbers(line.replace(",", " ").split()[1:][-11:], 11) is not None:
        return _parse_ijb
    if _numbers(line.replace(",", " ").split()[1:][-10:], 10) is not None:
        return _parse_celeba
    raise ValueError(
        f"{_WHERE}: {str(path)!r}, line {number}: expected a line of CelebA's list (name and 10 numbers), of "
        f"insightface's .lst (tabs) or of IJB's (name, 10 numbers and a score), got {_shown(line)}."
    )


def _parse_celeba(path: Path, number: int, line: str) -> ListedFace:
    name, values = _name_and_numbers(path, number, line, 10, "a name and 10 numbers")
    return ListedFace(name, number, _points(values[::2], values[1::2]))


def _parse_ijb(path: Path, number: int, line: str) -> ListedFace:
    name, values = _name_and_numbers(path, number, line, 11, "a name, 10 numbers and a score")
    return ListedFace(name, number, _points(values[:10:2], values[1:10:2]), score=values[10])


def _parse_lst(path: Path, number: int, line: str) -> ListedFace:
    fields = line.split("\t")
    fields = fields[:-1] if fields[-1].strip() == "" and len(fields) > 3 else fields
    if len(fields) not in (3, 7, 17):
        raise ValueError(
            f"{_WHERE}: {str(path)!r}, line {number}: expected 3, 7 or 17 fields between tabs, got {len(fields)}."
        )
    name = listed_name(_WHERE, path, number, fields[1])
    values = _numbers(fields[3:], len(fields) - 3)
    if values is None:
        raise ValueError(
            f"{_WHERE}: {str(path)!r}, line {number}: expected numbers after the label, got {_shown(line)}."
        )
    box = (values[0], values[1], values[2], values[3]) if values else None
    landmarks = _points(values[4:9], values[9:14]) if len(values) == 14 else None
    return ListedFace(name, number, landmarks, box=box, label=fields[2].strip())


def _name_and_numbers(path: Path, number: int, line: str, count: int, wanted: str) -> tuple[str, list[float]]:
    """Split from the right, so that names may hold spaces."""
    fields = line.rsplit(",", count) if "," in line else line.rsplit(None, count)
    values = _numbers(fields[1:], count)
    if values is None:
        raise ValueError(f"{_WHERE}: {str(path)!r}, line {number}: expected {wanted}, got {_shown(line)}.")
    return listed_name(_WHERE, path, number, fields[0].strip()), values


def _numbers(fields: Sequence[str], count: int) -> list[float] | None:
    if len(fields) != count:
        return None
    try:
        return [float(field) for field in fields]
    except ValueError:
        return None


def _points(xs: Sequence[float], ys: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple(zip(xs, ys, strict=True))


def _check_unique(path: Path, faces: Sequence[ListedFace]) -> None:
    """Several faces of one photograph differ; the same line twice is an accident."""
    lines: dict[tuple[str, str], int] = {}
    for face in faces:
        key = (face.name, repr(face.landmarks))
        if key in lines:
            raise ValueError(
                f"{_WHERE}: {str(path)!r}, line {face.line}: {face.name!r} repeats line {lines[key]}. Remove one."
            )
        lines[key] = face.line


def _shown(line: str) -> str:
    return repr(line if len(line) <= 80 else line[:77] + "...")
