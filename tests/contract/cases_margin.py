from __future__ import annotations

from functools import partial
from typing import Any

import torch

from facemtl.heads.adaptive import AdaFace, MagFace
from facemtl.heads.combined import CombinedMargin
from facemtl.heads.curricular import CurricularFace
from facemtl.heads.margin import ArcFace, CosFace
from tests.cases import Case

IDENTITIES, DIMENSION = 7, 6


def inputs(generator: torch.Generator, batch: int, size: float = 1.0) -> tuple[Any, ...]:
    embeddings = size * torch.randn(batch, DIMENSION, generator=generator)
    return embeddings, torch.randint(IDENTITIES, (batch,), generator=generator)


CASES = [
    Case("CosFace", partial(CosFace, DIMENSION, IDENTITIES), inputs),
    Case("CosFace lean", partial(CosFace, DIMENSION, IDENTITIES, lean=True), inputs),
    Case("ArcFace", partial(ArcFace, DIMENSION, IDENTITIES), inputs),
    Case("ArcFace lean", partial(ArcFace, DIMENSION, IDENTITIES, lean=True), inputs),
    Case("CombinedMargin", partial(CombinedMargin, DIMENSION, IDENTITIES, multiplier=1.2), inputs),
    Case("AdaFace", partial(AdaFace, DIMENSION, IDENTITIES), partial(inputs, size=8.0)),
    Case("MagFace", partial(MagFace, DIMENSION, IDENTITIES), partial(inputs, size=8.0)),
    Case("CurricularFace", partial(CurricularFace, DIMENSION, IDENTITIES), inputs),
    Case("CurricularFace lean", partial(CurricularFace, DIMENSION, IDENTITIES, lean=True), inputs),
]
