"""How the kernels are compiled: kept for the next process wherever a folder can be written.

``numba.njit(cache=True)`` raises where none can, at the import of the module, and it raises when
the disk is full or the folder is gone by the time that a function has been compiled.

The first command on a machine waits for all that is compiled. Therefore kernels

- set arrays element by element: with ``a[:n] = b`` numba compiles the text of an error, too;
- give numbers one type from the start: a literal 0 is another type than the int64 that follows it,
  and what is called with both is compiled twice;
- run side by side by `threads`, not by ``parallel=True``.
"""

from __future__ import annotations

import os
import pickle
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba

_NO_CACHE = (OSError, EOFError, pickle.UnpicklingError)
"""A folder that cannot be read or written any more, or a file in it that is cut short."""


def compiled(**options: Any) -> Callable[[Any], Any]:
    """Return a decorator that compiles a function when it is first called.

    It holds no interpreter lock while it runs. `options` are those of ``numba.njit``.
    """

    def decorate(function: Any) -> Any:
        dispatcher = numba.njit(nogil=True, **options)(function)
        if _is_kept(dispatcher):
            dispatcher._cache = _LenientCache(dispatcher._cache)
        return dispatcher

    return decorate


class _LenientCache:
    """A cache that nothing depends on: what it cannot read or write is compiled again."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, *arguments: Any) -> Any:
        """Return what is kept, if it can be read."""
        with suppress(*_NO_CACHE):
            return self._cache.load_overload(*arguments)
        return None

    def save_overload(self, *arguments: Any) -> None:
        """Keep a compiled function, if it can be written."""
        with suppress(*_NO_CACHE):
            self._cache.save_overload(*arguments)


def _is_kept(dispatcher: Any) -> bool:
    """Keep a function where numba does, else in a temporary folder; return whether it is."""
    with suppress(RuntimeError, OSError):  # what numba raises where it can write nowhere
        dispatcher.enable_caching()
        return True
    folder = _temporary_folder()
    if folder is None:
        return False
    config: Any = numba.config
    theirs = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        dispatcher.enable_caching()
    except (RuntimeError, OSError):
        return False
    finally:
        config.CACHE_DIR = theirs
    return True


def _temporary_folder() -> Path | None:
    """Return a folder that nobody else can write: numba unpickles what it finds there."""
    if sys.platform == "win32":  # the user's own folder is always there
        return None
    try:
        folder = Path(tempfile.gettempdir()) / f"intramodal-kernels-{os.getuid()}"
        folder.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return folder if is_ours and not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO) else None
