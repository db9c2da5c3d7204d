"""A batch for face age synthesis: sources, the groups to age them to, and real faces of these groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from facemtl.data.samples import FaceBatch, FaceSample, collate_faces
from facemtl.layers.age import AgeGroups


class TargetGroupBatch(NamedTuple):
    """What a step of face age synthesis takes: row i is aged to the group of target face i."""

    sources: FaceBatch
    """Faces to age."""
    target_groups: Tensor
    """``(batch,)`` int64, the age group to age each source to: that of its target face."""
    target_faces: FaceBatch
    """Real faces of the target groups, for the discriminator; no relation to the sources."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> TargetGroupBatch:
        """Move all tensors to ``device``; ``non_blocking`` copies pinned memory while the host goes on."""
        return TargetGroupBatch(
            self.sources.to(device, non_blocking=non_blocking),
            self.target_groups.to(device, non_blocking=non_blocking),
            self.target_faces.to(device, non_blocking=non_blocking),
        )

    def __reduce__(self) -> tuple[Callable[..., TargetGroupBatch], tuple[object, ...]]:
        return _unpickled, (self.sources, self.target_groups.numpy(force=True), self.target_faces)  # see FaceBatch


@dataclass(frozen=True)
class TargetGroupCollator:
    """Makes a batch of what :class:`facemtl.TargetGroupSampler` draws: the ``collate_fn`` of its ``DataLoader``.

    The target group is read off the target face's own age: it is true even of a face that stands in for a broken image.

    Args:
        age_groups: Those of the sampler; the paper's seven groups by default.

    Example:
        >>> import torch
        >>> def face(age, index):
        ...     return FaceSample(torch.zeros(3, 8, 8, dtype=torch.uint8), identity=0, age=age, gender=0, index=index)
        >>> batch = TargetGroupCollator()([face(31.0, 0), face(8.0, 1), face(66.0, 2), face(12.0, 3)])
        >>> batch.sources.ages, batch.target_groups
        (tensor([31.,  8.]), tensor([6, 1]))
    """

    age_groups: AgeGroups = field(default_factory=AgeGroups)

    def __call__(self, samples: Sequence[FaceSample]) -> TargetGroupBatch:
        """Split samples into sources and targets.

        Raises:
            ValueError: If the number of samples is odd or zero, or a target's age is unknown.
        """
        half, odd = divmod(len(samples), 2)
        if odd or not half:
            raise ValueError(
                f"TargetGroupCollator: 'samples' must be as many targets as sources, got {len(samples)} in all. Draw "
                "them with TargetGroupSampler."
            )
        faces = collate_faces(samples)
        targets = FaceBatch(*(column[half:] for column in faces))
        return TargetGroupBatch(
            FaceBatch(*(column[:half] for column in faces)), self.age_groups.groups_of(targets.ages), targets
        )


def _unpickled(sources: FaceBatch, target_groups: npt.NDArray[np.int64], target_faces: FaceBatch) -> TargetGroupBatch:
    return TargetGroupBatch(sources, torch.from_numpy(target_groups), target_faces)
