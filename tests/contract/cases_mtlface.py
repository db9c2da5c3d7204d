from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl.layers.embedding import EmbeddingHead
from facemtl.networks.mtlface import MTLFace
from facemtl.networks.projected_backbone import ProjectedBackbone
from tests.cases import Case


class PooledBackbone(nn.Module):
    """The smallest backbone that returns four maps: one convolution and average pools."""

    def __init__(self, **factory: Any) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, padding=1, **factory)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.stem(images)
        return [F.avg_pool2d(features, stride) for stride in (2, 4, 8, 16)]


def projected(**factory: Any) -> ProjectedBackbone:
    return ProjectedBackbone(PooledBackbone(**factory), (5, 5, 5, 5), channels=16, level_channels=(4, 6, 8), **factory)


def small_mtlface(preset: str = "paper2021", **factory: Any) -> MTLFace:
    build = getattr(MTLFace, preset)
    embedding = EmbeddingHead(64, 2, dimension=24, dropout=0.0, **factory)  # compiled dropout draws other masks
    return build(depth=18, width=8, image_size=32, embedding=embedding, **factory)


def images(generator: torch.Generator, batch: int) -> tuple[Tensor]:
    return (torch.rand(batch, 3, 32, 32, generator=generator) * 2 - 1,)


# Recognition does not reach the synthesis half.
SYNTHESIS = frozenset(
    name for name, _ in small_mtlface().named_parameters() if name.startswith(("generator.", "discriminator."))
)

CASES = [
    Case("MTLFace", small_mtlface, images, unused=SYNTHESIS, compiler="aot_eager", autocast_tolerance=0.3),
    Case("ProjectedBackbone", projected, images),
]
