"""Manifests as Parquet files, by pyarrow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from facemtl.data.manifest_columns import ColumnPlaces
from facemtl.data.manifest_lines import BLOCK_ROWS
from facemtl.data.manifest_problems import ManifestError
from facemtl.data.manifest_rows import RowBlock, Tokens
from facemtl.data.manifest_tables import range_text
from facemtl.data.packed_names import decode_name


def read_parquet(path: Path, find: Callable[[Sequence[str]], ColumnPlaces], *, where: str) -> Iterator[RowBlock]:
    """Cut the rows of a Parquet file; only the columns that are needed are read."""
    parquet = _pyarrow()
    import pyarrow  # type: ignore[import-untyped]

    row = 1
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            header = file.schema_arrow.names
            places = find(header)
            found = (places.filename, places.identity, places.age, *(places.age_range or ()), places.gender)
            wanted = [place for place in found if place is not None]
            for batch in file.iter_batches(BLOCK_ROWS, use_threads=False, columns=[header[place] for place in wanted]):
                columns = {place: _tokens(batch.column(header[place])) for place in wanted}
                ages = columns[places.age] if places.age is not None else None
                if places.age_range is not None:
                    low, high = (map(decode_name, columns[place].encoded()) for place in places.age_range)
                    ages = Tokens.of([range_text(*ends) for ends in zip(low, high, strict=True)])
                yield RowBlock(
                    np.arange(row, row + len(batch)),
                    columns[places.filename],
                    columns[places.identity] if places.identity is not None else None,
                    ages,
                    columns[places.gender] if places.gender is not None else None,
                    (),
                )
                row += len(batch)
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise ManifestError(f"{where}: cannot be read as Parquet: {error}.") from error


def write_parquet(path: Path, columns: dict[str, Sequence[Any]]) -> None:
    """Write columns of Python values, with checksums; None is nothing."""
    parquet = _pyarrow()
    import pyarrow

    kinds = {"filename": pyarrow.string(), "identity": pyarrow.string()}
    kinds |= {"age": pyarrow.float32(), "gender": pyarrow.int8()}
    table = pyarrow.table({name: pyarrow.array(values, kinds[name]) for name, values in columns.items()})
    parquet.write_table(table, os.fspath(path), write_page_checksum=True, row_group_size=BLOCK_ROWS)


def _pyarrow() -> ModuleType:
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("Parquet manifests need pyarrow. Install it with: pip install 'facemtl[data]'") from error
    module: ModuleType = pyarrow.parquet
    return module


def _tokens(column: Any) -> Tokens:
    """A column as texts: a view of its own bytes where it is of texts or whole numbers already."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_integer(kind) or pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
        texts = column.cast(pyarrow.large_string()).fill_null("")
        _, offsets, data = texts.buffers()
        bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        return Tokens(data.to_pybytes() if data is not None else b"", bounds[:-1], bounds[1:])
    return Tokens.of([_text(value) for value in column.to_pylist()])


def _text(value: object) -> str:
    """A value as a CSV file would have it."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # identities beside unknown ones become floats in many tools
    return str(value)
