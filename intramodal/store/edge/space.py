"""Free space on the disk of an embedded store: how much a write takes, and whether it is there.

The engine (0.9) writes through memory maps of sparse files. On a full disk such a write is SIGBUS,
which ends the process, so the disk is asked before each write, and some of it always stays free:
what closing a collection and opening it again write.

The bytes are upper bounds of what was measured on ext4 and tmpfs, see docs/operations.md. Files
are counted by the blocks that they have, not by their length.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from intramodal.errors import StoreError
from intramodal.store.base import VectorSpec
from intramodal.types import Payload

_MiB = 2**20

RESERVE = 8 * _MiB
"""Bytes that writes leave free: collections are closed and opened, vectors and points deleted and
runs recorded with them. Half of it was enough in all that was tried."""

_PLENTY = 4 * 2**30
"""From so many free bytes on nothing is counted: no batch takes as much."""

_AMPLE = 256 * _MiB

_NUMBER_BYTES = {"float16": 2.0, "uint8": 1.0, "turbo8": 1.0, "turbo16": 2.0}
_LOGGED_NUMBER = 5
"""A number in the engine's log, whatever its datatype: a float32 and what says so."""

_LOGGED_POINT = 120
"""Id, names and operation in the log; 40 to 100 were seen."""

_KEPT_POINT = 64
"""Ids, versions and the payload's place; 40 were seen."""

_PAYLOAD_BLOCK = 128
_INDEXED_POINT = 96
"""In each payload index, beside the values."""

_LINKS = 160
"""Of a point in the graph of a vector; 56 were seen with the default of 16 links."""

_LOG_KEPT = 64 * _MiB
"""What the log holds at most after its contents were saved: two files of 32 MiB."""

_VECTOR_FILES, _INDEX_FILES = 2 * _MiB, 8 * _MiB
"""Flags of a vector, files of a payload index: 1 and 7 MiB where reading a hole fills it."""

_BALLAST = "ballast"
_BALLAST_BYTES = 256 * 1024


class DiskFullError(StoreError):
    """The disk has too little room for what is to be written."""


@dataclass(frozen=True)
class Need:
    """Bytes that a write takes: at once, and once more where it is repeated after a kill."""

    now: int
    again: int = 0


def of_points(specs: Iterable[VectorSpec], payloads: Sequence[Payload], n_indexes: int) -> Need:
    """Return what whole points take."""
    texts = [len(json.dumps(payload, default=str)) for payload in payloads]
    n, n_bytes = len(payloads), sum(texts)
    numbers = sum(spec.size for spec in specs)
    held = n * (sum(map(_vector_bytes, specs)) + _KEPT_POINT) + sum(map(_in_blocks, texts))
    indexed = n_indexes and n * n_indexes * _INDEXED_POINT + n_bytes
    logged = n * (_LOGGED_NUMBER * numbers + _LOGGED_POINT) + n_bytes
    return Need(held + indexed + logged, sum(map(_in_blocks, texts)) + n * _KEPT_POINT)


def of_vectors(spec: VectorSpec, n: int, moved: int) -> Need:
    """Return what a vector of `n` stored points takes; of each, `moved` bytes are copied."""
    logged = _LOGGED_NUMBER * spec.size + _LOGGED_POINT
    return Need(n * (logged + _vector_bytes(spec) + moved), n * (_KEPT_POINT + moved))


def of_payload(payload: Payload, n: int, moved: int) -> Need:
    """Return what the same payload keys of `n` points take, which are all written anew."""
    text = len(json.dumps(payload, default=str))
    return Need(n * (_in_blocks(text) + moved + _KEPT_POINT) + text, n * (text + moved))


def of_new_vector(spec: VectorSpec, n_points: int) -> Need:
    """Return what adding a vector takes: the engine makes room for that of every point."""
    return Need(n_points * _vector_bytes(spec) + _VECTOR_FILES)


def of_index(folder: Path, n_points: int) -> Need:
    """Return what indexing a payload field takes, if it were all of the payload."""
    payload = blocks(folder.glob("segments/*/payload_storage/page_*"))
    return Need(payload + n_points * _INDEXED_POINT + _INDEX_FILES)


def of_collection(specs: Mapping[str, VectorSpec]) -> Need:
    """Return what an empty collection takes."""
    return Need((1 + len(specs)) * _VECTOR_FILES)


def of_deletion(n: int) -> Need:
    """Return what deleting points takes before it gives anything back."""
    return Need(n * _LOGGED_POINT)


def of_optimizing(folder: Path, n_points: int, specs: Mapping[str, VectorSpec]) -> Need:
    """Return what building the indexes takes: a copy of everything, codes of a byte, graphs."""
    vectors = sum(math.ceil(1.25 * _vector_bytes(spec)) + _LINKS for spec in specs.values())
    others = blocks(
        path
        for path in folder.glob("segments/*/*/**/*")
        if not path.relative_to(folder).parts[2].startswith("vector_")
    )
    return Need(n_points * (vectors + _KEPT_POINT) + others + len(specs) * _VECTOR_FILES)


def of_job(specs: Sequence[VectorSpec], new: Sequence[VectorSpec], n: int, is_whole: bool) -> Need:
    """Return what a job takes that writes `n` points, or vectors of so many.

    The log is shortened on the way where the disk has little room; vectors that are not `new` have
    their place already.
    """
    point = sum(map(_vector_bytes, new)) + (_PAYLOAD_BLOCK + _KEPT_POINT if is_whole else 0)
    logged = n * (_LOGGED_NUMBER * sum(spec.size for spec in specs) + _LOGGED_POINT)
    return Need(n * point + min(logged, _LOG_KEPT))


