"""The one place in which readers open what they read: a path, or a file that is open already."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, BinaryIO, cast

from intramodal.errors import InputError, SourceError

Readable = str | os.PathLike[str] | BinaryIO
"""A path, or an open binary file: ``open(..., "rb")``, `io.BytesIO`, a file of fsspec."""

_NAMELESS = "<file>"


class InputFile:
    """A file to read, again and again, by its path or through the open file that it is.

    An open file is read by one thread at a time, and never closed: that is left to whoever opened
    it. A path is opened anew each time, so that nothing stays open between.

    Parameters
    ----------
    source : path or binary file
    format : str, optional
        Such as ``csv``, where the name of the file does not end in it.

    Raises
    ------
    SourceError
        For an open file that is one of text, or that cannot seek: it has to be read from its
        beginning more than once.
    """

    _lock: threading.Lock
    _format: str | None

    def __init__(self, source: Readable | InputFile, format: str | None = None) -> None:
        self._source: Readable
        if isinstance(source, InputFile):
            self._source, self._lock = source._source, source._lock
            self._format = format or source._format
        else:
            self._source, self._format, self._lock = source, format, threading.Lock()
        self.path = _path_of(self._source)
        """Where it is, if that is known; an open file says so by its name."""
        if self.is_open:
            _check_open(self)

    @property
    def is_open(self) -> bool:
        """Whether it was given as an open file, not by its path."""
        return not isinstance(self._source, str | os.PathLike)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.name if self.path else _NAMELESS

    @property
    def suffix(self) -> str:
        """The suffix of its name, in small letters, with the dot; or that of the given format."""
        if self._format is not None:
            return "." + self._format.lower().lstrip(".")
        return PurePath(self.name).suffix.lower()

    def absolute(self) -> InputFile:
        """Return it by a path that means the same file from any working directory."""
        if isinstance(self._source, str | os.PathLike):
            return InputFile(Path(self._source).absolute(), self._format)
        return self

    @property
    def is_there(self) -> bool:
        """Whether it can be opened, as far as can be told without opening it."""
        return self.is_open or Path(str(self.path)).is_file()

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open it at its beginning, for reading bytes; what is yielded has a place of its own."""
        if isinstance(self._source, str | os.PathLike):
            with open(self._source, "rb") as file:  # noqa: PTH123  for each member of a shard
                yield file
            return
        with io.BufferedReader(_View(self._source, self._lock)) as view:
            yield cast("BinaryIO", view)

    @contextmanager
    def native(self) -> Iterator[Path | BinaryIO]:
        """Give its path to a library that opens files itself, and quicker; else an open file."""
        if isinstance(self._source, str | os.PathLike):
            yield Path(self._source)
            return
        with self.open() as view:
            yield view

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from a place."""
        with self.open() as file:
            file.seek(offset)
            return file.read(size)

    @property
    def n_bytes(self) -> int:
        """Its length."""
        with self.open() as file:
            return file.seek(0, io.SEEK_END)

    @property
    def hint(self) -> str:
        """What to do about a format that is not known, to follow a sentence that says so."""
        has_name = self.path is not None or self._format is not None
        return "" if has_name else "; it has no name that ends in its format: say that"

    def is_same_as(self, other: InputFile) -> bool:
        """Return whether another means the same path, or is the same open file."""
        if self.is_open or other.is_open:
            return self._source is other._source
        return self.path == other.path

    @property
    def sha256(self) -> str:
        """The SHA-256 of its bytes."""
        with self.open() as file:
            return hashlib.file_digest(cast("Any", file), "sha256").hexdigest()

    def __str__(self) -> str:
        """Return its path, for people."""
        return str(self.path) if self.path else _NAMELESS

    def __repr__(self) -> str:
        """Return its path, for people."""
        return f"{type(self).__name__}({str(self)!r})"


class _View(io.RawIOBase):
    """An open file as one reader sees it: with its own place, and closed without closing it."""

    def __init__(self, file: BinaryIO, lock: threading.Lock) -> None:
        self._file = file
        self._lock = lock
        self._place = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read as many bytes as there are, at most as the buffer takes."""
        with self._lock:
            self._file.seek(self._place)
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place."""
        if whence == io.SEEK_SET:
            self._place = offset
        elif whence == io.SEEK_CUR:
            self._place += offset
        else:
            with self._lock:
                self._place = self._file.seek(offset, whence)
        return self._place


def _path_of(file: Readable) -> Path | None:
    """Return where a file is, or says it is: of fsspec's remote ones, the path in their store."""
    if isinstance(file, str | os.PathLike):
        return Path(file)
    for name in (getattr(file, "name", None), getattr(file, "path", None)):
        if isinstance(name, str) and name:
            return Path(name)
    return None


def _check_open(file: InputFile) -> None:
    opened = cast("BinaryIO", file._source)
    for method in ("read", "seek"):
        if not callable(getattr(opened, method, None)):
            raise InputError(f"give a path or an open binary file, got {type(opened).__name__}")
    if hasattr(opened, "encoding"):
        raise SourceError(f"{file} is open as text; open it as a binary file, in mode 'rb'")
    if not getattr(opened, "seekable", lambda: True)():
        raise SourceError(
            f"{file} cannot seek, and readers go back to its beginning; save it to a file, or "
            f"read it into io.BytesIO"
        )
