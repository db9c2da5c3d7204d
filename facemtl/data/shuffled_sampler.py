"""All faces, each once an epoch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from facemtl.data.permutation import EpochPermutations
from facemtl.data.samplers import GlobalBatchSampler, whole_number

_PURPOSE = 1


class ShuffledSampler(GlobalBatchSampler):
    """Batches that walk through all faces, each once an epoch, every epoch in a new order, without an end.

    Epochs follow one another without a seam: where the global batch does not divide the data set, a batch takes the
    last faces of one epoch and the first of the next, so that none is short, padded or dropped. Global batch t is a
    pure function of seed and t: the run resumes at any step, with any number of processes. To be passed to
    ``DataLoader(batch_sampler=...)``, with any worker count.

    Args:
        num_faces: Size of the data set.
        global_batch_size: Faces in the batches of all processes together; a multiple of ``world_size``.
        seed: Of the run, 0 to 2⁶⁴ − 1.
        rank: This process's number; torch.distributed's by default.
        world_size: How many processes; torch.distributed's by default.

    Raises:
        ValueError: If a number is out of its range, or a launcher started several processes and torch.distributed is
            not initialised.

    Example:
        >>> sampler = ShuffledSampler(10, global_batch_size=4, rank=0, world_size=2)
        >>> [len(sampler.batch(step)) for step in range(3)]
        [2, 2, 2]
        >>> epoch = sum((sampler.global_batch(step) for step in range(5)), [])[:10]
        >>> sorted(epoch)
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
        >>> sampler.start_at(2)  # two batches are consumed
        >>> next(iter(sampler)) == sampler.batch(2)
        True
    """

    def __init__(
        self,
        num_faces: int,
        *,
        global_batch_size: int,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        num_faces = whole_number("ShuffledSampler", "num_faces", num_faces, lowest=1)
        super().__init__(
            units=("global_batch_size", global_batch_size),
            seed=seed,
            rank=rank,
            world_size=world_size,
            labels=np.array([num_faces], np.int64),
        )
        self._walk = EpochPermutations(num_faces, seed=seed, purpose=_PURPOSE)

    def _units(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        return self._walk.stretch(start, stop)
