"""Batches of a data set's indices as a pure function of seed and step: the same whatever the number of processes."""

from __future__ import annotations

import operator
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch.distributed
from torch.utils.data import Sampler

from facemtl.data.random_words import LARGEST_SEED


class GlobalBatchSampler(Sampler[list[int]], ABC):
    """What the samplers here share: an endless stream of units, cut into global batches, these cut into ranks' shares.

    A unit is what must not be torn apart: a face, a person's K faces, or a source with its target. The stream S is a
    pure function of the seed. With U units in a global batch, rank r of w takes in step t the units

        S[t·U + r·U/w], …, S[t·U + (r + 1)·U/w − 1].

    So no two ranks share a unit, all ranks have batches of one size, there is no short batch, and the global batch t is
    the same for every w: a run that ends on eight processes goes on with four from its step, and no unit is lost or
    repeated. torch's ``DistributedSampler`` deals the epoch out by rank, pads it, and knows no place to resume at.

    Not made by users: see :class:`facemtl.ShuffledSampler` and its siblings.
    """

    def __init__(
        self,
        *,
        units: tuple[str, int],
        faces_per_unit: int = 1,
        seed: int,
        rank: int | None,
        world_size: int | None,
        labels: npt.NDArray[Any],
    ) -> None:
        where = type(self).__name__
        self.rank, self.world_size = _rank_and_world_size(where, rank, world_size)
        units_per_batch = _checked_units(where, *units, self.world_size)
        self.seed = whole_number(where, "seed", seed, lowest=0)
        if self.seed > LARGEST_SEED:
            raise ValueError(f"{where}: 'seed' must be less than 2**64, got {seed}.")
        self.global_batch_size = units_per_batch * faces_per_unit
        self._units_per_batch, self._units_per_rank = units_per_batch, units_per_batch // self.world_size
        self._start = 0
        self._fingerprint = zlib.crc32(np.ascontiguousarray(labels).tobytes())

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of this rank without end, from the step of :meth:`start_at`, every time that a loop begins."""
        step = self._start
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> list[int]:
        """Indices of this rank's share of global batch number ``step``."""
        first = step * self._units_per_batch + self.rank * self._units_per_rank
        return self._in_order(self._units(first, first + self._units_per_rank)).tolist()

    def global_batch(self, step: int) -> list[int]:
        """Indices of global batch number ``step``: what all ranks take together."""
        first = step * self._units_per_batch
        return self._in_order(self._units(first, first + self._units_per_batch)).tolist()

    def start_at(self, step: int) -> None:
        """Begin the next loop at this step: the number of batches that the run has consumed.

        A loop that runs already does not move.

        Raises:
            ValueError: If ``step`` is negative or not whole.
        """
        self._start = whole_number(f"{type(self).__name__}.start_at", "step", step, lowest=0)

    def state_dict(self, step: int) -> dict[str, Any]:
        """What a checkpoint needs to go on after ``step`` batches.

        The caller counts: workers prefetch, so a sampler has handed out more batches than the run has consumed, and
        cannot know how many.

        Args:
            step: Number of batches that the run has consumed.
        """
        return {**self._identity(), "step": whole_number(f"{type(self).__name__}.state_dict", "step", step, lowest=0)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Begin the next loop where ``state`` was taken; the number of processes may be another.

        Raises:
            ValueError: If the state is of another sampler, seed, global batch or of other labels: the steps would count
                other batches.
        """
        mine = self._identity()
        changed = [
            f"{key} was {state.get(key)!r} and is {value!r}" for key, value in mine.items() if state.get(key) != value
        ]
        if changed:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: 'state' must come from the same sampler over the same data, "
                f"got one in which {'; '.join(changed)}. Construct the sampler as before, or begin anew."
            )
        self.start_at(state["step"])

    @abstractmethod
    def _units(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Units ``start`` to ``stop`` − 1 of the stream, ``(stop − start, faces_per_unit)``; never across batches."""

    def _in_order(self, units: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return units.reshape(-1)

    def _identity(self) -> dict[str, Any]:
        return {
            "sampler": type(self).__name__,
            "seed": self.seed,
            "global_batch_size": self.global_batch_size,
            "labels_crc32": self._fingerprint,
        }


def whole_number(where: str, name: str, value: Any, *, lowest: int) -> int:
    """Give ``value`` as an int, or raise: a count that came out of a division is a float."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{where}: '{name}' must be a whole number, got {value!r}.") from None
    if number < lowest:
        raise ValueError(f"{where}: '{name}' must be at least {lowest}, got {number}.")
    return number


def _checked_units(where: str, name: str, size: int, world_size: int) -> int:
    """Units of a global batch, if they divide into equal shares."""
    size = whole_number(where, name, size, lowest=1)
    if size % world_size:
        raise ValueError(
            f"{where}: '{name}' must be a multiple of the world size {world_size}, so that all processes have "
            f"batches of one size, got {size}."
        )
    return size


def _rank_and_world_size(where: str, rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Those given, else those of torch.distributed, else one process alone."""
    if (rank is None) != (world_size is None):
        raise ValueError(f"{where}: 'rank' and 'world_size' come together, got rank={rank}, world_size={world_size}.")
    if rank is None or world_size is None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        launched = os.environ.get("WORLD_SIZE", "1")
        if launched != "1":
            raise ValueError(
                f"{where}: 'rank' and 'world_size' are not given and torch.distributed is not initialised, got "
                f"WORLD_SIZE={launched} from the launcher: every process would take the same faces. Initialise the "
                "process group first, or pass both."
            )
        return 0, 1
    if world_size < 1 or not 0 <= rank < world_size:
        raise ValueError(
            f"{where}: 'rank' must lie in [0, world_size) with world_size >= 1, got {rank} of {world_size}."
        )
    return rank, world_size
