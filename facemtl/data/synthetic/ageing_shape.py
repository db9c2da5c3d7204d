"""How the shape of a face follows its age: growth, and what gravity does later."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from facemtl.data.synthetic.head_asset import ANCHOR_YEARS
from facemtl.data.synthetic.person import AGEING_RATES
from facemtl.data.synthetic.shape_spread import CHANGES_OF_FATNESS


class AgeChange(NamedTuple):
    """A local change that comes with age."""

    name: str
    """Without its side; both sides get it."""
    rate: str
    """The one of the AGEING_RATES that it follows."""
    at_old_age: float
    """How far it goes by the age of 80 beyond the average of the old, in units of the modellers' extreme."""


LATE_CHANGES = (
    AgeChange("eye-bag-incr", "eye bags", 0.30),
    AgeChange("eye-bag-out", "eye bags", 0.23),
    AgeChange("eye-eyefold-up", "sagging", -0.28),
    AgeChange("eye-height2-incr", "sagging", -0.23),
    AgeChange("eyebrows-trans-up", "sagging", -0.15),
    AgeChange("cheek-trans-up", "sagging", -0.28),
    AgeChange("cheek-inner-incr", "hollowing", -0.28),
    AgeChange("cheek-volume-incr", "hollowing", -0.15),
    AgeChange("forehead-temple-incr", "hollowing", -0.17),
    AgeChange("mouth-upperlip-volume-incr", "hollowing", -0.28),
    AgeChange("mouth-upperlip-height-incr", "hollowing", -0.23),
    AgeChange("mouth-lowerlip-volume-incr", "hollowing", -0.23),
    AgeChange("mouth-angles-up", "sagging", -0.20),
    AgeChange("mouth-laugh-lines-out", "sagging", 0.35),
    AgeChange("chin-jaw-drop-incr", "sagging", 0.23),
    AgeChange("neck-double-incr", "sagging", 0.17),
    AgeChange("ear-lobe-incr", "ears and nose", 0.28),
    AgeChange("ear-scale-incr", "ears and nose", 0.12),
    AgeChange("nose-point-up", "ears and nose", -0.09),
    AgeChange("nose-volume-incr", "ears and nose", 0.10),
    AgeChange("nose-width3-incr", "ears and nose", 0.09),
)


def late_share(ages: Tensor) -> Tensor:
    """How much of the late changes has come: 0 until 28 years, 1 at 80."""
    return ((ages - 28.0) / 52.0).clamp(0.0, 1.25) ** 1.15


def childhood_share(ages: Tensor) -> Tensor:
    """1 at birth to 0 at 18 years: by how much a head falls short of its adult peculiarity."""
    share = 1 - (ages / 18.0).clamp(0.0, 1.0)
    return share * share * (3 - 2 * share)


def anchor_weights(ages: Tensor) -> Tensor:
    """``(batch, anchors)`` weights of the asset's people of two neighbouring ages.

    A head grows fast first and slowly then: of what a boy of 11 lacks, nine tenths have come at 18. The old age that
    follows comes slowly first.
    """
    years = torch.tensor(ANCHOR_YEARS, dtype=ages.dtype, device=ages.device)
    place = torch.searchsorted(years[1:-1], ages.contiguous(), right=True)
    share = ((ages - years[place]) / (years[place + 1] - years[place])).clamp(0.0, 1.0)
    share = torch.where(place == 1, share**0.75, share)
    share = torch.where(place == 2, 1 - (1 - share) ** 2.5, share)
    share = torch.where(place == 3, share**1.3, share)
    columns = torch.arange(len(years), device=ages.device)
    return (1 - share)[:, None] * (columns == place[:, None]) + share[:, None] * (columns == place[:, None] + 1)


def fatness_changes(change_names: tuple[str, ...]) -> Tensor:
    """``(changes,)``: what fatness does to each local change."""
    of = dict(CHANGES_OF_FATNESS)
    return torch.tensor([of.get(name.removeprefix("l-").removeprefix("r-"), 0.0) for name in change_names])


def late_changes(change_names: tuple[str, ...]) -> Tensor:
    """``(rates, changes)``: what each ageing rate does to each local change by the age of 80."""
    matrix = torch.zeros(len(AGEING_RATES), len(change_names))
    for change in LATE_CHANGES:
        for column, name in enumerate(change_names):
            if name.removeprefix("l-").removeprefix("r-") == change.name:
                matrix[AGEING_RATES.index(change.rate), column] = change.at_old_age
    return matrix
