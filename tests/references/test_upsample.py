from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from facemtl.layers.one_hot_condition import OneHotCondition
from facemtl.layers.upsample import DecoderLevel
from tests.cases import randomise


def double(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def bilinear_twice(features: Tensor) -> Tensor:
    """Upsample twofold: output pixel i stands at (i + 1/2) / 2 - 1/2 of the input, edges repeated."""
    batch, channels, height, width = features.shape
    result = torch.zeros(batch, channels, 2 * height, 2 * width, dtype=features.dtype)
    for row in range(2 * height):
        for column in range(2 * width):
            y, x = max((row + 0.5) / 2 - 0.5, 0.0), max((column + 0.5) / 2 - 0.5, 0.0)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = features[:, :, top, left] * (1 - (x - left)) + features[:, :, top, right] * (x - left)
            lower = features[:, :, bottom, left] * (1 - (x - left)) + features[:, :, bottom, right] * (x - left)
            result[:, :, row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return result


def naive_level(level: DecoderLevel, features: Tensor, skip: Tensor, *, batch_norm: bool) -> Tensor:
    """The level as its sources describe it: concatenate, normalise, activate, convolve."""

    def normalised(value: Tensor, *norms: torch.nn.Module) -> Tensor:
        if batch_norm:
            mean, var, weight, bias = (
                torch.cat([getattr(norm, name) for norm in norms])[:, None, None]
                for name in ("running_mean", "running_var", "weight", "bias")
            )
            return (value - mean) / (var + 1e-5).sqrt() * weight + bias
        mean = value.mean(dim=(2, 3), keepdim=True)
        return (value - mean) / (value.var(dim=(2, 3), correction=0, keepdim=True) + 1e-5).sqrt()

    def activated(value: Tensor, *activations: torch.nn.Module) -> Tensor:
        slope = torch.cat([part.weight for part in activations])[:, None, None] if batch_norm else 0.0
        return torch.where(value > 0, value, slope * value)

    def convolved(value: Tensor, *parts: torch.nn.Sequential) -> Tensor:
        value = normalised(value, *(part.norm for part in parts))
        value = activated(value, *(part.activation for part in parts))
        weight = torch.cat([part.convolution.weight for part in parts], dim=1)
        return F.conv2d(value, weight, parts[0].convolution.bias, padding=1)

    upsampled = bilinear_twice(features)
    first = convolved(convolved(torch.cat([upsampled, skip], dim=1), level.features, level.skip), level.joint)
    first = first + F.conv2d(upsampled, level.shortcut.weight, level.shortcut.bias)
    return first + convolved(convolved(first, level.residual[0]), level.residual[1])


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_level_equals_the_concatenating_one(norm: str) -> None:
    activation = "prelu" if norm == "batch" else "relu"
    level = randomise(DecoderLevel(5, 3, 4, norm=norm, activation=activation, dtype=torch.float64)).eval()
    features, skip = double(2, 5, 3, 4), double(2, 3, 6, 8)
    want = naive_level(level, features, skip, batch_norm=norm == "batch")
    torch.testing.assert_close(level(features, skip), want, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_level_passes_gradcheck(norm: str) -> None:
    level = DecoderLevel(2, 1, 2, norm=norm, activation="prelu", dtype=torch.float64).eval()
    features, skip = double(2, 2, 2, 2).requires_grad_(), double(1, 1, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda features, skip: level.refine(features, level.skip(skip), targets=2), (features, skip)
    )


def test_one_hot_condition_equals_a_convolution_over_concatenated_maps() -> None:
    condition = OneHotCondition(4, num_groups=3, dtype=torch.float64)
    identity_map, groups = double(3, 4, 2, 5), torch.tensor([2, 0, 2])
    maps = torch.zeros(3, 3, 2, 5, dtype=torch.float64)
    for sample, group in enumerate(groups.tolist()):
        maps[sample, group] = 1.0
    weight = torch.cat([condition.features.weight, condition.group_bias.T[:, :, None, None]], dim=1)
    hidden = F.conv2d(torch.cat([identity_map, maps], dim=1), weight, condition.features.bias).clamp(min=0)
    want = F.conv2d(hidden, condition.fusion.weight, condition.fusion.bias, padding=1)
    torch.testing.assert_close(condition(identity_map, groups), want, rtol=0.0, atol=1e-12)


def test_one_hot_condition_passes_gradcheck() -> None:
    condition = OneHotCondition(2, num_groups=2, activation="prelu", dtype=torch.float64)
    groups = torch.tensor([1, 0])
    assert torch.autograd.gradcheck(
        lambda identity_map: condition(identity_map, groups), double(2, 2, 2, 2).requires_grad_()
    )
