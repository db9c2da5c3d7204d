"""The paper's label lines, ``id filename age gender``, cut a few megabytes at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from facemtl.data.manifest_problems import ManifestProblem
from facemtl.data.manifest_rows import RowBlock, Tokens
from facemtl.data.packed_names import decode_name

BLOCK_BYTES = 4 * 2**20
BLOCK_ROWS = 2**16
_BOM = b"\xef\xbb\xbf"
_EXPECTED = "expected 'id filename age gender'"


def read_label_lines(path: Path, *, block_bytes: int = BLOCK_BYTES) -> Iterator[RowBlock]:
    """Cut the lines of a file: the first word is the id, the last two are age and gender, the name is between.

    Words are divided by blanks and tabs, lines end as on any system, empty ones are passed over.
    """
    with open(path, "rb") as file:
        for line, text in text_blocks(file, block_bytes):
            yield cut_lines(text, line)


def text_blocks(file: BinaryIO, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
    """Whole lines of a file, some megabytes at once, each ended by a line feed alone; and the number of the first."""
    line, rest, begun = 1, b"", False
    while True:
        data = file.read(block_bytes)
        text = rest + data
        if not begun and (len(text) >= len(_BOM) or not data):
            text, begun = text.removeprefix(_BOM), True
        # A carriage return at the very end may have its line feed in the next block.
        cut = max(text.rfind(b"\n"), text.rfind(b"\r", 0, max(len(text) - 1, 0))) + 1 if data else len(text)
        text, rest = text[: cut if begun else 0], text[cut if begun else 0 :]
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if text and not text.endswith(b"\n"):
            text += b"\n"
        if text:
            yield line, text
            line += text.count(b"\n")
        if not data:
            return


def cut_lines(text: bytes, first_line: int) -> RowBlock:
    """Cut whole lines at once; where one is not plain, all go through :func:`cut_lines_singly`, which says the same."""
    data = np.frombuffer(text, np.uint8)
    stops = np.flatnonzero(data == ord("\n"))
    starts = np.concatenate([[0], stops[:-1] + 1])
    blank = (data == ord(" ")) | (data == ord("\t"))
    blanks = np.flatnonzero(blank)
    low, high = np.searchsorted(blanks, starts), np.searchsorted(blanks, stops)
    if (high - low < 3).any():
        return cut_lines_singly(text, first_line)
    first, second, third = blanks[low], blanks[high - 2], blanks[high - 1]
    plain = (first > starts) & (second > first + 1) & (third > second + 1) & (stops > third + 1)
    if not (plain & ~blank[first + 1] & ~blank[second - 1]).all():
        return cut_lines_singly(text, first_line)
    lines = np.arange(first_line, first_line + len(stops))
    columns = [(starts, first), (first + 1, second), (second + 1, third), (third + 1, stops)]
    identities, names, ages, genders = (Tokens(text, begin, end) for begin, end in columns)
    return RowBlock(lines, names, identities, ages, genders, ())


def cut_lines_singly(text: bytes, first_line: int) -> RowBlock:
    """Cut lines one by one."""
    lines: list[int] = []
    columns: tuple[list[str], ...] = ([], [], [], [])
    problems = []
    for line, row in enumerate(decode_name(text).split("\n")[:-1], start=first_line):
        bare = row.strip(" \t")
        if not bare:
            continue
        words = _words(bare)
        if words is None:
            problems.append(ManifestProblem(line, "malformed row", row, _EXPECTED))
            continue
        lines.append(line)
        for column, word in zip(columns, words, strict=True):
            column.append(word)
    identities, names, ages, genders = (Tokens.of(column) for column in columns)
    return RowBlock(np.array(lines, np.int64), names, identities, ages, genders, problems)


def _words(text: str) -> tuple[str, str, str, str] | None:
    """Id, name, age and gender of a line without blanks at its ends; in linear time, whatever the line."""
    rest, gender = _last_word(text)
    rest, age = _last_word(rest)
    identity = rest.replace("\t", " ").partition(" ")[0]
    name = rest[len(identity) :].lstrip(" \t")
    return (identity, name, age, gender) if name else None


def _last_word(text: str) -> tuple[str, str]:
    cut = max(text.rfind(" "), text.rfind("\t")) + 1
    return text[:cut].rstrip(" \t"), text[cut:]


def text_file(path: Path) -> io.TextIOWrapper:
    """A text file whose line ends are kept and whose bytes that are no UTF-8 survive."""
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")
