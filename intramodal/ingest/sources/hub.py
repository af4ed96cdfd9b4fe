"""Parquet files of the Hugging Face Hub: the bytes of the images are in the rows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from intramodal.errors import SourceError, reason
from intramodal.ingest.input_file import InputFile, Readable
from intramodal.ingest.sources.base import LabelRule, Records, Source, no_label, unreadable
from intramodal.ingest.sources.lists import (
    COLUMN,
    import_pyarrow,
    opened_parquet,
    parquet_batches,
    read_rows,
)
from intramodal.types import ImageRecord, Payload

FILE_NAME = "file_name"
"""Payload key of the name that the image's cell gives it."""

_ROWS_A_BATCH = 8


def image_column(path: InputFile) -> str | None:
    """Return the column that holds image bytes, None for a list of paths and what is no Parquet.

    It is a struct of ``bytes`` and ``path``, as the `datasets` library writes images, or where
    there is none the one column of bytes.
    """
    pa, _ = import_pyarrow(path)
    try:
        with opened_parquet(path) as file:
            schema = file.schema_arrow
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return None
    found: list[str] = [field.name for field in schema if _holds_images(field.type, pa)]
    found = found or [field.name for field in schema if _is_bytes(field.type, pa)]
    if COLUMN in schema.names or not found:
        return None
    if len(found) > 1:
        names = ", ".join(map(repr, found))
        raise SourceError(f"{path} has several columns of images: {names}; leave one")
    return found[0]


def _holds_images(kind: Any, pa: Any) -> bool:
    if not pa.types.is_struct(kind):
        return False
    fields = {
        kind.field(number).name: kind.field(number).type for number in range(kind.num_fields)
    }
    inside = fields.get("bytes")
    return inside is not None and _is_bytes(inside, pa)


def _is_bytes(kind: Any, pa: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


class HubSource(Source):
    """The images of a Parquet file, each with the other columns of its row as payload.

    Their keys are the file's name and the number of the row, from 0: the names in such files need
    not differ.
    """

    def __init__(
        self, file: Readable | InputFile, column: str, label_of: LabelRule = no_label
    ) -> None:
        self._path = InputFile(file)
        super().__init__(str(self._path), label_of)
        self._column = column

    def names(self) -> Iterator[object]:
        """Yield one number a row."""
        with opened_parquet(self._path) as file:
            yield from range(file.metadata.num_rows)

    def _records(self) -> Records:
        cells = self._cells()
        rows = read_rows(self._path, without=[self._column])
        for number, ((_, row), cell) in enumerate(zip(rows, cells, strict=True)):
            payload = dict(row) if isinstance(row, dict) else {}
            yield self._record(f"{self._path.name}/{number}", cell, payload)

    def _record(self, key: str, cell: Payload | bytes | None, payload: Payload) -> ImageRecord:
        whole = {"bytes": cell} if isinstance(cell, bytes) else cell or {}
        name, data = whole.get("path"), whole.get("bytes")
        if name:
            payload.setdefault(FILE_NAME, name)
        if data is None:
            return unreadable(key, f"the cell in column {self._column!r} holds no bytes", payload)
        return ImageRecord(key, partial(_same, data), payload, held_bytes=len(data))

    def _cells(self) -> Iterator[Payload | bytes | None]:
        pa, _ = import_pyarrow(self._path)
        try:
            with opened_parquet(self._path) as file:
                for batch in parquet_batches(file, _ROWS_A_BATCH, [self._column]):
                    yield from batch.column(0).to_pylist()
        except pa.ArrowException as error:
            raise SourceError(
                f"{self._path} cannot be read ({reason(error)}); write it again"
            ) from error


def _same(data: bytes) -> bytes:
    return data
