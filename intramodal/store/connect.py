"""Clients of qdrant-client: a server by URL, this process's memory, or its local files."""

from __future__ import annotations

import logging
import re
import socket
import warnings
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]  # no stubs are shipped
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException

from intramodal.errors import InputError, StoreError, StoreUnavailable
from intramodal.store.client_errors import translated
from intramodal.store.retry import Retry

log = logging.getLogger(__name__)

REST_PORT = 6333
GRPC_PORT = 6334
TIMEOUT_S = 60
_PROBE_TIMEOUT_S = 3
_PROBE_DEADLINE_S = 4.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Kind = Literal["server", "memory", "local"]


@dataclass(frozen=True)
class Connection:
    """A client and what was learnt while connecting.

    Parameters
    ----------
    client : QdrantClient
    kind : str
        ``"server"``, ``"memory"`` or ``"local"`` (files).
    location : str
        Without secrets.
    version : str
        Of the server; of the client where there is none.
    uses_grpc : bool
    secrets : tuple of str
        Must not appear in any message.
    timeout_s : int
        For one request.
    api_key : str or None
        What other nodes are asked with.
    """

    client: QdrantClient = field(repr=False)
    kind: Kind
    location: str
    version: str
    uses_grpc: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)
    timeout_s: int = TIMEOUT_S
    api_key: str | None = field(default=None, repr=False)

    @property
    def version_numbers(self) -> tuple[int, ...]:
        """Return major, minor and patch, as far as the server tells them."""
        return tuple(int(n) for n in re.findall(r"\d+", self.version)[:3])


def connect_memory() -> Connection:
    """Return the client's local mode in memory."""
    client = QdrantClient(":memory:")
    return Connection(client, "memory", ":memory:", client.info().version)


def connect_files(path: str) -> Connection:
    """Return the client's local mode on disk; `Locked` if another process uses it."""
    with translated("open the store", path):
        client = QdrantClient(path=path)
    return Connection(client, "local", path, client.info().version)


def connect_server(
    url: str,
    *,
    api_key: str | None = None,
    prefer_grpc: bool | None = None,
    timeout_s: int = TIMEOUT_S,
    retry: Retry | None = None,
) -> Connection:
    """Return a client of the server at `url`, after it answered.

    Parameters
    ----------
    url : str
        ``http(s)://host[:port][/prefix]``.
    api_key : str, optional
    prefer_grpc : bool, optional
        None: when the gRPC port answers and it is the same server.
    timeout_s : int
        For one request.
    retry : Retry, optional
        While connecting; by default it gives up after some seconds.

    Raises
    ------
    StoreUnavailable, AccessDenied, StoreError
        The server does not answer, refuses the key, is not Qdrant.
    """
    check_url(url)
    retry = retry or Retry(deadline_s=_PROBE_DEADLINE_S)
    secrets = (api_key,) if api_key else ()
    _warn_of_clear_text(url, api_key)
    probe = _client(url, api_key, timeout_s=min(_PROBE_TIMEOUT_S, timeout_s))
    try:
        seen = retry.run(lambda: _probed(probe, url, secrets))
    finally:
        probe.close()
    port = None if prefer_grpc is False else _grpc_port(url, api_key, seen)
    if prefer_grpc and port is None:
        raise StoreUnavailable(
            f"the gRPC port of {url} does not answer; use REST or open the port"
        )
    client = _client(url, api_key, timeout_s=timeout_s, grpc_port=port)
    return Connection(
        client, "server", url, seen.version, port is not None, secrets, timeout_s, api_key
    )


def check_url(url: str) -> None:
    """Raise `InputError` unless the URL is one of a server, without secrets."""
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        place = f"{parts.scheme}://{parts.hostname}"
        raise InputError(
            f"the address of the store at {place} must not carry names, keys or options; give "
            f"http(s)://host:port, and the key in QDRANT_API_KEY"
        )
    try:
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_usable = False
    if not is_usable:
        raise InputError(f"{url!r} is not the address of a server; give http(s)://host:port")


def _client(
    url: str, api_key: str | None, *, timeout_s: int, grpc_port: int | None = None
) -> QdrantClient:
    with warnings.catch_warnings():
        # Said once by us, with the way out.
        warnings.filterwarnings("ignore", "Api key is used with an insecure connection")
        return QdrantClient(
            url=url,
            port=None if urlsplit(url).port else _default_port(url),
            api_key=api_key,
            timeout=timeout_s,
            prefer_grpc=grpc_port is not None,
            grpc_port=grpc_port or GRPC_PORT,
            check_compatibility=False,  # it warns from a thread; describe() tells the version
        )


def _default_port(url: str) -> int:
    """Return Qdrant's own port; behind a path prefix stands a proxy on the scheme's port."""
    parts = urlsplit(url)
    if parts.path in ("", "/"):
        return REST_PORT
    return 443 if parts.scheme == "https" else 80


@dataclass(frozen=True)
class _Seen:
    """What tells one server from another."""

    version: str
    collections: frozenset[str]


def _seen(client: QdrantClient) -> _Seen:
    version = client.info().version
    answer = client.get_collections()  # `/` answers without a key
    return _Seen(version, frozenset(c.name for c in answer.collections))


def _probed(client: QdrantClient, url: str, secrets: tuple[str, ...]) -> _Seen:
    with translated("reach the store", url, secrets):
        seen = _seen(client)
    if not isinstance(seen.version, str) or not re.match(r"\d+\.\d+", seen.version):
        raise StoreError(f"the server at {url} does not tell its version; is it Qdrant?")
    return seen


def _warn_of_clear_text(url: str, api_key: str | None) -> None:
    parts = urlsplit(url)
    if api_key and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        log.warning("the API key travels unencrypted to %s; use https:// if the server can", url)


def _grpc_port(url: str, api_key: str | None, seen: _Seen) -> int | None:
    """Return the port where the same server speaks gRPC, None if there is none."""
    parts = urlsplit(url)
    if parts.path not in ("", "/"):  # behind a path prefix there is no gRPC
        return None
    port = (parts.port or REST_PORT) + 1
    try:
        socket.create_connection((parts.hostname or "", port), timeout=0.5).close()
    except OSError:
        return None
    client = _client(url, api_key, timeout_s=_PROBE_TIMEOUT_S, grpc_port=port)
    try:
        is_same = _seen(client) == seen
    except (grpc.RpcError, QdrantException, ValueError, RuntimeError):
        return None
    finally:
        client.close()
    return port if is_same else None
