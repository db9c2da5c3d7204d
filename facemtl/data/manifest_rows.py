"""Rows of text to columns of labels, whatever format they came in, with every fault on the way noted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from facemtl.data.label_tokens import OLDEST, UNKNOWN, AgeRanges, Label, read_age, read_gender
from facemtl.data.listed_paths import name_fault
from facemtl.data.manifest_problems import ManifestProblem
from facemtl.data.packed_names import PackedNames, decode_name, encode_name, ends_of
from facemtl.data.plain_numbers import plain_numbers

Places = npt.NDArray[np.int64]
_SHORT = 7  # bytes of a text that fit into a word of eight beside their number


class Tokens(NamedTuple):
    """Texts of one column: parts of a block of bytes, in rising order."""

    text: bytes
    starts: Places
    stops: Places

    @classmethod
    def of(cls, texts: Sequence[str]) -> Tokens:
        """Texts that are in a list."""
        packed = PackedNames.pack(texts)
        return cls(packed.data, packed.offsets[:-1], packed.offsets[1:])

    def encoded(self) -> list[bytes]:
        """All of them."""
        text = self.text
        return [text[start:stop] for start, stop in zip(self.starts.tolist(), self.stops.tolist(), strict=True)]

    def at(self, index: int) -> str:
        """One of them, decoded."""
        return decode_name(self.text[self.starts[index] : self.stops[index]])


class RowBlock(NamedTuple):
    """Some thousand rows that were cut into columns; None is a column that the manifest does not have."""

    lines: Places
    names: Tokens
    identities: Tokens | None
    ages: Tokens | None
    genders: Tokens | None
    problems: Sequence[ManifestProblem]
    """Of rows that could not be cut."""


class Rows(NamedTuple):
    """All rows of a manifest."""

    lines: npt.NDArray[np.int32]
    names: PackedNames
    identities: Places
    """Which of ``identity_names``; −1 is unknown."""
    identity_names: list[str]
    """In the order in which they occurred."""
    ages: npt.NDArray[np.float32]
    genders: npt.NDArray[np.int8]
    named: npt.NDArray[np.bool_]
    """Whether the row has a name that can be used."""
    problems: list[ManifestProblem]


def gather_rows(blocks: Iterable[RowBlock], *, age_ranges: AgeRanges) -> Rows:
    """Read the labels of all blocks; files and duplicates are somebody else's."""
    codes: dict[bytes, int] = {text.encode(): -1 for text in UNKNOWN}
    known: list[bytes] = []
    problems: list[ManifestProblem] = []
    kinds = (np.int32, np.int32, np.bool_, np.int64, np.float32, np.int8)
    parts: list[tuple[npt.NDArray[np.generic], ...]] = [tuple(np.empty(0, kind) for kind in kinds)]
    texts: list[bytes] = []
    for block in blocks:
        problems += block.problems
        text, lengths, named = _clean_names(block.names, block.lines, problems)
        texts.append(text)
        columns = (
            block.lines,
            lengths,
            named,
            _coded(block.identities, len(block.lines), codes, known),
            _ages(block.ages, block.lines, age_ranges, problems),
            _labels(block.genders, block.lines, read_gender, -1.0, problems),
        )
        parts.append(tuple(column.astype(kind) for column, kind in zip(columns, kinds, strict=True)))
    lines, lengths, named, identities, ages, genders = map(np.concatenate, zip(*parts, strict=True))
    names = PackedNames(b"".join(texts), ends_of(lengths))
    return Rows(lines, names, identities, [decode_name(text) for text in known], ages, genders, named, problems)


def distinct(tokens: Tokens) -> tuple[list[bytes], Places]:
    """The different texts of a column, and which of them each row has."""
    lengths = tokens.stops - tokens.starts
    if len(lengths) == 0 or lengths.max() > _SHORT:
        numbers: dict[bytes, int] = {}
        places = [numbers.setdefault(text, len(numbers)) for text in tokens.encoded()]
        return list(numbers), np.array(places, np.int64)
    # Short texts as words: their bytes and how many, so that no two texts share a word.
    data = np.frombuffer(tokens.text + bytes(_SHORT), np.uint8)
    words = lengths.astype(np.uint64)
    for place in range(int(lengths.max())):
        byte = np.where(place < lengths, data[tokens.starts + place], 0).astype(np.uint64)
        words |= byte << np.uint64(8 * (place + 1))
    _, first, which = np.unique(words, return_index=True, return_inverse=True)
    texts = Tokens(tokens.text, tokens.starts[first], tokens.stops[first])
    return texts.encoded(), which.reshape(-1).astype(np.int64)


