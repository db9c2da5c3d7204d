from __future__ import annotations

from pathlib import Path

from facemtl.heads.age import AgeHead
from facemtl.layers.age import AgeGroups, expected_age
from facemtl.losses.age import AgeEstimationLoss
from facemtl.networks.released.age_head import AGE_HEAD_2021
from facemtl.networks.released.renaming import load_released
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
