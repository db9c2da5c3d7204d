from __future__ import annotations

import pytest
import torch

import facemtl
from facemtl._core.checks import (
    ShapeError,
    check_ages,
    check_feature_map,
    check_images,
    check_indices,
    check_values,
    value_checks,
)


def test_images_name_what_came_and_what_to_do() -> None:
    with pytest.raises(
        ShapeError, match=r"Net: 'images' must have shape \(batch, 3, height, width\), got \(3, 32, 32\). Add"
    ):
        check_images("Net", "images", torch.zeros(3, 32, 32))
    with pytest.raises(TypeError, match=r"'images' must have a floating-point dtype, got torch.uint8. Scale pixels"):
        check_images("Net", "images", torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ShapeError, match=r"RGB channels = 3 on axis 1, got shape \(1, 4, 32, 32\)"):
        check_images("Net", "images", torch.zeros(1, 4, 32, 32))
    with pytest.raises(ShapeError, match="multiples of 16, got 32 x 40. Resize or pad"):
        check_images("Net", "images", torch.zeros(1, 3, 32, 40), multiple_of=16)
    with pytest.raises(ShapeError, match="got 0 x 16"):
        check_images("Net", "images", torch.zeros(1, 3, 0, 16), multiple_of=16)


def test_feature_maps_name_the_channels() -> None:
    with pytest.raises(
        ShapeError, match=r"channels = 8 on axis 1, got shape \(2, 4, 7, 7\). Construct with channels=4"
    ):
        check_feature_map("Net", "features", torch.zeros(2, 4, 7, 7), channels=8)


def test_indices_name_value_and_place() -> None:
    with pytest.raises(ValueError, match=r"'labels' must lie in \[0, num_identities\) = \[0, 5\); got -1 at index 2"):
        check_indices("Head", "labels", torch.tensor([0, 4, -1]), batch=3, limit=5, limit_name="num_identities")
    with pytest.raises(ShapeError, match=r"must have shape \(batch,\), got \(3, 1\). Call labels.squeeze\(1\)"):
        check_indices("Head", "labels", torch.zeros(3, 1).long(), batch=3, limit=5, limit_name="n")
    with pytest.raises(ShapeError, match=r"batch = 4 on axis 0, got shape \(3,\)"):
        check_indices("Head", "labels", torch.zeros(3).long(), batch=4, limit=5, limit_name="n")
    with pytest.raises(TypeError, match="int64 or int32, got torch.float32. Call labels.long"):
        check_indices("Head", "labels", torch.zeros(3), batch=3, limit=5, limit_name="n")


@pytest.mark.parametrize(
    ("age", "shown"), [(130.0, "130.0"), (-1.0, "-1.0"), (float("nan"), "nan"), (float("inf"), "inf")]
)
def test_ages_name_value_and_place(age: float, shown: str) -> None:
    ages = torch.full((9,), 30.0)
    ages[7] = age
    with pytest.raises(ValueError, match=rf"'ages' must lie in \[0, 100\] years; got {shown} at index 7"):
        check_ages("Loss", "ages", ages)


def test_ages_have_one_axis_and_real_numbers() -> None:
    with pytest.raises(ShapeError, match=r"got \(8, 1\). Call ages.squeeze\(1\)"):
        check_ages("Loss", "ages", torch.zeros(8, 1))
    with pytest.raises(TypeError, match="real numbers"):
        check_ages("Loss", "ages", torch.zeros(8, dtype=torch.bool))
    with pytest.raises(ShapeError, match=r"batch = 4 on axis 0, got shape \(8,\)"):
        check_ages("Loss", "ages", torch.zeros(8), batch=4)


def test_value_checks_can_be_switched_and_come_back() -> None:
    bad = torch.tensor([1.0, float("nan")])
    with value_checks("never"):
        check_values(bad == bad, bad, "x")
        with value_checks("always"), pytest.raises(ValueError, match="got nan at index 1"):
            check_values(bad == bad, bad, "x")
        check_values(bad == bad, bad, "x")
    with pytest.raises(ValueError, match="got nan at index 1"):
        check_values(bad == bad, bad, "x")
    with (
        pytest.raises(ValueError, match="'mode' must be 'auto', 'always' or 'never', got 'loud'"),
        value_checks("loud"),
    ):  # type: ignore[arg-type]
        pass
    assert issubclass(facemtl.ShapeError, ValueError)


@pytest.mark.compiled
def test_compiled_code_still_refuses_bad_labels() -> None:
    torch.compiler.reset()

    @torch.compile(fullgraph=True)
    def pick(table: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        check_indices("Head", "labels", labels, batch=labels.shape[0], limit=4, limit_name="n")
        return table[labels] * 2

    table = torch.arange(4.0)
    assert pick(table, torch.tensor([1, 3])).tolist() == [2.0, 6.0]
    with pytest.raises(RuntimeError, match=r"'labels' must lie in \[0, n\) = \[0, 4\)"):
        pick(table, torch.tensor([1, 4]))
