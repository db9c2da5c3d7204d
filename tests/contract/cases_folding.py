from __future__ import annotations

import torch

from facemtl.layers.bias_map import BiasMapConv2d
from tests.cases import Case

CASES = [
    Case(
        "BiasMapConv2d",
        lambda **factory: BiasMapConv2d(4, 6, (3, 5), stride=2, padding=(1, 2), groups=2, **factory),
        lambda generator, batch: (torch.randn(batch, 4, 7, 6, generator=generator),),
    )
]
