"""What an alignment tells its caller: how far it is, what it found, where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


class AlignmentReport(NamedTuple):
    """What an alignment found and where it put it."""

    photographs: int
    """Photographs of the source."""

    crops: int
    """Rows of the manifest."""

    rejected: int
    """Photographs without a crop, the rows of ``rejected.csv``."""

    reasons: dict[str, int]
    """How many photographs were rejected for what, the commonest first."""

    new: int
    """Photographs that this very run worked on; the others were done before."""

    passed_over: int
    """Files of the source folder that have no image's name."""

    left_behind: int
    """Crops of an earlier run whose photographs are gone; they stay in the folder, unlisted."""

    manifest: Path
    """``manifest.csv``."""

    rejections: Path
    """``rejected.csv``."""


class AlignmentInterrupted(KeyboardInterrupt):
    """An alignment was interrupted; the same call continues it.

    Args:
        done: Photographs done, in this run and before.
        total: Photographs of the source.
    """

    def __init__(self, done: int, total: int) -> None:
        super().__init__(f"align_folder: interrupted after {done} of {total} photographs")
        self.done, self.total = done, total


class Progress:
    """A bar on a terminal, and the count of photographs done."""

    def __init__(self, total: int, done: int, shown: bool) -> None:
        self.done = done
        self._bar: Any = None
        if shown:
            try:
                from tqdm import tqdm
            except ImportError as error:
                raise ImportError('progress needs tqdm: pip install "facemtl[cli]"') from error
            self._bar = tqdm(total=total, initial=done, unit="face", disable=None)  # None: off where no terminal is

    def add(self, count: int) -> None:
        """Count photographs that are done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
