from __future__ import annotations

import torch

from facemtl.layers.embedding import EmbeddingHead
from tests.cases import Case

CASES = [
    Case(
        "EmbeddingHead",
        lambda **factory: EmbeddingHead(
            6, (3, 2), dimension=5, dropout=0.0, **factory
        ),  # compiled dropout draws other masks
        lambda generator, batch: (torch.randn(batch, 6, 3, 2, generator=generator),),
        autocast_tolerance=0.2,  # a norm over two samples amplifies what bf16 rounds
    )
]
