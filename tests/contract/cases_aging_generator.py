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


def grown(generator: AgingGenerator) -> AgingGenerator:
    """Weights of a trained size: those of the start are so small that float32 gradients keep three digits only."""
    for part in generator.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.normal_(part.weight, std=part.weight[0].numel() ** -0.5)
    return generator


CASES = [
    Case(
        "AgingGenerator",
        lambda **options: grown(AgingGenerator(channels=CHANNELS, widths=WIDTHS, **options)),
        inputs,
    ),
    Case(
        "AgingGenerator-code2021",
        lambda **options: grown(
            AgingGenerator.code2021(
                OneHotCondition(16, activation="prelu", **options), channels=CHANNELS, widths=WIDTHS, **options
            )
        ),
        inputs,
    ),
]
