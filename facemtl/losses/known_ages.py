"""What all age losses share: checked ages, unknown ones marked, and a mean over the known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facemtl._core.checks import ShapeError, check_ages, check_floating, check_rank, shape_text
from facemtl._core.precision import at_least_float32


def checked_logits(where: str, name: str, logits: Tensor, axis: str) -> Tensor:
    """``(batch, axis)`` logits of at least one class, in float32 at least."""
    check_rank(where, name, logits, ("batch", axis))
    check_floating(where, name, logits)
    if logits.shape[1] == 0:
        raise ShapeError(f"{where}: '{name}' must have at least one of {axis}, got shape {shape_text(logits)}.")
    return at_least_float32(logits)


def known_ages(
    where: str, ages: Tensor, *, batch: int, highest: int, unknown_age: float | None
) -> tuple[Tensor, Tensor | None]:
    """Checked ages with 0 in place of the unknown ones, and which are known (None: all of them)."""
    known = None
    if unknown_age is not None:
        known = ~ages.isnan() if math.isnan(unknown_age) else ages != unknown_age
        ages = torch.where(known, ages, torch.zeros_like(ages))
    check_ages(where, "ages", ages, batch=batch, highest=highest, advice=_advice)
    return ages, known


def mean_of_known(losses: Tensor, known: Tensor | None) -> Tensor:
    """Mean of ``losses`` over the known samples; 0, with a gradient, if there are none."""
    if known is None:
        return losses.sum() / max(losses.shape[0], 1)
    return torch.where(known, losses, torch.zeros_like(losses)).sum() / known.sum().clamp(min=1)


def nearest_year(ages: Tensor) -> Tensor:
    """``ages`` rounded to whole years, halves up, as int64: the class of an age where ages are classes."""
    return (ages + 0.5).floor().long() if ages.is_floating_point() else ages.long()


def check_weights(where: str, **weights: float) -> None:
    """Weights of loss terms must be finite and not negative."""
    for name, weight in weights.items():
        if not (weight >= 0.0 and math.isfinite(weight)):
            raise ValueError(f"{where}: '{name}' must be finite and at least 0, got {weight}.")


def _advice(age: float) -> str:
    return (
        "If it marks an unknown age, construct the loss with unknown_age= that mark." if age < 0 or age != age else ""
    )
