"""Who a synthetic person is, in shape: drawn once for an identity and true at every age."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from facemtl.data.synthetic.random_numbers import Purpose, draw_uniform, to_normal
from facemtl.data.synthetic.shape_spread import asymmetry_of, mean_of, spread_of

AGEING_RATES = ("sagging", "hollowing", "eye bags", "ears and nose", "fattening")
"""What ages in each person at a rate of its own."""


class Traits(NamedTuple):
    """The shapes of a batch of people, apart from their ages."""

    gender: Tensor
    """``(batch,)`` int64, 1 male, 0 female."""
    masculinity: Tensor
    """``(batch,)`` in [0, 1], where the shape lies between the average woman's and the average man's."""
    ancestry: Tensor
    """``(batch, 3)`` shares of :data:`~facemtl.data.synthetic.head_asset.ANCESTRIES`, summing to 1."""
    fatness: Tensor
    """``(batch,)`` in [−1, 1], as a young adult."""
    changes: Tensor
    """``(batch, changes)`` of the head's local changes, in units of the modellers' extremes."""
    ageing: Tensor
    """``(batch, rates)`` around 1, the :data:`AGEING_RATES`."""


def draw_traits(seed: int, identities: Tensor, change_names: tuple[str, ...]) -> Traits:
    """Draw people.

    Args:
        seed: The data set's.
        identities: ``(batch,)`` int64, at least 0.
        change_names: Names of the local changes, without their opposites
            (:attr:`~facemtl.data.synthetic.head_model.HeadModel.change_names`).

    Returns:
        :class:`Traits`; row i depends on ``seed`` and ``identities[i]`` alone.

    Raises:
        ShapeError: If ``identities`` is not ``(batch,)``.
        TypeError: If they are no integers.
        ValueError: If one is negative, or ``seed`` is outside 0 ... 2⁶⁴ − 1.
    """
    shapes = _shape_names(change_names)
    fixed = 8 + len(AGEING_RATES)
    uniform = draw_uniform(seed, Purpose.TRAITS, identities, count=fixed + len(shapes) + len(change_names))
    normal = to_normal(uniform)
    gender = (uniform[:, 0] < 0.5).long()
    masculinity = 0.5 + (gender - 0.5) * (0.55 + 0.4 * uniform[:, 1])
    common = normal[:, fixed : fixed + len(shapes)]
    own = normal[:, fixed + len(shapes) :]
    at = torch.tensor([shapes.index(_without_side(name)) for name in change_names])
    spread = torch.tensor([spread_of(name) for name in change_names], dtype=torch.float64)
    asymmetry = torch.tensor([asymmetry_of(name) for name in change_names], dtype=torch.float64)
    mean = torch.tensor([mean_of(name) for name in change_names], dtype=torch.float64)
    changes = mean + spread * common[:, at] + asymmetry * own
    return Traits(
        gender=gender,
        masculinity=masculinity.float(),
        ancestry=_ancestry(uniform[:, 2:6]).float(),
        fatness=(0.35 * normal[:, 6] - 0.05).clamp(-1, 1).float(),
        changes=changes.clamp(-1.0, 1.0).float(),
        ageing=(1 + 0.3 * normal[:, 7 : 7 + len(AGEING_RATES)]).clamp_min(0.3).float(),
    )


def _shape_names(change_names: tuple[str, ...]) -> list[str]:
    """The changes with left and right as one, in their first order."""
    return list(dict.fromkeys(_without_side(name) for name in change_names))


def _without_side(name: str) -> str:
    return name[2:] if name.startswith(("l-", "r-")) else name


def _ancestry(uniform: Tensor) -> Tensor:
    """Mixtures: a main ancestry with most of the weight, each as often as another, and a share of the others."""
    main = torch.nn.functional.one_hot((uniform[:, 0] * 3).long(), 3).double()
    others = uniform[:, 1:4] + 0.05
    share = 0.35 * uniform[:, 3:4] ** 2
    return (1 - share) * main + share * others / others.sum(1, keepdim=True)
