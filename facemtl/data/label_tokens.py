"""What a label says that somebody wrote down: ages, genders, and nothing."""

from __future__ import annotations

import math
import re
from typing import Literal, NamedTuple

from facemtl.data.manifest_problems import ProblemKind

AgeRanges = Literal["refuse", "midpoint"]

UNKNOWN = frozenset({"", "-1", "-1.0", "nan", "NaN", "NAN"})
"""Labels that say nothing."""

_GENDERS = {"1": 1, "1.0": 1, "m": 1, "male": 1, "0": 0, "0.0": 0, "f": 0, "female": 0}
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
_RANGE = re.compile(r"\(?([0-9]+(?:\.[0-9]+)?)(?:\s*[-–,]\s*([0-9]+(?:\.[0-9]+)?)|\s*\+)\)?")
_OPEN_RANGE = re.compile(r"more than ([0-9]+)", re.IGNORECASE)
OLDEST = 100.0
"""Years; the heads have a bin for each up to this."""
_LONGEST = 64  # characters: no number needs more, and a longer text would keep the patterns busy


class Label(NamedTuple):
    """A label's value, or why it has none."""

    value: float
    fault: ProblemKind | None = None
    detail: str = ""


def read_age(text: str, age_ranges: AgeRanges) -> Label:
    """Years in [0, 100]; NaN is unknown."""
    text = text.strip()
    if text in UNKNOWN:
        return Label(math.nan)
    if len(text) > _LONGEST:
        return Label(math.nan, "age is no number", "expected 0 to 100 years")
    if _NUMBER.fullmatch(text):
        return _checked_age(float(text))
    if _INFINITE.fullmatch(text):
        return Label(math.nan, "age is not finite", "expected 0 to 100 years")
    match = _RANGE.fullmatch(text) or _OPEN_RANGE.fullmatch(text)
    if match is None:
        return Label(math.nan, "age is no number", "expected 0 to 100 years; empty, -1 or nan if unknown")
    if age_ranges == "refuse":
        return Label(math.nan, "age is a range", 'pass age_ranges="midpoint" to use its middle')
    low, high = match[1], (match[2] if match.re is _RANGE else None)
    return middle_age(float(low), float(high) if high is not None else OLDEST)


def middle_age(low: float, high: float) -> Label:
    """The middle of a range of ages."""
    if not 0 <= low <= high <= OLDEST:
        return Label(math.nan, "age out of range", "expected a range within 0 to 100 years")
    return Label(0.5 * (low + high))


def read_gender(text: str) -> Label:
    """1 male, 0 female, −1 unknown."""
    text = text.strip()
    if text in UNKNOWN:
        return Label(-1.0)
    gender = _GENDERS.get(text.lower())
    if gender is None:
        return Label(-1.0, "unknown gender", "expected 1, m or male; 0, f or female; empty, -1 or nan if unknown")
    return Label(float(gender))


def _checked_age(age: float) -> Label:
    if math.isinf(age):
        return Label(math.nan, "age is not finite", "expected 0 to 100 years")
    if not 0 <= age <= OLDEST:
        return Label(math.nan, "age out of range", "expected 0 to 100 years")
    return Label(age)
