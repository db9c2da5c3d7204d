from __future__ import annotations

import pytest
import torch

from facemtl._core.checks import ShapeError
from facemtl._core.pixels import to_model_input, to_uint8


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((8, 8, 3), r"got \(8, 8, 3\). Move channels first"),
        ((2, 1, 8, 8), r"got \(2, 1, 8, 8\). Repeat the gray"),
        ((4, 8, 8), r"got \(4, 8, 8\). Drop alpha"),
        ((8, 8), r"got \(8, 8\). Stack RGB"),
    ],
)
def test_channels_come_first_and_are_three(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        to_model_input(torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises(ShapeError, match=message):
        to_uint8(torch.zeros(shape))


def test_float_range_is_stated_and_kept() -> None:
    with pytest.raises(TypeError, match="'value_range' is needed for torch.float32"):
        to_model_input(torch.zeros(3, 2, 2))
    image = torch.zeros(3, 2, 2)
    image[1, 0, 1] = 200.0
    with pytest.raises(ValueError, match=r"value_range = \[0, 1\]; got 200.0 at index \(1, 0, 1\)"):
        to_model_input(image, value_range=(0, 1))
    image[1, 0, 1] = float("nan")
    with pytest.raises(ValueError, match=r"got nan at index \(1, 0, 1\)"):
        to_model_input(image, value_range=(0, 1))
    with pytest.raises(ValueError, match=r"'value_range' must rise, got \(1, 0\)"):
        to_model_input(image, value_range=(1, 0))


def test_integers_state_their_own_range() -> None:
    with pytest.raises(TypeError, match=r"'value_range' must not be given for torch.uint8, got \(0, 1\)"):
        to_model_input(torch.zeros(3, 2, 2, dtype=torch.uint8), value_range=(0, 1))
    with pytest.raises(TypeError, match="got torch.int64"):
        to_model_input(torch.zeros(3, 2, 2, dtype=torch.int64))


def test_nan_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="must be numbers; got nan at index"):
        to_uint8(torch.full((3, 1, 1), float("nan")))
    with pytest.raises(TypeError, match="got torch.uint8"):
        to_uint8(torch.zeros(3, 1, 1, dtype=torch.uint8))
