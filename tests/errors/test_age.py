from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from facemtl._core.checks import ShapeError, value_checks
from facemtl.heads.age import AgeHead
from facemtl.heads.ordinal_age import CoralAgeHead, CornAgeHead
from facemtl.layers.age import AgeGroups, expected_age
from facemtl.layers.ordinal import coral_age, corn_age
from facemtl.losses.age import AgeCrossEntropyLoss, AgeEstimationLoss
from facemtl.losses.age_distribution import LabelDistributionLoss, MeanVarianceLoss
from facemtl.losses.ordinal import CoralLoss, CornLoss

LOSSES: list[tuple[Callable[..., nn.Module], tuple[int, ...]]] = [
    (AgeEstimationLoss, (101, 7)),
    (AgeCrossEntropyLoss, (101,)),
    (LabelDistributionLoss, (101,)),
    (MeanVarianceLoss, (101,)),
    (CoralLoss, (100,)),
    (CornLoss, (100,)),
]
every_loss = pytest.mark.parametrize(("make", "widths"), LOSSES, ids=lambda value: getattr(value, "__name__", ""))


def logits(widths: tuple[int, ...], batch: int = 8) -> list[Tensor]:
    return [torch.zeros(batch, width) for width in widths]


@pytest.mark.parametrize(
    "edges", [(), (30.0, 20.0), (20.0, 20.0), (-1.0, 20.0), (20.0, 100.0), (math.nan,), (20.0, math.inf)]
)
def test_edges_must_rise_within_the_ages(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"strictly rising within [0, 100) years, got {edges}")):
        AgeGroups(edges)


def test_presets_are_few() -> None:
    with pytest.raises(ValueError, match=r"'num_groups' must be one of \[4, 5, 6, 7, 8\], got 10"):
        AgeGroups.preset(10)


def test_ages_outside_0_to_100_have_no_group() -> None:
    groups = AgeGroups()
    ages = torch.full((9,), 30.0)
    for value in (130.0, -0.5, math.nan):
        ages[7] = value
        with pytest.raises(ValueError, match=rf"AgeGroups.groups_of: .* in \[0, 100\] years; got {value} at index 7"):
            groups.groups_of(ages)
    with pytest.raises(ShapeError, match=r"'ages' must have shape \(batch,\), got \(8, 1\). Call ages.squeeze\(1\)"):
        groups.groups_of(torch.zeros(8, 1))
    with pytest.raises(TypeError, match="must be real numbers .* got torch.bool"):
        groups.groups_of(torch.zeros(8, dtype=torch.bool))


def test_expected_age_wants_logits() -> None:
    with pytest.raises(ShapeError, match=r"'age_logits' must have shape \(batch, ages\), got \(101,\)"):
        expected_age(torch.zeros(101))
    with pytest.raises(TypeError, match="floating-point dtype, got torch.int64"):
        expected_age(torch.zeros(2, 101, dtype=torch.long))
    with pytest.raises(ShapeError, match="at least one age bin, got 0"):
        expected_age(torch.zeros(2, 0))


@pytest.mark.parametrize("read", [coral_age, corn_age])
def test_ordinal_ages_want_logits(read: Callable[..., Tensor]) -> None:
    with pytest.raises(ShapeError, match=rf"{read.__name__}: 'rank_logits' must have shape .*, got \(100,\)"):
        read(torch.zeros(100))
    with pytest.raises(TypeError, match="got torch.int64"):
        read(torch.zeros(2, 100, dtype=torch.long))
    with pytest.raises(ValueError, match="'read' must be 'rank' or 'expectation', got 'mean'"):
        read(torch.zeros(2, 100), read="mean")


@pytest.mark.parametrize("make", [AgeHead, CoralAgeHead, CornAgeHead])
def test_head_says_what_it_was_built_for(make: Callable[..., nn.Module]) -> None:
    head = make(8, 7, hidden=4)
    name = type(head).__name__
    with pytest.raises(
        ShapeError,
        match=rf"{name}.forward: 'features' must have height x width = 7 x 7, which it was built for, "
        r"got shape \(2, 8, 6, 5\). Construct with map_size=\(6, 5\)",
    ):
        head(torch.zeros(2, 8, 6, 5))
    with pytest.raises(ShapeError, match=rf"{name}.forward: 'features' must have channels = 8 on axis 1"):
        head(torch.zeros(2, 4, 7, 7))
    with pytest.raises(ShapeError, match=r"got \(2, 392\)"):
        head(torch.zeros(2, 392))
    with pytest.raises(TypeError, match=r"got torch.uint8"):
        head(torch.zeros(2, 8, 7, 7, dtype=torch.uint8))
    for option, value in (("channels", 0), ("map_size", (7, 0)), ("hidden", 0), ("num_ages", 0)):
        with pytest.raises(ValueError, match=rf"{name}: '{option}' must be at least \d, got 0"):
            make(**{"channels": 8, "hidden": 4, option: value})