def _vector_bytes(spec: VectorSpec) -> int:
    return math.ceil(spec.size * _NUMBER_BYTES.get(spec.datatype, 4.0))


def _in_blocks(n_bytes: int) -> int:
    return _PAYLOAD_BLOCK * max(1, math.ceil(n_bytes / _PAYLOAD_BLOCK))


def blocks(paths: Iterable[Path]) -> int:
    """Return the bytes that files take on the disk."""
    return sum(_taken(path) for path in paths)


def _taken(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:  # gone meanwhile
        return 0
    return getattr(found, "st_blocks", math.ceil(found.st_size / 512)) * 512


def holes(paths: Iterable[Path]) -> int:
    """Return the bytes of files that have no place on the disk yet."""
    return sum(max(0, path.stat().st_size - _taken(path)) for path in paths if path.is_file())


def moved_bytes(folder: Path, n_points: int) -> int:
    """Return about how much a point takes that is copied from one segment to another."""
    return blocks((folder / "segments").rglob("*")) // max(1, n_points)


def free_bytes(folder: Path) -> int:
    """Return the free bytes of a folder's disk; of that above it, if it is not there yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def is_full(error: object) -> bool:
    """Return whether an error says that the disk, or a quota of it, is full."""
    codes = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    if isinstance(error, OSError):
        return error.errno in codes
    texts = ["Not enough space", *(f"(os error {code})" for code in codes)]  # the engine's
    return any(text in str(error) for text in texts)


class Room:
    """Looks before each write to an open collection whether its disk has room for it.

    Parameters
    ----------
    folder : Path
        The collection's.
    save : callable
        Saves what the log holds, so that the engine shortens it.
    """

    def __init__(self, folder: Path, save: Callable[[], object]) -> None:
        self._folder = folder
        self._save = save
        self._again: int | None = None
        """Bytes that opening the collection would take if this process were killed now; None
        before they are counted."""

    def require(self, need: Callable[[], Need], what: str, *, reserve: int = RESERVE) -> None:
        """Raise `DiskFullError` unless `need` and the reserve are free."""
        free = free_bytes(self._folder)
        if free >= _PLENTY:
            self._again = None
            return
        if self._again is None:
            self._saved()
        wanted = need()
        reserve += _index_holes(self._folder) if reserve else 0
        if free_bytes(self._folder) < self._needed(wanted, reserve):
            self._saved()
            free = free_bytes(self._folder)
            if free < self._needed(wanted, reserve):
                raise too_little(self._folder.parent, what, self._needed(wanted, reserve), free)
        self._again = (self._again or 0) + wanted.again

    def _saved(self) -> None:
        self._save()
        self._again = 0

    def _needed(self, wanted: Need, reserve: int) -> int:
        return wanted.now + wanted.again + (self._again or 0) + reserve


def require(folder: Path, need: Need, what: str) -> None:
    """Raise `DiskFullError` unless `need` and the reserve are free, before anything is written."""
    free = free_bytes(folder)
    if free < need.now + need.again + RESERVE:
        raise too_little(folder, what, need.now + need.again + RESERVE, free)


def too_little(folder: Path, what: str, needed: int, free: int) -> DiskFullError:
    """Return the error of a write that was not begun."""
    return DiskFullError(
        f"the disk of {folder} is too full to {what}: {_size(needed)} must be free and "
        f"{_size(free)} are; everything written before is kept: free some space, then run the "
        f"same command again"
    )


def full(what: str) -> DiskFullError:
    """Return the error of a write that the disk has refused."""
    return DiskFullError(
        f"cannot {what}: the disk, or a quota of it, is full; everything written before is kept: "
        f"free some space, then run the same command again"
    )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"


def ease(store: Path) -> None:
    """Give the ballast up if the disk has nothing else for what opening and dropping write."""
    if free_bytes(store) < _BALLAST_BYTES:
        with suppress(OSError):
            (store / _BALLAST).unlink()


def keep_ballast(store: Path) -> None:
    """Keep a little of the disk, to be given up once it is full; as much as there is."""
    path = store / _BALLAST
    with suppress(OSError):  # also a read-only directory
        if not path.exists() or path.stat().st_size < _BALLAST_BYTES:
            path.write_bytes(os.urandom(_BALLAST_BYTES))  # some file systems compress zeros


def is_tight(folder: Path) -> bool:
    """Return whether applying its log, as opening a collection may, could take the reserve."""
    free = free_bytes(folder)
    log = blocks((folder / "wal").glob("*"))
    return free < _PLENTY and free < log + _index_holes(folder) + RESERVE


def _index_holes(folder: Path) -> int:
    """Return what opening a collection takes where to read a hole takes its place (tmpfs)."""
    return holes(folder.glob("segments/*/payload_index/**/*"))


def has_room_for_holes(folder: Path) -> bool:
    """Return whether there is ample room for the holes of files that the engine reads ahead.

    On some file systems (tmpfs) to read a hole takes its place.
    """
    free = free_bytes(folder)
    chunks = folder.glob("segments/*/vector_storage-*/vectors/chunk_*.mmap")
    return free >= _PLENTY or free >= holes(chunks) + _AMPLE
