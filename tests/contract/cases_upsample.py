from __future__ import annotations

import torch

from facemtl.layers.one_hot_condition import OneHotCondition
from facemtl.layers.upsample import DecoderLevel
from tests.cases import Case


def _level_inputs(generator: torch.Generator, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        torch.randn(batch, 6, 4, 3, generator=generator),
        torch.randn(batch, 5, 8, 6, generator=generator),
    )


CASES = [
    Case("DecoderLevel", lambda **options: DecoderLevel(6, 5, 4, **options), _level_inputs),
    Case(
        "DecoderLevel-code2021",
        lambda **options: DecoderLevel(6, 5, 4, norm="batch", activation="prelu", **options),
        _level_inputs,
    ),
    *(
        Case(
            f"OneHotCondition-{activation}",
            lambda activation=activation, **options: OneHotCondition(6, num_groups=3, activation=activation, **options),
            lambda generator, batch: (
                torch.randn(batch, 6, 4, 3, generator=generator),
                torch.randint(0, 3, (batch,), generator=generator),
            ),
        )
        for activation in ("relu", "prelu")
    ),
]
