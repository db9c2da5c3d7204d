from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from facemtl.layers.embedding import EmbeddingHead
from facemtl.layers.folding import fold_after, fold_before
from facemtl.layers.inference import fold_batch_norms, fold_chain
from facemtl.layers.ir_unit import IRUnit
from facemtl.networks.iresnet import IRResNet
from tests.cases import randomise

seeds = st.integers(0, 2**16)
small = st.integers(1, 3)
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@given(
    kernel=st.tuples(small, small),
    stride=st.tuples(small, small),
    padding=st.one_of(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.just("same")),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    groups=small,
    bias=st.booleans(),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    seed=seeds,
)
@example(
    kernel=(3, 3),
    stride=(1, 1),
    padding=(1, 1),
    dilation=(1, 1),
    size=(5, 5),
    groups=1,
    bias=False,
    mode="zeros",
    seed=0,
)
def test_any_convolution_takes_the_norms_around_it(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] | str,
    dilation: tuple[int, int],
    size: tuple[int, int],
    groups: int,
    bias: bool,
    mode: str,
    seed: int,
) -> None:
    layer = nn.Conv2d(
        2 * groups,
        3 * groups,
        kernel,
        stride=1 if padding == "same" else stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
        padding_mode=mode,
    )
    before, after = nn.BatchNorm2d(2 * groups), nn.BatchNorm2d(3 * groups)
    parts = randomise(nn.Sequential(before, layer, after).double(), seed).eval()
    features = random(2, 2 * groups, *size, seed=seed)
    torch.testing.assert_close(fold_after(layer, after)(features), after(layer(features)), **EXACT)
    torch.testing.assert_close(fold_before(before, layer)(features), layer(before(features)), **EXACT)
    torch.testing.assert_close(fold_batch_norms(parts)(features), parts(features), **EXACT)


@given(
    channels=small,
    out_channels=small,
    stride=st.integers(1, 2),
    projection=st.booleans(),
    excitation=st.booleans(),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    seed=seeds,
)
def test_a_folded_unit_equals_the_unit_on_any_size(
    channels: int,
    out_channels: int,
    stride: int,
    projection: bool,
    excitation: bool,
    height: int,
    width: int,
    seed: int,
) -> None:
    unit = IRUnit(
        channels,
        out_channels,
        stride=stride,
        projection=projection or channels != out_channels,
        squeeze_excitation=excitation,
    ).double()
    randomise(unit, seed).eval()
    features = random(2, channels, height, width, seed=seed)
    folded = unit.for_inference()
    assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in folded.modules())
    torch.testing.assert_close(folded(features), unit(features), **EXACT)


@given(channels=small, height=small, width=small, dimension=small, seed=seeds)
def test_a_folded_embedding_head_is_one_linear_layer(
    channels: int, height: int, width: int, dimension: int, seed: int
) -> None:
    head = randomise(EmbeddingHead(channels, (height, width), dimension=dimension).double(), seed).eval()
    folded = head.for_inference()
    assert {name.partition(".")[0] for name, _ in folded.named_parameters()} == {"linear"}
    maps = random(3, channels, height, width, seed=seed)
    torch.testing.assert_close(folded(maps), head(maps), **EXACT)


@given(
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    shortcut=st.sampled_from(["subsample", "projection"]),
    excitation=st.booleans(),
    training=st.booleans(),
    seed=seeds,
)
@settings(max_examples=15)
def test_a_folded_recogniser_equals_the_recogniser(
    rows: int, columns: int, shortcut: str, excitation: bool, training: bool, seed: int
) -> None:
    size = (16 * rows, 16 * columns)
    network = IRResNet(
        18, width=2, image_size=size, embedding_dimension=4, squeeze_excitation=excitation, shortcut=shortcut
    ).double()
    randomise(network, seed)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    folded = network.train(training).for_inference()
    assert network.training == training
    images = random(2, 3, *size, seed=seed)
    with torch.no_grad():
        got, want = folded(images), network.eval()(images)
    for left, right in zip([*got[:2], *got.levels], [*want[:2], *want.levels], strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10 * max(1.0, float(right.abs().max())))
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert not folded.training
    assert not any(parameter.requires_grad for parameter in folded.parameters())


@given(kinds=st.lists(st.sampled_from("nncaid"), min_size=1, max_size=7), seed=seeds)
def test_any_chain_is_folded_to_its_equal(kinds: list[str], seed: int) -> None:
    make = {
        "n": lambda: nn.BatchNorm2d(3),
        "c": lambda: nn.Conv2d(3, 3, 3, padding=1),
        "a": lambda: nn.PReLU(3),
        "i": nn.Identity,
        "d": nn.Dropout,
    }
    network = randomise(nn.Sequential(*(make[kind]() for kind in kinds)).double(), seed).eval()
    features = random(1, 3, 4, 5, seed=seed)
    folded = fold_batch_norms(network)
    assert len(folded) == len(network) == len(fold_chain(list(network)))
    torch.testing.assert_close(folded(features), network(features), **EXACT)
