"""Attention masks and pyramid pooling against loops written from their equations, in float64."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from facemtl.layers.attention import ChannelAttention, ChannelSpatialAttention, SpatialAttention
from facemtl.layers.cbam import CBAM
from facemtl.layers.pyramid_pool import pyramid_pool
from tests.cases import randomise
from tests.export import assert_exports


def sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))


def cells(plane: Tensor, count: int) -> list[Tensor]:
    """Adaptive pooling's cells of one plane, row by row."""
    height, width = plane.shape
    return [
        plane[
            math.floor(i * height / count) : math.ceil((i + 1) * height / count),
            math.floor(j * width / count) : math.ceil((j + 1) * width / count),
        ]
        for i in range(count)
        for j in range(count)
    ]


def pyramid(sample: Tensor, grid_sizes: tuple[int, ...], reduce: str) -> list[float]:
    pooled = []
    for count in grid_sizes:
        for plane in sample:
            for cell in cells(plane, count):
                pooled.append(
                    max(cell.flatten().tolist()) if reduce == "max" else sum(cell.flatten().tolist()) / cell.numel()
                )
    return pooled


def product(matrix: Tensor, vector: list[float]) -> list[float]:
    return [sum(weight * value for weight, value in zip(row.tolist(), vector, strict=True)) for row in matrix]


def normalised(values: list[float], norm: nn.BatchNorm2d) -> list[float]:
    return [
        (value - float(norm.running_mean[c])) / math.sqrt(float(norm.running_var[c]) + norm.eps) * float(norm.weight[c])
        + float(norm.bias[c])
        for c, value in enumerate(values)
    ]


def spatial_mask(attention: SpatialAttention, sample: Tensor) -> Tensor:
    channels, height, width = sample.shape
    reach = attention.conv.kernel_size[0] // 2
    mask = torch.empty(height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            score = 0.0
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        values = sample[:, y + dy, x + dx].tolist()
                        weight = attention.conv.weight[0, :, dy + reach, dx + reach].tolist()
                        score += weight[0] * max(values) + weight[1] * sum(values) / channels
            mask[y, x] = sigmoid(normalised([score], attention.norm)[0])
    return mask


def maps(channels: int, height: int, width: int) -> Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.mark.parametrize("pyramids", ["summed", "concatenated"])
@pytest.mark.parametrize(("height", "width"), [(7, 7), (5, 2)])
@torch.no_grad()
def test_channel_attention_equals_the_loop(pyramids: str, height: int, width: int) -> None:
    attention = ChannelAttention(4, reduction=10, pyramids=pyramids, dtype=torch.float64)
    randomise(attention).eval()
    features = maps(4, height, width)
    for sample, mask in zip(features, attention(features), strict=True):
        mean, maximum = pyramid(sample, (1, 2, 3), "mean"), pyramid(sample, (1, 2, 3), "max")
        if pyramids == "summed":
            pooled = [left + right for left, right in zip(mean, maximum, strict=True)]
        else:
            pooled = mean + maximum
        hidden = [max(value, 0.0) for value in product(attention.squeeze.weight, pooled)]
        assert len(hidden) == len(pooled) // 10
        scores = normalised(product(attention.excite.weight, hidden), attention.norm)
        want = torch.tensor([sigmoid(score) for score in scores], dtype=torch.float64)
        torch.testing.assert_close(mask.flatten(), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kernel_size", [7, 3])
@torch.no_grad()
def test_spatial_attention_equals_the_loop(kernel_size: int) -> None:
    attention = randomise(SpatialAttention(kernel_size=kernel_size, dtype=torch.float64)).eval()
    features = maps(3, 4, 6)
    for sample, mask in zip(features, attention(features), strict=True):
        torch.testing.assert_close(mask[0], spatial_mask(attention, sample), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_cbam_equals_the_loop() -> None:
    cbam = randomise(CBAM(6, reduction=2, kernel_size=3, dtype=torch.float64)).eval()
    first, _, last = cbam.channel_mlp
    features = maps(6, 4, 3)

    def mlp(pooled: list[float]) -> list[float]:
        hidden = [max(v + float(b), 0.0) for v, b in zip(product(first.weight, pooled), first.bias, strict=True)]
        return [v + float(b) for v, b in zip(product(last.weight, hidden), last.bias, strict=True)]

    for sample, mask in zip(features, cbam(features), strict=True):
        scores = zip(mlp(pyramid(sample, (1,), "mean")), mlp(pyramid(sample, (1,), "max")), strict=True)
        channel = torch.tensor([sigmoid(left + right) for left, right in scores], dtype=torch.float64)[:, None, None]
        want = channel * spatial_mask(cbam.spatial, sample * channel)
        torch.testing.assert_close(mask, want, rtol=1e-12, atol=1e-12)


def test_the_paper_sizes_of_the_channel_attention() -> None:
    paper = ChannelAttention(512, device="meta")
    assert (paper.squeeze.in_features, paper.squeeze.out_features) == (7168, 448)
    journal = ChannelAttention(512, pyramids="concatenated", device="meta")
    assert (journal.squeeze.in_features, journal.squeeze.out_features) == (14336, 896)
    assert paper.norm.momentum == 0.01


def test_tied_maxima_share_the_gradient() -> None:
    features = torch.zeros(1, 1, 2, 2, requires_grad=True)
    pyramid_pool(features, reduce="max", grid_sizes=(1,)).sum().backward()
    assert features.grad is not None
    assert features.grad.flatten().tolist() == [0.25] * 4


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [ChannelAttention, ChannelSpatialAttention, CBAM])
def test_gradcheck(make: type[nn.Module], training: bool) -> None:
    attention = randomise(make(3, dtype=torch.float64)).train(training)
    features = maps(3, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(attention, (features,))


@pytest.mark.compiled
def test_cbam_exports_with_a_dynamic_batch(tmp_path: Path) -> None:
    assert_exports(randomise(CBAM(8)).eval(), lambda batch: (torch.randn(batch, 8, 7, 7),), tmp_path)
