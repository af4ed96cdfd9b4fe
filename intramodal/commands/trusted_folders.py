"""Whose ``intramodal.toml`` may set everything: the user's own file, and folders once trusted."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from intramodal.errors import InputError, reason
from intramodal.files import write_text

SETTINGS_FILE = "intramodal.toml"
_LIST = "trusted.json"


def own_folder() -> Path | None:
    """Return the user's folder of settings; None for a user without a home.

    Never a relative path: ``~`` of a process without a home would be a folder of this one.
    """
    import platformdirs  # 17 ms, and not for whoever imports the options only

    try:
        folder = platformdirs.user_config_path("intramodal", appauthor=False)
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None


def own_file() -> Path | None:
    """Return the user's own file of settings, there or not."""
    folder = own_folder()
    return folder / SETTINGS_FILE if folder else None


def trusted_folders() -> list[Path]:
    """Return the folders that were trusted, in the order of their names."""
    return list(_trusted())


def _trusted() -> dict[Path, set[int]]:
    """Return the trusted folders, each with the other users whom it and its file belonged to."""
    folder = own_folder()
    return _read(folder / _LIST) if folder else {}


def trust(folder: Path) -> None:
    """Let the file of a folder set everything; folders below it are not meant."""
    require_protected(folder / SETTINGS_FILE)
    with _changed() as folders:
        folders[folder] = _others(folder, folder / SETTINGS_FILE)


def distrust(folder: Path) -> None:
    """Take the trust back; `InputError` if there was none."""
    with _changed() as folders:
        if folder not in folders:
            known = ", ".join(map(str, sorted(folders))) or "no folder"
            raise InputError(f"{folder} was not trusted; trusted are: {known}")
        del folders[folder]


def is_trusted(file: Path) -> bool:
    """Return whether a file may set everything: the user's own, or one in a trusted folder.

    A link is trusted only if the folders of both its ends are. A folder that was replaced by
    another user's, and a file that another user has put there, are not what was trusted.
    """
    own = own_file()
    if own is not None and file.parent.resolve() == own.parent.resolve():
        return True
    ends, known = {file.parent.resolve(), file.resolve().parent}, _trusted()
    return all(end in known and _others(end, file.resolve()) <= known[end] for end in ends)


def _others(*paths: Path) -> set[int]:
    return {owner for owner in map(owner_elsewhere, paths) if owner is not None}


def require_protected(file: Path) -> None:
    """Raise `InputError` if every user of the machine may change a file or its folder."""
    ends = (file.parent.resolve(), file.resolve().parent, file.resolve())
    for path in filter(_is_writable_by_all, ends):
        raise InputError(
            f"every user of this machine may write to {path}, so its settings are not trusted; "
            f"run: chmod o-w {path}"
        )


def owner_elsewhere(path: Path) -> int | None:
    """Return the number of the other user who owns a file or folder; None for ours and root's."""
    if sys.platform == "win32" or not path.exists():
        return None
    owner = path.stat().st_uid
    return None if owner in (os.getuid(), 0) else owner


def _is_writable_by_all(path: Path) -> bool:
    # Windows has no such bit: there a profile belongs to its user.
    return sys.platform != "win32" and path.exists() and bool(path.stat().st_mode & stat.S_IWOTH)


@contextlib.contextmanager
def _changed() -> Iterator[dict[Path, set[int]]]:
    """Yield the folders, and write what has become of them; one process at a time."""
    from filelock import FileLock

    folder = own_folder()
    if folder is None:
        raise InputError("there is no home folder to keep trusted folders in; set HOME")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(folder / f".{_LIST}.lock", timeout=10):
            folders = _read(folder / _LIST)
            yield folders
            told = [
                {"folder": str(one), "owners": sorted(folders[one])} if folders[one] else str(one)
                for one in sorted(folders)
            ]
            write_text(folder / _LIST, json.dumps(told, indent=2) + "\n")
    except OSError as error:
        raise InputError(
            f"trusted folders cannot be kept in {folder} ({error.strerror or error})"
        ) from error


def _read(path: Path) -> dict[Path, set[int]]:
    from intramodal.types import parsed_json  # numpy, and only where there are settings to trust

    try:
        stored = parsed_json(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({reason(error)}); repair or remove it"
        ) from error
    if not isinstance(stored, list) or not all(map(_is_entry, stored)):
        raise InputError(f"{path} is no list of folders; repair or remove it")
    if _is_writable_by_all(path):
        raise InputError(f"every user of this machine may write to {path}; run: chmod o-w {path}")
    return dict(map(_entry, stored))


def _entry(stored: Any) -> tuple[Path, set[int]]:
    if isinstance(stored, str):
        return Path(stored), set()
    return Path(stored["folder"]), set(stored["owners"])


def _is_entry(stored: Any) -> bool:
    if isinstance(stored, str):
        return True
    return (
        isinstance(stored, dict)
        and isinstance(stored.get("folder"), str)
        and isinstance(stored.get("owners"), list)
        and all(isinstance(owner, int) for owner in stored["owners"])
    )
