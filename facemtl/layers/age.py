"""Ages, age groups, and the age that a distribution expects."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from facemtl._core.checks import ShapeError, check_ages, check_floating, check_rank
from facemtl._core.precision import at_least_float32
from facemtl._core.shapes import AgeLabels, AgeLogits, GroupLabels

_PRESET_EDGES: dict[int, tuple[float, ...]] = {
    4: (30.0, 40.0, 50.0),
    5: (20.0, 30.0, 40.0, 50.0),
    6: (18.0, 29.0, 39.0, 49.0, 59.0),
    7: (10.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    8: (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0),
}


@dataclass(frozen=True)
class AgeGroups:
    """Cut the ages from 0 to 100 years into groups.

    The group of an age is the number of edges that the age *exceeds*: with the paper's edges an age of exactly 10 is in
    group 0, "10−", and 10.5 is in group 1, "11–20".

    Args:
        edges: Upper ends of all groups but the last, in years: strictly rising, each in [0, 100). The default is the
            paper's seven groups.

    Raises:
        ValueError: If there is no edge, or they do not rise strictly within [0, 100).

    Example:
        >>> import torch
        >>> groups = AgeGroups()
        >>> groups.groups_of(torch.tensor([10.0, 10.5, 61.0])).tolist()
        [0, 1, 6]
        >>> groups.labels
        ('10−', '11–20', '21–30', '31–40', '41–50', '51–60', '61+')
        >>> AgeGroups((30, 40, 50)).num_groups
        4
    """

    edges: tuple[float, ...] = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0)

    def __post_init__(self) -> None:
        edges = tuple(float(edge) for edge in self.edges)
        rising = all(low < high for low, high in pairwise(edges))
        if not (edges and rising and edges[0] >= 0.0 and edges[-1] < 100.0):
            raise ValueError(
                f"AgeGroups: 'edges' must be at least one age, strictly rising within [0, 100) years, got {self.edges}."
            )
        object.__setattr__(self, "edges", edges)

    @classmethod
    def preset(cls, num_groups: Literal[4, 5, 6, 7, 8]) -> AgeGroups:
        """Groups that the literature uses, by their number.

        ======  ================================================  =====================================================
        groups  labels                                            source
        ======  ================================================  =====================================================
        4       30−, 31–40, 41–50, 51+                            Yang et al., CVPR 2018 (MORPH and CACD)
        5       20−, 21–30, 31–40, 41–50, 51+                     IPCGAN: Wang et al., CVPR 2018 (first one: 11–20)
        6       18−, 19–29, 30–39, 40–49, 50–59, 60+              Antipov et al., ICIP 2017
        7       10−, 11–20, 21–30, 31–40, 41–50, 51–60, 61+       MTLFace, CVPR 2021
        8       10−, 11–20, 21–30, …, 51–60, 61–70, 71+           ours: the seven with the old ones split
        ======  ================================================  =====================================================

        CAAE's ten groups (Zhang et al., CVPR 2017) are ``AgeGroups((5, 10, 15, 20, 30, 40, 50, 60, 70))``.

        Args:
            num_groups: 4 to 8.

        Raises:
            ValueError: If there is no preset of that number.

        Example:
            >>> AgeGroups.preset(4).labels
            ('30−', '31–40', '41–50', '51+')
        """
        if num_groups not in _PRESET_EDGES:
            raise ValueError(
                f"AgeGroups.preset: 'num_groups' must be one of {sorted(_PRESET_EDGES)}, got {num_groups}. "
                "Pass edges of your own: AgeGroups((30, 40))."
            )
        return cls(_PRESET_EDGES[num_groups])

    @property
    def num_groups(self) -> int:
        """How many groups there are, one more than edges."""
        return len(self.edges) + 1

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each group, as ``11–20``, in whole years where all edges are whole."""
        whole = all(edge.is_integer() for edge in self.edges)
        highs = [f"{edge:g}" for edge in self.edges]
        lows = [f"{edge + 1:g}" if whole else f">{edge:g}" for edge in self.edges]
        middle = (low if low == high else f"{low}–{high}" for low, high in zip(lows, highs[1:], strict=False))
        return (f"{highs[0]}−", *middle, f"{lows[-1]}+" if whole else lows[-1])

    def groups_of(self, ages: AgeLabels) -> GroupLabels:
        """Give the group of each age: the number of edges that it exceeds.

        Args:
            ages: ``(batch,)`` years in [0, 100], any real dtype.

        Returns:
            ``(batch,)`` int64 in [0, ``num_groups``).

        Raises:
            ShapeError: If ``ages`` has not one axis.
            TypeError: If ``ages`` is boolean or complex.
            ValueError: If an age is NaN or lies outside [0, 100] (on CPU; see :func:`facemtl.value_checks`).
        """
        check_ages("AgeGroups.groups_of", "ages", ages)
        return exceeded_edges(ages, self.edges)


def exceeded_edges(ages: Tensor, edges: tuple[float, ...]) -> Tensor:
    """How many of the rising ``edges`` each of ``ages`` exceeds, int64; nothing is checked.

    One comparison an edge: no table has to travel to the device.
    """
    count = torch.zeros(ages.shape, dtype=torch.int64, device=ages.device)
    for edge in edges:
        count = count + (ages > edge)
    return count


def expected_age(age_logits: AgeLogits) -> Tensor:
    """Age in years that a distribution over bins of one year expects.

    DEX: ``Σ_i i · softmax(z)_i`` for the bins i = 0, 1, …, num_ages − 1. The sum is taken about the middle bin
    (``c + Σ_i (i − c) · softmax(z)_i``, the same number), which halves the rounding error, and in float32 at least,
    inside autocast too.

    Args:
        age_logits: z, ``(batch, ages)``, floating point; any number of bins.

    Returns:
        ``(batch,)`` years in [0, ``ages`` − 1], float32 (float64 for float64 logits).

    Raises:
        ShapeError: If ``age_logits`` has not two axes, or no bin.
        TypeError: If ``age_logits`` is not floating point.

    References:
        Rothe, Timofte and Van Gool, "Deep Expectation of Real and Apparent Age from a Single Image Without Facial
        Landmarks", IJCV 2018.

    Example:
        >>> import torch
        >>> expected_age(torch.zeros(1, 101))
        tensor([50.])
    """
    check_rank("expected_age", "age_logits", age_logits, ("batch", "ages"))
    check_floating("expected_age", "age_logits", age_logits)
    if age_logits.shape[1] == 0:
        raise ShapeError("expected_age: 'age_logits' must have at least one age bin, got 0.")
    return expectation(at_least_float32(age_logits).softmax(dim=1))


def expectation(probabilities: Tensor) -> Tensor:
    """Mean bin, ``Σ_i i·p_i``, of each row of ``probabilities``; nothing is checked."""
    last = probabilities.shape[1] - 1
    middle = 0.5 * last
    offsets = torch.arange(last + 1, device=probabilities.device, dtype=probabilities.dtype) - middle
    # Rounding may carry a saturated distribution past its last bin; its gradient is zero there anyway.
    return (middle + (probabilities * offsets).sum(dim=1)).clamp(0.0, float(last))
