"""Buffers that come back, and what is said of losses that are not finite."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from facemtl.networks.mtlface import MTLFace
from facemtl.training.finite import BufferSnapshot, TrainingDiverged, check_terms


def network() -> nn.Module:
    norm = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
    layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), norm, nn.BatchNorm1d(4, dtype=torch.float64))
    layers[0].register_buffer("hidden", torch.zeros(2), persistent=False)
    layers[0].register_buffer("absent", None)
    return layers


def buffers(module: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in module.buffers()]


@given(seed=st.integers(0, 1000), steps=st.integers(1, 3))
def test_restores_exactly_what_was_taken_last(seed: int, steps: int) -> None:
    torch.manual_seed(seed)
    module = network()
    snapshot = BufferSnapshot(module)
    places = [buffer.data_ptr() for buffer in module.buffers()]
    for _ in range(steps):
        snapshot.take()
        expected = buffers(module)
        module[2](module[1](module[0](torch.randn(5, 3))))
        module[0].hidden += 1.0
        moved = buffers(module)
    assert not all(torch.equal(before, after) for before, after in zip(expected, moved, strict=True))
    for _ in range(2):  # it can be put back more than once
        snapshot.restore()
        assert all(torch.equal(a, b) for a, b in zip(buffers(module), expected, strict=True))
        module[1](torch.full((4, 4), math.nan))
    snapshot.restore()
    assert all(torch.equal(a, b) for a, b in zip(buffers(module), expected, strict=True))
    assert [buffer.data_ptr() for buffer in module.buffers()] == places


def test_mtlface_comes_back_after_a_batch_of_nan(generator: torch.Generator) -> None:
    model = MTLFace.paper2021(depth=18, width=8, embedding_dimension=32).train()
    before = copy.deepcopy(model.state_dict())
    snapshot = BufferSnapshot(model)
    snapshot.take()
    model(torch.full((2, 3, 112, 112), math.nan))
    assert any(buffer.isnan().any() for buffer in model.buffers())
    snapshot.restore()
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_buffer_that_was_replaced_and_a_module_that_moved() -> None:
    norm = nn.BatchNorm1d(2)
    snapshot = BufferSnapshot(norm, norm)
    snapshot.take()
    norm.running_mean = torch.ones(2)
    snapshot.restore()
    assert norm.running_mean.tolist() == [0.0, 0.0]
    norm.double()
    norm.running_mean.fill_(1 / 3)
    snapshot.take()
    norm.running_mean.zero_()
    snapshot.restore()
    assert norm.running_mean.dtype == torch.float64
    assert norm.running_mean.tolist() == [1 / 3, 1 / 3]


@given(
    terms=st.dictionaries(st.text("abc", min_size=1), st.floats(allow_nan=True, allow_infinity=True), max_size=5),
    count=st.integers(0, 20),
)
def test_raises_if_and_only_if_a_term_is_not_finite(terms: dict[str, float], count: int) -> None:
    bad = [name for name, value in terms.items() if not math.isfinite(value)]
    files = [f"{number:03}.jpg" for number in range(count)]
    if not bad:
        check_terms(terms, step=1, phase="joint", files=files)
        return
    with pytest.raises(TrainingDiverged) as caught:
        check_terms(terms, step=1, phase="joint", files=files)
    message = str(caught.value)
    assert all(f"'{name}'" in message for name in bad)
    assert sum(file in message for file in files) == min(count, 8)
    assert (f"and {count - 8} more" in message) == (count > 8)
