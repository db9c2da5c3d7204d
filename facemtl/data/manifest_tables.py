"""Manifests with named columns: CSV, cut a few megabytes at a time, and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from facemtl.data.label_tokens import UNKNOWN
from facemtl.data.manifest_columns import ColumnPlaces
from facemtl.data.manifest_lines import BLOCK_BYTES, BLOCK_ROWS, text_blocks, text_file
from facemtl.data.manifest_problems import ManifestError, ManifestProblem
from facemtl.data.manifest_rows import RowBlock, Tokens

FindColumns = Callable[[Sequence[str]], ColumnPlaces]


def read_csv(path: Path, find: FindColumns, *, where: str, block_bytes: int = BLOCK_BYTES) -> Iterator[RowBlock]:
    """Cut the rows of a CSV file with a header line.

    A file without quotes is cut by NumPy; from the first block that has one on, by the standard library's reader.
    """
    with text_file(path) as file:
        reader = csv.reader(file, strict=True)
        header = _next_row(reader, where) or []
        header_line = reader.line_num
    places = find(header)
    done = 0
    with open(path, "rb") as binary:
        for line, text in text_blocks(binary, block_bytes):
            if b'"' in text or places.age_range is not None:
                break
            yield _cut_block(text, line, places, len(header), header_line)
            done = line + text.count(b"\n") - 1
        else:
            return
    yield from _cut_rows(path, places, len(header), where=where, done=done, header_line=header_line)


def _cut_block(text: bytes, first_line: int, places: ColumnPlaces, width: int, header_line: int) -> RowBlock:
    """Cut rows that have no quotes, all at once; the header is left out."""
    data = np.frombuffer(text, np.uint8)
    stops = np.flatnonzero(data == ord("\n"))
    starts = np.concatenate([[0], stops[:-1] + 1])
    lines = np.arange(first_line, first_line + len(stops))
    kept = (stops > starts) & (lines != header_line)
    lines, starts, stops = lines[kept], starts[kept], stops[kept]
    commas = np.flatnonzero(data == ord(","))
    low, high = np.searchsorted(commas, starts), np.searchsorted(commas, stops)
    wrong = high - low != width - 1
    problems = [
        _wrong_width(
            int(lines[row]),
            width,
            int(high[row] - low[row]) + 1,
            text[starts[row] : stops[row]].decode("utf-8", "surrogateescape"),
        )
        for row in np.flatnonzero(wrong).tolist()
    ]
    lines, starts, stops, low = lines[~wrong], starts[~wrong], stops[~wrong], low[~wrong]

    def column(place: int | None) -> Tokens | None:
        if place is None:
            return None
        begin = starts if place == 0 else commas[low + place - 1] + 1
        end = stops if place == width - 1 else commas[low + place]
        return Tokens(text, begin, end)

    names = column(places.filename)
    assert names is not None
    return RowBlock(lines, names, column(places.identity), column(places.age), column(places.gender), problems)


def _cut_rows(
    path: Path, places: ColumnPlaces, width: int, *, where: str, done: int, header_line: int
) -> Iterator[RowBlock]:
    """Cut rows one by one, those after line ``done``."""
    with text_file(path) as file:
        for _ in islice(file, done):
            pass
        reader = csv.reader(file, strict=True)
        if done < header_line:
            _next_row(reader, where)
        while True:
            rows: list[tuple[int, list[str]]] = []
            while len(rows) < BLOCK_ROWS:
                line = done + reader.line_num + 1
                fields = _next_row(reader, where, skip_empty=False, done=done)
                if fields is None:
                    break
                if fields:
                    rows.append((line, fields))
            if not rows:
                return
            yield block_of_rows(rows, places, width)


def block_of_rows(rows: Sequence[tuple[int, Sequence[str]]], places: ColumnPlaces, width: int) -> RowBlock:
    """Rows that are in lists already, with the lines where they begin."""
    problems = [
        _wrong_width(line, width, len(fields), ",".join(fields)) for line, fields in rows if len(fields) != width
    ]
    good = [(line, fields) for line, fields in rows if len(fields) == width]

    def column(place: int | None) -> Tokens | None:
        return Tokens.of([fields[place] for _, fields in good]) if place is not None else None

    names = column(places.filename)
    assert names is not None
    ages = column(places.age)
    if places.age_range is not None:
        low, high = places.age_range
        ages = Tokens.of([range_text(fields[low], fields[high]) for _, fields in good])
    lines = np.array([line for line, _ in good], np.int64)
    return RowBlock(lines, names, column(places.identity), ages, column(places.gender), problems)


def range_text(low: str, high: str) -> str:
    """Two ends of a range as one text, as :func:`facemtl.data.label_tokens.read_age` knows it."""
    low, high = low.strip(), high.strip()
    return f"{low}-{high}" if not {low, high} <= UNKNOWN else ""


def _next_row(reader: Iterator[list[str]], where: str, *, skip_empty: bool = True, done: int = 0) -> list[str] | None:
    line = done + getattr(reader, "line_num", 0) + 1
    try:
        for fields in reader:
            if fields or not skip_empty:
                return fields
    except csv.Error as error:
        problem = ManifestProblem(line, "malformed row", "", f"{error}; what follows cannot be told apart")
        raise ManifestError(f"{where}: is no CSV file.", [problem]) from error
    return None


def _wrong_width(line: int, width: int, got: int, text: str) -> ManifestProblem:
    return ManifestProblem(line, "malformed row", text, f"expected {width} fields as in the header, got {got}")
