"""Age groups and genders in equal shares, whatever their shares of the data set."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from facemtl.data.label_columns import Labels, age_group_column, members_of, whole_numbers
from facemtl.data.samplers import GlobalBatchSampler
from facemtl.data.strata import StratifiedWalk
from facemtl.layers.age import AgeGroups

_PURPOSE = 2


class BalancedSampler(GlobalBatchSampler):
    """Batches in which every age group of every gender is equally frequent.

    A cell is an age group of one gender: fourteen of them with the paper's groups. The stream visits all cells once a
    cycle, each cycle in a random order, so the balance is exact and not merely expected: in any stretch of batches the
    counts of two cells differ by two at most. Within a cell every face comes once before any comes again. A face of a
    cell of n faces is drawn with the weight 1/n, as by a ``WeightedRandomSampler``, which however draws with
    replacement and on one process. Distributed, endless and resumable as :class:`facemtl.ShuffledSampler` is.

    Args:
        ages: ``(faces,)`` years; NaN is unknown.
        genders: ``(faces,)``, 1 male, 0 female; −1 is unknown.
        age_groups: Where ages are cut; the paper's seven groups by default.
        global_batch_size: Faces in the batches of all processes together; a multiple of ``world_size``.
        seed: Of the run, 0 to 2⁶⁴ − 1.
        rank: This process's number; torch.distributed's by default.
        world_size: How many processes; torch.distributed's by default.
        on_empty: What becomes of cells without a face: ``"raise"``, or ``"leave_out"`` to balance the others.

    Raises:
        ValueError: If cells are empty (all of them are listed), labels are out of range, or a number is.
        TypeError: If labels are not numbers.

    Example:
        >>> ages, genders = [5.0, 33.0, 34.0, 35.0, float("nan")], [0, 0, 0, 0, 1]
        >>> sampler = BalancedSampler(ages, genders, global_batch_size=4, on_empty="leave_out")
        >>> sampler.batch(0).count(0)  # the only child is half of the batch
        2
        >>> sampler.num_left_out
        1
    """

    num_left_out: int
    """Faces that are never drawn, as their age or gender is unknown."""

    def __init__(
        self,
        ages: Labels,
        genders: Labels,
        *,
        age_groups: AgeGroups | None = None,
        global_batch_size: int,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        on_empty: Literal["raise", "leave_out"] = "raise",
    ) -> None:
        if on_empty not in ("raise", "leave_out"):
            raise ValueError(f'BalancedSampler: \'on_empty\' must be "raise" or "leave_out", got {on_empty!r}.')
        self.age_groups = age_groups if age_groups is not None else AgeGroups()
        groups = age_group_column("BalancedSampler", ages, self.age_groups)
        sexes = whole_numbers("BalancedSampler", "genders", genders, highest=1, length=len(groups))
        cells = np.where((groups < 0) | (sexes < 0), -1, 2 * groups + sexes)
        super().__init__(
            units=("global_batch_size", global_batch_size), seed=seed, rank=rank, world_size=world_size, labels=cells
        )
        self.num_left_out = int((cells < 0).sum())
        members = members_of(cells, 2 * self.age_groups.num_groups)
        self._check_cells([len(cell) for cell in members], on_empty)
        self._walk = StratifiedWalk([cell for cell in members if len(cell)], seed=seed, purpose=_PURPOSE)

    def _units(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        return self._walk.stretch(start, stop).members

    def _check_cells(self, sizes: list[int], on_empty: str) -> None:
        names = [f"{label} {gender}" for label in self.age_groups.labels for gender in ("female", "male")]
        empty = [name for name, size in zip(names, sizes, strict=True) if size == 0]
        if len(empty) == len(names):
            raise ValueError(
                "BalancedSampler: 'ages' and 'genders' must be known together for one face at least, got none in "
                f"{self.num_left_out}."
            )
        if empty and on_empty == "raise":
            raise ValueError(
                f"BalancedSampler: every age group must have faces of both genders, got none of {', '.join(empty)}. "
                'Cut other groups with age_groups=AgeGroups(...), or balance what there is with on_empty="leave_out".'
            )
