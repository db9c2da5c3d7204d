"""Names of crops: their photographs' where possible, and never the same twice."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

_LONGEST = 200  # bytes; file systems stop at 255, and an ending is still to come
_FACE = "__face"
_RESERVED = re.compile(rf"{_FACE}\d+$|^contact_sheet_\d+$", re.IGNORECASE)


def crop_stems(names: Sequence[str], *, suffix: str = ".png") -> list[str]:
    """Choose for each photograph what its crops are called, without the ending, subfolders kept.

    ``a/b.jpg`` becomes ``a/b``. Photographs that would then share a name (``b.jpg`` and ``b.png``; or ``B.jpg``, since
    some disks do not tell them apart) keep their endings, ``a/b_jpg``; and what still clashes, is too long or looks
    like a second face, a contact sheet or a folder is told apart by a digest. So a name depends on no order.

    Args:
        names: Of the photographs, with slashes, each once.
        suffix: Ending of the crops' names.

    Example:
        >>> crop_stems(["a.jpg", "b.jpg", "b.png"])
        ['a', 'b_jpg', 'b_png']
    """
    paths = [PurePosixPath(name) for name in names]
    stems = [str(path.with_name(path.stem)) for path in paths]
    shared = _shared(stems)
    stems = [
        str(path.with_name(f"{path.stem}_{path.suffix[1:]}")) if stem.casefold() in shared else stem
        for path, stem in zip(paths, stems, strict=True)
    ]
    folders = {str(folder).casefold() for path in paths for folder in path.parents}
    for digits in (8, 64):
        shared = _shared(stems)
        stems = [
            _digested(name, digits)
            if stem.casefold() in shared or _awkward(stem) or f"{stem}{suffix}".casefold() in folders
            else stem
            for name, stem in zip(names, stems, strict=True)
        ]
    return stems


def crop_name(stem: str, face: int, suffix: str) -> str:
    """Name of a face's crop: ``a/b.png``, the second ``a/b__face2.png``."""
    return f"{stem}{suffix}" if face == 0 else f"{stem}{_FACE}{face + 1}{suffix}"


def _shared(stems: Sequence[str]) -> set[str]:
    return {stem for stem, count in Counter(stem.casefold() for stem in stems).items() if count > 1}


def _awkward(stem: str) -> bool:
    last = PurePosixPath(stem).name
    return len(os.fsencode(last)) > _LONGEST or _RESERVED.search(stem) is not None


def _digested(name: str, digits: int) -> str:
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:digits]
    path = PurePosixPath(name)
    short = os.fsdecode(os.fsencode(path.stem)[: _LONGEST - 65])
    return str(path.with_name(f"{short}-{digest}"))
