"""A folder tree."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import partial

from intramodal.errors import ImageError
from intramodal.ingest.sources.base import Records, Source, is_text, spelled, unreadable
from intramodal.ingest.sources.files import (
    PICTURE_SUFFIXES,
    kind_of,
    promises_no_picture,
    read_file,
    reason_of,
    resolved,
    starts_like_a_picture,
    suffix,
)
from intramodal.ingest.sources.labels import LabelRule, no_label
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
            log.debug("%s is no picture by its name and its first bytes: left out", key)
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
            log.debug("%s is a link to a folder of the source: its pictures are read there", key)
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
    return [unreadable(key, "a folder with the name of a picture"), *inside]
