"""The learning rate against MTLFace's oracle values and against torch's own schedulers."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.optim.lr_scheduler import LinearLR, MultiStepLR, SequentialLR

from facemtl.training.schedule import WarmupSteps, set_learning_rate

SCAF = WarmupSteps(peak=0.1, warmup=1000, milestones=(20_000, 23_000))
LCAF = WarmupSteps(peak=0.1, warmup=5000, milestones=(70_000, 90_000), floor=1e-4)


@pytest.mark.parametrize(
    ("schedule", "step", "rate"),
    [
        (SCAF, 1, 1e-4),
        (SCAF, 500, 0.05),
        (SCAF, 1000, 0.1),
        (SCAF, 1001, 0.1),
        (SCAF, 20_000, 0.1),
        (SCAF, 20_001, 0.01),
        (SCAF, 23_000, 0.01),
        (SCAF, 23_001, 0.001),
        (SCAF, 10**9, 0.001),
        (LCAF, 1, 2e-5),  # below the floor: that is for the rates after the warm-up
        (LCAF, 70_001, 0.01),
        (LCAF, 90_001, 0.001),
        (WarmupSteps(warmup=0, milestones=()), 1, 0.1),
        (WarmupSteps(warmup=2, milestones=(2, 3), floor=0.005), 3, 0.01),
        (WarmupSteps(warmup=2, milestones=(2, 3), floor=0.005), 4, 0.005),
    ],
)
def test_oracle(schedule: WarmupSteps, step: int, rate: float) -> None:
    assert schedule.at(step) == pytest.approx(rate, rel=1e-12)


def test_torchs_schedulers_give_the_same() -> None:
    schedule = WarmupSteps(peak=0.3, warmup=7, milestones=(20, 31), factor=0.5)
    ours, theirs = (torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR calls its parts in a way that they themselves warn of
        scheduler = SequentialLR(
            theirs,
            [LinearLR(theirs, start_factor=1 / 7, total_iters=6), MultiStepLR(theirs, [20 - 6, 31 - 6], gamma=0.5)],
            milestones=[6],
        )
        for step in range(1, 50):
            set_learning_rate(ours, schedule.at(step))
            assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9), step
            theirs.step()
            scheduler.step()


def test_every_group_gets_the_rate_and_a_tensor_stays_itself() -> None:
    one, two = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": [one]}, {"params": [two], "lr": torch.tensor(0.5)}], lr=0.1)
    rate = optimizer.param_groups[1]["lr"]
    set_learning_rate(optimizer, 0.25)
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert optimizer.param_groups[1]["lr"] is rate
    assert rate.item() == 0.25
