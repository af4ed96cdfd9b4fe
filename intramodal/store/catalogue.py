"""The embedded store's catalogue: which collections, aliases and metadata a directory holds."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

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
    metadata: dict[str, Any] = field(default_factory=dict)
    indexes: dict[str, str] = field(default_factory=dict)


@dataclass
class Contents:
    """Everything in the catalogue."""

    collections: dict[str, Entry] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def resolve(self, name: str) -> str:
        """Return the collection that `name`, possibly an alias, means."""
        return self.aliases.get(name, name)


class Catalogue:
    """Reads and changes ``catalogue.json`` in a directory.

    Changes are made under a file lock, to a temporary file that is renamed: readers see the old
    contents or the new ones, also after a kill.

    Parameters
    ----------
    folder : Path
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
        """Yield the contents to be changed in place; written when the block ends well."""
        with _file_lock(self.folder / _LOCK_NAME):
            contents = self.read()
            yield contents
            self._write(contents)

    def _write(self, contents: Contents) -> None:
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
    return Contents(collections, aliases)


def _entry(stored: Mapping[str, Any]) -> Entry:
    folder = str(stored["folder"])
    if Path(folder).name != folder or folder in ("", ".", ".."):  # never outside the store
        raise ValueError(f"folder {folder!r}")
    return Entry(
        folder=folder,
        vectors={str(name): VectorSpec(**spec) for name, spec in stored["vectors"].items()},
        metadata=dict(stored["metadata"]),
        indexes={str(key): str(kind) for key, kind in stored["indexes"].items()},
    )


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, which the operating system releases when the process dies."""
    try:
        file = path.open("a+b")
    except OSError as error:
        raise StoreError(f"cannot write to {path.parent}: {error.strerror or error}") from error
    with file:
        _wait_for(lambda: _try_lock(file), path)
        yield  # closing the file releases the lock


def _wait_for(acquire: Callable[[], bool], path: Path) -> None:
    deadline = time.monotonic() + _LOCK_DEADLINE_S
    while not acquire():
        if time.monotonic() > deadline:
            raise Locked(
                f"another process has been changing {path.parent} for {_LOCK_DEADLINE_S:.0f} s; "
                f"try again when it is done"
            )
        time.sleep(_POLL_S)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
