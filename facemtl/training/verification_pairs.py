"""Pairs of faces of one or of two people, and how well a similarity tells them apart."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FOLDS = 10


class FacePairs(NamedTuple):
    """Pairs of places of faces."""

    first: npt.NDArray[np.int64]
    """``(pairs,)`` one face of each pair."""
    second: npt.NDArray[np.int64]
    """``(pairs,)`` the other."""
    same: npt.NDArray[np.bool_]
    """``(pairs,)`` whether they are of one person."""


def draw_pairs(identities: npt.NDArray[np.integer], *, pairs: int, seed: int) -> FacePairs:
    """Draw as many pairs of one person as of two, each pair once, people as evenly as their faces allow.

    Were all pairs of one person equally likely, the person with the most photographs would fill the list: their number
    grows with the square.

    Args:
        identities: ``(faces,)``; a face of −1 is in no pair.
        pairs: Most pairs of each of the two kinds.
        seed: Of the draw.

    Raises:
        ValueError: If there are fewer than ten pairs of a kind.

    Example:
        >>> import numpy as np
        >>> drawn = draw_pairs(np.repeat(np.arange(20), 3), pairs=50, seed=0)
        >>> len(drawn.same), int(drawn.same.sum())
        (100, 50)
    """
    faces = np.flatnonzero(identities >= 0)
    people, owners = np.unique(identities[faces], return_inverse=True)
    faces = faces[np.argsort(owners, kind="stable")]  # those of one person side by side
    counts = np.bincount(owners, minlength=len(people)).astype(np.int64)
    of_one = int((counts * (counts - 1) // 2).sum())
    of_two = int((len(faces) ** 2 - (counts**2).sum()) // 2)
    wanted = min(pairs, of_one, of_two)
    if wanted < FOLDS:
        raise ValueError(
            f"draw_pairs: verification needs at least {FOLDS} pairs of one person and as many of two people, got "
            f"{of_one} and {of_two} from {len(faces)} faces of {len(people)} people, of which {pairs} were asked for. "
            "Hold out more people with two or more faces each."
        )
    generator = np.random.default_rng(seed)
    one = _pairs_of_one_person(counts, wanted, generator)
    two = _pairs_of_two_people(counts, wanted, of_two, generator)
    both = faces[np.concatenate([one, two])]
    return FacePairs(both[:, 0], both[:, 1], np.arange(2 * wanted) < wanted)


def area_under_curve(scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_]) -> float:
    """Chance that a pair of one person scores higher than one of two people; a tie counts half.

    Args:
        scores: ``(pairs,)`` similarities.
        same: ``(pairs,)``, both kinds at least once.

    Example:
        >>> import numpy as np
        >>> area_under_curve(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
        0.875
    """
    higher, lower = scores[same], np.sort(scores[~same])
    below = np.searchsorted(lower, higher, side="left") + np.searchsorted(lower, higher, side="right")
    return float(below.sum()) / 2.0 / (len(higher) * len(lower))


def accuracy_over_folds(scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_], *, seed: int) -> float:
    """Accuracy at the threshold that was best on the nine other tenths of the pairs, mean over the ten.

    Args:
        scores: ``(pairs,)`` similarities.
        same: ``(pairs,)``, each kind at least ten times.
        seed: Of the split into tenths, each with its share of both kinds.

    Example:
        >>> import numpy as np
        >>> same = np.arange(40) < 20
        >>> accuracy_over_folds(np.where(same, 0.8, 0.1), same, seed=0)
        1.0
    """
    generator = np.random.default_rng(seed)
    folds = np.empty(len(scores), np.int64)
    for kind in (same, ~same):
        folds[kind] = generator.permutation(int(kind.sum())) % FOLDS
    right = [
        float(((scores >= _best_threshold(scores[folds != fold], same[folds != fold])) == same)[folds == fold].mean())
        for fold in range(FOLDS)
    ]
    return float(np.mean(right))


def _best_threshold(scores: npt.NDArray[np.floating], same: npt.NDArray[np.bool_]) -> float:
    """The threshold of most right answers, ``score >= threshold`` being taken for one person."""
    values, places = np.unique(scores, return_inverse=True)
    of_one = np.bincount(places[same], minlength=len(values))
    of_two = np.bincount(places[~same], minlength=len(values))
    # Threshold number k calls values k and up one person; number len(values) calls none so.
    right = np.concatenate([[0], np.cumsum(of_two)]) + np.concatenate([np.cumsum(of_one[::-1])[::-1], [0]])
    best = np.flatnonzero(right == right.max())
    chosen = int(best[len(best) // 2])
    if chosen == 0:
        return -math.inf
    return math.inf if chosen == len(values) else float(values[chosen - 1] + values[chosen]) / 2.0


def _pairs_of_one_person(
    counts: npt.NDArray[np.int64], wanted: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    possible = counts * (counts - 1) // 2
    # The lowest cap on the pairs of a person with which there are enough.
    low, high = 1, int(possible.max())
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if np.minimum(possible, middle).sum() >= wanted else (middle + 1, high)
    starts = np.cumsum(counts) - counts
    drawn = []
    for start, there in zip(starts.tolist(), possible.tolist(), strict=True):
        numbers = generator.choice(there, size=min(there, low), replace=False) if there else np.empty(0, np.int64)
        # Pair number n of a person is (i, j), i < j, with n = j (j − 1) / 2 + i.
        later = ((1.0 + np.sqrt(1.0 + 8.0 * numbers)) / 2.0).astype(np.int64)
        drawn.append(start + np.stack([numbers - later * (later - 1) // 2, later], axis=1))
    pairs: npt.NDArray[np.int64] = np.concatenate(drawn)
    return pairs[generator.permutation(len(pairs))[:wanted]]


def _pairs_of_two_people(
    counts: npt.NDArray[np.int64], wanted: int, possible: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    starts = np.cumsum(counts) - counts
    if possible <= 8 * wanted:
        there = np.concatenate(
            [
                _with_later_people(first, int(counts.sum()))
                for first in zip(starts.tolist(), counts.tolist(), strict=True)
            ]
        )
        return there[generator.choice(len(there), size=wanted, replace=False)]
    pairs = np.empty((0, 2), np.int64)
    while len(pairs) < wanted:
        people = generator.integers(len(counts), size=(4 * wanted, 2))
        drawn = starts[people] + (generator.random(people.shape) * counts[people]).astype(np.int64)
        pairs = np.concatenate([pairs, np.sort(drawn[people[:, 0] != people[:, 1]], axis=1)])
        _, firsts = np.unique(pairs, axis=0, return_index=True)
        pairs = pairs[np.sort(firsts)]
    return pairs[:wanted]


def _with_later_people(person: tuple[int, int], faces: int) -> npt.NDArray[np.int64]:
    """All pairs of a face of one person, given by first face and number of faces, and a face of a later one."""
    start, count = person
    own, later = np.arange(start, start + count), np.arange(start + count, faces)
    return np.stack([np.repeat(own, len(later)), np.tile(later, count)], axis=1)
