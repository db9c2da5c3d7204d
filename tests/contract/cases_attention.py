from __future__ import annotations

import torch

from facemtl.layers.attention import ChannelAttention, ChannelSpatialAttention, SpatialAttention
from facemtl.layers.cbam import CBAM
from tests.cases import Case


def maps(generator: torch.Generator, batch: int) -> tuple[torch.Tensor]:
    return (torch.randn(batch, 8, 7, 7, generator=generator),)


def odd_maps(generator: torch.Generator, batch: int) -> tuple[torch.Tensor]:
    return (torch.randn(batch, 5, 2, 8, generator=generator),)


CASES = [
    Case("ChannelAttention", lambda **kw: ChannelAttention(8, reduction=4, **kw), maps),
    Case(
        "ChannelAttention concatenated",
        lambda **kw: ChannelAttention(5, reduction=7, pyramids="concatenated", **kw),
        odd_maps,
        compiler="aot_eager",  # inductor compiles it in AttentionFeatureDecomposition.journal2022
    ),
    Case("SpatialAttention", SpatialAttention, maps),
    Case(
        "ChannelSpatialAttention",
        lambda **kw: ChannelSpatialAttention(8, **kw),
        maps,
        compiler="aot_eager",  # inductor compiles it in AttentionFeatureDecomposition
    ),
    Case("CBAM", lambda **kw: CBAM(8, reduction=2, **kw), maps),
]
