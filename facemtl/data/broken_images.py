"""Broken images in the middle of a run: a stand-in that is the same on resume, a count over all workers, a limit."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import get_worker_info

from facemtl.data.label_columns import age_group_column, members_of
from facemtl.data.photographs import PhotographError
from facemtl.data.random_words import random_words
from facemtl.layers.age import AgeGroups

OnBroken = Literal["raise", "skip"]
FEWEST_FACES = 10_000
"""Faces below which the share of broken ones is not yet judged, only their number."""
MOST_IN_A_ROW = 10
"""Stand-ins tried for one face; when all are broken too, the folder is."""

_PURPOSE = 8
_SLOTS = 256
_LOGGER = logging.getLogger("facemtl.data")


class BrokenImageError(ValueError):
    """An image of a data set cannot be used, or too many cannot."""


class BrokenCount(NamedTuple):
    """How many faces a data set was asked for, in all worker processes of this process together."""

    asked: int
    """Faces asked for, each time that they were."""
    broken: int
    """Times that an image was broken and another stood in for it."""


class BrokenImages:
    """What becomes of images that cannot be read.

    Args:
        where: Name of the data set, for messages.
        ages: ``(faces,)`` years; NaN is unknown.
        on_broken: ``"raise"`` or ``"skip"``.
        limit: Share of broken images beyond which a run fails.
        report: File that gets a line of JSON for each broken image.
    """

    def __init__(
        self, where: str, ages: npt.NDArray[np.floating], *, on_broken: OnBroken, limit: float, report: Path | None
    ) -> None:
        if on_broken not in ("raise", "skip"):
            raise ValueError(f'{where}: \'on_broken\' must be "skip" or "raise", got {on_broken!r}.')
        if not 0.0 <= limit <= 1.0:
            raise ValueError(f"{where}: 'broken_limit' must be a share in [0, 1], got {limit}.")
        self._where, self._ages, self._on_broken, self._limit, self._report = where, ages, on_broken, limit, report
        # One row a worker, so that none has to wait for another; in memory that all of them share.
        self._counts = torch.zeros(_SLOTS, 2, dtype=torch.int64).share_memory_()
        self._noted: set[int] = set()
        self._groups: tuple[npt.NDArray[np.int64], list[npt.NDArray[np.int64]]] | None = None

    @property
    def count(self) -> BrokenCount:
        """Sum over all workers."""
        asked, broken = self._counts.sum(0).tolist()
        return BrokenCount(asked, broken)

    def asked(self, faces: int) -> None:
        """Count faces that were asked for."""
        self._counts.numpy()[_slot(), 0] += faces

    def stand_ins(self, index: int) -> list[int]:
        """Faces to try, in this order, in place of face ``index``: a pure function of it.

        Drawn from the faces of the same age group, so that batches stay balanced, or of unknown age as well.
        """
        if self._groups is None:
            groups = AgeGroups()
            column = age_group_column(self._where, self._ages, groups)
            column[column < 0] = groups.num_groups
            self._groups = column, members_of(column, groups.num_groups + 1)
        column, members = self._groups
        candidates = members[column[index]]
        words = random_words(0, (_PURPOSE, index, 0), count=MOST_IN_A_ROW)
        return candidates[(words % np.uint64(len(candidates))).astype(np.int64)].tolist()

    def refuse(self, index: int, name: str, problem: PhotographError) -> None:
        """Raise, or note that the image is broken and fail if too many are.

        Raises:
            BrokenImageError: If the caller chose ``"raise"``, or broken images are more than the limit.
        """
        fault = f"{problem.reason} ({problem.detail})" if problem.detail else problem.reason
        if self._on_broken == "raise":
            advice = (
                "Pass resize=True, or size=(height, width)"
                if problem.reason == "another size"
                else 'Repair or remove the file, or pass on_broken="skip"'
            )
            raise BrokenImageError(f"{self._where}: face {index}, {name!r}: {fault}. {advice}.")
        self._counts.numpy()[_slot(), 1] += 1
        if index not in self._noted:
            self._noted.add(index)
            _LOGGER.warning("%s: face %d, %r: %s. Another face stands in for it.", self._where, index, name, fault)
            self._write(index, name, problem)
        asked, broken = self.count
        if broken > self._limit * max(asked, FEWEST_FACES):
            raise BrokenImageError(
                f"{self._where}: broken images must be at most {self._limit:.2%} of those asked for, got {broken} of "
                f"{asked}; the last was face {index}, {name!r}: {fault}. Repair the data, or raise broken_limit."
            )

    def give_up(self, index: int, name: str) -> BrokenImageError:
        """The error for a face none of whose stand-ins can be read either."""
        return BrokenImageError(
            f"{self._where}: {MOST_IN_A_ROW} stand-ins in a row must not be broken as well, got that for face {index}, "
            f"{name!r}. Is the folder of images still there?"
        )

    def _write(self, index: int, name: str, problem: PhotographError) -> None:
        if self._report is None:
            return
        line = json.dumps({"face": index, "name": name, "reason": problem.reason, "detail": problem.detail}) + "\n"
        descriptor = os.open(self._report, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, line.encode())  # one write: lines of several workers do not mix
        finally:
            os.close(descriptor)


def _slot() -> int:
    worker = get_worker_info()
    return 0 if worker is None else 1 + worker.id % (_SLOTS - 1)
