from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from facemtl.heads.age import AgeHead
from facemtl.heads.ordinal_age import CoralAgeHead, CornAgeHead
from facemtl.layers.age import AgeGroups
from facemtl.losses.age import AgeCrossEntropyLoss, AgeEstimationLoss
from facemtl.losses.age_distribution import LabelDistributionLoss, MeanVarianceLoss
from facemtl.losses.ordinal import CoralLoss, CornLoss
from tests.cases import Case


def maps(generator: torch.Generator, batch: int) -> tuple[Tensor]:
    return (torch.randn(batch, 6, 3, 4, generator=generator),)


def ages(generator: torch.Generator, batch: int) -> Tensor:
    """Years in [0, 100], every second one unknown (-1)."""
    known = (1000.0 * torch.rand(batch, generator=generator)).round() / 10.0
    return torch.where(torch.arange(batch) % 2 == 1, -1.0, known)


def scores(*widths: int) -> Callable[[torch.Generator, int], tuple[Tensor, ...]]:
    def make(generator: torch.Generator, batch: int) -> tuple[Tensor, ...]:
        logits = [torch.randn(batch, width, generator=generator) for width in widths]
        return (*logits, ages(generator, batch))

    return make


CASES = [
    Case("AgeHead", lambda **kw: AgeHead(6, (3, 4), hidden=16, num_ages=101, num_groups=5, **kw), maps),
    Case("CoralAgeHead", lambda **kw: CoralAgeHead(6, (3, 4), hidden=16, num_ages=21, **kw), maps),
    Case("CornAgeHead", lambda **kw: CornAgeHead(6, (3, 4), hidden=16, num_ages=21, **kw), maps),
    Case(
        "AgeEstimationLoss",
        lambda: AgeEstimationLoss(AgeGroups.preset(4), unknown_age=-1.0),
        scores(101, 4),
        factory_kwargs=False,
    ),
    Case("AgeCrossEntropyLoss", lambda: AgeCrossEntropyLoss(unknown_age=-1.0), scores(101), factory_kwargs=False),
    Case("LabelDistributionLoss", lambda: LabelDistributionLoss(unknown_age=-1.0), scores(101), factory_kwargs=False),
    Case("MeanVarianceLoss", lambda: MeanVarianceLoss(unknown_age=-1.0), scores(101), factory_kwargs=False),
    Case("CoralLoss", lambda: CoralLoss(unknown_age=-1.0), scores(100), factory_kwargs=False),
    Case("CornLoss", lambda: CornLoss(unknown_age=-1.0), scores(100), factory_kwargs=False),
]
