from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facemtl.layers.instance_norm import instance_norm
from facemtl.layers.one_hot_condition import OneHotCondition, one_hot_maps
from facemtl.layers.upsample import DecoderLevel
from tests.cases import randomise

seeds = st.integers(0, 2**16)
variants = st.sampled_from([("instance", "relu"), ("batch", "prelu"), ("instance", "prelu"), ("batch", "relu")])


def level(variant: tuple[str, str], seed: int = 0) -> DecoderLevel:
    torch.manual_seed(seed)
    return randomise(DecoderLevel(5, 3, 4, norm=variant[0], activation=variant[1], dtype=torch.float64), seed)


def randn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(
    variant=variants,
    batch=st.integers(0, 3),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    training=st.booleans(),
    seed=seeds,
)
def test_size_doubles(variant: tuple[str, str], batch: int, height: int, width: int, training: bool, seed: int) -> None:
    module = level(variant).train(training)
    output = module(randn(seed, batch, 5, height, width), randn(seed + 1, batch, 3, 2 * height, 2 * width))
    assert output.shape == (batch, 4, 2 * height, 2 * width)
    assert output.isfinite().all()


@given(variant=variants, batch=st.integers(1, 3), targets=st.integers(1, 4), seed=seeds)
def test_targets_share_what_the_skip_feature_adds(
    variant: tuple[str, str], batch: int, targets: int, seed: int
) -> None:
    module = level(variant).eval()
    features, skip = randn(seed, batch * targets, 5, 3, 2), randn(seed + 1, batch, 3, 6, 4)
    shared = module.refine(features, module.skip(skip), targets=targets)
    torch.testing.assert_close(shared, module(features, skip.repeat_interleave(targets, 0)), rtol=0.0, atol=1e-12)


def test_batch_norm_trains_on_shared_skips_as_on_repeated_ones() -> None:
    shared, repeated = (level(("batch", "prelu")).train() for _ in range(2))
    features, skip = randn(1, 6, 5, 3, 2), randn(2, 2, 3, 6, 4)
    output = shared.refine(features, shared.skip(skip), targets=3)
    torch.testing.assert_close(output, repeated(features, skip.repeat_interleave(3, 0)), rtol=0.0, atol=1e-12)
    want = dict(repeated.named_buffers())
    for name, value in shared.named_buffers():
        if name == "skip.norm.running_var":  # Bessel's factor: 48 values counted, not 144
            batch_var = value - 0.9 * level(("batch", "prelu")).skip.norm.running_var
            repeated_var = want[name] - 0.9 * level(("batch", "prelu")).skip.norm.running_var
            torch.testing.assert_close(batch_var * (47 / 48), repeated_var * (143 / 144))
        else:
            torch.testing.assert_close(value, want[name])


def test_the_level_does_not_depend_on_the_order_of_the_batch() -> None:
    module = level(("instance", "relu"))
    features, skip, order = randn(1, 4, 5, 3, 2), randn(2, 4, 3, 6, 4), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(module(features[order], skip[order]), module(features, skip)[order])


def test_convolutions_start_small_and_without_bias() -> None:
    module = DecoderLevel(64, 64, 64)
    weights = torch.cat(
        [part.weight.detach().flatten() for part in module.modules() if isinstance(part, torch.nn.Conv2d)]
    )
    assert float(weights.std()) == pytest.approx(0.01, rel=0.02)
    assert float(weights.mean().abs()) < 1e-4
    assert all(not value.any() for name, value in module.named_parameters() if name.endswith("bias"))


@given(batch=st.integers(0, 4), num_groups=st.integers(1, 9), seed=seeds)
def test_one_hot_maps_mark_the_group_everywhere(batch: int, num_groups: int, seed: int) -> None:
    groups = torch.randint(0, num_groups, (batch,), generator=torch.Generator().manual_seed(seed))
    maps = one_hot_maps(groups, num_groups, torch.zeros(batch, 2, 3, 2))
    assert maps.shape == (batch, num_groups, 3, 2)
    assert torch.equal(maps.sum(1), torch.ones(batch, 3, 2))
    assert torch.equal(maps.argmax(1), groups[:, None, None].expand(-1, 3, 2))


@given(batch=st.integers(0, 3), num_groups=st.integers(1, 5), seed=seeds)
def test_all_groups_of_the_one_hot_condition_are_each_group(batch: int, num_groups: int, seed: int) -> None:
    condition = OneHotCondition(4, num_groups=num_groups, activation="prelu", dtype=torch.float64)
    identity_map = randn(seed, batch, 4, 3, 2)
    together = condition.all_groups(identity_map)
    for group in range(num_groups):
        alone = condition(identity_map, torch.full((batch,), group))
        torch.testing.assert_close(together[:, group], alone, rtol=0.0, atol=1e-12)


def test_the_group_survives_an_instance_norm() -> None:
    """A constant of each channel would not: the decoder, which normalises first, could never see it."""
    condition = OneHotCondition(16, num_groups=2)
    young, old = condition.all_groups(randn(3, 1, 16, 7, 7).float()).unbind(1)
    assert (instance_norm(young) - instance_norm(old)).abs().max() > 0.1


def test_inputs_keep_their_values_though_relu_works_in_place() -> None:
    module = level(("instance", "relu"))
    features, skip = randn(1, 1, 5, 1, 1), randn(2, 1, 3, 2, 2)
    before = copy.deepcopy((features, skip))
    module(features, skip)
    assert torch.equal(features, before[0])
    assert torch.equal(skip, before[1])
