"""Ready vectors with what belongs to their rows: ids and payload."""

from __future__ import annotations

import re
import uuid
from array import array
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from intramodal.errors import InputError, MismatchError, SourceError
from intramodal.ingest.input_file import InputFile, Readable
from intramodal.ingest.payload import Notes, json_value, storable_columns
from intramodal.ingest.sources.base import check_dataset
from intramodal.ingest.sources.lists import NumberedRow, Row, check_table, read_rows
from intramodal.ingest.vectors.matrices import Matrix, ParquetMatrix, open_matrix
from intramodal.types import Floats, Payload, PointId, point_id, short_repr

_INTEGER = re.compile(r"0|[1-9][0-9]{0,19}").fullmatch
_WHOLE_FLOAT = re.compile(r"(-?(?:0|[1-9][0-9]{0,15}))\.0+").fullmatch
_SCIENTIFIC = re.compile(r"-?[0-9]\.[0-9]{1,30}[eE][+-]?[0-9]{1,3}").fullmatch
"""As NumPy and spreadsheets write floats; without a point it may be a code, such as 1e3."""
_HYPHENATED = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_UUID = re.compile(_HYPHENATED).fullmatch
_ANY_UUID = re.compile(
    rf"(?:urn:uuid:)?(?P<plain>{_HYPHENATED})|\{{(?P<braced>{_HYPHENATED})\}}|[0-9a-fA-F]{{32}}"
).fullmatch
_UUID_LENGTH = 36
_UUID_LENGTHS = (32, _UUID_LENGTH, 38, 45)
_LARGEST_ID = 2**64
_LARGEST_FLOAT = 2.0**53
"""From here on floats leave whole numbers out."""


def row_key(value: Any) -> PointId:
    """Return what an id is told apart by: a whole number, a UUID in small letters, or text.

    Two spellings of one id are the same: whole floats are whole numbers, and a UUID may have any
    of the forms that Qdrant reads.

    Examples
    --------
    >>> row_key("17"), row_key("017"), row_key(17), row_key(17.0), row_key("17.0")
    (17, '017', 17, 17, 17)
    >>> row_key("1.7000e+01")
    17
    >>> row_key("{0F8FAD5B-D9CB-469F-A165-70867728950E}")
    '0f8fad5b-d9cb-469f-a165-70867728950e'
    """
    text = _id_text(value)
    if not text.isascii():
        if any("\ud800" <= sign <= "\udfff" for sign in text):
            raise InputError(f"the id {text!r} is not UTF-8")
        return text
    if _INTEGER(text) and int(text) < _LARGEST_ID:
        return int(text)
    if len(text) in _UUID_LENGTHS and _ANY_UUID(text):
        return str(uuid.UUID(text))
    if _SCIENTIFIC(text):
        return _of_scientific(text)
    whole = _WHOLE_FLOAT(text)
    return row_key(int(whole[1])) if whole and abs(int(whole[1])) < _LARGEST_FLOAT else text


def _of_scientific(text: str) -> PointId:
    """Return the whole number that a float in scientific notation is."""
    mantissa, _, exponent = text.lower().partition("e")
    n_decimals = len(mantissa.partition(".")[2])
    if 0 <= int(exponent) <= n_decimals and float(text).is_integer():
        return row_key(float(text))
    raise InputError(f"the id {text!r} is a float, which may be rounded; write it whole")


def _id_text(value: Any) -> str:
    """Return an id as text, whole floats as whole numbers."""
    if not isinstance(value, str | int | Mapping | Sequence):
        value = json_value(value, set())
    if value is None or value == "":
        raise InputError("the row has no id")
    if isinstance(value, float) and value.is_integer():
        if abs(value) >= _LARGEST_FLOAT:
            raise InputError(f"the id {value!r} is a float, which may be rounded; write it whole")
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"the id {value!r} is neither a whole number nor text")
    return str(value)


