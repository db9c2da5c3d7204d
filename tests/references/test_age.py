from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from coral_pytorch.dataset import corn_label_from_logits, proba_to_label
from coral_pytorch.layers import CoralLayer
from torch import Tensor, nn

from facemtl.heads.age import AgeHead
from facemtl.heads.ordinal_age import CoralAgeHead, CornAgeHead
from facemtl.layers.age import AgeGroups, expected_age
from facemtl.layers.ordinal import coral_age, corn_age
from facemtl.losses.age import AgeEstimationLoss
from facemtl.networks.released.age_head import AGE_HEAD_2021
from facemtl.networks.released.renaming import load_released
from tests.cases import randomise
from tests.export import assert_exports
from tests.parity import ParityCase


def test_parity_age_head(parity_folder: Path) -> None:
    case = ParityCase(parity_folder, "age_head")
    head = AgeHead().eval()
    load_released(head, case.state(), AGE_HEAD_2021)
    prediction = head(case.input("x"))
    case.check("age_logits", prediction.age_logits, tolerance=1e-5)
    case.check("group_logits", prediction.group_logits, tolerance=1e-5)


def test_parity_age_loss_with_gradients(parity_folder: Path) -> None:
    case = ParityCase(parity_folder, "age_loss")
    age_logits = case.input("logits").requires_grad_()
    group_logits = case.input("groups").requires_grad_()
    ages = case.input("ages")
    case.check("expected_age", expected_age(age_logits), tolerance=1e-5)
    case.check("group", AgeGroups().groups_of(ages), tolerance=0.0)
    loss = AgeEstimationLoss()(age_logits, group_logits, ages)
    case.check("loss", loss, tolerance=1e-5)
    loss.backward()
    assert age_logits.grad is not None
    assert group_logits.grad is not None
    case.check("grad_age_logits", age_logits.grad, tolerance=1e-5)
    case.check("grad_group_logits", group_logits.grad, tolerance=1e-5)


@torch.no_grad()
def test_expected_age_equals_the_loop() -> None:
    logits = 5.0 * torch.randn(6, 37, dtype=torch.float64)
    for row, got in zip(logits.tolist(), expected_age(logits).tolist(), strict=True):
        weights = [math.exp(value) for value in row]
        assert math.isclose(got, sum(i * w for i, w in enumerate(weights)) / sum(weights), rel_tol=1e-12)


def test_expected_age_in_float32_is_as_good_as_float32_gets() -> None:
    logits = 3.0 * torch.randn(512, 101, dtype=torch.float64)
    error = (expected_age(logits.float()).double() - expected_age(logits.float().double())).abs().max()
    assert float(error) < 1e-5  # of 100 years


@torch.no_grad()
def test_age_head_equals_the_loop() -> None:
    head = randomise(AgeHead(3, (2, 4), hidden=5, num_ages=9, num_groups=2, dtype=torch.float64)).eval()
    features = torch.randn(2, 3, 2, 4, dtype=torch.float64)
    norm, prediction = head.trunk.norm, head(features)
    for sample, age_logits, group_logits in zip(features, *prediction, strict=True):
        flat = [
            (float(sample[c, y, x]) - float(norm.running_mean[c]))
            / math.sqrt(float(norm.running_var[c]) + norm.eps)
            * float(norm.weight[c])
            + float(norm.bias[c])
            for c in range(3)
            for y in range(2)
            for x in range(4)
        ]
        hidden = [max(value, 0.0) for value in linear(head.trunk.linear, flat)]
        ages = linear(head.age, hidden)
        torch.testing.assert_close(age_logits.tolist(), ages, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(group_logits.tolist(), linear(head.group, ages), rtol=1e-12, atol=1e-12)


def linear(layer: nn.Linear, values: list[float]) -> list[float]:
    return [
        sum(weight * value for weight, value in zip(row, values, strict=True)) + bias
        for row, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]


def test_coral_head_equals_coral_pytorch() -> None:
    head = randomise(CoralAgeHead(3, 2, hidden=5, num_ages=9)).eval()
    layer = CoralLayer(size_in=5, num_classes=9)
    assert torch.equal(layer.coral_bias, CoralAgeHead(3, 2, hidden=5, num_ages=9).thresholds)
    with torch.no_grad():
        layer.coral_weights.weight.copy_(head.score.weight)
        layer.coral_bias.copy_(head.thresholds)
    features = torch.randn(4, 3, 2, 2)
    torch.testing.assert_close(head(features), layer(head.trunk(features)))


@torch.no_grad()
def test_ordinal_ages_equal_coral_pytorch() -> None:
    logits = 2.0 * torch.randn(32, 50)
    assert torch.equal(coral_age(logits), proba_to_label(logits.sigmoid()).float())
    assert torch.equal(corn_age(logits), corn_label_from_logits(logits).float())


@pytest.mark.parametrize("make", [AgeHead, CoralAgeHead, CornAgeHead])
def test_heads_pass_gradcheck(make: type[nn.Module]) -> None:
    head = randomise(make(2, 2, hidden=4, num_ages=5, dtype=torch.float64)).train()
    features = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(head, (features,))


@pytest.mark.compiled
def test_age_head_and_its_years_export_with_a_dynamic_batch(tmp_path: Path) -> None:
    class Estimator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = randomise(AgeHead(8, 4, hidden=16))

        def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
            prediction = self.head(features)
            return expected_age(prediction.age_logits), prediction.group_logits

    # Years go up to 100: one part in 1e5 of them.
    assert_exports(Estimator().eval(), lambda batch: (torch.randn(batch, 8, 4, 4),), tmp_path, tolerance=1e-4)


@pytest.mark.compiled
def test_groups_compile_in_one_graph() -> None:
    ages = torch.tensor([0.0, 10.0, 10.5, 61.0, 100.0])
    compiled = torch.compile(AgeGroups().groups_of, fullgraph=True, backend="eager")
    assert compiled(ages).tolist() == [0, 0, 1, 6, 6]
