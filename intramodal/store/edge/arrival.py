"""A shard of Qdrant Edge that another program has made, on its way into a store.

The engine writes to whatever it opens, so that the shard is copied, or moved, before it is opened:
to a waiting folder in the store, and from there to the name that the catalogue gets to know. What
a kill leaves is undone by whoever opens the store next: a copy is deleted, and a shard that was
moved goes back to where it was.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import lock_descriptor

from intramodal.errors import Conflict, InputError, Locked, StoreError, reason
from intramodal.store.base import VectorSpec
from intramodal.store.edge import engine, repair
from intramodal.store.edge.catalogue import Catalogue, Contents, Entry
from intramodal.types import parsed_json

log = logging.getLogger(__name__)

_SUFFIX = ".arriving"
_SHARD, _LOCK, _ORIGIN = "shard", "lock", "moved_from.json"
_VERSION_FILE = "version.info"
_BLOCK = 2**14
_BLOCK_ON_DISK = 512
"""Bytes that `st_blocks` counts in."""
_LARGEST_CONFIG = 16 * 2**20
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True)
class ForeignShard:
    """What is known of a shard that was not opened.

    Parameters
    ----------
    folder : Path
    vectors : dict of str to VectorSpec
    n_bytes : int
        On the disk; holes of files take nothing.
    """

    folder: Path
    vectors: dict[str, VectorSpec]
    n_bytes: int


def examined(folder: Path) -> ForeignShard:
    """Return what the files of a shard say; it is not opened, and nothing is written.

    Raises
    ------
    InputError
        If it is not whole, holds anything but files and folders, or is of a newer format.
    StoreError
        If its files cannot be read.
    """
    try:
        n_bytes = sum(_bytes_on_disk(path) for path in _files(folder))
        if not repair.is_whole(folder):
            raise InputError(f"{folder} is not a whole shard; let its program write it again")
        if (folder / repair.CONFIG_FILE).stat().st_size > _LARGEST_CONFIG:
            raise ValueError(f"{repair.CONFIG_FILE} is too large")
        _check_version(folder)
        return ForeignShard(folder, engine.specs_of(folder), n_bytes)
    except (OSError, LookupError, TypeError, AttributeError, UnicodeError) as error:
        raise StoreError(f"cannot read the shard {folder}: {reason(error)}") from error
    except json.JSONDecodeError as error:
        raise StoreError(
            f"cannot read the shard {folder}: {repair.CONFIG_FILE} is no JSON ({reason(error)})"
        ) from error


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below; `InputError` for what is none: links lead out, pipes never end."""
    for entry in _entries(folder):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _files(path)
        elif entry.is_file(follow_symlinks=False):
            yield path
        else:
            what = "a link" if entry.is_symlink() else "no file"
            raise InputError(
                f"{path} is {what}, and a shard holds files only: it is not taken; remove it, or "
                f"put the file itself in its place"
            )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def _bytes_on_disk(path: Path) -> int:
    found = path.lstat()
    return getattr(found, "st_blocks", -(-found.st_size // _BLOCK_ON_DISK)) * _BLOCK_ON_DISK


def _check_version(folder: Path) -> None:
    """Raise `InputError` for segments of a format that the engine here does not know yet."""
    ours = engine.segment_version()
    for path in sorted((folder / "segments").glob(f"*/{_VERSION_FILE}")):
        theirs = path.read_text(encoding="utf-8").strip()
        if _numbers(theirs, path) > _numbers(ours, path):
            raise InputError(
                f"the shard {folder} is of format {theirs}, and the engine here "
                f"(qdrant-edge-py) knows formats up to {ours}; upgrade qdrant-edge-py"
            )


def _numbers(version: str, path: Path) -> tuple[int, ...]:
    try:
        return tuple(map(int, version.split(".")))
    except ValueError as error:
        raise InputError(
            f"{path} does not say a version ({version[:40]!r}); restore the shard"
        ) from error


def take(catalogue: Catalogue, name: str, shard: ForeignShard, *, moves: bool) -> int:
    """Make a collection of a shard: of a copy, or of itself; returns its number of points.

    Raises
    ------
    Conflict
        If there is such a collection.
    Locked
        If somebody has the shard open.
    StoreError
        If there is not the space, or the engine does not open it; the store and the shard are as
        they were then.
    """
    with _closed(shard.folder):
        if moves:
            _check_movable(shard.folder, catalogue.folder)
        else:
            _check_space(shard, catalogue.folder)
    with _waiting(catalogue, name, moved_from=shard.folder if moves else None) as waiting:
        place = waiting / _SHARD
        if moves:
            shard.folder.resolve().rename(place)
        else:
            with _closed(shard.folder), _said(f"copy {shard.folder}"):
                _copy_folder(shard.folder, place)
        n_points, indexes = _opened(place, shard.folder)
        with catalogue.change() as contents:
            _require_absent(contents, name)
            folder = _folder_of(waiting)
            place.rename(folder)
            contents.collections[name] = Entry(
                folder.name, engine.specs_of(folder), indexes=indexes, is_reconciled=True
            )
    return n_points


@contextmanager
def _closed(folder: Path) -> Iterator[None]:
    """Keep everybody from opening the shard; `Locked` if it is open."""
    with repair.hold(folder) as is_ours:
        if not is_ours:
            raise Locked(f"another process has the shard {folder} open; close it there first")
        yield


def _check_movable(folder: Path, store: Path) -> None:
    if folder.stat().st_dev != store.stat().st_dev:
        raise InputError(
            f"{folder} is on another file system than the store {store} and cannot be moved in "
            f"one step; copy it, and delete it afterwards"
        )


def _check_space(shard: ForeignShard, store: Path) -> None:
    free = shutil.disk_usage(store).free
    if shard.n_bytes > free:
        raise StoreError(
            f"the copy of {shard.folder} needs {shard.n_bytes / 1e6:,.1f} MB and {store} has "
            f"{free / 1e6:,.1f} MB left; free some space, or move the shard"
        )


def _require_absent(contents: Contents, name: str) -> None:
    if name in contents.collections or name in contents.aliases:
        raise Conflict(f"there is a collection or an alias {name!r} already; give another name")


@contextmanager
def _said(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot {what}: {error.strerror or error}") from error


@contextmanager
def _waiting(catalogue: Catalogue, name: str, moved_from: Path | None) -> Iterator[Path]:
    """Yield a waiting folder, locked while we live; whatever is left of it is undone."""
    with catalogue.locked():
        contents = catalogue.read()
        _require_absent(contents, name)
        waiting = catalogue.folder / f".{catalogue.new_folder(name)}{_SUFFIX}"
        with _said(f"write to {catalogue.folder}"):
            waiting.mkdir()
            lock = (waiting / _LOCK).open("xb")
            lock_descriptor(lock.fileno(), blocking=False)
            if moved_from is not None:
                origin = json.dumps(str(moved_from.resolve()))
                (waiting / _ORIGIN).write_text(origin, encoding="utf-8")
    try:
        yield waiting
    finally:
        lock.close()
        _undo(waiting, catalogue.read())


def undo_killed(catalogue: Catalogue, contents: Contents) -> None:
    """Undo what killed arrivals have left; within `change` of the catalogue."""
    for waiting in left_waiting(catalogue.folder):
        with suppress(FileNotFoundError):  # killed before it had anything else
            with (waiting / _LOCK).open("r+b") as lock:
                is_dead = lock_descriptor(lock.fileno(), blocking=False)
            if not is_dead:
                continue
        _undo(waiting, contents)


def left_waiting(store: Path) -> list[Path]:
    """Return the waiting folders in a store, of the living and the killed."""
    return list(store.glob(f".*{_SUFFIX}"))


def _folder_of(waiting: Path) -> Path:
    return waiting.with_name(waiting.name[1 : -len(_SUFFIX)])


def _undo(waiting: Path, contents: Contents) -> None:
    """Delete a waiting folder; a shard in it that was moved goes back."""
    folder = _folder_of(waiting)
    is_known = any(entry.folder == folder.name for entry in contents.collections.values())
    place = folder if folder.is_dir() and not is_known else waiting / _SHARD
    origin = waiting / _ORIGIN
    if place.is_dir() and origin.is_file() and not _moved_back(place, origin):
        return
    if place == folder:
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(waiting, ignore_errors=True)


def _moved_back(place: Path, origin: Path) -> bool:
    """Move a shard back to where it was; returns whether it is there."""
    try:
        there = Path(parsed_json(origin.read_text(encoding="utf-8")))
        if there.exists():
            raise FileExistsError(f"{there} is there again")
        place.rename(there)
    except (OSError, ValueError, TypeError) as error:
        log.warning("a shard that was moved lies in %s, and cannot go back: %s", place, error)
        return False
    return True


def _opened(place: Path, original: Path) -> tuple[int, dict[str, str]]:
    """Open the shard once, where it is ours; returns its points and payload indexes."""
    shard = engine.load_shard(place, f"open the shard {original}")
    try:
        return engine.count(shard), engine.indexes_of(shard)
    finally:
        shard.close()


def _copy_folder(source: Path, target: Path) -> None:
    target.mkdir()
    for entry in _entries(source):
        if entry.is_dir(follow_symlinks=False):
            _copy_folder(Path(entry.path), target / entry.name)
        else:
            _copy_file(Path(entry.path), target / entry.name)


def _copy_file(source: Path, target: Path) -> None:
    """Copy a file durably; blocks of zeros stay holes, as the engine's files mostly are."""
    with (
        open(source, "rb", opener=_open_file) as read,
        target.open("xb") as write,
    ):
        while block := read.read(_BLOCK):
            if block.count(0) == len(block):
                write.seek(len(block), os.SEEK_CUR)
            else:
                write.write(block)
        write.truncate()
        write.flush()
        os.fsync(write.fileno())


def _open_file(path: str, flags: int) -> int:
    """Open a file that may have become a link or a pipe since it was looked at."""
    descriptor = os.open(path, flags | _NO_LINK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no file any more")
    return descriptor
