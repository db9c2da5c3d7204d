"""Names of files in lists that others wrote: held to the folder that they are relative to."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath


def listed_name(where: str, list_path: Path, line: int, text: str) -> str:
    """Return a listed name in normal form (``a/./b.jpg`` is ``a/b.jpg``), or refuse it.

    Raises:
        ValueError: With the list's name and the line's number, if the name is empty, absolute, climbs by ``..`` (with
            either slash) or holds a NUL: joined blindly, such a name reads files outside the folder of photographs.
    """
    fault = name_fault(text)
    if fault is not None:
        raise ValueError(f"{where}: {str(list_path)!r}, line {line}: the name {text!r} {fault[0]}. {fault[1]}")
    return str(PurePosixPath(text))


def name_fault(text: str) -> tuple[str, str] | None:
    """What is wrong with a listed name and what to do about it; None if it stays below the folder it is relative to."""
    if not text:
        return "is empty", "Give a file's name."
    if "\0" in text:
        return "holds a NUL character", "Repair the list."
    if text.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[\\/]", text):
        return "is absolute", "Give names relative to the folder of photographs."
    if ".." in re.split(r"[\\/]", text):
        return "leaves the folder of photographs", "Remove the '..'."
    return None


def stays_inside(real_root: Path, path: Path) -> bool:
    """Whether a file's links, if any, end below ``real_root``, which is resolved; true of what cannot be resolved.

    Such a file cannot be read either, which says more.
    """
    try:
        return path.resolve().is_relative_to(real_root)
    except (OSError, RuntimeError, ValueError):
        return True


def read_lines(where: str, path: Path) -> list[str]:
    """Lines of a text file, without their ends and without a byte order mark.

    Names that are not UTF-8 are kept as the system spells them (surrogates), so that they still find their files.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{where}: {str(path)!r} cannot be read: {error.strerror or error}.") from error
    lines = text.decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
