"""The batch of benchmarks/step.py: bundled faces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from facemtl._core.pixels import to_model_input
from facemtl.data.bundled import bundled_faces
from facemtl.data.datasets import FaceDataset
from facemtl.data.samples import collate_faces
from facemtl.layers.age import AgeGroups


@dataclass(frozen=True)
class StepFaces:
    """What a step takes, on the device."""

    images: Tensor
    """Sources, and the faces that recognition learns from."""
    identities: Tensor
    ages: Tensor
    real: Tensor
    """Real faces of the target groups."""
    groups: Tensor
    """To age to."""
    indices: Tensor
    """Places of the sources in the data set."""

    def channels_last(self) -> StepFaces:
        last = torch.channels_last
        images, real = (value.contiguous(memory_format=last) for value in (self.images, self.real))
        return StepFaces(images, self.identities, self.ages, real, self.groups, self.indices)


def some_faces(batch: int, identities: int, device: torch.device) -> tuple[FaceDataset, StepFaces]:
    """Twice ``batch`` bundled faces as a data set, of which the first half are the sources and the others are real."""
    few = FaceDataset(bundled_faces().manifest.select(range(2 * batch)))
    loaded = collate_faces(few.__getitems__(range(2 * batch)))
    pixels = to_model_input(loaded.images).contiguous().to(device)
    faces = StepFaces(
        pixels[:batch],
        (loaded.identities[:batch] % identities).to(device),
        loaded.ages[:batch].to(device),
        pixels[batch:],
        AgeGroups().groups_of(loaded.ages[batch:]).to(device),
        torch.arange(batch, device=device),
    )
    return few, faces
