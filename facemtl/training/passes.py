"""A process's share of a batch, cut into passes that fit its memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from facemtl.data.samples import FaceBatch

Rows = TypeVar("Rows")


def number_of_passes(share: int, largest_pass: int) -> int:
    """Fewest passes of one size that a share of ``share`` faces divides into, none over ``largest_pass``.

    All passes have the same size, so the mean over the share is the mean of the passes' means, and batch norms see one
    size of batch throughout.

    Args:
        share: Faces of this process in an update, at least 1.
        largest_pass: Most faces in a pass, at least 1.

    Raises:
        ValueError: If a number is not positive.

    Example:
        >>> number_of_passes(512, 64), number_of_passes(64, 64), number_of_passes(60, 25)
        (8, 1, 3)
    """
    for name, value in (("share", share), ("largest_pass", largest_pass)):
        if value < 1:
            raise ValueError(f"number_of_passes: '{name}' must be at least 1, got {value}.")
    passes = -(-share // largest_pass)
    while share % passes:
        passes += 1
    return passes


def face_passes(batch: FaceBatch, passes: int) -> list[FaceBatch]:
    """Cut a batch into passes of one size, in order.

    Args:
        batch: Its size is a multiple of ``passes``.
        passes: At least 1.

    Raises:
        ValueError: If the batch does not divide.

    Example:
        >>> from facemtl.data.bundled import bundled_faces
        >>> from facemtl import collate_faces
        >>> batch = collate_faces(bundled_faces().__getitems__([0, 1, 2, 3]))
        >>> [part.indices.tolist() for part in face_passes(batch, 2)]
        [[0, 1], [2, 3]]
    """
    if passes < 1 or len(batch.images) % passes:
        raise ValueError(f"face_passes: 'passes' must divide the batch of {len(batch.images)}, got {passes}.")
    return [FaceBatch(*columns) for columns in zip(*(column.chunk(passes) for column in batch), strict=True)]


def until_last(items: Sequence[Rows], *modules: nn.Module) -> Iterator[tuple[Rows, AbstractContextManager[object]]]:
    """Yield each item with the context of its forward and backward pass: gradients are summed over processes once.

    Args:
        items: One for each pass.
        *modules: What learns, wrapped for several processes or not.

    Example:
        >>> from torch import nn
        >>> [item for item, context in until_last([1, 2], nn.Linear(1, 1))]
        [1, 2]
    """
    for number, item in enumerate(items):
        context = ExitStack()
        if number < len(items) - 1:
            for module in modules:
                if isinstance(module, DistributedDataParallel):
                    context.enter_context(module.no_sync())
        yield item, context


def mean_terms(phase: str, losses: Sequence[Any]) -> dict[str, Tensor]:
    """Means of named losses over the passes of an update, without gradients.

    Args:
        phase: Stands before each name.
        losses: One named tuple of scalars for each pass.

    Example:
        >>> import torch
        >>> from facemtl.training.steps import DiscriminatorLosses
        >>> losses = [DiscriminatorLosses(*torch.tensor([0.5, 1.0, 0.0])), DiscriminatorLosses(*torch.ones(3))]
        >>> mean_terms("synthesis", losses)
        {'synthesis/total': tensor(0.7500), 'synthesis/real_score': tensor(1.), 'synthesis/fake_score': tensor(0.5000)}
    """
    return {
        f"{phase}/{name}": torch.stack([getattr(part, name).detach() for part in losses]).mean()
        for name in losses[0]._fields
    }
