from __future__ import annotations

import torch

from facemtl.layers.attention import SpatialAttention
from facemtl.layers.attribute_decomposition import MultiAttributeDecomposition
from facemtl.layers.decomposition import AttentionFeatureDecomposition
from tests.cases import Case


def maps(generator: torch.Generator, batch: int) -> tuple[torch.Tensor]:
    return (torch.randn(batch, 8, 7, 7, generator=generator),)


CASES = [
    Case("AttentionFeatureDecomposition", lambda **kw: AttentionFeatureDecomposition(8, **kw), maps),
    Case(
        "AttentionFeatureDecomposition journal2022",
        lambda **kw: AttentionFeatureDecomposition.journal2022(8, **kw),
        maps,
    ),
    Case(
        "MultiAttributeDecomposition",
        lambda **kw: MultiAttributeDecomposition(
            8, attributes=("age", "pose"), attentions={"pose": SpatialAttention(**kw)}, **kw
        ),
        maps,
    ),
]