def point_of(key: PointId, dataset: str) -> PointId:
    """Return the point's id: whole numbers and UUIDs as they are, a UUIDv5 of other text."""
    if isinstance(key, int) or (len(key) == _UUID_LENGTH and _UUID(key)):
        return key
    return point_id(dataset, key)


DEFAULT_ID_COLUMN = "id"

DATASET = "dataset"
"""Payload key that names the data set, unless the metadata has a column of that name."""

_MOST_EXAMPLES = 3


@short_repr
@dataclass(frozen=True)
class Block:
    """Some rows, in order."""

    X: Floats
    """(n, d): float32; not checked."""
    names: list[str]
    """What a row is called where it fails."""
    points: list[PointId]
    """Their ids; 0 for rows with a problem."""
    payloads: list[Payload]
    problems: dict[int, str]
    """Why a row cannot be taken, by its place in the block."""
    left_out: dict[int, str]
    """Why a part of its metadata cannot."""


class ReadyVectors:
    """The rows of a matrix, each with an id and payload.

    Parameters
    ----------
    matrix : Matrix
    table : InputFile or None
        Metadata, one row for every row of the matrix; None: no payload.
    id_column : str or None
        Of the table. Whole numbers and UUIDs are ids as they are; other text becomes a UUIDv5
        of data set and text, as the paths of pictures do, and stays in the payload.
        None: ids are the row numbers, from 0.
    dataset : str
        Namespace of those ids.
    is_told : bool
        Whether the data set is in the payload of all rows, unless a column has that name.
    """

    def __init__(
        self,
        matrix: Matrix,
        table: InputFile | None,
        id_column: str | None,
        dataset: str,
        *,
        is_told: bool = False,
    ) -> None:
        self.matrix = matrix
        self.table = table
        self.id_column = id_column
        self.dataset = dataset
        self.is_told = is_told

    @property
    def ids_from(self) -> str:
        """What the ids of the points come from, for people."""
        return "row numbers" if self.id_column is None else f"column {self.id_column}"

    def check(self) -> None:
        """Raise unless each row has one of metadata and an id of its own; holds 8 bytes a row."""
        hashes = array("q")
        n_rows = 0
        for n_rows, key in self._keys():  # noqa: B007
            if key is not None:
                hashes.append(hash(key))
        if n_rows != self.matrix.n_rows:
            raise MismatchError(
                f"{self.table} has {n_rows:,} rows and {self.matrix.file} {self.matrix.n_rows:,} "
                f"vectors; give one row of metadata for every vector, in the same order"
            )
        ordered = np.frombuffer(hashes, dtype=np.int64)
        ordered.sort()  # in place, in the memory of `hashes`
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if len(twice):
            self._refuse_twice(set(twice.tolist()))

    def blocks(self, size: int) -> Iterator[Block]:
        """Yield all rows, `size` at a time."""
        start = 0
        notes = Notes()
        with closing(self._rows()) as rows:
            for X in self.matrix.blocks(size):
                described = list(islice(rows, len(X)))
                if len(described) != len(X):
                    raise SourceError(f"{self.table} has become shorter while it was read")
                yield self._block(X, described, start, notes)
                start += len(X)

    def _block(self, X: Floats, rows: list[NumberedRow], start: int, notes: Notes) -> Block:
        block = Block(X, [], [], [], {}, {})
        for place, (number, row) in enumerate(rows):
            try:
                name, point, given = self._described(row, start + place)
                payload, problem = storable_columns(given, notes)
                if problem is not None:
                    block.left_out[place] = problem
            except InputError as error:
                name, point, payload = f"row {number}", 0, {}
                block.problems[place] = str(error)
            block.names.append(name)
            block.points.append(point)
            block.payloads.append(payload)
        return block

    def _described(self, row: Row, number: int) -> tuple[str, PointId, Payload]:
        """Return name, id and metadata of the row of that number, counted from 0."""
        if isinstance(row, str):
            raise InputError(row)
        original: Any = number
        point: PointId = number
        if self.id_column is not None:
            original = row.pop(self.id_column, None)
            key = row_key(original)
            point = point_of(key, self.dataset)
            if point is not key:
                row[self.id_column] = original
        if self.is_told:
            row.setdefault(DATASET, self.dataset)
        return str(original), point, row

    def _rows(self, *, is_alone: bool = False) -> Generator[NumberedRow, None, None]:
        if self.table is None:
            for number in range(self.matrix.n_rows):
                yield number, {}
            return
        is_same = self.table.is_same_as(self.matrix.file)
        without = (
            [self.matrix.column] if isinstance(self.matrix, ParquetMatrix) and is_same else []
        )
        yield from read_rows(self.table, self.id_column, without=without, is_alone=is_alone)

    def _keys(self) -> Iterator[tuple[int, PointId | None]]:
        """Yield the number of every row, from 1, and what tells its id apart."""
        with closing(self._rows(is_alone=True)) as rows:
            for number, (_, row) in enumerate(rows, start=1):
                yield number, self._key(row)

    def _key(self, row: Row) -> PointId | None:
        if isinstance(row, str) or self.id_column is None:
            return None
        try:
            return row_key(row.get(self.id_column))
        except InputError:  # listed as a failure when the row is taken
            return None

    def _refuse_twice(self, hashes: set[int]) -> None:
        first: dict[PointId, int] = {}
        examples: list[str] = []
        for number, key in self._keys():
            if key is None or hash(key) not in hashes:
                continue
            if first.setdefault(key, number) != number:
                examples.append(f"{key!r} in rows {first[key]} and {number}")
            if len(examples) == _MOST_EXAMPLES:
                break
        if examples:
            raise InputError(
                f"ids occur twice in column {self.id_column!r} of {self.table}: "
                f"{', '.join(examples)}; give every row an id of its own"
            )


