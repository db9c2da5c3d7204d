from __future__ import annotations

import torch

from facemtl.layers.reversal import GradientReversal
from tests.cases import Case

CASES = [
    Case(
        "GradientReversal",
        lambda: GradientReversal(strength=0.7),
        lambda generator, batch: (torch.randn(batch, 6, generator=generator),),
        factory_kwargs=False,
    )
]
