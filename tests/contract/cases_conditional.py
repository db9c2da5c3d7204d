from __future__ import annotations

import torch
from torch import Tensor, nn

from facemtl.layers.conditional import IdentityConditionalModule
from facemtl.layers.conditional_multiscale import MultiScaleIdentityConditionalModule
from tests.cases import Case


def _inputs(generator: torch.Generator, batch: int) -> tuple[Tensor, Tensor]:
    groups = torch.arange(batch) % 3
    return torch.randn(batch, 8, 5, 4, generator=generator), groups


def _make(**options: object):
    def make(**factory: object) -> nn.Module:
        return IdentityConditionalModule(8, num_groups=3, unit=8, num_blocks=2, **options, **factory)

    return make


def _make_scales(**factory: object) -> nn.Module:
    return MultiScaleIdentityConditionalModule((8, 4), (8, 4), num_groups=3, num_blocks=1, **factory)


CASES = [
    Case("IdentityConditionalModule", _make(), _inputs),
    Case("IdentityConditionalModule-journal", _make(activation="leaky_relu", output_norm=True), _inputs),
    Case("IdentityConditionalModule-instance-prelu", _make(activation="prelu"), _inputs),
    Case("IdentityConditionalModule-code", _make(norm="batch", activation="prelu", output_norm=True), _inputs),
    Case(
        "MultiScaleIdentityConditionalModule",
        _make_scales,
        lambda generator, batch: (
            (torch.randn(batch, 8, 3, 4, generator=generator), torch.randn(batch, 4, 6, 8, generator=generator)),
            torch.arange(batch) % 3,
        ),
    ),
]
