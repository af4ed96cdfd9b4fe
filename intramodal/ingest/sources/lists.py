"""Lists with a column ``path``: CSV, TSV, JSONL, Parquet."""

from __future__ import annotations

import csv
import io
import os
import posixpath
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from intramodal.errors import MissingDependencyError, SourceError
from intramodal.ingest.input_file import InputFile, Readable
from intramodal.ingest.payload import FAR_DATE
from intramodal.ingest.sources.base import (
    PICTURE_SUFFIXES,
    LabelRule,
    Records,
    Source,
    is_remote,
    is_text,
    no_label,
    read_file,
    read_json,
    read_remote,
    spelled,
    suffix,
)
from intramodal.signatures import N_BYTES, format_by_name, format_of
from intramodal.types import ImageRecord, Payload

_LONGEST_ROW = 16 * 2**20
"""Characters, line breaks inside of cells included."""

_LONGEST_SHOWN = 60
_ROWS_A_BATCH = 1024
_READ_AT_ONCE = 2**16
"""Bytes of a column."""

_REMEMBERED = 64
"""Names of the latest rows, which a line inside a quoted cell is compared with."""

_LONGEST_SUFFIX = 6

_CLOSING = re.compile(r'[^"]*(?:""[^"]*)*"(?!")')
"""The part of a line up to the quote that closes one which was open before it."""

_NO_LINE_BREAK = "the last line ({}) does not end in a line break, as if cut off; add one"
_MAY_HIDE = "the quote that opens on line {} and closes on line {} may hide rows; check the lines"
_SHORT = "the row on line {} has {} cells, the header {}; complete it"

_PARQUET = b"PAR1"

_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}

_INDEX_COLUMN = re.compile(r"__index_level_\d+__|Unnamed: \d+").fullmatch
"""Index columns of data frames that have no name, in Parquet and after a way through CSV."""

Row = Payload | str
"""The cells of a row by their columns, or what is wrong with it."""

NumberedRow = tuple[int, Row]
"""The line (of Parquet: the row) it is from, counted from 1, and the row."""


def read_rows(
    table: Readable | InputFile,
    required: str | None = None,
    *,
    without: Collection[str] = (),
    is_alone: bool = False,
    doubt: Callable[[str], None] | None = None,
) -> Iterator[NumberedRow]:
    """Yield the rows of a table; blank lines are none."""
    path = InputFile(table)
    try:
        read = _READERS[path.suffix]
        _check_format(path)
        yield from read(path, _Wanted(required, without, is_alone and required is not None, doubt))
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 ({error}); save it as UTF-8") from error
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read ({error.strerror or error}); check the file"
        ) from error


def check_table(file: InputFile) -> None:
    """Raise `SourceError` for a file whose name is not that of a table."""
    if file.suffix not in TABLE_SUFFIXES:
        known = format_by_name(file.name)
        because = f": {known}" if known else f"; give one of {', '.join(TABLE_SUFFIXES)}"
        raise SourceError(f"{file} is no table{because}{file.hint}")


def _check_format(path: InputFile) -> None:
    """Raise `SourceError` for a file that is something else than its name says."""
    with path.open() as file:
        start = file.read(N_BYTES)
    known = format_of(start)
    if known is not None and not (start.startswith(_PARQUET) and path.suffix == ".parquet"):
        raise SourceError(f"{path} is not {path.suffix[1:].upper()}: {known}")


@dataclass(frozen=True)
class _Wanted:
    """The arguments of `read_rows`."""

    required: str | None
    without: Collection[str]
    is_alone: bool
    doubt: Callable[[str], None] | None

    def is_index(self, column: str) -> bool:
        """Return whether a column is what data frames write of an index without a name."""
        return column != self.required and bool(_INDEX_COLUMN(column))

    def say_doubt(self, reason: str) -> None:
        """Report that rows may be lost."""
        if self.doubt is not None:
            self.doubt(reason)


def import_pyarrow(path: Path | InputFile) -> tuple[Any, Any]:
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


@contextmanager
def opened_parquet(file: InputFile) -> Iterator[Any]:
    """Open Parquet; of a path, little of a row group is held at once as it is stored.

    By default Arrow reads whole columns of a row group ahead. That stays for an open file, which
    may be a remote one: there many small reads take long.
    """
    _, pq = import_pyarrow(file)
    little = {} if file.is_open else {"pre_buffer": False, "buffer_size": _READ_AT_ONCE}
    with file.native() as opened, pq.ParquetFile(opened, **little) as parquet:
        yield parquet


