"""`open_store`: one string says where the vectors live."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from intramodal.errors import InputError
from intramodal.store.base import Cluster, Store
from intramodal.store.directories import check_directory

log = logging.getLogger(__name__)

_FORMS = "a directory, :memory:, or http(s)://host:port"
_BARE_HOST = re.compile(r"[\w.-]+:\d+")


def open_store(  # noqa: PLR0913  a server has many sides, each with a default
    location: str,
    *,
    api_key: str | None = None,
    ca: str | Path | None = None,
    timeout_s: int = 60,
    deadline_s: float = 120.0,
    upload_streams: int | None = None,
    nodes: Sequence[str] = (),
    shard_key: str | int | None = None,
) -> Store:
    """Open the store at `location`.

    Parameters
    ----------
    location : str
        A directory (the embedded engine; created if absent), ``:memory:``, or
        ``http(s)://host:port`` of a server (gRPC is used when its port answers; without a port
        6333).
    api_key : str, optional
        For servers; by default the environment variable ``QDRANT_API_KEY``.
    ca : path, optional
        For servers: PEM file with the certificate of the authority that has signed theirs, for
        REST and gRPC; by default the authorities that are trusted here.
    timeout_s : int
        For servers: seconds that one request may take.
    deadline_s : float
        For servers: seconds for which a request that fails for a passing reason is repeated.
    upload_streams : int, optional
        For servers: requests that write at the same time; four by default.
    nodes : sequence of str
        For clusters: addresses of further nodes, which are asked whether they know a new vector.
    shard_key : str or int, optional
        For collections whose shards have keys: the only one that is read and written. Without it
        all are, and their points are named by `KeyedId`.

    Raises
    ------
    InputError
        It is not a store, or storage of another program (the message names the way), there are
        nodes and it is not a server, or `ca` holds no certificate.
    StoreUnavailable, AccessDenied
        The server does not answer within a few seconds, or refuses the key.
    StoreError
        Its certificate cannot be verified, or the address has the other scheme.

    Examples
    --------
    >>> with open_store(":memory:") as store:
    ...     store.collections()
    []
    """
    location = str(location)
    cluster = replace(_cluster(location, upload_streams, nodes), shard_key=shard_key)
    if shard_key is not None and not _is_server(location):
        raise InputError(f"{location} has no shard keys such as {shard_key!r}: only a server has")
    _check_patience(timeout_s, deadline_s)
    if location == ":memory:":
        from intramodal.store.server.client import connect_memory
        from intramodal.store.server.store import ServerStore

        return ServerStore(connect_memory())
    if _is_server(location):
        key = api_key or os.environ.get("QDRANT_API_KEY") or None
        access = {"api_key": key, "ca": None if ca is None else str(ca), "timeout_s": timeout_s}
        return _open_server(location, access, deadline_s, cluster)
    _check_directory(location)
    return _open_directory(location)


def _open_server(
    location: str, access: Mapping[str, Any], deadline_s: float, cluster: Cluster
) -> Store:
    from intramodal.store.server.client import PROBE_DEADLINE_S, Retry, check_url, connect_server
    from intramodal.store.server.store import ServerStore

    for url in cluster.nodes:
        check_url(url)
    retry = Retry(deadline_s=min(PROBE_DEADLINE_S, deadline_s))
    connection = connect_server(location, **access, retry=retry)
    return ServerStore(connection, retry=Retry(deadline_s=deadline_s), cluster=cluster)


LONGEST_TIMEOUT_S, LONGEST_DEADLINE_S = 86_400, 604_800
"""A day and a week: gRPC counts in nanoseconds, and what overflows ends every call at once."""


def _check_patience(timeout_s: int, deadline_s: float) -> None:
    # Written so that nan is refused, too.
    if not 1 <= timeout_s <= LONGEST_TIMEOUT_S:
        raise InputError(
            f"timeout_s must be at least 1 second and at most {LONGEST_TIMEOUT_S}, got {timeout_s}"
        )
    if not 0 <= deadline_s <= LONGEST_DEADLINE_S:
        raise InputError(
            f"deadline_s must be at least 0 seconds and at most {LONGEST_DEADLINE_S}, got "
            f"{deadline_s}"
        )


def _is_server(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def _cluster(location: str, upload_streams: int | None, nodes: Sequence[str]) -> Cluster:
    if upload_streams is not None and upload_streams < 1:
        raise InputError(f"upload_streams must be at least 1, got {upload_streams}")
    if nodes and not _is_server(location):
        raise InputError(
            f"{location} is not a server and has no further nodes such as {nodes[0]}; give the "
            f"address of one node as the store, or leave the others out"
        )
    return Cluster(upload_streams, tuple(nodes))


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
    check_directory(location)


def _open_directory(location: str) -> Store:
    try:
        from intramodal.store.edge.store import EdgeStore
    except ImportError as error:
        return _open_files(location, error)
    return EdgeStore(location)


def _open_files(location: str, error: ImportError) -> Store:
    from intramodal.store.server.client import connect_files
    from intramodal.store.server.store import ServerStore

    log.warning(
        "the embedded engine (qdrant-edge-py) cannot be loaded here (%s); %s is opened with "
        "qdrant-client's local mode instead: slow beyond 10,000 points; use a server for more",
        error,
        location,
    )
    return ServerStore(connect_files(str(Path(location) / "local")))
