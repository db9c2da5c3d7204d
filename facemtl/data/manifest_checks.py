"""What a row does not show by itself: names that occur twice, and files that are not there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facemtl.data.listed_paths import stays_inside
from facemtl.data.manifest_problems import ManifestProblem
from facemtl.data.packed_names import PackedNames

Lines = npt.NDArray[np.int32]


def repeated_names(names: PackedNames, lines: Lines, rows: npt.NDArray[np.int64]) -> list[ManifestProblem]:
    """Each of ``rows`` whose name an earlier one of them has."""
    hashes = np.fromiter(map(hash, names.encoded()), np.int64, len(names))
    hashes = hashes[rows] if len(rows) < len(names) else hashes
    ordered = np.sort(hashes)
    shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if len(shared) == 0:
        return []
    first: dict[str, int] = {}
    problems = []
    for row in rows[np.isin(hashes, shared)].tolist():
        line = first.setdefault(names[row], int(lines[row]))
        if line != lines[row]:
            problems.append(ManifestProblem(int(lines[row]), "duplicate row", names[row], f"as in line {line}"))
    return problems


def absent_files(root: Path, names: PackedNames, lines: Lines, rows: npt.NDArray[np.int64]) -> list[ManifestProblem]:
    """Each of ``rows`` whose file is not there, is no regular file, or is a link that leads out of ``root``.

    Each folder is listed once, however the rows are ordered; no file is opened, and none is asked for by itself.
    """
    folders: dict[str, int] = {}
    which = np.fromiter(
        (folders.setdefault(names[row].rpartition("/")[0], len(folders)) for row in rows.tolist()), np.int64, len(rows)
    )
    order = np.argsort(which, kind="stable")
    bounds = np.searchsorted(which[order], np.arange(len(folders) + 1))
    outside = _Outside(root)
    problems = []
    for number, folder in enumerate(folders):
        entries = _entries(os.path.join(root, folder))
        leads_out = outside.folder(folder)
        for row in rows[order[bounds[number] : bounds[number + 1]]].tolist():
            fault = _fault(entries.get(names[row].rpartition("/")[2]), outside.real_root, leads_out)
            if fault is not None:
                problems.append(ManifestProblem(int(lines[row]), fault, names[row]))  # type: ignore[arg-type]
    return problems


class _Outside:
    """Which folders below a root are links, or below links, that lead out of it."""

    def __init__(self, root: Path) -> None:
        self.real_root = root.resolve()
        self._root = root
        self._known = {"": False}

    def folder(self, name: str) -> bool:
        known = self._known.get(name)
        if known is None:
            path = self._root / name
            # What a link hides may have links again, so below one everything is resolved.
            known = self.folder(name.rpartition("/")[0]) or not stays_inside(self.real_root, path)
            self._known[name] = known
        return known


def _entries(folder: str) -> dict[str, os.DirEntry[str]]:
    try:
        with os.scandir(folder) as scan:
            return {entry.name: entry for entry in scan}
    except (OSError, ValueError):
        return {}


def _fault(entry: os.DirEntry[str] | None, real_root: Path, leads_out: bool) -> str | None:
    if entry is None:
        return "missing file"
    if leads_out:
        return "link leads out"
    try:
        if entry.is_file(follow_symlinks=False):
            return None
        if entry.is_symlink():
            mode = os.stat(entry.path).st_mode
            if not stays_inside(real_root, Path(entry.path)):
                return "link leads out"
            return None if stat.S_ISREG(mode) else "no regular file"
    except OSError:
        return "missing file"
    return "no regular file"