def parquet_batches(parquet: Any, size: int, columns: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of some columns in batches, decoded in this thread.

    The allocator keeps apart what other threads free, and Arrow's would decode each column in one.
    """
    yield from parquet.iter_batches(size, columns=list(columns), use_threads=False)


class _Lines:
    """The lines of a text file, one at a time; knows those of the row that is being read."""

    def __init__(self, path: InputFile, file: TextIO) -> None:
        self.path = path
        self.number = 0
        self.row: list[str] = []
        self._n_chars = 0
        self._file = file

    def __iter__(self) -> Iterator[str]:
        for line in iter(partial(self._file.readline, _LONGEST_ROW), ""):
            self.number += 1
            self.row.append(line)
            self._n_chars += len(line)
            if self._n_chars >= _LONGEST_ROW:
                raise SourceError(
                    f"the row that ends on line {self.number} of {self.path} is longer than "
                    f"{_LONGEST_ROW:,} characters; shorten it"
                )
            yield line

    def begin_row(self) -> int:
        """Forget the lines so far; returns the number of the next one."""
        self.row, self._n_chars = [], 0
        return self.number + 1


@contextmanager
def _as_text(path: InputFile, newline: str | None = None) -> Iterator[TextIO]:
    """Open a file as UTF-8 text; a spreadsheet's byte order mark would be part of a name."""
    with (
        path.open() as file,
        io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline) as text,
    ):
        yield text


class _CsvRow(NamedTuple):
    number: int
    """Of its first line."""
    lines: list[str]
    cells: list[str]


def _csv_rows(path: InputFile, wanted: _Wanted, *, delimiter: str) -> Iterator[NumberedRow]:
    with _as_text(path, newline="") as file:
        _check_delimiter(path, file.readline(_LONGEST_ROW), wanted.required, delimiter)
        file.seek(0)
        rows = _parsed(_Lines(path, file), delimiter)
        header = row = next(rows, _CsvRow(1, [], []))
        columns = header.cells
        swallowing = _Swallowing(path, columns, wanted, delimiter)
        swallowing.check_header(header)
        _check_columns(path, columns, wanted.required)
        build = partial(_one_cell if wanted.is_alone else _csv_row, columns, wanted)
        nameless = [place for place, name in enumerate(columns) if place and not name]
        for row in rows:
            swallowing.check(row)
            _check_nameless(path, row, nameless)
            yield row.number, build(row)
        if row.lines and not row.lines[-1].endswith(("\n", "\r")):
            wanted.say_doubt(_NO_LINE_BREAK.format(f"{path.name}:{row.number}"))


def _check_nameless(path: InputFile, row: _CsvRow, nameless: Sequence[int]) -> None:
    """Raise `SourceError` for values without a column; a first one is a data frame's index."""
    for place in nameless:
        if place < len(row.cells) and row.cells[place]:
            raise SourceError(
                f"column {place + 1} of {path} has values (line {row.number}) and no name; name "
                f"it in the header, or leave it out"
            )


def _check_delimiter(path: InputFile, line: str, required: str | None, delimiter: str) -> None:
    """Raise `SourceError` for cells that are separated by something else than the suffix says."""
    wanted = _DELIMITERS[delimiter]
    if line.lstrip('"').lower().startswith("sep="):
        raise SourceError(
            f"{path} begins with Excel's line {line.strip()[:_LONGEST_SHOWN]!r}; remove it, and "
            f"separate the cells by {wanted}"
        )
    cells = {sign: _header_cells(line, sign) for sign in _DELIMITERS}
    if required in cells[delimiter]:
        return
    for sign, name in _DELIMITERS.items():
        is_meant = required is None and len(cells[delimiter]) == 1 < len(cells[sign])
        if required in cells[sign] or is_meant:
            raise SourceError(
                f"the cells of {path} are separated by {name}, those of a {path.suffix} file by "
                f"{wanted}; save it with {wanted}"
            )


def _header_cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a cell beyond the limit
        return []


def _parsed(lines: _Lines, delimiter: str) -> Iterator[_CsvRow]:
    """Yield the rows that are not blank; `SourceError` for one that is no CSV."""
    cells = csv.reader(iter(lines), delimiter=delimiter, strict=True)
    while True:
        number = lines.begin_row()
        try:
            row = next(cells, None)
        except csv.Error as error:
            raise SourceError(_malformed(lines, number, delimiter, error)) from error
        if row is None:
            return
        if row:
            yield _CsvRow(number, lines.row, row)


