"""What a kill leaves of an embedded collection while a named vector is added or removed.

The engine (0.9) changes the files one after the other: each segment's ``segment.json``, then
``edge_config.json``; until all of them name the same vectors it does not open the collection. Its
log has the change, and is applied when the collection opens. So a vector that only some files
name is taken out of all of them here: an addition is then done again from the log, and a removal
is done. The points' other data are never touched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from intramodal.errors import StoreError, reason
from intramodal.types import parsed_json

CONFIG_FILE = "edge_config.json"
_SEGMENT_FILE = "segment.json"
_OUR_NAME = re.compile(r"-[0-9a-f]{8}$")
_WAL = "wal"
_DAMAGED_WAL = "wal.damaged"
_LONGEST_HEADER = 32
_TEMPORARY = "intramodal.tmp"
_DEFINITION = {"size", "distance", "datatype", "multivector_config"}
_READ_AHEAD, _MAPPED = "InRamChunkedMmap", "ChunkedMmap"
_ENGINE_NAMES = {CONFIG_FILE, _WAL, "segments"}


def half_known(folder: Path) -> set[str]:
    """Return the vectors that some of the engine's files name and others do not."""
    config = _read(folder / CONFIG_FILE)
    named = [{*config.get("vectors", {}), *config.get("sparse_vectors", {})}]
    named += [{*_dense(segment), *_sparse(segment)} for _, segment in _segments(folder)]
    return set.union(*named) - set.intersection(*named)


def take_out(folder: Path, vectors: set[str]) -> None:
    """Let no file of a closed collection name the vectors; can be killed and repeated."""
    for place, segment in _segments(folder):
        if vectors & {*_dense(segment), *_sparse(segment)}:
            for name in vectors:
                _dense(segment).pop(name, None)
                _sparse(segment).pop(name, None)
            _write(place / _SEGMENT_FILE, segment)
        for name in vectors:
            for kind in ("vector_storage", "vector_index"):
                shutil.rmtree(place / f"{kind}-{name}", ignore_errors=True)
    config = _read(folder / CONFIG_FILE)
    for name in vectors:
        config.get("vectors", {}).pop(name, None)
        config.get("sparse_vectors", {}).pop(name, None)
    _write(folder / CONFIG_FILE, config)


def set_up(folder: Path, vector: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Give a vector of a closed collection settings, as the engine spells them; returns the old.

    All of them are replaced, in one step: a kill leaves the old ones or the new ones.
    """
    config = _read(folder / CONFIG_FILE)
    params = config["vectors"][vector]
    kept = {key: value for key, value in params.items() if key in _DEFINITION}
    config["vectors"][vector] = {**kept, **settings}
    _write(folder / CONFIG_FILE, config)
    return {key: value for key, value in params.items() if key not in _DEFINITION}


def clear_temporaries(folder: Path) -> None:
    """Delete what a kill of `set_up` or `take_out` has left of a file that was being written."""
    for path in (folder / _TEMPORARY, *(folder / "segments").glob(f"*/{_TEMPORARY}")):
        with suppress(OSError):  # a read-only directory can be searched all the same
            path.unlink()


def stop_reading_ahead(folder: Path) -> None:
    """Let the engine map the vectors of a closed collection without reading all of their files.

    It is told so for each segment that still takes points, until that is built anew; the files
    are the same.
    """
    for place, segment in _segments(folder):
        ahead = [one for one in _dense(segment).values() if one.get("storage_type") == _READ_AHEAD]
        for one in ahead:
            one["storage_type"] = _MAPPED
        if ahead:
            _write(place / _SEGMENT_FILE, segment)


def clear_unfinished(folder: Path) -> None:
    """Delete what killed writes and optimizers have left, and the engine (0.9) never deletes.

    Half a segment is as large as the segment.
    """
    for path in (*folder.glob("temp_segments/*"), *folder.rglob(".atomicwrite*")):
        shutil.rmtree(path, ignore_errors=True)
    clear_temporaries(folder)


def set_log_aside(folder: Path) -> Path:
    """Move a log away that cannot be read; returns where it lies now.

    What was written since the segments were last saved is lost with it.
    """
    aside = folder / _DAMAGED_WAL
    number = 0
    while aside.exists():
        number += 1
        aside = folder / f"{_DAMAGED_WAL}-{number}"
    (folder / _WAL).rename(aside)
    return aside


@contextmanager
def hold(folder: Path) -> Iterator[bool]:
    """Hold the lock of the engine, as a process that has the collection open does.

    Yields whether it was to be had; True where there is none, as on Windows, which deletes and
    renames nothing that is open.
    """
    log = folder / _WAL
    if sys.platform == "win32" or not log.is_dir():
        yield True
        return
    descriptor = os.open(log, os.O_RDONLY)
    try:
        yield lock_descriptor(descriptor, blocking=False)
    finally:
        os.close(descriptor)  # releases it


def looks_like_a_collection(folder: Path) -> bool:
    """Return whether a folder is named like those that we make, and holds the engine's files."""
    if not _OUR_NAME.search(folder.name) or not folder.is_dir():
        return False
    there = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return bool(there & _ENGINE_NAMES) and there <= _ENGINE_NAMES | {"temp_segments"}


def is_begun(folder: Path) -> bool:
    """Return whether a folder was only begun, as by a killed `create`, and holds nothing yet."""
    has_segment = any(path.is_file() for path in (folder / "segments").rglob("*"))
    return not has_segment and all(_is_blank(path) for path in (folder / _WAL).glob("*"))


def _is_blank(log: Path) -> bool:
    """Return whether a file of the engine's log has no more than its header."""
    return len(log.read_bytes().strip(b"\0")) <= _LONGEST_HEADER


def is_whole(folder: Path) -> bool:
    """Return whether a folder has all that the engine opens: a killed `create` leaves less."""
    return (folder / CONFIG_FILE).is_file() and any(True for _ in _places(folder))


def _segments(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for place in _places(folder):
        yield place, _read(place / _SEGMENT_FILE)


def _places(folder: Path) -> list[Path]:
    """Return the folders of the segments, without those that are being made or deleted."""
    return [
        path.parent
        for path in sorted((folder / "segments").glob(f"*/{_SEGMENT_FILE}"))
        if not path.parent.name.startswith(".") and path.parent.suffix != ".deleted"
    ]


def _dense(segment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = segment["config"].get("vector_data", {})
    return found


def _sparse(segment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = segment["config"].get("sparse_vector_data", {})
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = parsed_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"cannot read {path} ({reason(error)}); restore it from a backup"
        ) from error
    return found


def _write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(_TEMPORARY)
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, separators=(",", ":"), ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
