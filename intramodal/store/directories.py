"""What a directory is before it becomes a store: other programs' storage is told apart."""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from intramodal.errors import InputError, StoreError
from intramodal.store.edge.catalogue import FILE_NAME
from intramodal.store.edge.repair import CONFIG_FILE, looks_like_a_collection

Kind = Literal["local mode", "shard", "server", "our collection", "files"]
"""What a directory is that cannot be a store."""

META_FILE = "meta.json"
"""Where local mode describes its collections."""

_META_PARTS = ("collections", "aliases")
_LARGEST_META = 64 * 2**20

_WHAT: dict[Kind, str] = {
    "local mode": "is storage of qdrant-client's local mode",
    "shard": "is a shard of Qdrant Edge",
    "server": "is storage of a Qdrant server",
    "our collection": "is the folder of one collection of a store",
    "files": "holds other files",
}

_OURS = re.compile(r"catalogue\.(json|lock|tmp\d*)")
_NO_MATTER = re.compile(r"\..*|lost\+found|intramodal\.toml|[^/]*\.db(-wal|-shm|-journal)?")
"""What may lie in the directory of a new store: a file system's own, configuration, runs."""


@dataclass(frozen=True)
class Foreign:
    """A directory that cannot be a store.

    Parameters
    ----------
    path : Path
        As it was given, or the parent that makes it foreign.
    kind : str
    """

    path: Path
    kind: Kind

    @property
    def what(self) -> str:
        """Return what it is, to follow its name."""
        return _WHAT[self.kind]

    @property
    def way(self) -> str:
        """Return what to do, with the whole command where there is one."""
        place = shlex.quote(str(self.path))
        if self.kind == "local mode":
            return f"import its collections into a store: intramodal import-local {place}"
        if self.kind == "shard":
            return f"copy it into a store: intramodal adopt --shard {place} NAME"
        if self.kind == "server":
            return (
                "start a server on it and give its address as the store, e.g. "
                "http://localhost:6333"
            )
        if self.kind == "our collection":
            return f"give the store itself: {shlex.quote(str(self.path.parent))}"
        return "give a new or an empty directory"

    def __str__(self) -> str:
        """Return the whole sentence."""
        return f"{self.path} {self.what}, and is no store; {self.way}"


def recognize(folder: str | os.PathLike[str]) -> Foreign | None:
    """Return what keeps a directory from being a store; None where it is one, or can become one.

    Nothing is opened that would be changed by that, and nothing is written.

    Parameters
    ----------
    folder : path
        Absent and empty directories can become stores, unless they are inside of other programs'
        storage.

    Raises
    ------
    StoreError
        If the directory cannot be listed.
    """
    path = Path(folder)
    names = _names(path)
    kind = _kind(path, names)
    if kind is not None:
        return Foreign(path, kind)
    if any(map(_OURS.fullmatch, names)) or any(looks_like_a_collection(path / n) for n in names):
        return None
    around = _around(path)
    if around is None and any(not _NO_MATTER.fullmatch(name) for name in names):
        return Foreign(path, "files")
    return around


def check_directory(folder: str | os.PathLike[str]) -> None:
    """Raise `InputError`, which names the way, unless a directory is or can become a store."""
    found = recognize(folder)
    if found is None:
        return
    if found.path != Path(folder):
        raise InputError(
            f"{folder} lies in {found.path}, which {found.what}; give a place outside of it"
        )
    raise InputError(str(found))


def check_outside(file: str | os.PathLike[str], what: str) -> None:
    """Raise `InputError` if a new file would lie in other programs' storage."""
    path = Path(file)
    found = None if path.exists() else _around(path)
    if found is not None:
        raise InputError(
            f"{what} {path} would lie in {found.path}, which {found.what}; give a place outside "
            f"of it"
        )


def _around(path: Path) -> Foreign | None:
    """Return the nearest parent that is other programs' storage."""
    for parent in Path(os.path.abspath(path)).parents:  # noqa: PTH100  links stay as given
        kind = _kind(parent, ())
        if kind is not None:
            return Foreign(parent, kind)
    return None


def _names(path: Path) -> list[str]:
    try:
        return sorted(os.listdir(path))  # noqa: PTH208  a missing one is no error
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot look into {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _kind(path: Path, names: list[str] | tuple[str, ...]) -> Kind | None:
    """Return whose storage a directory is by its files; None for ours and anything else."""
    if looks_like_a_collection(path) and (path.parent / FILE_NAME).is_file():
        return "our collection"
    if _is_shard(path):
        return "shard"
    if _is_local_mode(path):
        return "local mode"
    if _is_server(path) or any(
        _is_server_shard(path / name) for name in names if name.isdecimal()
    ):
        return "server"
    return None


def _is_shard(path: Path) -> bool:
    has_config = (path / CONFIG_FILE).is_file()
    return has_config and any((path / part).is_dir() for part in ("segments", "wal"))


def _is_server(path: Path) -> bool:
    has_collections = (path / "collections").is_dir()
    is_said = (path / "raft_state.json").is_file() or (path / "aliases" / "data.json").is_file()
    return (has_collections and is_said) or _is_server_shard(path)


def _is_server_shard(path: Path) -> bool:
    return (path / "shard_config.json").is_file() and (path / "segments").is_dir()


def _is_local_mode(path: Path) -> bool:
    try:
        read_meta(path)
    except (OSError, ValueError):
        return False
    return True


def read_meta(folder: Path) -> dict[str, Any]:
    """Return how local mode describes its collections; `ValueError` where nothing does so."""
    if not (folder / META_FILE).is_file():  # a pipe would wait for ever
        raise ValueError("is no file")
    with (folder / META_FILE).open("rb") as file:
        text = file.read(_LARGEST_META + 1)
    if len(text) > _LARGEST_META:
        raise ValueError(f"has more than {_LARGEST_META:,} bytes")
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deep") from error
    parts = [found.get(part) if isinstance(found, dict) else None for part in _META_PARTS]
    if not all(isinstance(part, dict) for part in parts):
        raise ValueError("does not list collections and aliases")
    return dict(found)
