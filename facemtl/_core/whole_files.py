"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

UNFINISHED = ".part"
"""Ending of files that nobody has finished yet."""

_serial = itertools.count()


def stage(data: bytes, *, staging: Path, durable: bool = False) -> Path:
    """Write ``data`` into a file of ``staging``, to be moved in one step by ``os.replace`` to where it belongs.

    Args:
        data: Its content.
        staging: Folder for unfinished files, on the same disk as their places.
        durable: Whether the content must survive a loss of power before this returns (a few milliseconds).

    Raises:
        OSError: If the disk is full, say; nothing is left behind.
    """
    unfinished = staging / f"{os.getpid()}-{next(_serial)}{UNFINISHED}"
    try:
        with open(unfinished, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    return unfinished


def write_if_changed(path: Path, data: bytes, *, staging: Path) -> None:
    """Write a durable file unless it holds just this already: a repeated run touches nothing."""
    try:
        if path.stat().st_size == len(data) and path.read_bytes() == data:
            return
    except OSError:
        pass
    os.replace(stage(data, staging=staging, durable=True), path)
