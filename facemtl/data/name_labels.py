"""Labels that are in the names of files: FG-NET, CACD, UTKFace, MORPH, AgeDB, and a folder for each person."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from facemtl.data.label_tokens import read_age
from facemtl.data.manifest import Manifest, OnProblem, assemble
from facemtl.data.manifest_problems import ManifestError, ManifestProblem
from facemtl.data.manifest_rows import RowBlock, Tokens, normal_name
from facemtl.data.photograph_list import list_photographs

Naming = Literal["fgnet", "cacd", "utkface", "morph", "agedb", "folders"]

_AGE = r"(?P<age>[0-9]{1,3})"
_PATTERNS: dict[str, tuple[re.Pattern[str], str]] = {
    "fgnet": (
        re.compile(rf"(?P<identity>[0-9]{{1,4}})[Aa]{_AGE}[A-Za-z]?"),
        "expected a name such as 001A02 or 001A43a",
    ),
    "cacd": (re.compile(rf"{_AGE}_(?P<identity>.+)_[0-9]+"), "expected a name such as 14_Aaron_Johnson_0001"),
    "utkface": (
        re.compile(rf"{_AGE}_(?P<gender>[01])_[0-4]_[0-9]+(?:\.(?:jpg|chip))*"),
        "expected a name such as 26_1_0_20170116171041935, age, gender (0 male, 1 female), race and date",
    ),
    "morph": (
        re.compile(rf"(?P<identity>[0-9]+)_[0-9]+(?P<gender>[MFmf]){_AGE}"),
        "expected a name such as 009055_1M54, id, picture, gender and age",
    ),
    "agedb": (
        re.compile(rf"[0-9]+_(?P<identity>.+)_{_AGE}_(?P<gender>[mf])"),
        "expected a name such as 0_MariaCallas_35_f",
    ),
}
_UTKFACE_GENDERS = {"0": "male", "1": "female"}  # the other way round than the paper's label lines


class NameLabels(NamedTuple):
    """What a file's name says, as text; empty where it says nothing."""

    identity: str
    age: str
    gender: str


def labels_from_name(name: str, *, naming: Naming) -> NameLabels | None:
    """Labels that the name of one file says, or None if it is not named like that.

    Args:
        name: Relative to the data set's folder, with slashes.
        naming: As for :func:`facemtl.manifest_from_names`.

    Example:
        >>> labels_from_name("26_1_0_20170116171041935.jpg", naming="utkface")
        NameLabels(identity='', age='26', gender='female')
    """
    folder, _, file = name.rpartition("/")
    if naming == "folders":
        # the whole path: train/7 and test/7 may be two people; and no name that a label would take for "unknown"
        named = folder and folder == folder.strip() and folder.lower() not in ("-1", "nan")
        return NameLabels(folder, "", "") if named else None
    stem = file.rpartition(".")[0]
    match = _PATTERNS[naming][0].fullmatch(stem)
    if match is None:
        return None
    found = match.groupdict("")
    gender = found.get("gender", "")
    return NameLabels(
        found.get("identity", ""), found["age"], _UTKFACE_GENDERS[gender] if naming == "utkface" else gender
    )


def manifest_from_names(folder: str | Path, *, naming: Naming, on_problem: OnProblem = "raise") -> Manifest:
    """Make a manifest of the images in a folder, labelled by their names.

    =========  ==================================  =========================================================
    naming     example                             what it says
    =========  ==================================  =========================================================
    fgnet      ``001A43a.JPG``                     id, age; a letter tells pictures of one age apart
    cacd       ``14_Aaron_Johnson_0001.jpg``       age, id (the name between), number
    utkface    ``26_1_0_20170116171041935.jpg``    age, gender (**0 male**, 1 female), race, date; no id
    morph      ``009055_1M54.JPG``                 id, number of the picture, gender, age
    agedb      ``0_MariaCallas_35_f.jpg``          number, id, age, gender
    folders    ``0000045/001.jpg``                 id (the path of its folder), as CASIA and VGGFace2
    =========  ==================================  =========================================================

    Subfolders are searched and links to folders are not followed. Files that have no image's name are passed over.

    Args:
        folder: Becomes the ``root``.
        naming: How files are named.
        on_problem: ``"raise"``, or ``"drop"`` to leave out files that are named otherwise and keep their faults in
            ``problems``.

    Returns:
        :class:`~facemtl.data.manifest.Manifest`, sorted by name.

    Raises:
        ManifestError: With every file that is not named like this, in ``problems``.
        ValueError: If there is no such folder, no image in it, or no such naming.

    Example:
        >>> import tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("001A02.JPG", "001A43a.JPG", "002A03.jpg"):
        ...     (folder / name).touch()
        >>> manifest = manifest_from_names(folder, naming="fgnet")
        >>> manifest.ages.tolist(), manifest.identities.tolist(), list(manifest.identity_names)
        ([2.0, 43.0, 3.0], [0, 0, 1], ['001', '002'])
    """
    if naming != "folders" and naming not in _PATTERNS:
        allowed = ", ".join(map(repr, [*_PATTERNS, "folders"]))
        raise ValueError(f"manifest_from_names: 'naming' must be one of {allowed}, got {naming!r}.")
    if on_problem not in ("raise", "drop"):
        raise ValueError(f"manifest_from_names: 'on_problem' must be 'raise' or 'drop', got {on_problem!r}.")
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"manifest_from_names: 'folder' must be a folder, got {str(folder)!r}.")
    expected = "expected a folder for each person" if naming == "folders" else _PATTERNS[naming][1]
    problems: list[ManifestProblem] = []
    names: list[str] = []
    labels: list[NameLabels] = []
    for photograph in list_photographs(folder).photographs:
        found = labels_from_name(photograph.name, naming=naming)
        if photograph.refusal is not None:
            problems.append(
                ManifestProblem(0, "no regular file", photograph.name, " ".join(photograph.refusal).strip())
            )
        elif (fault := normal_name(photograph.name)[1]) is not None:
            problems.append(ManifestProblem(0, "unsafe name", photograph.name, fault))
        elif found is None:
            problems.append(ManifestProblem(0, "no label in the name", photograph.name, expected))
        elif (label := read_age(found.age, "refuse")).fault is not None:
            problems.append(ManifestProblem(0, label.fault, photograph.name, label.detail))
        else:
            names.append(photograph.name)
            labels.append(found)
    where = f"manifest_from_names: {str(folder)!r}"
    if problems and on_problem == "raise":
        raise ManifestError(
            f"{where}: expected every image to be named as naming={naming!r} says, got {len(problems)} that are not. "
            'Leave them out with on_problem="drop".',
            problems,
        )
    columns = (Tokens.of(column) for column in zip(*labels, strict=True)) if labels else ()
    return _manifest(folder, names, tuple(columns), problems, where)


def _manifest(
    folder: Path, names: list[str], columns: tuple[Tokens, ...], problems: list[ManifestProblem], where: str
) -> Manifest:
    if not names:
        raise ManifestError(f"{where}: expected at least one face, got none.", problems)
    identities, ages, genders = columns
    block = RowBlock(np.arange(1, len(names) + 1), Tokens.of(names), identities, ages, genders, problems)
    return assemble([block], folder, check_files=False, on_problem="drop", where=where, unit="image")
