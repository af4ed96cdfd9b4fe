"""`open_store`: one string says where the vectors live."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from intramodal.errors import InputError
from intramodal.store.base import Store

log = logging.getLogger(__name__)

_FORMS = "a directory, :memory:, or http(s)://host:port"
_BARE_HOST = re.compile(r"[\w.-]+:\d+")


def open_store(location: str, *, api_key: str | None = None) -> Store:
    """Open the store at `location`.

    Parameters
    ----------
    location : str
        A directory (the embedded engine; created if absent), ``:memory:``, or
        ``http(s)://host:port`` of a server (gRPC is used when its port answers; without a port
        6333).
    api_key : str, optional
        For servers; by default the environment variable ``QDRANT_API_KEY``.

    Raises
    ------
    StoreUnavailable, AccessDenied
        The server does not answer within a few seconds, or refuses the key.

    Examples
    --------
    >>> with open_store(":memory:") as store:
    ...     store.collections()
    []
    """
    location = str(location)
    if location == ":memory:":
        from intramodal.store.connect import connect_memory  # qdrant_client costs half a second
        from intramodal.store.server import ServerStore

        return ServerStore(connect_memory())
    if location.startswith(("http://", "https://")):
        from intramodal.store.connect import connect_server
        from intramodal.store.server import ServerStore

        key = api_key or os.environ.get("QDRANT_API_KEY") or None
        return ServerStore(connect_server(location, api_key=key))
    _check_directory(location)
    return _open_directory(location)


def is_directory(location: str) -> bool:
    """Return whether a location means a directory, there or not.

    Examples
    --------
    >>> [is_directory(place) for place in ("./store", ":memory:", "http://qdrant:6333")]
    [True, False, False]
    """
    looks_like_host = _BARE_HOST.fullmatch(location) and not Path(location).exists()
    return not (not location or "://" in location or location.startswith(":") or looks_like_host)


def _check_directory(location: str) -> None:
    if not location or "://" in location or location.startswith(":"):
        raise InputError(f"{location!r} is not a store; give {_FORMS}")
    if _BARE_HOST.fullmatch(location) and not Path(location).exists():
        raise InputError(f"{location!r} looks like a server; write http://{location}")


def _open_directory(location: str) -> Store:
    try:
        from intramodal.store.edge import EdgeStore
    except ImportError as error:
        return _open_files(location, error)
    return EdgeStore(location)


def _open_files(location: str, error: ImportError) -> Store:
    from intramodal.store.connect import connect_files
    from intramodal.store.server import ServerStore

    log.warning(
        "the embedded engine (qdrant-edge-py) cannot be loaded here (%s); %s is opened with "
        "qdrant-client's local mode instead: slow beyond 10,000 points; use a server for more",
        error,
        location,
    )
    return ServerStore(connect_files(str(Path(location) / "local")))
