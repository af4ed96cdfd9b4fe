"""Labels from a table in a file, by the ids of their points."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from intramodal.errors import InputError, SourceError
from intramodal.ingest.input_file import InputFile, Readable
from intramodal.ingest.payload import Notes, json_payload
from intramodal.ingest.sources.lists import TABLE_SUFFIXES, check_table, read_rows
from intramodal.ingest.vectors.ready import DEFAULT_ID_COLUMN, point_of, row_key
from intramodal.store.label_table import LabelTable
from intramodal.types import Payload, PointId

log = logging.getLogger(__name__)

_MOST_SHARED = 65_536
"""Different values of a column that are held once, however often they occur."""


def read_labels(
    source: Readable,
    *,
    id_column: str = DEFAULT_ID_COLUMN,
    format: str | None = None,
) -> LabelTable:
    r"""Read labels of points, or any other fields, that their collection does not hold.

    Give `LabelledCollection` the result, and that to an evaluation. All of it is held in memory:
    about 250 bytes a row with two columns of labels.

    Parameters
    ----------
    source : path or binary file
        A CSV, TSV, JSONL or Parquet table, one row a point.
    id_column : str
        Column with the ids of the points: whole numbers, UUIDs in any of Qdrant's spellings,
        ``KEY/ID`` in a collection with shard keys, or the text that an ingest made an id of, as
        the path of an image. The other columns become fields.
    format : str, optional
        ``csv``, ``tsv``, ``jsonl`` or ``parquet``, where the name of the file does not tell.

    Raises
    ------
    SourceError
        If it is no such table, has no such column, no row or no other column.
    InputError
        If a row cannot be used, or two rows of one id have other values; the row is named.

    Examples
    --------
    >>> import io
    >>> read_labels(io.BytesIO(b"id,kind\n7,cat\n8,dog\n"), format="csv")
    LabelTable('<file>', 2 rows, kind)
    """
    file = InputFile(source, format)
    check_table(file)
    if not file.is_there:
        raise SourceError(f"there is no file {file}; give one of {', '.join(TABLE_SUFFIXES)}")
    rows: dict[PointId, int] = {}
    numbers: list[int] = []
    columns = _Columns()
    for number, key, fields in _rows(file, id_column):
        place = rows.setdefault(key, len(numbers))
        if place == len(numbers):
            numbers.append(number)
            columns.append(fields)
        elif (name := columns.differs(place, fields)) is not None:
            raise InputError(
                f"rows {numbers[place]} and {number} of {file} have the same id {key!r} and "
                f"different values in {name!r}; keep one of them"
            )
    if not rows or not columns.values:
        what = "rows" if not rows else f"columns other than {id_column!r}"
        raise SourceError(f"{file} has no {what}; give the ids of points with their labels")
    return LabelTable(str(file), file.sha256, rows, columns.values)


def _rows(file: InputFile, id_column: str) -> Iterator[tuple[int, PointId, Payload]]:
    """Yield number, id and fields of each row; `InputError` for one that cannot be used."""
    notes = Notes()
    doubts: list[str] = []
    for number, row in read_rows(file, id_column, doubt=doubts.append):
        try:
            if isinstance(row, str):
                raise InputError(row)
            key = label_key(row.pop(id_column, None))
            yield number, key, json_payload(row, notes)
        except InputError as error:
            raise InputError(f"row {number} of {file} cannot be used: {error}") from error
    if doubts:
        log.warning("%s may be incomplete: %s", file, doubts[0])


def label_key(value: Any) -> PointId:
    """Return what an id is told apart by, see `row_key`; behind a shard key, too.

    Examples
    --------
    >>> label_key("17.0"), label_key("tenant-a/17.0"), label_key("shoes/17.jpg")
    (17, 'tenant-a/17', 'shoes/17.jpg')
    """
    key = row_key(value)
    if isinstance(key, int) or "/" not in key:
        return key
    shard, _, rest = key.rpartition("/")
    point = row_key(rest) if rest else rest
    is_id = point_of(point, "") is point and rest != ""
    return f"{shard}/{point}" if is_id else key


class _Columns:
    """Values by column and row; of JSONL, rows may have columns that others lack."""

    def __init__(self) -> None:
        self.values: dict[str, list[Any]] = {}
        self._shared: dict[str, dict[str, str]] = {}
        self._n_rows = 0

    def append(self, fields: Payload) -> None:
        """Add a row."""
        for name in [name for name in fields if name not in self.values]:
            self.values[name] = [None] * self._n_rows
            self._shared[name] = {}
        for name, column in self.values.items():
            column.append(self._once(name, fields.get(name)))
        self._n_rows += 1

    def differs(self, place: int, fields: Payload) -> str | None:
        """Return the first column in which a row has other values than an earlier one."""
        names = [*self.values, *(name for name in fields if name not in self.values)]
        there = {name: column[place] for name, column in self.values.items()}
        return next((name for name in names if there.get(name) != fields.get(name)), None)

    def _once(self, name: str, value: Any) -> Any:
        """Return a text of a column as one object for all its rows."""
        known = self._shared[name]
        if type(value) is not str or (len(known) >= _MOST_SHARED and value not in known):
            return value
        return known.setdefault(value, value)
