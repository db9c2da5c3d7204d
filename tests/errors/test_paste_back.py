from __future__ import annotations

from typing import Any

import pytest
import torch

from facemtl._core.checks import ShapeError
from facemtl.alignment.masks import face_mask
from facemtl.alignment.paste_back import paste_back
from tests.pasting import noise, planted


def inputs(**changed: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "photographs": noise(2, 3, 20, 20),
        "crops": noise(2, 3, 9, 9),
        "matrices": planted(0.7, 0.1, (10, 10), (9, 9)).repeat(2, 1, 1),
    }
    return given | changed


def poisoned(tensor: torch.Tensor, index: tuple[int, ...], value: float) -> torch.Tensor:
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"photographs": noise(3, 20, 20)}, r"'photographs' must have shape .*got \(3, 20, 20\). Call photographs.uns"),
        ({"photographs": noise(2, 20, 20, 3)}, r"'photographs' must have 3 RGB.*got \(2, 20, 20, 3\). Move channels"),
        ({"photographs": [noise(3, 9, 9), noise(1, 9, 9)]}, r"'photographs\[1\]' must have 3 RGB.*got \(1, 9, 9\)"),
        ({"photographs": [noise(1, 3, 9, 9)] * 2}, r"'photographs\[0\]' must have shape.*got \(1, 3, 9, 9\)"),
        ({"crops": noise(3, 9, 9)}, r"'crops' must have shape .*got \(3, 9, 9\)"),
        ({"crops": noise(2, 4, 9, 9)}, r"'crops' must have 3 RGB.*got \(2, 4, 9, 9\)"),
        ({"crops": noise(2, 3, 0, 9)}, r"'crops' must have pixels, got \(2, 3, 0, 9\)"),
        ({"matrices": torch.zeros(2, 3, 3)}, r"'matrices' must have shape \(2, 2, 3\).*got \(2, 3, 3\)"),
        ({"matrices": torch.zeros(1, 2, 3)}, r"'matrices' must have shape \(2, 2, 3\).*got \(1, 2, 3\)"),
        ({"crops": noise(3, 3, 9, 9), "matrices": torch.zeros(3, 2, 3)}, "'image_index' is needed.*3 faces and 2 ph"),
        ({"image_index": torch.zeros(2, 1, dtype=torch.long)}, r"'image_index' must have shape .*got \(2, 1\)"),
        ({"image_index": torch.zeros(3, dtype=torch.long)}, r"'image_index' must have batch = 2.*got shape \(3,\)"),
        ({"valid": torch.ones(3, dtype=torch.bool)}, r"'valid' must have shape \(2,\).*got \(3,\)"),
        ({"mask": torch.ones(9, 9)}, r"'mask' must have shape \(2, 1, 9, 9\) or \(1, 1, 9, 9\), got \(9, 9\)"),
        ({"originals": noise(2, 3, 8, 9)}, r"'originals' must have shape \(2, 3, 9, 9\).*got \(2, 3, 8, 9\)"),
    ],
)
def test_shapes(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeError, match=f"paste_back: {message}"):
        paste_back(**inputs(**changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"photographs": noise(2, 3, 9, 9).long()}, "'photographs' must have a floating-point dtype, got torch.int64"),
        (
            {"photographs": [noise(3, 9, 9), noise(3, 9, 9, dtype=torch.uint8)]},
            "got torch.float32 at index 0 and torch.ui",
        ),
        ({"photographs": [noise(3, 9, 9), "face.jpg"]}, r"'photographs\[1\]' must be a tensor, got str"),
        (
            {"crops": noise(2, 3, 9, 9).int()},
            "'crops' must have a floating-point dtype, got torch.int32. Or pass uint8",
        ),
        ({"originals": noise(2, 3, 9, 9).int()}, "'originals' must have a floating-point dtype, got torch.int32"),
        ({"matrices": torch.zeros(2, 2, 3, dtype=torch.long)}, "'matrices' must have a floating-point dtype"),
        ({"image_index": torch.zeros(2)}, "'image_index' must have dtype int64 or int32, got torch.float32"),
        ({"valid": torch.ones(2)}, "'valid' must have dtype bool, got torch.float32"),
        (
            {"mask": torch.ones(2, 1, 9, 9, dtype=torch.uint8)},
            "'mask' must have a floating-point dtype, got torch.uint8",
        ),
    ],
)
def test_dtypes(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=f"paste_back: {message}" if message.startswith("'") else message):
        paste_back(**inputs(**changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"crops": poisoned(noise(2, 3, 9, 9), (1, 2, 3, 4), float("nan"))},
            r"'crops'.*got nan at index \(1, 2, 3, 4\)",
        ),
        (
            {"crops": poisoned(noise(2, 3, 9, 9), (0, 0, 0, 1), 255.0)},
            r"got 255.0 at index \(0, 0, 0, 1\).*to_model_inp",
        ),
        (
            {"originals": poisoned(noise(2, 3, 9, 9), (0, 0, 0, 1), -9.0)},
            r"'originals'.*got -9.0 at index \(0, 0, 0, 1\)",
        ),
        (
            {"mask": poisoned(torch.ones(1, 1, 9, 9), (0, 0, 1, 2), 1.5)},
            r"'mask' must lie in \[0, 1\]; got 1.5 at index",
        ),
        (
            {"mask": poisoned(torch.ones(1, 1, 9, 9), (0, 0, 1, 2), float("nan"))},
            r"'mask' must lie in \[0, 1\]; got nan",
        ),
        (
            {"image_index": torch.tensor([0, 2])},
            r"'image_index' must lie in \[0, images\) = \[0, 2\); got 2 at index 1",
        ),
        ({"image_index": torch.tensor([-1, 0])}, r"got -1 at index 0"),
        ({"feather": 0.0}, r"'feather' must lie in \(0, 0.5\].*got 0.0"),
        ({"feather": 0.7}, r"'feather' must lie in \(0, 0.5\].*got 0.7"),
        ({"match_colour": "lab"}, r"'match_colour' must be 'none', 'mean' or 'mean_std', got 'lab'"),
        ({"match_colour": True}, r"'match_colour' must be 'none', 'mean' or 'mean_std', got True"),
        ({"crops": torch.zeros(2, 3, 9, 9, device="meta")}, "must be on the device of 'crops', meta, got cpu"),
    ],
)
def test_values(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paste_back(**inputs(**changed))


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (
            (1, 0, 2),
            float("nan"),
            r"'matrices' of valid faces must be finite; got nan at index \(1, 0, 2\). Pass the al",
        ),
        ((0, 1, 1), float("inf"), r"'matrices' of valid faces must be finite; got inf at index \(0, 1, 1\)"),
        ((1, slice(None), slice(None, 2)), 0.0, r"'matrices'.*must be invertible.*; got 0.0 at index 1"),
        ((0, slice(None), slice(None, 2)), 2.0, r"'matrices'.*must be invertible.*; got 0.0 at index 0"),
    ],
)
def test_matrices(index: Any, value: float, message: str) -> None:
    given = inputs()
    with pytest.raises(ValueError, match=message):
        paste_back(**inputs(matrices=poisoned(given["matrices"], index, value)))


@pytest.mark.parametrize("value", [200.0, float("nan"), float("-inf")])
def test_float_photographs_of_another_range_are_refused_and_left_alone(value: float) -> None:
    photographs = poisoned(noise(2, 3, 20, 20), (1, 0, 10, 10), value)
    before = photographs.clone()
    with pytest.raises(
        ValueError, match=rf"photograph 1, counted from .*around face 1; got {value} at index.*to_model"
    ):
        paste_back(**inputs(photographs=photographs))
    torch.testing.assert_close(photographs, before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, -1)])
def test_masks_have_pixels(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1 pixel, got {height} x {width}"):
        face_mask(height, width)
