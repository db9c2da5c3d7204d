"""What can be wrong with a manifest, and the error that tells all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

ProblemKind = Literal[
    "malformed row",
    "unsafe name",
    "duplicate row",
    "missing file",
    "no regular file",
    "link leads out",
    "age is no number",
    "age is not finite",
    "age out of range",
    "age is a range",
    "unknown gender",
    "no label in the name",
]

_SHOWN = 20
_LONGEST = 80


class ManifestProblem(NamedTuple):
    """One fault of one row; a row may have several."""

    line: int
    """Where the row begins, from 1; rows of a Parquet file are counted from 1 too. 0 of files that are not listed."""

    kind: ProblemKind
    """What sort of fault."""

    value: str
    """The text that is wrong."""

    detail: str = ""
    """What would be right."""

    def __str__(self) -> str:
        value = self.value if len(self.value) <= _LONGEST else self.value[:_LONGEST] + "…"
        return f"{self.kind}, got {value!r}" + (f" ({self.detail})" if self.detail else "")


class ManifestError(ValueError):
    """A manifest cannot be used as it is; ``problems`` has every fault, the message the first twenty.

    Args:
        message: What is wrong on the whole.
        problems: All faults, by line.
        unit: What the numbers count, ``"line"`` or ``"row"``.
    """

    def __init__(self, message: str, problems: Sequence[ManifestProblem] = (), *, unit: str = "line") -> None:
        listed = [
            f"  {unit} {problem.line}: {problem}" if problem.line else f"  {problem}" for problem in problems[:_SHOWN]
        ]
        if len(problems) > _SHOWN:
            counts = Counter(problem.kind for problem in problems)
            listed.append(f"  … and {len(problems) - _SHOWN} more (.problems has all).")
            listed.append("  " + ", ".join(f"{kind}: {count}" for kind, count in counts.most_common()))
        super().__init__("\n".join([message, *listed]))
        self.problems, self.unit = tuple(problems), unit
        self._arguments = (message, self.problems, unit)

    def __reduce__(self) -> tuple[object, ...]:  # survives the way out of a worker process
        return _again, self._arguments


def _again(message: str, problems: tuple[ManifestProblem, ...], unit: str) -> ManifestError:
    return ManifestError(message, problems, unit=unit)
