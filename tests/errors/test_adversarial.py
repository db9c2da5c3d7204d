from __future__ import annotations

from typing import Any

import pytest
import torch

from facemtl.losses.adversarial import HingeAdversarialLoss, LeastSquaresAdversarialLoss, NonSaturatingAdversarialLoss


@pytest.mark.parametrize("kind", [LeastSquaresAdversarialLoss, HingeAdversarialLoss, NonSaturatingAdversarialLoss])
def test_logits_must_be_floating(kind: Any) -> None:
    loss, good, bad = kind(), torch.zeros(2, 1, 5, 5), torch.zeros(2, 1, 5, 5, dtype=torch.int64)
    name = kind.__name__
    message = "must have a floating-point dtype, got torch.int64. Pass the discriminator's scores."
    with pytest.raises(TypeError, match=f"{name}.generator: 'fake_logits' {message}"):
        loss(bad)
    with pytest.raises(TypeError, match=f"{name}.discriminator: 'real_logits' {message}"):
        loss.discriminator(bad, good)
    with pytest.raises(TypeError, match=f"{name}.discriminator: 'fake_logits' {message}"):
        loss.discriminator(good, bad)
