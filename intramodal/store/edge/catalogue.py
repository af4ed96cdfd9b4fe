"""The embedded store's catalogue: which collections, aliases and metadata a directory holds."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from intramodal.errors import Locked, StoreError
from intramodal.store.base import VectorSpec

FILE_NAME = "catalogue.json"
_LOCK_NAME = "catalogue.lock"
_VERSION = 1
_LOCK_DEADLINE_S = 10.0
_POLL_S = 0.02


@dataclass
class Entry:
    """One collection: its folder, and what the engine does not keep."""

    folder: str
    vectors: dict[str, VectorSpec]
    """Those that were made here and are whole."""
    metadata: dict[str, Any] = field(default_factory=dict)
    indexes: dict[str, str] = field(default_factory=dict)
    pending: str | None = None
    """A vector that is being added or removed: written before the engine changes anything, so that
    whoever opens the collection after a kill removes what there is of it."""
    is_reconciled: bool = False
    """Whether the engine's vectors were compared with these: versions before 0.2 were killed
    without an intent."""


@dataclass
class Contents:
    """Everything in the catalogue."""

    collections: dict[str, Entry] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    discarded: list[str] = field(default_factory=list)
    """Folders that are being made or deleted: no collection's, whatever they hold."""

    def resolve(self, name: str) -> str:
        """Return the collection that `name`, possibly an alias, means."""
        return self.aliases.get(name, name)


class Catalogue:
    """Reads and changes ``catalogue.json`` in a directory.

    Changes are made under a file lock, to a temporary file that is renamed: readers see the old
    contents or the new ones, also after a kill.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> Contents:
        """Return the contents; empty where nothing was ever created."""
        path = self.folder / FILE_NAME
        try:
            return _parsed(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Contents()
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{path} is not a catalogue of version {_VERSION} ({error}); upgrade intramodal, "
                f"restore the file, or choose another --store"
            ) from error

    @contextmanager
    def change(self) -> Iterator[Contents]:
        """Yield the contents to be changed in place; saved when the block ends well."""
        with self.locked():
            contents = self.read()
            yield contents
            self.save(contents)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep everybody else from changing anything."""
        with _file_lock(self.folder / _LOCK_NAME):
            yield

    def has_leftovers(self) -> bool:
        """Return whether a killed writer has left folders or temporary files."""
        return bool(self.read().discarded) or any(self._temporaries())

    def clear_temporaries(self) -> None:
        """Delete what killed writers have left; within `change` only, when nobody else writes."""
        for path in self._temporaries():
            path.unlink(missing_ok=True)

    def _temporaries(self) -> Iterator[Path]:
        return self.folder.glob(f"{Path(FILE_NAME).stem}.tmp*")

    def save(self, contents: Contents) -> None:
        """Write the contents; within `change` only, for what must be known before its end."""
        path = self.folder / FILE_NAME
        temporary = path.with_suffix(f".tmp{os.getpid()}")
        text = json.dumps({"version": _VERSION, **asdict(contents)}, indent=1, ensure_ascii=False)
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def _parsed(stored: Mapping[str, Any]) -> Contents:
    if stored["version"] != _VERSION:
        raise ValueError(f"version {stored['version']!r}")
    collections = {str(name): _entry(entry) for name, entry in stored["collections"].items()}
    aliases = {str(alias): str(name) for alias, name in stored["aliases"].items()}
    discarded = [_inside(folder) for folder in stored.get("discarded", [])]
    return Contents(collections, aliases, discarded)


def _entry(stored: Mapping[str, Any]) -> Entry:
    pending = stored.get("pending")
    return Entry(
        folder=_inside(stored["folder"]),
        vectors={str(name): VectorSpec(**spec) for name, spec in stored["vectors"].items()},
        metadata=dict(stored["metadata"]),
        indexes={str(key): str(kind) for key, kind in stored["indexes"].items()},
        pending=None if pending is None else str(pending),
        is_reconciled=bool(stored.get("is_reconciled", False)),
    )


def _inside(folder: Any) -> str:
    """Return the name of a folder in the store; `ValueError` for anything outside of it."""
    name = str(folder)
    if Path(name).name != name or name in ("", ".", ".."):
        raise ValueError(f"folder {name!r}")
    return name


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, which the operating system releases when the process dies."""
    try:
        file = path.open("a+b")
    except OSError as error:
        raise StoreError(f"cannot write to {path.parent}: {error.strerror or error}") from error
    with file:
        _wait_for(file.fileno(), path.parent)
        yield  # closing the file releases the lock


def _wait_for(descriptor: int, folder: Path) -> None:
    # `filelock.FileLock` has a deadline of its own, but makes the folder anew where it is gone,
    # and some versions delete the file or change its mode.
    deadline = time.monotonic() + _LOCK_DEADLINE_S
    while not lock_descriptor(descriptor, blocking=False):
        if time.monotonic() > deadline:
            raise Locked(
                f"another process has been changing {folder} for {_LOCK_DEADLINE_S:.0f} s; "
                f"try again when it is done"
            )
        time.sleep(_POLL_S)