def _malformed(lines: _Lines, number: int, delimiter: str, error: csv.Error) -> str:
    """Return what is wrong with the row that begins on a line, and where."""
    path, row = lines.path, lines.row
    if "unexpected end" in str(error):
        where = number + _opening(row)
        return f"line {where} of {path} opens a quote that is never closed; {_close_it(where)}"
    last, where = lines.number, number + _opening(row[:-1])
    closing = _CLOSING.match(row[-1])
    if len(row) > 1 and closing is None:
        end = f"is not closed up to line {last} ({error})"
        return f"line {where} of {path} opens a quote that {end}; {_close_it(where)}"
    rest = row[-1][closing.end() :] if closing else ""
    if len(row) > 1 and not rest.startswith((delimiter, "\n", "\r")):
        end = f"is closed within a cell of line {last}"
        return f"line {where} of {path} opens a quote that {end}; {_close_it(where)}"
    return (
        f"line {last} of {path} is not {path.suffix[1:].upper()} ({error}); correct the line: "
        f"quotes inside a quoted cell are doubled"
    )


def _close_it(where: int) -> str:
    return f"close it on line {where}, or remove it"


def _opening(lines: Sequence[str]) -> int:
    """Return the place of the line that opens the quote which is open after the last one."""
    return max((closing for _, closing in _quotes(lines)), default=0)


