from __future__ import annotations

import re

import pytest
import torch

from facemtl import ShapeError
from facemtl.layers.one_hot_condition import OneHotCondition
from facemtl.layers.upsample import DecoderLevel

level = DecoderLevel(6, 5, 4)
condition = OneHotCondition(6, num_groups=3)


def test_features_of_a_level() -> None:
    skip = torch.zeros(2, 5, 4, 4)
    with pytest.raises(ShapeError, match=r"'features' must have channels = 6 on axis 1, got shape \(2, 7, 2, 2\)"):
        level(torch.zeros(2, 7, 2, 2), skip)
    with pytest.raises(
        ShapeError, match=r"'features' must have shape \(batch, channels, height, width\), got \(6, 2, 2\)"
    ):
        level(torch.zeros(6, 2, 2), skip)
    with pytest.raises(TypeError, match=r"DecoderLevel: 'features' must have a floating-point dtype, got torch.uint8"):
        level(torch.zeros(2, 6, 2, 2, dtype=torch.uint8), skip)


def test_skip_of_a_level() -> None:
    features = torch.zeros(2, 6, 2, 2)
    with pytest.raises(ShapeError, match=r"'skip' must have channels = 5 on axis 1, got shape \(2, 6, 4, 4\)"):
        level(features, torch.zeros(2, 6, 4, 4))
    with pytest.raises(
        ShapeError, match=r"'skip' must be twice as large as 'features', 4 x 4, got shape \(2, 5, 4, 5\). Pass the"
    ):
        level(features, torch.zeros(2, 5, 4, 5))
    with pytest.raises(ShapeError, match=r"'skip' must have batch = 2 on axis 0, got shape \(3, 5, 4, 4\)"):
        level(features, torch.zeros(3, 5, 4, 4))


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((0, 5, 4), {}, "'channels' must be positive, got 0"),
        ((6, -1, 4), {}, "'skip_channels' must be positive, got -1"),
        ((6, 5, 0), {}, "'out_channels' must be positive, got 0"),
        ((6, 5, 4), {"norm": "layer"}, "'norm' must be 'instance' or 'batch', got 'layer'"),
        ((6, 5, 4), {"activation": "gelu"}, "'activation' must be 'relu' or 'prelu', got 'gelu'"),
    ],
)
def test_construction_of_a_level(sizes: tuple[int, int, int], options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"DecoderLevel: {message}"):
        DecoderLevel(*sizes, **options)


def test_inputs_of_the_one_hot_condition() -> None:
    identity_map = torch.zeros(2, 6, 3, 3)
    with pytest.raises(ValueError, match=re.escape("'groups' must lie in [0, num_groups) = [0, 3); got 3 at index 1.")):
        condition(identity_map, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="got -1 at index 0"):
        condition(identity_map, torch.tensor([-1, 0]))
    with pytest.raises(
        ShapeError, match=r"'groups' must have shape \(batch,\), got \(2, 1\). Call groups.squeeze\(1\)"
    ):
        condition(identity_map, torch.zeros(2, 1, dtype=torch.long))
    with pytest.raises(TypeError, match=r"'groups' must have dtype int64 or int32, got torch.float32"):
        condition(identity_map, torch.zeros(2))
    for call in (lambda wrong: condition(wrong, torch.tensor([0, 1])), condition.all_groups):
        with pytest.raises(
            ShapeError, match=r"'identity_map' must have channels = 6 on axis 1, got shape \(2, 5, 3, 3\)"
        ):
            call(torch.zeros(2, 5, 3, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "'channels' must be positive, got 0"),
        ({"num_groups": 0}, "'num_groups' must be positive, got 0"),
        ({"activation": "tanh"}, "'activation' must be 'relu' or 'prelu', got 'tanh'"),
    ],
)
def test_construction_of_the_one_hot_condition(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"OneHotCondition: {message}"):
        OneHotCondition(**arguments)
