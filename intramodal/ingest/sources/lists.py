"""Lists with a column ``path``: CSV, TSV, JSONL, Parquet."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from intramodal.ingest.sources.base import Records, Source, is_text, spelled
from intramodal.ingest.sources.files import read_file
from intramodal.ingest.sources.labels import LabelRule, no_label
from intramodal.ingest.sources.rows import TABLE_SUFFIXES, Row, read_rows
from intramodal.types import ImageRecord

COLUMN = "path"

LIST_SUFFIXES = TABLE_SUFFIXES
"""Of the files that are lists."""


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
        If the file cannot be read, has no column ``path``, or has a quote that is not closed.
    """

    def __init__(self, location: str, label_of: LabelRule = no_label) -> None:
        super().__init__(location, label_of)
        self._path = Path(location).absolute()
        self._folder = str(self._path.parent)
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
        key = self._key(path)
        if key is None:
            reason = "leads out of the list's folder; keep the list in a folder above its pictures"
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
