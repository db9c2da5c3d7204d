"""What the command prints."""

from __future__ import annotations

import sys
from typing import TextIO


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line, with names that are no text escaped; on the terminal's error stream unless told otherwise."""
    print(line.encode("utf-8", "backslashreplace").decode(), file=stream if stream is not None else sys.stderr)


def count(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it is not one."""
    return f"{number} {noun if number == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    if noun == "person":
        return "people"
    return f"{noun[:-1]}ies" if noun.endswith("ity") else f"{noun}s"
