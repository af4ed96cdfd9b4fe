"""Lists with a column ``path``: CSV, TSV, JSONL, Parquet."""

from __future__ import annotations

import csv
import json
import math
import os
import posixpath
from collections.abc import Callable, Iterator
from datetime import date, time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from intramodal.errors import MissingDependencyError, SourceError
from intramodal.ingest.sources.base import Records, Source, is_text, spelled, unreadable
from intramodal.ingest.sources.files import read_file
from intramodal.ingest.sources.labels import LabelRule, no_label
from intramodal.types import ImageRecord, Payload

COLUMN = "path"

_LONGEST_LINE = 16 * 2**20
_ROWS_A_BATCH = 1024

Row = Payload | str
"""The cells of a row by their columns, or what is wrong with it."""


class ListSource(Source):
    """The pictures that a list names, each with the other columns of its row as payload.

    Parameters
    ----------
    location : str
        A file whose suffix is in `LIST_SUFFIXES`.
    label_of : callable
        See `Source`.

    Raises
    ------
    SourceError
        If the file cannot be read or has no column ``path``.
    """

    def __init__(self, location: str, label_of: LabelRule = no_label) -> None:
        super().__init__(location, label_of)
        self._path = Path(location).absolute()
        self._folder = str(self._path.parent)
        self._root = os.path.realpath(self._folder)
        self._read_rows = _READERS[self._path.suffix.lower()]

    def _records(self) -> Records:
        try:
            for number, row in self._read_rows(self._path):
                yield self._record(number, row)
        except UnicodeDecodeError as error:
            raise SourceError(f"{self._path} is not UTF-8 ({error}); save it as UTF-8") from error
        except OSError as error:
            raise SourceError(
                f"{self._path} cannot be read ({error.strerror or error}); check the file"
            ) from error

    def _record(self, number: int, row: Row) -> ImageRecord:
        place = f"./{self._path.name}:{number}"
        if isinstance(row, str):
            return self._hiding(place, row)
        payload = {name: cell for name, cell in row.items() if name != COLUMN}
        path = row.get(COLUMN)
        if not isinstance(path, str) or not path.strip():
            return self._hiding(place, f"the row has no {COLUMN!r}")
        if not is_text(path):
            return unreadable(spelled(path), "the name is not UTF-8", payload)
        key = self._key(path)
        if key is None:
            reason = "leads out of the list's folder; keep the list in a folder above its pictures"
            return unreadable(path, reason, payload)
        where = os.path.join(self._folder, path)  # noqa: PTH118  an absolute path replaces it
        return ImageRecord(key, partial(read_file, where, self._root), payload)

    def _key(self, path: str) -> str | None:
        """Return the path relative to the list's folder, None if it leads out of it."""
        key = posixpath.normpath(Path(path).as_posix())
        if Path(path).is_absolute():
            for folder in (self._folder, self._root):
                if Path(key).is_relative_to(folder):
                    return Path(key).relative_to(folder).as_posix()
            return None
        return None if key.split("/", 1)[0] == ".." else key


def _csv_rows(path: Path, *, delimiter: str) -> Iterator[tuple[int, Row]]:
    # A spreadsheet's byte order mark would become part of the first column's name.
    with path.open(encoding="utf-8-sig", newline="") as file:
        cells = csv.reader(file, delimiter=delimiter)
        try:
            columns = next(cells, [])
            _require_column(path, columns)
            for row in cells:
                if row:
                    yield cells.line_num, _csv_row(columns, row)
        except csv.Error as error:
            raise SourceError(
                f"line {cells.line_num} of {path} is not {path.suffix[1:].upper()} ({error}); "
                f"mend the line"
            ) from error


def _csv_row(columns: list[str], row: list[str]) -> Row:
    if len(row) > len(columns):
        return f"the row has {len(row)} cells, the header {len(columns)}"
    # Data frames write their index as a column without a name.
    return {name: cell or None for name, cell in zip(columns, row, strict=False) if name}


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8-sig") as file:
        has_column = False
        for number, line in enumerate(iter(partial(file.readline, _LONGEST_LINE), ""), start=1):
            if len(line) == _LONGEST_LINE:
                raise SourceError(f"line {number} of {path} is longer than {_LONGEST_LINE:,}")
            if not line.strip():
                continue
            row = _json_row(line)
            if not has_column:
                _require_column(path, [] if isinstance(row, str) else list(row))
                has_column = True
            yield number, row


def _json_row(line: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"the line is not JSON ({error})"
    return row if isinstance(row, dict) else "the line is not a JSON object"


def _parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependencyError(
            f"reading {path} needs the package 'pyarrow'; pip install 'intramodal[parquet]'"
        ) from error
    try:
        with pq.ParquetFile(path) as file:
            _require_column(path, file.schema_arrow.names)
            _refuse_bytes(path, file.schema_arrow, pa)
            rows = (row for batch in file.iter_batches(_ROWS_A_BATCH) for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield number, {name: _json_cell(cell) for name, cell in row.items()}
    except pa.ArrowException as error:
        raise SourceError(f"{path} is not a Parquet file ({error}); write it again") from error


def _refuse_bytes(path: Path, schema: Any, pa: Any) -> None:
    for field in schema:
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


def _require_column(path: Path, columns: list[str]) -> None:
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise SourceError(f"{path} has two columns {twice[0]!r}; rename one")
    if COLUMN not in columns:
        there = ", ".join(repr(name) for name in columns) or "none"
        raise SourceError(f"{path} has no column {COLUMN!r} (it has {there}); name it {COLUMN!r}")


_READERS: dict[str, Callable[[Path], Iterator[tuple[int, Row]]]] = {
    ".csv": partial(_csv_rows, delimiter=","),
    ".tsv": partial(_csv_rows, delimiter="\t"),
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".parquet": _parquet_rows,
}

LIST_SUFFIXES = tuple(_READERS)
"""Of the files that are lists."""
