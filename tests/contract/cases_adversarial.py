from __future__ import annotations

import torch

from facemtl.losses.adversarial import HingeAdversarialLoss, LeastSquaresAdversarialLoss, NonSaturatingAdversarialLoss
from tests.cases import Case

CASES = [
    Case(
        loss.__name__,
        loss,
        lambda generator, batch: (torch.randn(batch, 1, 5, 5, generator=generator),),
        factory_kwargs=False,
    )
    for loss in (LeastSquaresAdversarialLoss, HingeAdversarialLoss, NonSaturatingAdversarialLoss)
]
