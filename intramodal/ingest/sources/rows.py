"""Rows of tables: CSV, TSV, JSONL, Parquet, one at a time and never all in memory."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Collection, Iterator
from datetime import date, time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from intramodal.errors import MissingDependencyError, SourceError
from intramodal.types import Payload

_LONGEST_LINE = 16 * 2**20
_ROWS_A_BATCH = 1024

Row = Payload | str
"""The cells of a row by their columns, or what is wrong with it."""

NumberedRow = tuple[int, Row]
"""The line (of Parquet: the row) it is from, counted from 1, and the row."""


def read_rows(
    path: Path,
    required: str | None = None,
    *,
    without: Collection[str] = (),
    is_alone: bool = False,
) -> Iterator[NumberedRow]:
    """Yield the rows of a table; blank lines are none.

    Parameters
    ----------
    path : Path
        Its suffix is one of `TABLE_SUFFIXES`. Cells of CSV and TSV are text, empty ones None.
    required : str, optional
        A column that must be there.
    without : collection of str
        Columns of Parquet that are not read.
    is_alone : bool
        Read the required column alone, where that is faster.

    Raises
    ------
    SourceError
        If the file cannot be read as a whole, or lacks the required column.
    MissingDependencyError
        For Parquet without pyarrow.
    """
    try:
        read = _READERS[path.suffix.lower()]
        yield from read(path, required, without, is_alone and required is not None)
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 ({error}); save it as UTF-8") from error
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read ({error.strerror or error}); check the file"
        ) from error


def import_pyarrow(path: Path) -> tuple[Any, Any]:
    """Return ``pyarrow`` and ``pyarrow.parquet``; `MissingDependencyError` names the extra."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependencyError(
            f"reading or writing {path} needs the package 'pyarrow'; "
            f"pip install 'intramodal[parquet]'"
        ) from error
    return pa, pq


def _csv_rows(
    path: Path,
    required: str | None,
    _without: Collection[str],
    is_alone: bool,
    *,
    delimiter: str,
) -> Iterator[NumberedRow]:
    # A spreadsheet's byte order mark would become part of the first column's name.
    with path.open(encoding="utf-8-sig", newline="") as file:
        cells = csv.reader(file, delimiter=delimiter)
        try:
            columns = next(cells, [])
            _check_columns(path, columns, required)
            build = _one_cell(columns, required) if is_alone else partial(_csv_row, columns)
            for row in cells:
                if row:
                    yield cells.line_num, build(row)
        except csv.Error as error:
            raise SourceError(
                f"line {cells.line_num} of {path} is not {path.suffix[1:].upper()} ({error}); "
                f"mend the line"
            ) from error


def _one_cell(columns: list[str], column: str | None) -> Callable[[list[str]], Row]:
    place = columns.index(str(column))
    return lambda row: {columns[place]: row[place]} if len(row) > place else {}


def _csv_row(columns: list[str], row: list[str]) -> Row:
    if len(row) > len(columns):
        return f"the row has {len(row)} cells, the header {len(columns)}"
    # Data frames write their index as a column without a name.
    return {name: cell or None for name, cell in zip(columns, row, strict=False) if name}


def _jsonl_rows(
    path: Path, required: str | None, _without: Collection[str], _is_alone: bool
) -> Iterator[NumberedRow]:
    with path.open(encoding="utf-8-sig") as file:
        is_checked = False
        for number, line in enumerate(iter(partial(file.readline, _LONGEST_LINE), ""), start=1):
            if len(line) == _LONGEST_LINE:
                raise SourceError(f"line {number} of {path} is longer than {_LONGEST_LINE:,}")
            if not line.strip():
                continue
            row = _json_row(line)
            if not is_checked:
                _check_columns(path, [] if isinstance(row, str) else list(row), required)
                is_checked = True
            yield number, row


def _json_row(line: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"the line is not JSON ({error})"
    return row if isinstance(row, dict) else "the line is not a JSON object"


def _parquet_rows(
    path: Path, required: str | None, without: Collection[str], is_alone: bool
) -> Iterator[NumberedRow]:
    pa, pq = import_pyarrow(path)
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            _check_columns(path, schema.names, required)
            columns = [name for name in schema.names if name not in without]
            _refuse_bytes(path, [schema.field(name) for name in columns], pa)
            wanted = [required] if is_alone else columns
            batches = file.iter_batches(_ROWS_A_BATCH, columns=wanted)
            rows = (row for batch in batches for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield number, {name: _json_cell(cell) for name, cell in row.items()}
    except pa.ArrowException as error:
        raise SourceError(f"{path} is not a Parquet file ({error}); write it again") from error


def _refuse_bytes(path: Path, fields: list[Any], pa: Any) -> None:
    for field in fields:
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            raise SourceError(
                f"column {field.name!r} of {path} holds bytes, which no payload can; leave it out"
            )


def _json_cell(cell: Any) -> Any:
    """Return the JSON value of a Parquet cell; what has none is refused where payload is."""
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, Decimal):
        return float(cell)
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def _check_columns(path: Path, columns: list[str], required: str | None) -> None:
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise SourceError(f"{path} has two columns {twice[0]!r}; rename one")
    if required is not None and required not in columns:
        there = ", ".join(repr(name) for name in columns) or "none"
        raise SourceError(
            f"{path} has no column {required!r} (it has {there}); name it {required!r}"
        )


_READERS: dict[str, Callable[[Path, str | None, Collection[str], bool], Iterator[NumberedRow]]] = {
    ".csv": partial(_csv_rows, delimiter=","),
    ".tsv": partial(_csv_rows, delimiter="\t"),
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".parquet": _parquet_rows,
}

TABLE_SUFFIXES = tuple(_READERS)
"""Of the files that `read_rows` takes."""
