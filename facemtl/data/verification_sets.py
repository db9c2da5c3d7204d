"""Pairs of faces for verification as insightface distributes them (`lfw.bin`, `cfp_fp.bin`, `agedb_30.bin`)."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facemtl._core.whole_files import stage
from facemtl.data.photographs import PhotographError, read_file
from facemtl.data.record_format import RecordError
from facemtl.data.restricted_pickle import PickledArray, UnpicklingError, unpickle


class VerificationSet(NamedTuple):
    """Pairs of face images: pair ``i`` is images ``2 i`` and ``2 i + 1``."""

    images: list[bytes]
    """Image files, two for each pair."""
    same: npt.NDArray[np.bool_]
    """``(pairs,)``: whether both are of one person."""


def read_verification_set(path: str | Path, *, max_bytes: int = 4 * 2**30) -> VerificationSet:
    """Read a verification set of insightface's, a ``.bin`` file.

    Such a file is a pickle, by which a program can be started. This reader knows the few instructions that build lists,
    tuples, bytes, numbers and NumPy arrays of bytes, whatever protocol and Python wrote them, and refuses all others
    before anything runs: no module is imported and no function of another library called.

    Args:
        path: The file.
        max_bytes: Largest file to read.

    Returns:
        Image files as they were encoded, and which pairs are of one person.

    Raises:
        RecordError: If the file cannot be read, is damaged, holds anything else, or has not two images for each pair.
            ``offset`` is that of the instruction.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "pairs.bin"
        >>> write_verification_set(path, [b"one", b"two", b"three", b"four"], [True, False])
        >>> read_verification_set(path).same
        array([ True, False])
    """
    path = Path(path)
    try:
        data = read_file(path, max_bytes)
    except PhotographError as problem:
        detail = f" ({problem.detail})" if problem.detail else ""
        raise RecordError(path, problem.reason + detail) from problem
    try:
        content = unpickle(data)
    except UnpicklingError as problem:
        raise RecordError(path, problem.reason, None, problem.offset) from problem
    except MemoryError as problem:
        raise RecordError(path, "does not fit in memory") from problem
    if not isinstance(content, tuple | list) or len(content) != 2:
        raise RecordError(path, f"it must hold images and whether pairs are the same, got {_kind(content)}")
    return _checked(path, *content)


def write_verification_set(
    path: str | Path, images: Sequence[bytes | memoryview], same: Sequence[bool] | npt.NDArray[np.bool_]
) -> None:
    """Write a ``.bin`` file that insightface's evaluation reads; it appears whole or not at all.

    Args:
        path: The file; one of this name is replaced.
        images: Image files, two for each pair.
        same: Whether the images of each pair are of one person.

    Raises:
        ValueError: If there are not two images for each pair, or one is empty.
        OSError: If the disk is full, say.
    """
    path, contents = Path(path), [bytes(image) for image in images]
    if len(contents) != 2 * len(same):
        raise ValueError(
            f"write_verification_set: 'images' must be two for each of {len(same)} pairs, got {len(contents)}."
        )
    if b"" in contents:
        raise ValueError(f"write_verification_set: no image must be empty, got one at index {contents.index(b'')}.")
    # Protocol 4 is the newest that all Pythons read which read insightface's.
    data = pickle.dumps((contents, [bool(value) for value in same]), protocol=4)
    os.replace(stage(data, staging=path.parent, durable=True), path)


def _checked(path: Path, images: object, same: object) -> VerificationSet:
    if isinstance(same, PickledArray) and same.value is not None:
        same = same.value.tolist()
    if not isinstance(images, list | tuple) or not isinstance(same, list | tuple):
        raise RecordError(path, f"it must hold two lists, got {_kind(images)} and {_kind(same)}")
    encoded: list[bytes] = []
    for number, image in enumerate(images):
        if isinstance(image, PickledArray) and image.value is not None and image.value.dtype == np.uint8:
            image = image.value.tobytes()
        if not isinstance(image, bytes) or not image:
            raise RecordError(path, f"an image must be the bytes of a file, got {_kind(image)}", number)
        encoded.append(image)
    for number, value in enumerate(same):
        if not isinstance(value, bool | int) or value not in (0, 1):
            raise RecordError(path, f"whether a pair is the same must be True or False, got {_kind(value)}", number)
    if len(encoded) != 2 * len(same):
        raise RecordError(path, f"it must have two images for each of {len(same):,} pairs, got {len(encoded):,}")
    return VerificationSet(encoded, np.array(same, bool))


def _kind(value: object) -> str:
    if isinstance(value, int | float):
        return repr(value)
    size = f" of {len(value):,}" if isinstance(value, list | tuple | bytes | str) else ""
    return f"{type(value).__name__}{size}"
