"""Learning rates that are pure functions of the step: nothing to save, nothing to forget to call."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from facemtl.data.samplers import whole_number


@dataclass(frozen=True, kw_only=True)
class WarmupSteps:
    r"""A linear rise from 0, then a constant rate that falls to a fraction of itself after each milestone.

    .. math:: r(t) = \begin{cases} p\,t/w & t \le w \\ \max(p\,f^{k(t)}, \mathrm{floor}) & t > w\end{cases}

    where k(t) counts the milestones before t. MTLFace's warm-up and two steps.

    Raises:
        ValueError: If a number is out of its range, or the milestones do not rise.

    References:
        MTLFace (CVPR 2021), supplementary material: warm-up to 5,000 (LCAF) or 1,000 (SCAF), steps at 70,000 and 90,000
        or 20,000 and 23,000.

    Example:
        >>> schedule = WarmupSteps(warmup=1000, milestones=(20_000, 23_000))
        >>> [round(schedule.at(step), 6) for step in (500, 1000, 20_000, 20_001, 23_001)]
        [0.05, 0.1, 0.1, 0.01, 0.001]
    """

    peak: float = 0.1
    """Rate after the warm-up."""
    warmup: int
    """Updates until it is reached; 0 starts with it."""
    milestones: tuple[int, ...]
    """Updates after which the rate falls, rising and not within the warm-up."""
    factor: float = 0.1
    """What is left of the rate after a milestone, in (0, 1]."""
    floor: float = 0.0
    """Lowest rate after the warm-up; 1e-4 in the released code."""

    def __post_init__(self) -> None:
        whole_number("WarmupSteps", "warmup", self.warmup, lowest=0)
        if not (math.isfinite(self.peak) and self.peak > 0.0):
            raise ValueError(f"WarmupSteps: 'peak' must be positive and finite, got {self.peak}.")
        if not 0.0 < self.factor <= 1.0:
            raise ValueError(f"WarmupSteps: 'factor' must lie in (0, 1], got {self.factor}.")
        if not 0.0 <= self.floor <= self.peak:
            raise ValueError(f"WarmupSteps: 'floor' must lie in [0, peak={self.peak}], got {self.floor}.")
        before = self.warmup
        for number, milestone in enumerate(self.milestones):
            whole_number("WarmupSteps", "milestones", milestone, lowest=1)
            if milestone < before or (number and milestone == before):
                raise ValueError(
                    f"WarmupSteps: 'milestones' must rise, the first not before the end of the warm-up at "
                    f"{self.warmup}, got {self.milestones}."
                )
            before = milestone

    def at(self, step: int) -> float:
        """Give the rate of update number ``step``, counted from 1.

        Raises:
            ValueError: If ``step`` is less than 1.
        """
        step = whole_number("WarmupSteps.at", "step", step, lowest=1)
        if step <= self.warmup:
            return self.peak * step / self.warmup
        passed = sum(step > milestone for milestone in self.milestones)
        return max(self.peak * self.factor**passed, self.floor)


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give all parameter groups of an optimizer this learning rate.

    Args:
        optimizer: Any; a rate that is a tensor (for a compiled or captured update) keeps being the same tensor.
        value: At least 0.

    Raises:
        ValueError: If ``value`` is negative or not finite.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=1.0)
        >>> set_learning_rate(optimizer, 0.05)
        >>> optimizer.param_groups[0]["lr"]
        0.05
    """
    if not (math.isfinite(value) and value >= 0.0):
        raise ValueError(f"set_learning_rate: 'value' must be finite and at least 0, got {value}.")
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value
