from __future__ import annotations

import torch

from facemtl.layers.one_hot_condition import OneHotCondition
from facemtl.networks.aging_generator import AgingGenerator
from tests.cases import Case

CHANNELS, WIDTHS = (16, 8, 6, 4), (8, 6, 4, 4)


def inputs(generator: torch.Generator, batch: int) -> tuple[object, ...]:
    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=generator)

    levels = (randn(4, 32, 48), randn(4, 16, 24), randn(6, 8, 12), randn(8, 4, 6))  # the stem's feature first
    return randn(16, 2, 3), levels, randn(3, 32, 48), torch.randint(0, 7, (batch,), generator=generator)


CASES = [
    Case("AgingGenerator", lambda **options: AgingGenerator(channels=CHANNELS, widths=WIDTHS, **options), inputs),
    Case(
        "AgingGenerator-code2021",
        lambda **options: AgingGenerator.code2021(
            OneHotCondition(16, activation="prelu", **options), channels=CHANNELS, widths=WIDTHS, **options
        ),
        inputs,
    ),
]