def _quotes(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the places of the lines on which each quote that spans lines opens and closes."""
    opening = 0
    for place, line in enumerate(lines[1:], start=1):
        if _CLOSING.match(line):
            yield opening, place
            opening = place


class _Swallowing:
    """Notices a quote that was left open and is closed by a quote of a later row.

    The rows between would become one cell. A line inside a quoted cell is certainly a row if it
    has as many cells as the header and its required cell looks like others of that column: by its
    suffix or, without one, by the kinds of its characters. Then the list is refused. With another
    number of cells it leaves a doubt. Where nobody asks for doubts, the rows are counted against
    something else, and none is refused.
    """

    def __init__(
        self, path: InputFile, columns: list[str], wanted: _Wanted, delimiter: str
    ) -> None:
        self._path = path
        self._n_columns = len(columns)
        self._wanted = wanted
        self._place = columns.index(wanted.required) if wanted.required in columns else 0
        self._delimiter = delimiter
        self._recent: deque[str] = deque(maxlen=_REMEMBERED)

    def check_header(self, header: _CsvRow) -> None:
        """Raise `SourceError` if the header has swallowed a row."""
        if self._wanted.doubt is not None:
            for opening, closing in _quotes(header.lines):
                if list(self._inside(header.lines[opening + 1 : closing + 1])):
                    raise self._refusal(header.number + opening, header.number + closing)

    def check(self, row: _CsvRow) -> None:
        """Raise `SourceError` if a row has certainly swallowed another; say where it may have."""
        name = self._name(row.cells)
        self._recent.append(name)
        if len(row.lines) == 1 or self._wanted.doubt is None:
            return
        for opening, closing in _quotes(row.lines):
            place = row.number + opening, row.number + closing
            for n_cells, found in self._inside(row.lines[opening + 1 : closing + 1]):
                self._check_inside(n_cells, _kind(found), place)
            if "\n" in name or "\r" in name:
                raise self._refusal(*place)

    def _check_inside(self, n_cells: int, kind: str, place: tuple[int, int]) -> None:
        is_row = kind in PICTURE_SUFFIXES or kind in map(_kind, self._recent)
        if is_row and n_cells == self._n_columns:
            raise self._refusal(*place)
        if is_row and kind.startswith("."):
            self._wanted.say_doubt(_MAY_HIDE.format(*place))

    def _inside(self, lines: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield the number of cells and the required one of each line that has several."""
        for line in lines:
            try:
                cells = next(csv.reader([line], delimiter=self._delimiter), [])
            except csv.Error:  # a cell beyond the limit
                continue
            if len(cells) > 1:
                yield len(cells), self._name(cells)

    def _name(self, cells: list[str]) -> str:
        """Return the required cell; the first one if none is required."""
        return cells[self._place] if self._place < len(cells) else ""

    def _refusal(self, opening: int, closing: int) -> SourceError:
        return SourceError(
            f"line {opening} of {self._path} opens a quote that is closed on line {closing} and "
            f"swallows what look like rows; close it on line {opening}, or put each row on one "
            f"line"
        )


def _kind(name: str) -> str:
    """Return the suffix of a name, or which kinds of characters it has.

    Examples
    --------
    >>> _kind("a/1.PNG"), _kind("sku-17"), _kind("wide, or not")
    ('.png', '-0a', ' ,a')
    """
    bare = name.strip(' "\r\n')
    end = suffix(bare)
    if 1 < len(end) <= _LONGEST_SUFFIX and end[1:].isalnum():
        return end
    return "".join(sorted({"0" if c.isdigit() else "a" if c.isalpha() else c for c in bare}))


def _one_cell(columns: list[str], wanted: _Wanted, row: _CsvRow) -> Row:
    place = columns.index(str(wanted.required))
    return {columns[place]: row.cells[place]} if len(row.cells) > place else {}


def _csv_row(columns: list[str], wanted: _Wanted, row: _CsvRow) -> Row:
    cells = row.cells
    if "\0" in "".join(row.lines):
        return "the row holds a NUL byte, as files that were not written to their end do"
    if len(cells) > len(columns):
        return f"the row has {len(cells)} cells, the header {len(columns)}"
    if len(cells) < len(columns):
        # Spreadsheets leave out empty cells at the end of a row; so does a row that is cut off.
        wanted.say_doubt(_SHORT.format(row.number, len(cells), len(columns)))
    pairs = zip(columns, cells, strict=False)
    return {name: cell or None for name, cell in pairs if name and not wanted.is_index(name)}


def _jsonl_rows(path: InputFile, wanted: _Wanted) -> Iterator[NumberedRow]:
    with _as_text(path) as file:
        is_checked = False
        lines = _Lines(path, file)
        for line in lines:
            lines.begin_row()
            if not line.strip():
                continue
            row = _json_row(line, wanted)
            if not is_checked:
                _check_first(path, lines.number, line, row)
                _check_columns(path, list(row), wanted.required)
                is_checked = True
            yield lines.number, row


def _check_first(path: InputFile, number: int, line: str, row: Row) -> None:
    """Raise `SourceError` unless the first row, which the columns are known by, is an object."""
    if line.lstrip().startswith("["):
        raise SourceError(f"{path} is one JSON array; write one object a line")
    if isinstance(row, str):
        raise SourceError(
            f"line {number} of {path} cannot be used: {row}; write one object a line"
        )


def _json_row(line: str, wanted: _Wanted) -> Row:
    try:
        row = read_json(line)
    except (ValueError, RecursionError) as error:
        return f"the line is not JSON ({error})"
    if not isinstance(row, dict):
        return "the line is not a JSON object"
    return {name: cell for name, cell in row.items() if not wanted.is_index(name)}


def _parquet_rows(path: InputFile, wanted: _Wanted) -> Iterator[NumberedRow]:
    pa, _ = import_pyarrow(path)
    try:
        with opened_parquet(path) as file:
            schema = file.schema_arrow
            _check_columns(path, schema.names, wanted.required)
            columns = [
                name
                for name in schema.names
                if name not in wanted.without and not wanted.is_index(name)
            ]
            for name in columns:
                _check_type(path, name, schema.field(name).type, pa)
            read = [str(wanted.required)] if wanted.is_alone else columns
            batches = parquet_batches(file, _ROWS_A_BATCH, read)
            rows = (row for batch in batches for row in _python_rows(path, batch, pa))
            yield from enumerate(rows, start=1)
    except pa.ArrowException as error:
        raise SourceError(f"{path} is not a Parquet file ({error}); write it again") from error


def _check_type(path: InputFile, name: str, kind: Any, pa: Any) -> None:
    """Raise `SourceError` for a column whose values no payload can hold, at any depth."""
    types = pa.types
    bytes_kinds = ("is_binary", "is_large_binary", "is_binary_view", "is_fixed_size_binary")
    if any(getattr(types, is_kind, bool)(kind) for is_kind in bytes_kinds):
        raise SourceError(
            f"column {name!r} of {path} holds bytes, which no payload can; leave it out"
        )
    if types.is_duration(kind) or types.is_interval(kind):
        raise SourceError(
            f"column {name!r} of {path} holds durations, which JSON has not; write them as "
            f"numbers, such as seconds, or leave it out"
        )
    if types.is_dictionary(kind):
        _check_type(path, name, kind.value_type, pa)
    for number in range(kind.num_fields):
        _check_type(path, name, kind.field(number).type, pa)


def _python_rows(path: InputFile, batch: Any, pa: Any) -> list[Payload]:
    """Return the rows of a batch; nanoseconds are cut off, which Python's times have not."""
    fields = [field.with_type(_microseconds(field.type, pa)) for field in batch.schema]
    schema = pa.schema(fields)
    if schema != batch.schema.remove_metadata():
        batch = pa.Table.from_batches([batch]).cast(schema, safe=False)
    try:
        rows: list[Payload] = batch.to_pylist()
    except (UnicodeDecodeError, pa.ArrowException):
        raise
    except (ValueError, OverflowError):
        columns = [[_python_value(cell, pa) for cell in column] for column in batch.columns]
        return [dict(zip(schema.names, row, strict=True)) for row in zip(*columns, strict=True)]
    return rows


def _python_value(cell: Any, pa: Any) -> Any:
    """Return a cell as `to_pylist` does, a date that Python has not as `FAR_DATE`."""
    if not cell.is_valid:
        return None
    if isinstance(cell, pa.StructScalar):
        return {name: _python_value(inner, pa) for name, inner in cell.items()}
    if isinstance(cell, pa.ListScalar):
        return [_python_value(inner, pa) for inner in cell.values]
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError):
        return FAR_DATE


