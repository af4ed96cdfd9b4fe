"""Picture files: a folder tree, or paths on stdin."""

from __future__ import annotations

import logging
import os
import posixpath
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from intramodal.errors import ImageError, SourceError
from intramodal.ingest.sources.base import (
    PICTURE_SUFFIXES,
    LabelRule,
    Records,
    Source,
    is_remote,
    is_text,
    kind_of,
    no_label,
    promises_no_picture,
    read_file,
    read_remote,
    reason_of,
    resolved,
    spelled,
    starts_like_a_picture,
    suffix,
    unreadable,
)
from intramodal.types import ImageRecord

log = logging.getLogger(__name__)

Folder = tuple[str, str]
"""Path, and the beginning of the keys in it."""


class FolderSource(Source):
    """The pictures of a folder and of the folders in it, sorted by name within each."""

    def __init__(self, location: str, label_of: LabelRule = no_label) -> None:
        super().__init__(location, label_of)
        self._root = os.path.realpath(location)

    def names(self) -> Iterator[str]:
        """Yield the names of the files that look like pictures."""
        for _, folders, files in os.walk(self._root):
            folders[:] = [name for name in folders if name[0] != "."]
            yield from (f for f in files if f[0] != "." and suffix(f) in PICTURE_SUFFIXES)

    def _records(self) -> Records:
        # No recursion: a tree may be deeper than the interpreter's stack.
        listings = [self._listing((self._root, ""))]
        while listings:
            found = next(listings[-1], None)
            if found is None:
                listings.pop()
            elif isinstance(found, ImageRecord):
                yield found
            else:
                listings.append(self._listing(found))

    def _listing(self, folder: Folder) -> Iterator[ImageRecord | Folder]:
        path, prefix = folder
        try:
            with os.scandir(path) as entries:
                shown = sorted((e for e in entries if e.name[0] != "."), key=lambda e: e.name)
        except OSError as error:
            reason = f"the folder cannot be listed: {reason_of(error)}"
            yield self._hiding(prefix.rstrip("/") or ".", reason)
            return
        for entry in shown:
            yield from self._entry(entry, prefix + entry.name)

    def _entry(self, entry: os.DirEntry[str], key: str) -> list[ImageRecord | Folder]:
        is_other = promises_no_picture(entry.name)
        try:
            if not is_text(entry.name):
                # A folder of that name may hold any pictures.
                is_left_out = is_other and not entry.is_dir()
                return [] if is_left_out else [self._hiding(spelled(key), "the name is not UTF-8")]
            if entry.is_symlink():
                return [] if is_other else self._link(entry.path, key)
            if entry.is_dir(follow_symlinks=False):
                return _folder(entry.path, key)
            mode = entry.stat(follow_symlinks=False).st_mode
        except OSError as error:  # some file systems tell the kind only when asked again
            return [self._hiding(key if is_text(key) else spelled(key), reason_of(error))]
        if kind := kind_of(mode):
            return [unreadable(key, f"{kind}, not a file")]
        if is_other and not starts_like_a_picture(entry.path, self._root):
            if reason := _why_not_opened(entry.path):
                return [unreadable(key, reason)]
            log.debug("%s is no image by its name and its first bytes: left out", key)
            return []
        return [self._picture(entry.path, key)]

    def _link(self, path: str, key: str) -> list[ImageRecord | Folder]:
        try:
            target = resolved(path, self._root)
        except ImageError as error:
            return [unreadable(key, f"a link that {error}")]
        except OSError as error:
            return [unreadable(key, reason_of(error))]
        if os.path.isdir(target):  # noqa: PTH112
            log.debug("%s is a link to a folder of the source: its images are read there", key)
            return []
        return [self._picture(path, key)]

    def _picture(self, path: str, key: str) -> ImageRecord:
        return ImageRecord(key, partial(read_file, path, self._root))


def _why_not_opened(path: str) -> str | None:
    """Return why the first byte of a file that was just there cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            os.read(descriptor, 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        return reason_of(error)
    return None


def _folder(path: str, key: str) -> list[ImageRecord | Folder]:
    inside: list[ImageRecord | Folder] = [(path, key + "/")]
    if suffix(key) not in PICTURE_SUFFIXES:
        return inside
    return [unreadable(key, "a folder with the name of an image"), *inside]


_LONGEST_PATH = 65_536

_NO_LINE_BREAK = "the last path (line {}) does not end in a line break, as if cut off; add one"


class NamedSource(Source):
    """The pictures whose paths come on stdin, one a line; can be read once.

    The folders that are named are trusted; a picture that is a link may not lead out of its own.
    A command that is killed while it writes the paths cannot be told from one that has finished,
    unless the last line has no line break: that path is read, and the source has a `gap`.
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
            raise SourceError("there was no path on stdin; give one per line, or another source")

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
        if is_remote(path):
            return ImageRecord(path, read_remote)
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