def _ages(
    tokens: Tokens | None, lines: Places, age_ranges: AgeRanges, problems: list[ManifestProblem]
) -> npt.NDArray[np.float64]:
    """Ages: plain numbers in range all at once, whatever else one by one."""
    if tokens is None:
        return np.full(len(lines), np.nan)
    ages, plain = plain_numbers(*tokens)
    other = np.flatnonzero(~(plain & (ages <= OLDEST)))
    if len(other):
        rest = Tokens(tokens.text, tokens.starts[other], tokens.stops[other])
        ages[other] = _labels(rest, lines[other], lambda age: read_age(age, age_ranges), np.nan, problems)
    return ages


def _labels(
    tokens: Tokens | None,
    lines: Places,
    parse: Callable[[str], Label],
    unknown: float,
    problems: list[ManifestProblem],
) -> npt.NDArray[np.float64]:
    """Labels of one kind, each different text read once."""
    if tokens is None:
        return np.full(len(lines), unknown)
    texts, which = distinct(tokens)
    labels = [parse(decode_name(text)) for text in texts]
    faulty = np.array([label.fault is not None for label in labels], np.bool_)
    if faulty.any():
        for row in np.flatnonzero(faulty[which]).tolist():
            label = labels[which[row]]
            assert label.fault is not None
            problems.append(ManifestProblem(int(lines[row]), label.fault, tokens.at(row), label.detail))
    return np.array([label.value for label in labels], np.float64)[which]


def _coded(tokens: Tokens | None, count: int, codes: dict[bytes, int], known: list[bytes]) -> Places:
    """Number the identities of a block in the order in which they occur."""
    if tokens is None:
        return np.full(count, -1, np.int64)
    texts, which = distinct(tokens)
    numbers = []
    for text in texts:
        name = encode_name(decode_name(text).strip())
        code = codes.get(name)
        if code is None:
            code = codes[name] = len(known)
            known.append(name)
        numbers.append(code)
    return np.array(numbers, np.int64)[which]


def _clean_names(
    names: Tokens, lines: Places, problems: list[ManifestProblem]
) -> tuple[bytes, Places, npt.NDArray[np.bool_]]:
    """Names in normal form, one after another; their lengths; which of them can be used."""
    named = np.ones(len(lines), np.bool_)
    odd = np.flatnonzero(odd_names(names))
    if len(odd) == 0:
        return _cut_out(names), names.stops - names.starts, named
    encoded = names.encoded()
    for row in odd.tolist():
        normal, fault = normal_name(names.at(row))
        if fault is not None:
            named[row] = False
            problems.append(ManifestProblem(int(lines[row]), "unsafe name", names.at(row), fault))
        encoded[row] = encode_name(normal)
    return b"".join(encoded), np.fromiter(map(len, encoded), np.int64, len(encoded)), named


def normal_name(text: str) -> tuple[str, str | None]:
    """A listed name in normal form (``a/./b`` is ``a/b``) and what is wrong with it, if anything."""
    fault = name_fault(text)
    if fault is not None:
        return "", f"it {fault[0]}; {fault[1][0].lower()}{fault[1][1:-1]}"
    if "\\" in text:
        return "", "it holds a backslash; divide folders by slashes"
    normal = str(PurePosixPath(text))
    return (normal, None) if normal != "." else ("", "it names no file")


def odd_names(names: Tokens) -> npt.NDArray[np.bool_]:
    """Names that may need another form or may be wrong: all that are empty or have one of a few marks."""
    odd: npt.NDArray[np.bool_] = names.stops <= names.starts
    data = np.frombuffer(names.text, np.uint8)
    if len(data) == 0:
        return odd
    marks = [np.flatnonzero(data == mark) for mark in b"\\\0" if mark in names.text]
    for pair in (b"//", b"./", b"/.", b":/"):
        if pair in names.text:
            marks.append(np.flatnonzero((data[:-1] == pair[0]) & (data[1:] == pair[1])))
    for mark in marks:
        row = np.searchsorted(names.starts, mark, side="right") - 1
        mark, row = mark[row >= 0], row[row >= 0]
        odd[row[mark < names.stops[row]]] = True
    first, last = data[np.minimum(names.starts, len(data) - 1)], data[np.maximum(names.stops - 1, 0)]
    dots = (names.stops - names.starts <= 2) & (first == ord("."))
    return odd | (first == ord("/")) | (last == ord("/")) | dots


def _cut_out(tokens: Tokens) -> bytes:
    """The texts one after another."""
    steps = np.zeros(len(tokens.text) + 1, np.int8)
    np.add.at(steps, tokens.starts, 1)
    np.add.at(steps, tokens.stops, -1)
    inside = np.cumsum(steps[:-1], dtype=np.int8).astype(np.bool_)
    return np.frombuffer(tokens.text, np.uint8)[inside].tobytes()
