from __future__ import annotations

import torch

from facemtl.layers.batch_norm import BatchNorm1d, BatchNorm2d
from facemtl.layers.instance_norm import InstanceNorm2d
from tests.cases import Case


def feature_map(generator: torch.Generator, batch: int) -> tuple[torch.Tensor]:
    return (torch.randn(batch, 6, 5, 5, generator=generator),)


CASES = [
    Case("BatchNorm2d", lambda **factory: BatchNorm2d(6, **factory), feature_map),
    Case(
        "BatchNorm1d",
        lambda **factory: BatchNorm1d(6, **factory),
        lambda generator, batch: (torch.randn(batch, 6, generator=generator),),
    ),
    Case("InstanceNorm2d", lambda: InstanceNorm2d(6), feature_map, factory_kwargs=False),
]
