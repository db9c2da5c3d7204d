"""Faces with chosen labels, and a model that reads embedding and age out of their pixels, for tests of figures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from facemtl.data.encoded_faces import FaceColumns
from facemtl.data.samples import FaceSample
from facemtl.heads.age import AgePrediction
from facemtl.layers.age import AgeGroups
from facemtl.networks.mtlface import MTLFace


class PlainFaces:
    """Images and labels as they are; ``stand_ins`` maps a broken face to the one that is delivered instead."""

    def __init__(
        self,
        images: Tensor,
        identities: npt.ArrayLike,
        ages: npt.ArrayLike,
        *,
        stand_ins: dict[int, int] | None = None,
    ) -> None:
        self.images, self.stand_ins = images, stand_ins or {}
        self.columns = FaceColumns(
            np.asarray(identities, np.int64), np.asarray(ages, np.float32), np.full(len(images), -1, np.int8)
        )

    def __getitem__(self, index: int) -> FaceSample:
        place = self.stand_ins.get(index, index)
        if not 0 <= place < len(self.images):
            raise IndexError(index)
        labels = self.columns
        return FaceSample(self.images[place], int(labels.identities[place]), float(labels.ages[place]), -1, place)


def random_faces(count: int, *, side: int = 16, seed: int = 0) -> Tensor:
    return torch.randint(
        0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


class _Reader(nn.Module):
    """The map is the image at a quarter of its size."""

    def forward(self, images: Tensor) -> Any:
        return SimpleNamespace(map=nn.functional.avg_pool2d(images, 4), levels=(images,))


class _Halves(nn.Module):
    def forward(self, features: Tensor) -> Any:
        return SimpleNamespace(identity=features, age=features)


class _Flat(nn.Module):
    """Left and right differ, so that mirroring matters; the batch norm shows whether a mode was changed."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(48)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(features.flatten(1))


class _AgeByBrightness(nn.Module):
    """0 years for a black face, 100 for a white one, sharply."""

    def forward(self, features: Tensor) -> AgePrediction:
        years = (features.mean(dim=(1, 2, 3)) + 1) * 50
        logits = -((torch.arange(101.0) - years[:, None]) ** 2)
        return AgePrediction(logits, torch.zeros(len(features), 7))


class _Brighten(nn.Module):
    """Group g is a face of even brightness that the age head takes for the middle of that group."""

    YEARS = (5.0, 15.0, 25.0, 35.0, 45.0, 55.0, 70.0)

    def all_groups(self, identity: Tensor, levels: tuple[Tensor, ...], images: Tensor) -> Tensor:
        years = torch.tensor(self.YEARS, dtype=images.dtype)
        return (years / 50 - 1).view(1, -1, 1, 1, 1).expand(len(images), -1, *images.shape[1:]).clone()


def reading_model(*, generator: bool = True) -> MTLFace:
    """A model without secrets, in train mode: the pixels are its embedding, their mean its age."""
    return MTLFace(
        _Reader(),
        _Halves(),
        _Flat(),
        _AgeByBrightness(),
        generator=_Brighten() if generator else None,
        age_groups=AgeGroups(),
    )
