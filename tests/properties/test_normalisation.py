from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from facemtl.layers.batch_norm import BatchNorm1d, BatchNorm2d
from facemtl.layers.instance_norm import instance_norm

sides = st.integers(1, 5)


@given(
    batch=st.integers(0, 4),
    channels=st.integers(1, 5),
    height=sides,
    width=sides,
    training=st.booleans(),
    seed=st.integers(0, 999),
)
def test_batch_norm_is_torchs_wherever_torch_has_one(
    batch: int, channels: int, height: int, width: int, training: bool, seed: int
) -> None:
    features = torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))
    ours = BatchNorm2d(channels).train(training)
    nn.init.uniform_(ours.weight)
    before = copy.deepcopy(ours.state_dict())
    if batch * height * width > 1:
        theirs = nn.BatchNorm2d(channels).train(training)
        theirs.load_state_dict(ours.state_dict())
        assert torch.equal(ours(features), theirs(features))
        assert torch.equal(ours.running_var, theirs.running_var)
    else:
        torch.testing.assert_close(ours(features), copy.deepcopy(ours).eval()(features))
        assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


@given(batch=st.integers(1, 3), channels=st.integers(1, 4), height=sides, width=sides, seed=st.integers(0, 999))
def test_instance_norm_follows_its_formula(batch: int, channels: int, height: int, width: int, seed: int) -> None:
    features = torch.randn(
        batch, channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    mean = features.mean(dim=(2, 3), keepdim=True)
    variance = features.var(dim=(2, 3), keepdim=True, correction=0)
    want = (features - mean) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(instance_norm(features), want, rtol=1e-9, atol=1e-9)


def test_a_lone_sample_trains_and_gets_gradients() -> None:
    norm = BatchNorm1d(3).train()
    sample = torch.tensor([[1.0, -2.0, 3.0]], requires_grad=True)
    (norm(sample) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert sample.grad is not None
    torch.testing.assert_close(sample.grad, torch.tensor([[1.0, 2.0, 3.0]]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.weight.grad, torch.tensor([1.0, -4.0, 9.0]), rtol=1e-4, atol=1e-4)


def test_wrong_rank_is_still_refused() -> None:
    with pytest.raises(ValueError, match="expected 4D"):
        BatchNorm2d(3).train()(torch.zeros(1, 3))
