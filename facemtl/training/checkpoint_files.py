"""How checkpoints lie on the disk: folders that appear whole or not at all, with a checksum for every file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from facemtl._core.whole_files import stage

FACTS = "facts.json"
SUMS = "sums.json"
METADATA = ".metadata"

_UNFINISHED = ".unfinished-"
_REPLACED = ".replaced-"
_STEP = re.compile(r"(?:\.replaced-)?step-(\d{8,})", re.ASCII)
_CHUNK = 1 << 20


class CheckpointError(ValueError):
    """A checkpoint cannot be written, cannot be trusted, or does not fit what it shall be read into."""


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged and was passed over, or an old one could not be removed."""


class Damaged(Exception):  # noqa: N818 - no error of its own: it makes a search go on
    """A checkpoint does not hold what was written; says why."""


class FileSum(NamedTuple):
    """By which a file is known again."""

    size: int
    """Bytes."""
    sha256: str
    """In hexadecimal digits."""


def folder_name(step: int) -> str:
    """Name of the checkpoint of a step: ``step-00000120``."""
    return f"step-{step:08d}"


def step_folders(parent: Path) -> list[tuple[int, Path]]:
    """Checkpoints in ``parent``, whole or not, the newest first."""
    try:
        names = sorted(os.listdir(parent), reverse=True)  # "step" before ".replaced" of the same number
    except FileNotFoundError:
        return []
    found = [(int(match[1]), parent / name) for name in names if (match := _STEP.fullmatch(name))]
    return sorted(found, key=lambda entry: -entry[0])


def begin(parent: Path, step: int) -> Path:
    """Make the folder in which a checkpoint grows, and clear away what killed runs left."""
    parent.mkdir(parents=True, exist_ok=True)
    for leftover in list(parent.iterdir()):
        if leftover.name.startswith(_REPLACED):
            _settle_replaced(leftover)
        elif leftover.name.startswith(_UNFINISHED):
            shutil.rmtree(leftover, ignore_errors=True)
    unfinished = parent / f"{_UNFINISHED}{step}-{uuid.uuid4().hex[:8]}"
    unfinished.mkdir()
    return unfinished


def sum_of(path: Path) -> FileSum:
    """Checksum of a file."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            digest.update(data)
            size += len(data)
    return FileSum(size, digest.hexdigest())


def sync_file(path: Path) -> None:
    """Wait until the content of a file has reached the disk."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder have reached the disk."""
    if os.name == "nt":  # which opens no folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that has reached the disk when this returns."""
    data = (json.dumps(content, indent=2) + "\n").encode()
    os.replace(stage(data, staging=path.parent, durable=True), path)


def publish(unfinished: Path, sums: Mapping[str, FileSum], final: Path) -> None:
    """Write ``sums.json`` and give the folder its name; a former one of this name steps aside until :func:`prune`."""
    write_json(unfinished / SUMS, {name: {"bytes": size, "sha256": digest} for name, (size, digest) in sums.items()})
    sync_folder(unfinished)
    replaced = final.with_name(f"{_REPLACED}{final.name}")
    if final.exists():
        os.rename(final, replaced)
    try:
        os.rename(unfinished, final)
    except OSError:
        if replaced.exists():
            os.rename(replaced, final)
        raise
    sync_folder(final.parent)


def prune(parent: Path, step: int, *, keep: int) -> None:
    """Remove what was replaced, and checkpoints older than the last ``keep`` whole ones up to ``step``.

    Those of later steps are of a course that the run has left, and stay: they are not this run's to judge.
    """
    whole = 0
    for number, folder in step_folders(parent):
        if folder.name.startswith(_REPLACED):
            _settle_replaced(folder)
        elif number <= step and whole >= keep:
            _remove(folder)
        elif number <= step and looks_whole(folder):
            whole += 1


def looks_whole(folder: Path) -> bool:
    """Whether all files are there and have their sizes; does not read them."""
    try:
        return all((folder / name).stat().st_size == file.size for name, file in read_sums(folder).items())
    except (Damaged, OSError):
        return False


def read_sums(folder: Path) -> dict[str, FileSum]:
    """What ``sums.json`` says.

    Raises:
        Damaged: If there is none, or it is not as it was written.
    """
    try:
        content = json.loads((folder / SUMS).read_bytes())
        sums = {name: FileSum(entry["bytes"], entry["sha256"]) for name, entry in content.items()}
    except OSError as error:
        raise Damaged(f"{SUMS} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged(f"{SUMS} is garbled: {error!r}") from error
    lacking = {FACTS, METADATA} - sums.keys()
    if lacking or any(name != Path(name).name for name in sums):
        raise Damaged(f"{SUMS} is garbled: {sorted(sums)} are not the files of a checkpoint")
    return sums


def check_file(folder: Path, name: str, expected: FileSum) -> None:
    """Compare a file with its checksum.

    Raises:
        Damaged: If it differs or cannot be read.
    """
    try:
        size = (folder / name).stat().st_size
        if size != expected.size:
            raise Damaged(f"{name} has {size:,} bytes instead of {expected.size}")
        if sum_of(folder / name) != expected:
            raise Damaged(f"{name} is not what was written: its SHA-256 differs")
    except OSError as error:
        raise Damaged(f"{name} cannot be read: {error.strerror or error}") from error


def _settle_replaced(replaced: Path) -> None:
    """A run was killed between two renames: put the old checkpoint back unless the new one is there."""
    final = replaced.with_name(replaced.name.removeprefix(_REPLACED))
    if final.exists():
        _remove(replaced)
    else:
        os.rename(replaced, final)


def _remove(folder: Path) -> None:
    """Remove a checkpoint, under another name first, lest a kill leaves half of one."""
    if folder.exists():
        going = folder.with_name(f"{_UNFINISHED}{folder.name.lstrip('.')}-{uuid.uuid4().hex[:8]}")
        os.rename(folder, going)
        shutil.rmtree(going)
