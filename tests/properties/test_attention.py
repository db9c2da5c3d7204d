from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from facemtl.layers.attention import ChannelAttention, ChannelSpatialAttention, SpatialAttention
from facemtl.layers.cbam import CBAM
from facemtl.layers.pyramid_pool import pyramid_pool
from tests.cases import randomise

sides = st.integers(1, 15)
seeds = st.integers(0, 2**16)

ATTENTIONS: dict[str, Callable[[int], nn.Module]] = {
    "channel": ChannelAttention,
    "channel, concatenated": lambda channels: ChannelAttention(channels, pyramids="concatenated", reduction=5),
    "spatial": lambda channels: SpatialAttention(),
    "average": ChannelSpatialAttention,
    "CBAM": CBAM,
}
every_attention = pytest.mark.parametrize("name", list(ATTENTIONS))


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(height=sides, width=sides, cells=st.integers(1, 5), seed=seeds)
@example(height=7, width=7, cells=3, seed=0)
@example(height=8, width=14, cells=3, seed=0)  # cells of different sizes
@example(height=1, width=2, cells=3, seed=0)  # a map smaller than the grid
def test_pyramid_pool_equals_adaptive_pooling(height: int, width: int, cells: int, seed: int) -> None:
    features = draw(seed, 2, 3, height, width)
    mean = pyramid_pool(features, reduce="mean", grid_sizes=(cells,))
    maximum = pyramid_pool(features, reduce="max", grid_sizes=(cells,))
    torch.testing.assert_close(mean, F.adaptive_avg_pool2d(features, cells).flatten(1), rtol=1e-13, atol=1e-13)
    assert torch.equal(maximum, F.adaptive_max_pool2d(features, cells).flatten(1))


@given(grid_sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), batch=st.integers(0, 3), side=sides)
def test_pyramid_pool_puts_grid_after_grid(grid_sizes: list[int], batch: int, side: int) -> None:
    features = draw(3, batch, 2, side, side)
    whole = pyramid_pool(features, reduce="max", grid_sizes=grid_sizes)
    parts = [pyramid_pool(features, reduce="max", grid_sizes=(cells,)) for cells in grid_sizes]
    assert torch.equal(whole, torch.cat(parts, dim=1))
    assert whole.shape == (batch, 2 * sum(cells**2 for cells in grid_sizes))


@every_attention
@given(batch=st.integers(0, 4), channels=st.integers(1, 20), height=sides, width=sides, seed=seeds)
def test_mask_lies_between_0_and_1_and_broadcasts(
    name: str, batch: int, channels: int, height: int, width: int, seed: int
) -> None:
    attention = randomise(ATTENTIONS[name](channels).double(), seed=seed)
    features = draw(seed, batch, channels, height, width)
    for training in (True, False):
        mask = attention.train(training)(features)
        assert bool(((mask > 0) & (mask < 1)).all())
        assert torch.broadcast_shapes(mask.shape, features.shape) == features.shape


@every_attention
@given(batch=st.integers(1, 5), channels=st.integers(1, 8), seed=seeds)
def test_samples_do_not_mix_in_eval_mode(name: str, batch: int, channels: int, seed: int) -> None:
    attention = randomise(ATTENTIONS[name](channels).double(), seed=seed).eval()
    features = draw(seed, batch, channels, 5, 7)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(attention(features[order]), attention(features)[order], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(attention(features[:1]), attention(features)[:1], rtol=1e-12, atol=1e-12)


@given(seed=seeds)
def test_average_is_half_of_each(seed: int) -> None:
    attention = randomise(ChannelSpatialAttention(6).double(), seed=seed).eval()
    features = draw(seed, 2, 6, 7, 7)
    want = 0.5 * attention.channel(features) + 0.5 * attention.spatial(features)
    torch.testing.assert_close(attention(features), want, rtol=1e-14, atol=1e-14)


@given(seed=seeds, order=st.permutations(range(6)))
def test_spatial_attention_does_not_see_the_order_of_channels(seed: int, order: list[int]) -> None:
    attention = randomise(SpatialAttention().double(), seed=seed).eval()
    features = draw(seed, 2, 6, 4, 5)
    torch.testing.assert_close(attention(features[:, order]), attention(features), rtol=1e-12, atol=1e-12)
