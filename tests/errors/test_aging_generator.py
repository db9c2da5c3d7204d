from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facemtl import ShapeError
from facemtl.layers.one_hot_condition import OneHotCondition
from facemtl.networks.aging_generator import AgingGenerator

CHANNELS, WIDTHS = (8, 6, 5, 4), (6, 5, 4, 3)
generator = AgingGenerator(OneHotCondition(8), channels=CHANNELS, widths=WIDTHS)


def inputs(**changes: Any) -> tuple[Any, ...]:
    named = {
        "identity_map": torch.zeros(2, 8, 2, 3),
        "levels": (torch.zeros(2, 4, 16, 24), torch.zeros(2, 5, 8, 12), torch.zeros(2, 6, 4, 6)),
        "images": torch.zeros(2, 3, 32, 48),
    }
    return tuple({**named, **changes}.values())


def refused(error: type[Exception], message: str, **changes: Any) -> None:
    groups = torch.tensor([0, 6])
    calls = {
        "forward": lambda *inputs: generator(*inputs, groups),
        "many": lambda *inputs: generator.many(*inputs, groups.unsqueeze(1)),
        "all_groups": generator.all_groups,
    }
    for method, call in calls.items():
        with pytest.raises(error, match=re.escape(f"AgingGenerator.{method}: {message}")):
            call(*inputs(**changes))


def test_images() -> None:
    size = "'images' must have height and width that are positive multiples of 16, got"
    refused(ShapeError, f"{size} 30 x 48. Resize or pad", images=torch.zeros(2, 3, 30, 48))
    refused(ShapeError, f"{size} 0 x 48", images=torch.zeros(2, 3, 0, 48))
    refused(
        ShapeError,
        "'images' must have RGB channels = 3 on axis 1, got shape (2, 1, 32, 48)",
        images=torch.zeros(2, 1, 32, 48),
    )
    refused(
        ShapeError, "'images' must have shape (batch, 3, height, width), got (3, 32, 48)", images=torch.zeros(3, 32, 48)
    )
    refused(
        TypeError,
        "'images' must have a floating-point dtype, got torch.uint8",
        images=torch.zeros(2, 3, 32, 48, dtype=torch.uint8),
    )


@pytest.mark.parametrize(
    ("name", "index", "stride", "wanted", "got"),
    [
        ("levels[-1]", 2, 8, (2, 6, 4, 6), (2, 6, 8, 12)),  # the next finer level
        ("levels[-2]", 1, 4, (2, 5, 8, 12), (2, 6, 8, 12)),  # other channels
        ("levels[-3]", 0, 2, (2, 4, 16, 24), (1, 4, 16, 24)),  # another batch
        ("levels[-3]", 0, 2, (2, 4, 16, 24), (4, 16, 24)),  # no batch
    ],
)
def test_levels(name: str, index: int, stride: int, wanted: Any, got: Any) -> None:
    levels = list(inputs()[1])
    levels[index] = torch.zeros(got)
    refused(
        ShapeError, f"'{name}' (1/{stride} of the images' size) must have shape {wanted}, got {got}.", levels=levels
    )


def test_levels_in_another_order_or_too_few() -> None:
    levels = inputs()[1]
    refused(
        ShapeError,
        "'levels[-1]' (1/8 of the images' size) must have shape (2, 6, 4, 6), got (2, 4, 16, 24)",
        levels=levels[::-1],
    )
    refused(
        ShapeError,
        "'levels' must end in the encoder's features of 1/2, 1/4 and 1/8 size, got 2 of them.",
        levels=levels[1:],
    )
    refused(
        TypeError,
        "'levels[-2]' must have a floating-point dtype, got torch.int64",
        levels=(levels[0], levels[1].long(), levels[2]),
    )


def test_identity_map() -> None:
    message = "'identity_map' (1/16 of the images' size) must have shape (2, 8, 2, 3), got"
    refused(ShapeError, f"{message} (2, 8, 7, 7)", identity_map=torch.zeros(2, 8, 7, 7))
    refused(ShapeError, f"{message} (2, 512, 2, 3)", identity_map=torch.zeros(2, 512, 2, 3))


def test_groups() -> None:
    with pytest.raises(ValueError, match=r"'groups' must lie in \[0, num_groups\) = \[0, 7\); got 7 at index 1"):
        generator(*inputs(), torch.tensor([0, 7]))
    with pytest.raises(ValueError, match=r"\[0, 7\); got -1 at index 2"):
        generator.many(*inputs(), torch.tensor([[0, 1], [-1, 2]]))
    with pytest.raises(ShapeError, match=r"'groups' must have batch = 2 on axis 0, got shape \(3,\)"):
        generator(*inputs(), torch.tensor([0, 1, 2]))
    with pytest.raises(
        ShapeError,
        match=r"AgingGenerator.many: 'groups' must have shape \(batch, targets\), got \(2,\). Call the generator",
    ):
        generator.many(*inputs(), torch.tensor([0, 1]))
    for shape in ((3, 2), (2, 0)):
        wanted = f"'groups' must have shape (batch, targets) = (2, >= 1), got {shape}"
        with pytest.raises(ShapeError, match=re.escape(wanted)):
            generator.many(*inputs(), torch.zeros(shape, dtype=torch.long))


def test_a_condition_of_the_callers_own_that_returns_another_shape() -> None:
    class Pooled(nn.Module):
        def forward(self, identity_map: Tensor, groups: Tensor) -> Tensor:
            return identity_map[:, :5]

    own = AgingGenerator(Pooled(), channels=CHANNELS, widths=WIDTHS)
    message = "AgingGenerator.forward: 'condition(identity_map, groups)' must have channels = 8 on axis 1, got shape"
    with pytest.raises(ShapeError, match=re.escape(f"{message} (2, 5, 2, 3).")):
        own(*inputs(), torch.tensor([0, 1]))


@pytest.mark.parametrize("name", ["channels", "widths"])
@pytest.mark.parametrize("numbers", [(8, 6, 5), (8, 6, 5, 4, 3), (8, 0, 5, 4)])
def test_construction(name: str, numbers: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"AgingGenerator: '{name}' must be 4 positive numbers, got {numbers}.")
    ):
        AgingGenerator(OneHotCondition(8), **{name: numbers})