def _microseconds(kind: Any, pa: Any) -> Any:
    """Return a type with microseconds in place of nanoseconds, at any depth."""
    types = pa.types
    if types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if types.is_struct(kind):
        parts = [kind.field(number) for number in range(kind.num_fields)]
        return pa.struct([part.with_type(_microseconds(part.type, pa)) for part in parts])
    if types.is_list(kind):
        return pa.list_(_microseconds(kind.value_type, pa))
    if types.is_large_list(kind):
        return pa.large_list(_microseconds(kind.value_type, pa))
    if types.is_fixed_size_list(kind):
        return pa.list_(_microseconds(kind.value_type, pa), kind.list_size)
    if types.is_map(kind):
        return pa.map_(_microseconds(kind.key_type, pa), _microseconds(kind.item_type, pa))
    return kind


def _check_columns(path: InputFile, columns: list[str], required: str | None) -> None:
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise SourceError(f"{path} has two columns {twice[0]!r}; rename one")
    if required is not None and required not in columns:
        there = ", ".join(repr(name[:_LONGEST_SHOWN]) for name in columns) or "none"
        raise SourceError(
            f"{path} has no column {required!r} (it has {there}); name it {required!r}"
        )


_READERS: dict[str, Callable[[InputFile, _Wanted], Iterator[NumberedRow]]] = {
    ".csv": partial(_csv_rows, delimiter=","),
    ".tsv": partial(_csv_rows, delimiter="\t"),
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".parquet": _parquet_rows,
}

TABLE_SUFFIXES = tuple(_READERS)
"""Of the files that `read_rows` takes."""


COLUMN = "path"


class ListSource(Source):
    """The pictures that a list names, each with the other columns of its row as payload."""

    def __init__(self, file: Readable | InputFile, label_of: LabelRule = no_label) -> None:
        super().__init__(str(InputFile(file)), label_of)
        self._path = InputFile(file).absolute()
        # Of a file without a place, paths are relative to the working directory, as on stdin.
        self._folder = str((self._path.path or Path("list")).absolute().parent)
        self._root = os.path.realpath(self._folder)

    def names(self) -> Iterator[object]:
        """Yield the rows."""
        return read_rows(self._path, COLUMN, is_alone=True)

    def _records(self) -> Records:
        for number, row in read_rows(self._path, COLUMN, doubt=self._doubt):
            yield self._record(number, row)

    def _record(self, number: int, row: Row) -> ImageRecord:
        place = f"./{self._path.name}:{number}"
        if isinstance(row, str):
            return self._hiding(place, row)
        payload = {name: cell for name, cell in row.items() if name != COLUMN}
        path = row.get(COLUMN)
        if not isinstance(path, str) or not path.strip():
            return self._hiding(place, f"the row has no {COLUMN!r}")
        if "\0" in path:
            return self._hiding(place, f"the {COLUMN!r} holds a NUL byte")
        if not is_text(path):
            return self._hiding(spelled(path), "the name is not UTF-8")
        if is_remote(path):
            return ImageRecord(path, read_remote, payload)
        key = self._key(path)
        if key is None:
            reason = "leads out of the list's folder; keep the list in a folder above its images"
            return self._hiding(path, reason)
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
