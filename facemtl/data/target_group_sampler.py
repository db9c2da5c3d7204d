"""Faces to age, and real faces of the age groups that they are aged to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from facemtl.data.label_columns import Labels, age_group_column, members_of
from facemtl.data.permutation import EpochPermutations
from facemtl.data.samplers import GlobalBatchSampler
from facemtl.data.strata import StratifiedWalk
from facemtl.layers.age import AgeGroups

_PURPOSE = 6


class TargetGroupSampler(GlobalBatchSampler):
    """Batches of sources and, for each, a real face of a target age group: what face age synthesis trains on.

    Sources are all faces, each once an epoch, of known age or not. The target group is uniform over the groups and
    independent of the source, and the real face is uniform over the faces of that group, as in the paper. Here uniform
    is exact: groups come in cycles that hold each once, in a random order, and no face of a group comes again before
    all have come. The released code draws both with ``random.choice`` in the workers, and stops there if a group is
    empty.

    A batch is one list of indices, first the N sources and then their N target faces; the sampler needs no data set of
    its own. :class:`facemtl.TargetGroupCollator` makes a :class:`facemtl.TargetGroupBatch` of them. Distributed,
    endless and resumable as :class:`facemtl.ShuffledSampler` is.

    Args:
        ages: ``(faces,)`` years; NaN is unknown.
        age_groups: Where ages are cut; the paper's seven groups by default.
        groups: Numbers of the groups to age to; all by default.
        global_batch_size: Sources in the batches of all processes together; a multiple of ``world_size``. As many
            target faces are loaded as well.
        seed: Of the run, 0 to 2⁶⁴ − 1.
        rank: This process's number; torch.distributed's by default.
        world_size: How many processes; torch.distributed's by default.

    Raises:
        ValueError: If groups are empty (all of them are listed), ages are out of range, or a number is.
        TypeError: If ages are not numbers.

    Example:
        >>> sampler = TargetGroupSampler([15.0, 25.0, 26.0, 70.0], groups=(1, 2), global_batch_size=2)
        >>> indices = sampler.batch(0)
        >>> sources, targets = indices[:2], indices[2:]
        >>> 0 in targets, 3 in targets
        (True, False)
    """

    num_left_out: int
    """Faces that are never targets, as their age is unknown or their group is not asked for."""

    def __init__(
        self,
        ages: Labels,
        *,
        age_groups: AgeGroups | None = None,
        groups: Sequence[int] | None = None,
        global_batch_size: int,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self.age_groups = age_groups if age_groups is not None else AgeGroups()
        self.groups = _checked_groups(groups, self.age_groups.num_groups)
        column = age_group_column("TargetGroupSampler", ages, self.age_groups)
        column[~np.isin(column, self.groups)] = -1
        super().__init__(
            units=("global_batch_size", global_batch_size), seed=seed, rank=rank, world_size=world_size, labels=column
        )
        self.num_left_out = int((column < 0).sum())
        members = members_of(column, self.age_groups.num_groups)
        empty = [self.age_groups.labels[group] for group in self.groups if len(members[group]) == 0]
        if empty:
            raise ValueError(
                f"TargetGroupSampler: every target group must have faces, got none of {', '.join(empty)}. Cut other "
                "groups with age_groups=AgeGroups(...), or name those to age to with groups=(...)."
            )
        self._sources = EpochPermutations(len(column), seed=seed, purpose=_PURPOSE)
        self._targets = StratifiedWalk([members[group] for group in self.groups], seed=seed, purpose=_PURPOSE + 1)

    def _units(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        return np.stack((self._sources.stretch(start, stop), self._targets.stretch(start, stop).members), axis=1)

    def _in_order(self, units: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return units.T.reshape(-1)


def _checked_groups(groups: Sequence[int] | None, num_groups: int) -> tuple[int, ...]:
    if groups is None:
        return tuple(range(num_groups))
    numbers = tuple(sorted(groups))
    if not numbers or len(set(numbers)) < len(numbers) or not 0 <= numbers[0] <= numbers[-1] < num_groups:
        raise ValueError(
            f"TargetGroupSampler: 'groups' must be different numbers in [0, {num_groups}), at least one, got "
            f"{groups!r}."
        )
    return numbers
