"""What a person looks like apart from shape: drawn once for an identity, true at every age."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from facemtl.data.synthetic.person import Traits
from facemtl.data.synthetic.random_numbers import Purpose, draw_uniform, to_choice, to_normal

NUM_MOLES = 4


class HairStyle(IntEnum):
    """How the hair is worn."""

    SHAVED = 0
    CROPPED = 1
    SHORT = 2
    PARTED = 3
    FRINGE = 4
    LONG = 5
    TIED = 6
    CURLY = 7


class Beard(IntEnum):
    """How a man's beard is worn."""

    NONE = 0
    STUBBLE = 1
    MOUSTACHE = 2
    GOATEE = 3
    FULL = 4


_STYLES = torch.tensor(
    [
        [0.0, 0.02, 0.10, 0.10, 0.20, 0.34, 0.16, 0.08],  # women
        [0.07, 0.23, 0.34, 0.20, 0.08, 0.03, 0.0, 0.05],  # men
    ]
)
_CURLS = torch.tensor([0.6, 1.2, 0.8, 0.3, 0.2, 0.5, 1.5, 6.0])  # African hair changes the odds so
_BEARDS = torch.tensor([0.50, 0.20, 0.08, 0.09, 0.13])
_EYES = torch.tensor([[0.0, 0.01, 0.03, 0.96], [0.0, 0.01, 0.04, 0.95], [0.34, 0.14, 0.20, 0.32]])
"""Odds of blue, green, hazel and brown eyes, by ancestry."""


class AppearanceFactors(NamedTuple):
    """Looks of a batch of people. Each is ``(batch,)`` unless it says otherwise."""

    melanin: Tensor
    """Of the skin, 0.03 the palest to 1.3 the darkest."""
    blood: Tensor
    """Redness of the skin, 0 to 1."""
    lip_red: Tensor
    """0 to 1."""
    freckles: Tensor
    """0 none to 1 full of them."""
    moles: Tensor
    """``(batch, moles, 3)``: x and y in centimetres on the average adult, and the radius, 0 for no mole."""
    eye_colour: Tensor
    """``(batch,)`` int64: blue, green, hazel, brown."""
    eye_shade: Tensor
    """Darker below 0, lighter above."""
    hair_dark: Tensor
    """Eumelanin, 0.05 flaxen to 1 black."""
    hair_red: Tensor
    """Pheomelanin, 0 to 1."""
    hair_style: Tensor
    """``(batch,)`` int64 :class:`HairStyle`."""
    hair_volume: Tensor
    """Around 1."""
    hairline: Tensor
    """Centimetres that the hairline stands above the average."""
    hair_length: Tensor
    """Of long hair, centimetres below the eyes."""
    brow_thickness: Tensor
    """Around 1."""
    brow_place: Tensor
    """``(batch, 2)``: height and tilt in centimetres."""
    beard: Tensor
    """``(batch,)`` int64 :class:`Beard`; of women and children too, who do not show it."""
    wrinkling: Tensor
    """Around 1, how soon and how deeply."""
    grey_age: Tensor
    """Years at which half of the hair is grey."""
    balding: Tensor
    """0 never to 1 early."""
    shift: Tensor
    """``(batch, 2)`` in [0, 1), by which patterns of the skin are moved: no two people have the same freckles."""


def draw_appearance(seed: int, identities: Tensor, traits: Traits) -> AppearanceFactors:
    """Draw looks that go with sex and ancestry.

    Args:
        seed: The data set's.
        identities: ``(batch,)`` int64.
        traits: Of the same people.

    Returns:
        :class:`AppearanceFactors`; row i depends on ``seed``, ``identities[i]`` and its traits alone.
    """
    uniform = draw_uniform(seed, Purpose.APPEARANCE, identities, count=24 + 3 * NUM_MOLES)
    normal = to_normal(uniform)
    ancestry, male = traits.ancestry.double(), traits.gender
    african, asian, european = ancestry.unbind(1)
    melanin = african * (0.85 + 0.22 * normal[:, 0]) + asian * (0.17 + 0.06 * normal[:, 0])
    melanin = melanin + european * (0.10 + 0.055 * normal[:, 0])
    fair = (uniform[:, 1] * european).clamp(0, 1)
    hair_dark = torch.where(fair > 0.25, 1.0 - (fair - 0.25) ** 0.8 * 1.15, 0.97 - 0.1 * uniform[:, 2])
    styles = _STYLES.double()[male] * (1 + african[:, None] * (_CURLS.double() - 1))
    spots = uniform[:, 24:].view(-1, NUM_MOLES, 3)
    moles = torch.stack(
        (10 * (spots[..., 0] - 0.5), 2 - 11 * spots[..., 1], 0.07 + 0.25 * (spots[..., 2] - 0.72)), -1
    ) * (spots[..., 2:] > 0.72)
    values = {
        "melanin": melanin.clamp(0.03, 1.3),
        "blood": (0.36 + 0.14 * normal[:, 3]).clamp(0.05, 1),
        "lip_red": (0.5 + 0.2 * normal[:, 4] + 0.15 * (1 - male)).clamp(0, 1),
        "freckles": ((uniform[:, 5] - 0.6) * 2.5).clamp(0, 1) * (0.15 + 0.85 * european * (hair_dark < 0.7)),
        "moles": moles,
        "eye_colour": to_choice(uniform[:, 6], ancestry @ _EYES.double()),
        "eye_shade": normal[:, 7],
        "hair_dark": hair_dark.clamp(0.06, 1.0),
        "hair_red": torch.where((uniform[:, 8] > 0.86) & (fair > 0.3), 0.9, 0.25 * uniform[:, 9]),
        "hair_style": to_choice(uniform[:, 10], styles),
        "hair_volume": 1 + 0.22 * normal[:, 11],
        "hairline": 0.45 * normal[:, 12],
        "hair_length": 7 + 12 * uniform[:, 13],
        "brow_thickness": (1.0 + 0.22 * normal[:, 14] + 0.12 * (2 * male - 1)).clamp(0.45, 1.6),
        "brow_place": torch.stack((0.10 * normal[:, 15] - 0.1 * male, 0.14 * normal[:, 16]), 1),
        "beard": to_choice(uniform[:, 17], _BEARDS.double().expand(len(male), -1)),
        "wrinkling": (1 + 0.28 * normal[:, 18] + 0.25 * (0.3 - melanin).clamp(-0.4, 0.3)).clamp(0.4, 1.7),
        "grey_age": 52 + 7 * normal[:, 19],
        "balding": torch.where(male == 1, uniform[:, 20] ** 1.3, 0.12 * uniform[:, 20]),
        "shift": uniform[:, 21:23],
    }
    return AppearanceFactors(
        **{name: value if value.dtype == torch.int64 else value.float() for name, value in values.items()}
    )
