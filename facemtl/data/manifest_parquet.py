"""Manifests as Parquet files, by pyarrow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from facemtl.data.manifest_columns import ColumnPlaces
from facemtl.data.manifest_lines import BLOCK_ROWS
from facemtl.data.manifest_problems import ManifestError
from facemtl.data.manifest_rows import RowBlock
from facemtl.data.manifest_tables import block_of_rows


def read_parquet(path: Path, find: Callable[[Sequence[str]], ColumnPlaces], *, where: str) -> Iterator[RowBlock]:
    """Cut the rows of a Parquet file; only the columns that are needed are read."""
    parquet = _pyarrow()
    import pyarrow  # type: ignore[import-untyped]

    row = 1
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            header = file.schema_arrow.names
            places = find(header)
            found = (places.filename, places.identity, places.age, *(places.age_range or ()), places.gender)
            wanted = [place for place in found if place is not None]
            for batch in file.iter_batches(BLOCK_ROWS, columns=[header[place] for place in wanted]):
                texts: list[Sequence[str]] = [[""] * len(batch)] * len(header)
                for place in wanted:
                    texts[place] = [_text(value) for value in batch.column(header[place]).to_pylist()]
                rows = list(enumerate(zip(*texts, strict=True), start=row))
                row += len(rows)
                yield block_of_rows(rows, places, len(header))
    except (pyarrow.ArrowException, OSError, KeyError) as error:
        raise ManifestError(f"{where}: cannot be read as Parquet: {error}.") from error


def write_parquet(path: Path, columns: dict[str, Sequence[Any]]) -> None:
    """Write columns of Python values, with checksums; None is nothing."""
    parquet = _pyarrow()
    import pyarrow

    kinds = {"filename": pyarrow.string(), "identity": pyarrow.string()}
    kinds |= {"age": pyarrow.float32(), "gender": pyarrow.int8()}
    table = pyarrow.table({name: pyarrow.array(values, kinds[name]) for name, values in columns.items()})
    parquet.write_table(table, os.fspath(path), write_page_checksum=True)


def _pyarrow() -> ModuleType:
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("Parquet manifests need pyarrow. Install it with: pip install 'facemtl[data]'") from error
    module: ModuleType = pyarrow.parquet
    return module


def _text(value: object) -> str:
    """A value as a CSV file would have it."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # identities beside unknown ones become floats in many tools
    return str(value)
