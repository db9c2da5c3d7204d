from __future__ import annotations

import re

import pytest
import torch

from facemtl._core.checks import ShapeError
from facemtl.layers.conditional import IdentityConditionalModule
from facemtl.layers.conditional_multiscale import MultiScaleIdentityConditionalModule


@pytest.fixture
def condition() -> IdentityConditionalModule:
    return IdentityConditionalModule(4, num_groups=3, unit=4, shared_fraction=1 / 4, num_blocks=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "'channels' must be at least 1, got 0"),
        ({"num_blocks": -1}, "'num_blocks' must be at least 0, got -1"),
        ({"norm": "layer"}, "'norm' must be 'instance' or 'batch', got 'layer'"),
        ({"activation": "gelu"}, "'activation' must be one of 'relu', 'prelu', 'leaky_relu', got 'gelu'"),
        ({"unit": 0}, "'unit' must be at least 1, got 0"),
        ({"shared_fraction": 0.75}, "'shared_fraction' must lie in [0, 0.5], got 0.75"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        IdentityConditionalModule(**{"channels": 4, **options})


def test_maps_of_the_wrong_shape_or_dtype(condition: IdentityConditionalModule) -> None:
    groups = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ShapeError, match=r"must have channels = 4 on axis 1, got shape \(2, 5, 7, 7\)"):
        condition(torch.zeros(2, 5, 7, 7), groups)
    with pytest.raises(ShapeError, match=r"\(batch, channels, height, width\), got \(2, 4, 7\)"):
        condition(torch.zeros(2, 4, 7), groups)
    with pytest.raises(TypeError, match="'identity_map' must have a floating-point dtype, got torch.uint8"):
        condition(torch.zeros(2, 4, 7, 7, dtype=torch.uint8), groups)
    with pytest.raises(ShapeError, match=r"all_groups: 'identity_map' must have channels = 4"):
        condition.all_groups(torch.zeros(2, 5, 7, 7))


@pytest.mark.parametrize("bad", [-1, 3])
def test_groups_out_of_range(condition: IdentityConditionalModule, bad: int) -> None:
    message = rf"'groups' must lie in \[0, num_groups\) = \[0, 3\); got {bad} at index 1"
    with pytest.raises(ValueError, match=message):
        condition(torch.zeros(2, 4, 7, 7), torch.tensor([0, bad]))


def test_groups_of_the_wrong_shape_or_dtype(condition: IdentityConditionalModule) -> None:
    maps = torch.zeros(2, 4, 7, 7)
    with pytest.raises(
        ShapeError, match=r"'groups' must have shape \(batch,\), got \(2, 1\). Call groups.squeeze\(1\)"
    ):
        condition(maps, torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(TypeError, match="'groups' must have dtype int64 or int32, got torch.float32"):
        condition(maps, torch.zeros(2))
    with pytest.raises(ShapeError, match=r"'groups' must have batch = 2 on axis 0, got shape \(3,\)"):
        condition(maps, torch.zeros(3, dtype=torch.int64))


def test_scales_must_match() -> None:
    with pytest.raises(ValueError, match="'units' must have one entry for each of 'channels'.*got 1 for 2"):
        MultiScaleIdentityConditionalModule((4, 4), (4,))
    scales = MultiScaleIdentityConditionalModule((4, 4), (4, 4), num_groups=2, num_blocks=0)
    with pytest.raises(ShapeError, match="forward: 'identity_maps' must hold 2 maps, got 1"):
        scales((torch.zeros(1, 4, 2, 2),), torch.tensor([0]))
    with pytest.raises(ShapeError, match="all_groups: 'identity_maps' must hold 2 maps, got 3"):
        scales.all_groups([torch.zeros(1, 4, 2, 2)] * 3)
