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
from intramodal.ingest.sources.base import Records, Source, is_text, spelled
from intramodal.ingest.sources.files import read_file
from intramodal.ingest.sources.labels import LabelRule, no_label
from intramodal.types import ImageRecord

_LONGEST_PATH = 65_536

_NO_LINE_BREAK = "the last path (line {}) does not end in a line break, as if cut off; add one"


class NamedSource(Source):
    """The pictures whose paths come on stdin, one a line; can be read once.

    The folders that are named are trusted; a picture that is a link may not lead out of its own.
    A command that is killed while it writes the paths cannot be told from one that has finished,
    unless the last line has no line break: that path is read, and the source has a `gap`.

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
        for line in self._lines():
            path = os.fsdecode(line.rstrip(b"\r\n"))
            if path.strip():
                is_empty = False
                yield self._record(path)
        if is_empty:
            raise SourceError("there was no path on stdin; give one a line, or another source")

    def _lines(self) -> Iterator[bytes]:
        stream = self._stream or sys.stdin.buffer
        line, number = b"", 0
        try:
            for number, line in enumerate(iter(partial(stream.readline, _LONGEST_PATH), b""), 1):
                _check_line(line, number)
                yield line
        except OSError as error:
            raise SourceError(
                f"stdin cannot be read ({error.strerror or error}); give one path a line"
            ) from error
        if not line.endswith(b"\n"):
            self._doubt(_NO_LINE_BREAK.format(number))

    def _record(self, path: str) -> ImageRecord:
        if not is_text(path):
            return self._hiding(spelled(path), "the name is not UTF-8")
        whole = os.path.join(self._folder, path)  # noqa: PTH118  an absolute path replaces it
        return ImageRecord(self._key(whole), partial(_read_named, whole))

    def _key(self, whole: str) -> str:
        """Return the path within the working directory, else all of it without its anchor."""
        normal = Path(posixpath.normpath(Path(whole).as_posix()))
        base = self._folder if normal.is_relative_to(self._folder) else normal.anchor
        return normal.relative_to(base).as_posix()


def _check_line(line: bytes, number: int) -> None:
    if b"\0" in line:
        raise SourceError(
            f"line {number} of stdin holds a NUL byte; give one path a line, as `find -print` "
            f"does and `find -print0` does not"
        )
    if len(line) == _LONGEST_PATH and not line.endswith(b"\n"):
        raise SourceError(
            f"line {number} of stdin is longer than {_LONGEST_PATH:,} bytes; give one path a line"
        )


def _read_named(whole: str) -> bytes:
    return read_file(whole, os.path.realpath(os.path.dirname(whole)))  # noqa: PTH120