def test_age_head_wants_groups() -> None:
    with pytest.raises(ValueError, match="'num_groups' must be at least 1, got -1"):
        AgeHead(8, num_groups=-1)


@every_loss
def test_ages_of_shape_batch_by_1_never_broadcast(make: Callable[..., nn.Module], widths: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"'ages' must have shape \(batch,\), got \(8, 1\). Call ages.squeeze\(1\)"):
        make()(*logits(widths), torch.zeros(8, 1))
    with pytest.raises(ShapeError, match=r"'ages' must have shape \(batch,\), got \(8, 1\)"):
        make(unknown_age=-1)(*logits(widths), torch.zeros(8, 1))
    with pytest.raises(ShapeError, match=r"'ages' must have batch = 8 on axis 0, got shape \(1,\)"):
        make()(*logits(widths), torch.zeros(1))


@every_loss
def test_ages_out_of_range_are_named(make: Callable[..., nn.Module], widths: tuple[int, ...]) -> None:
    ages = torch.full((8,), 30.0)
    ages[7] = 130.0
    name = type(make()).__name__
    with pytest.raises(ValueError, match=rf"{name}.forward: .* in \[0, 100\] years; got 130.0 at index 7.$"):
        make()(*logits(widths), ages)
    ages[3] = -1.0
    with pytest.raises(ValueError, match=r"got -1.0 at index 3. If it marks an unknown age, .* unknown_age="):
        make()(*logits(widths), ages)
    with pytest.raises(ValueError, match="got 130.0 at index 7"):
        make(unknown_age=-1)(*logits(widths), ages)
    ages[7] = math.nan
    with pytest.raises(ValueError, match="got nan at index 7. If it marks an unknown age"):
        make(unknown_age=-1)(*logits(widths), ages)
    ages[3] = 30.0
    assert make(unknown_age=math.nan)(*logits(widths), ages).isfinite()


@every_loss
def test_logits_must_be_floating_and_of_two_axes(make: Callable[..., nn.Module], widths: tuple[int, ...]) -> None:
    ages = torch.zeros(8)
    with pytest.raises(TypeError, match="logits' must have a floating-point dtype, got torch.int64"):
        make()(*(scores.long() for scores in logits(widths)), ages)
    with pytest.raises(ShapeError, match=r"logits' must have shape \(batch, .*\), got \(8,\)"):
        make()(*(scores[:, 0] for scores in logits(widths)), ages)
    with pytest.raises(ShapeError, match=r"must have at least one of ages.*, got shape \(8, 0\)"):
        make()(*(scores[:, :0] for scores in logits(widths)), ages)


@every_loss
def test_ages_beyond_the_bins_are_refused(make: Callable[..., nn.Module], widths: tuple[int, ...]) -> None:
    narrow = logits((widths[0] - 20, *widths[1:]))
    with pytest.raises(ValueError, match=r"must lie in \[0, 80\] years; got 81.0 at index 0"):
        make()(*narrow, torch.full((8,), 81.0))


@every_loss
def test_checks_of_values_can_be_left_off(make: Callable[..., nn.Module], widths: tuple[int, ...]) -> None:
    with value_checks("never"):
        assert make()(*logits(widths), torch.full((8,), 30.0)).isfinite()


def test_group_logits_must_match_the_groups() -> None:
    loss = AgeEstimationLoss(AgeGroups.preset(5))
    with pytest.raises(
        ShapeError,
        match=r"'group_logits' must have groups = 5 on axis 1, got shape \(8, 7\). Construct the loss with",
    ):
        loss(*logits((101, 7)), torch.zeros(8))
    with pytest.raises(ShapeError, match=r"'group_logits' must have batch = 8 on axis 0, got shape \(4, 5\)"):
        loss(torch.zeros(8, 101), torch.zeros(4, 5), torch.zeros(8))


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_weights_must_be_finite_and_not_negative(value: float) -> None:
    for make, option in (
        (AgeEstimationLoss, "age_weight"),
        (AgeEstimationLoss, "group_weight"),
        (LabelDistributionLoss, "expectation_weight"),
        (MeanVarianceLoss, "mean_weight"),
        (MeanVarianceLoss, "variance_weight"),
    ):
        with pytest.raises(ValueError, match=f"{make.__name__}: '{option}' must be finite and at least 0, got {value}"):
            make(**{option: value})


@pytest.mark.parametrize("value", [0.0, -2.0, math.nan, math.inf])
def test_standard_deviation_must_be_positive(value: float) -> None:
    with pytest.raises(ValueError, match=f"'standard_deviation' must be positive and finite, got {value}"):
        LabelDistributionLoss(standard_deviation=value)