def open_ready(  # noqa: PLR0913  a job has as many knobs as it has
    path: Readable,
    *,
    dataset: str,
    is_told: bool = False,
    table: Readable | None = None,
    id_column: str | None = None,
    tensor: str | None = None,
    vector_column: str | None = None,
    format: str | None = None,
    table_format: str | None = None,
) -> ReadyVectors:
    """Open ready vectors and check that ids and rows belong together.

    Parameters
    ----------
    path : path or binary file
        ``.npy`` (2-D floats), ``.safetensors`` or ``.parquet`` (a column of lists). An open file
        has to seek, and stays open; a ``.npy`` is memory-mapped by its path only.
    dataset : str
        Namespace of ids that are neither whole numbers nor UUIDs.
    is_told : bool
        Also write it into the payload; by default only what the table says is there.
    table : path or binary file, optional
        Metadata: CSV, TSV, JSONL or Parquet. By default the other columns of a Parquet file;
        else there is none, and ids are the row numbers.
    id_column : str, optional
        ``id`` by default; a Parquet file without it gets row numbers.
    tensor : str, optional
        Of a safetensors file with several.
    vector_column : str, optional
        Of Parquet; ``vector`` or ``embedding`` by default.
    format, table_format : str, optional
        Such as ``npy`` and ``csv``, where the names of the files do not tell.

    Raises
    ------
    InputError
        If a file cannot be used, rows do not match, or ids occur twice.
    """
    check_dataset(dataset)
    matrix = open_matrix(path, tensor=tensor, column=vector_column, format=format)
    rows = None if table is None else InputFile(table, table_format)
    if rows is None and isinstance(matrix, ParquetMatrix):
        rows = matrix.file
        has_ids = id_column is not None or DEFAULT_ID_COLUMN in matrix.columns
    else:
        has_ids = rows is not None
    if rows is not None:
        check_table(rows)
    ids = (id_column or DEFAULT_ID_COLUMN) if has_ids else None
    ready = ReadyVectors(matrix, rows, ids, dataset, is_told=is_told)
    ready.check()
    return ready
