"""Batches of a run, from its next step on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch.utils.data import DataLoader, Dataset

from facemtl.data.samplers import GlobalBatchSampler
from facemtl.data.samples import FaceSample
from facemtl.training.interruption import ignore_stop_signals


@runtime_checkable
class Movable(Protocol):
    """A batch that knows how to move to a device."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Any:
        """The batch on ``device``."""
        ...


Batch = TypeVar("Batch", bound=Movable)


def training_batches(
    dataset: Dataset[FaceSample],
    sampler: GlobalBatchSampler,
    collate: Callable[[Sequence[FaceSample]], Batch],
    *,
    first_step: int,
    device: torch.device,
    workers: int,
) -> Iterator[Batch]:
    """Yield this process's batches without end, from step ``first_step`` on, on ``device``.

    Workers leave SIGTERM and SIGINT to the training process, which writes a checkpoint first.

    Args:
        dataset: Gives :class:`~facemtl.FaceSample`.
        sampler: Of the run.
        collate: Makes a batch of samples.
        first_step: Number of batches that the run has consumed.
        device: Where the batches are wanted.
        workers: Processes that load; 0 loads here.

    Example:
        >>> import torch, facemtl
        >>> from facemtl.data.bundled import bundled_faces
        >>> faces, sampler = bundled_faces(), facemtl.ShuffledSampler(2048, global_batch_size=8)
        >>> batches = training_batches(faces, sampler, facemtl.collate_faces, first_step=5, device=torch.device("cpu"),
        ...                            workers=0)
        >>> next(batches).indices.tolist() == sampler.batch(5)
        True
    """
    sampler.start_at(first_step)
    loader: DataLoader[FaceSample] = DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=ignore_stop_signals,
    )
    for batch in loader:
        yield batch.to(device, non_blocking=True)
