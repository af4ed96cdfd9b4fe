"""Paths on stdin."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from intramodal.errors import SourceError
from intramodal.ingest.sources.base import Records, Source, is_text, spelled, unreadable
from intramodal.ingest.sources.files import read_file
from intramodal.ingest.sources.labels import LabelRule, no_label
from intramodal.types import ImageRecord

_LONGEST_PATH = 65_536


class NamedSource(Source):
    """The pictures whose paths come on stdin, one a line; can be read once.

    The folders that are named are trusted; a picture that is a link may not lead out of its own.

    Parameters
    ----------
    location : str
    label_of : callable
        See `Source`.
    stream : binary file, optional
        Instead of stdin.
    """

    def __init__(
        self, location: str, label_of: LabelRule = no_label, stream: BinaryIO | None = None
    ) -> None:
        super().__init__(location, label_of)
        self._stream = stream
        self._folder = os.path.abspath(os.curdir)  # noqa: PTH100
        self._is_spent = False

    def _records(self) -> Records:
        if self._is_spent:
            raise SourceError("stdin can be read only once; give a list instead")
        self._is_spent = True
        is_empty = True
        for path in self._paths():
            is_empty = False
            yield self._record(path)
        if is_empty:
            raise SourceError("there was no path on stdin; give one a line, or another source")

    def _paths(self) -> Iterator[str]:
        stream = self._stream or sys.stdin.buffer
        while line := stream.readline(_LONGEST_PATH):
            path = os.fsdecode(line.rstrip(b"\r\n"))
            if path.strip():
                yield path

    def _record(self, path: str) -> ImageRecord:
        if not is_text(path):
            return unreadable(spelled(path), "the name is not UTF-8")
        whole = os.path.join(self._folder, path)  # noqa: PTH118  an absolute path replaces it
        return ImageRecord(self._key(whole), partial(_read_named, whole))

    def _key(self, whole: str) -> str:
        """Return the path within the working directory, else all of it without its anchor."""
        normal = Path(posixpath.normpath(Path(whole).as_posix()))
        base = self._folder if normal.is_relative_to(self._folder) else normal.anchor
        return normal.relative_to(base).as_posix()


def _read_named(whole: str) -> bytes:
    return read_file(whole, os.path.realpath(os.path.dirname(whole)))  # noqa: PTH120
