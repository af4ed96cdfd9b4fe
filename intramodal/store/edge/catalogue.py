"""The embedded store's catalogue: which collections, aliases and metadata a directory holds."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from intramodal.errors import Locked, StoreError
from intramodal.store.base import VectorSpec
from intramodal.store.edge import space
from intramodal.types import parsed_json

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
            return _parsed(parsed_json(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Contents()
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{path} is not a catalogue of version {_VERSION} ({error}); upgrade intramodal, "
                f"restore the file, or choose another store"
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
        """Keep everybody else from changing anything, until the process dies at the latest."""
        try:
            file = (self.folder / _LOCK_NAME).open("a+b")
        except OSError as error:
            reason = error.strerror or error
            raise StoreError(f"cannot write to {self.folder}: {reason}") from error
        with file:
            _wait_for(file.fileno(), self.folder)
            space.ease(self.folder)
            yield  # closing the file releases the lock

    @staticmethod
    def new_folder(name: str) -> str:
        """Return a name that no folder has had: what is left of one is never taken for another."""
        return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', name)[:40]}-{secrets.token_hex(4)}"

    def keep_ballast(self) -> None:
        """Keep a little of the disk, to be given up once it is full, if anything is stored."""
        if (self.folder / FILE_NAME).exists():
            space.keep_ballast(self.folder)

    def temporaries(self) -> list[Path]:
        """Return what killed writers have left; within `change` nobody else's is among them."""
        return list(self.folder.glob(f"{Path(FILE_NAME).stem}.tmp*"))

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
            if space.is_full(error):
                raise space.full(f"write {path}") from error
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def _parsed(stored: Mapping[str, Any]) -> Contents:
    if stored["version"] != _VERSION:
        raise ValueError(f"version {stored['version']!r}")
    collections = {
        str(name): Entry(
            folder=str(entry["folder"]),
            vectors={str(vector): VectorSpec(**spec) for vector, spec in entry["vectors"].items()},
            metadata=dict(entry["metadata"]),
            indexes={str(key): str(kind) for key, kind in entry["indexes"].items()},
            pending=None if entry.get("pending") is None else str(entry["pending"]),
            is_reconciled=bool(entry.get("is_reconciled", False)),
        )
        for name, entry in stored["collections"].items()
    }
    aliases = {str(alias): str(name) for alias, name in stored["aliases"].items()}
    discarded = [str(folder) for folder in stored.get("discarded", [])]
    for folder in (*(entry.folder for entry in collections.values()), *discarded):
        if Path(folder).name != folder or folder in ("", ".", ".."):  # outside of the store
            raise ValueError(f"folder {folder!r}")
    return Contents(collections, aliases, discarded)


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
