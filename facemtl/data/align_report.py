"""What an alignment tells its caller: how far it is, what it found, where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


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
