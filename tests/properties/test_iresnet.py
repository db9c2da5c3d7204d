from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facemtl.layers.ir_unit import IRUnit
from facemtl.layers.squeeze_excitation import SqueezeExcitation
from facemtl.networks.iresnet import UNITS_PER_STAGE, IRBackbone, IRResNet
from tests.cases import randomise

shortcuts = st.sampled_from(["subsample", "projection"])
seeds = st.integers(0, 2**16)


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    batch=st.integers(0, 2),
    channels=st.integers(1, 5),
    shortcut=shortcuts,
    squeeze_excitation=st.booleans(),
    training=st.booleans(),
)
def test_maps_have_the_declared_channels_and_sizes(
    height: int, width: int, batch: int, channels: int, shortcut: str, squeeze_excitation: bool, training: bool
) -> None:
    backbone = IRBackbone(18, width=channels, shortcut=shortcut, squeeze_excitation=squeeze_excitation).train(training)
    features = backbone(random(batch, 3, 16 * height, 16 * width, seed=0))
    assert features.map.shape == (batch, backbone.channels, height, width)
    assert backbone.channels == 8 * channels
    assert backbone.level_channels == (channels, channels, 2 * channels, 4 * channels)
    for level, count, scale in zip(features.levels, backbone.level_channels, (16, 8, 4, 2), strict=True):
        assert level.shape == (batch, count, scale * height, scale * width)
        assert level.isfinite().all()


@given(depth=st.sampled_from(sorted(UNITS_PER_STAGE)), width=st.integers(1, 4), squeeze_excitation=st.booleans())
@settings(max_examples=10)
def test_depth_counts_the_layers(depth: int, width: int, squeeze_excitation: bool) -> None:
    with torch.device("meta"):
        backbone = IRBackbone(depth, width=width, squeeze_excitation=squeeze_excitation)
    units = [part for part in backbone.modules() if isinstance(part, IRUnit)]
    # A name counts two convolutions a unit, the stem and the linear layer. IR-152 alone is named after the ResNet whose
    # units per stage it borrows; those have three convolutions.
    assert (3 if depth == 152 else 2) * len(units) + 2 == depth
    assert sum(isinstance(part, SqueezeExcitation) for part in backbone.modules()) == len(units) * squeeze_excitation


@given(seed=seeds, shortcut=shortcuts)
@settings(max_examples=10)
def test_batch_permutation_commutes_in_eval_mode(seed: int, shortcut: str) -> None:
    network = IRResNet(18, width=2, image_size=32, embedding_dimension=8, shortcut=shortcut).double()
    randomise(network, seed).eval()
    images = random(4, 3, 32, 32, seed=seed).double()
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    for got, want in zip(network(images[order])[:2], network(images)[:2], strict=True):
        torch.testing.assert_close(got, want[order], rtol=1e-10, atol=1e-10)


@given(seed=seeds, rows=st.integers(1, 3), columns=st.integers(1, 3), dimension=st.integers(1, 9))
@settings(max_examples=10)
def test_any_image_size_and_embedding_dimension(seed: int, rows: int, columns: int, dimension: int) -> None:
    network = IRResNet(18, width=2, image_size=(16 * rows, 16 * columns), embedding_dimension=dimension)
    features = network(random(2, 3, 16 * rows, 16 * columns, seed=seed))
    assert features.embedding.shape == (2, dimension)
    backbone = network.backbone.eval()(random(1, 3, 16 * rows, 16 * columns, seed=seed))
    assert len(backbone.levels) == len(features.levels) == 4


@given(seed=seeds, channels=st.integers(1, 40), reduction=st.integers(1, 64))
def test_excitation_weighs_whole_channels_by_less_than_one(seed: int, channels: int, reduction: int) -> None:
    layer = SqueezeExcitation(channels, reduction=reduction).double()
    features = random(2, channels, 3, 4, seed=seed).double()
    ratio = layer(features) / features
    assert ((ratio > 0) & (ratio < 1)).all()
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("shortcut", ["subsample", "projection"])
def test_a_quarter_width_network_learns_on_one_image(shortcut: str) -> None:
    network = IRResNet(18, width=4, image_size=16, embedding_dimension=8, shortcut=shortcut)
    network(random(1, 3, 16, 16, seed=1)).embedding.square().sum().backward()
    assert network.backbone.stem.convolution.weight.grad.abs().sum() > 0


def test_subsampling_keeps_every_second_pixel() -> None:
    unit = IRUnit(2, 2, stride=2)
    assert repr(unit.shortcut) == "Subsample(stride=2)"
    features = random(1, 2, 5, 4, seed=0)
    assert torch.equal(unit.shortcut(features), features[:, :, [0, 2, 4]][:, :, :, [0, 2]])
