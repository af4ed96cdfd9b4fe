"""Requests to one server: connected, repeated where that helps, in batches."""

from __future__ import annotations

import json
import logging
import random
import re
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from threading import RLock
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from qdrant_client import QdrantClient, models

from intramodal.errors import AccessDenied, InputError, NotFound, StoreError, StoreUnavailable
from intramodal.store.base import VectorSpec
from intramodal.store.server import convert, tls
from intramodal.store.server.conditions import Allowed
from intramodal.store.server.refusals import (
    BrokenConnection,
    Overloaded,
    OversizedRequestError,
    translated,
)
from intramodal.types import Payload

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """Exponential backoff with jitter and a deadline.

    Only `StoreUnavailable` is worth another try; all our writes are idempotent by id.
    """

    deadline_s: float = 120.0
    """No attempt starts later than this many seconds after the first."""
    pauses_s: float | None = None
    """The same where the server has asked for a pause: it is there, and only busy."""
    first_s: float = 0.1
    longest_s: float = 10.0
    """Pause after the first failure, and the longest one; each is shortened by up to a half."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    # Jitter must differ between processes; nothing that is computed depends on it.
    rng: random.Random = field(default_factory=random.Random)
    """Replaced in tests."""

    def run(
        self,
        call: Callable[[], T],
        *,
        can_split: bool = False,
        tell: Callable[[StoreUnavailable, float], None] | None = None,
    ) -> T:
        """Return what `call` returns, tried again while it raises `StoreUnavailable`.

        `tell` is given each failure, and the seconds until the next attempt.

        Where a large request breaks the connection again and again, `OversizedRequestError` says
        that halves of it should be tried, if that is possible.
        """
        start, n_attempts, n_broken = self.clock(), 0, 0
        while True:
            try:
                return call()
            except StoreUnavailable as error:
                n_attempts += 1
                is_suspect = isinstance(error, BrokenConnection) and error.is_suspect
                n_broken = n_broken + 1 if is_suspect else 0
                if can_split and n_broken == _MOST_BROKEN:
                    raise _too_large(error) from error
                pause = self._pause_s(n_attempts, error)
                elapsed = self.clock() - start
                pauses_s = self.pauses_s if isinstance(error, Overloaded) else None
                if elapsed + pause > (pauses_s or self.deadline_s):
                    raise StoreUnavailable(_given_up(error, n_attempts, elapsed)) from error
                if tell is not None:
                    tell(error, pause)
            self.sleep(pause)

    def _pause_s(self, n_attempts: int, error: StoreUnavailable) -> float:
        longest = min(self.longest_s, self.first_s * 2.0 ** min(n_attempts - 1, 30))
        asked = error.retry_after_s if isinstance(error, Overloaded) else 0.0
        return asked + longest * self.rng.uniform(0.5, 1.0)


_MOST_BROKEN = 2
"""A server that is started again breaks a connection once, and then refuses them for a while."""


_WORTH_TELLING_BYTES = 1024
"""Nobody limits bodies to less."""


def _too_large(error: StoreUnavailable) -> OversizedRequestError:
    ours = OversizedRequestError(f"{error} (is it larger than the server takes?)")
    if isinstance(error, BrokenConnection):
        ours.limit = error.n_bytes // 2
    return ours


def _given_up(error: StoreUnavailable, n_attempts: int, elapsed_s: float) -> str:
    times = "1 attempt" if n_attempts == 1 else f"{n_attempts} attempts"
    told = f"{error} (gave up after {times} in {elapsed_s:.0f} s)"
    n_bytes = error.n_bytes if isinstance(error, BrokenConnection) else 0
    if n_bytes < _WORTH_TELLING_BYTES:
        return told
    return (
        f"{told}; the connection breaks while a body of {n_bytes:,} bytes is sent: a size limit "
        f"of the server, or of a proxy before it, may be the reason"
    )


log = logging.getLogger(__name__)

REST_PORT = 6333
GRPC_PORT = 6334
TIMEOUT_S = 60
_PROBE_TIMEOUT_S = 3
PROBE_DEADLINE_S = 4.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Kind = Literal["server", "memory", "local"]


@dataclass(frozen=True)
class Access:
    """How a server is spoken to."""

    api_key: str | None = field(default=None, repr=False)
    ca: str | None = None
    """File of the certificates that are trusted, instead of the usual ones."""
    timeout_s: int = TIMEOUT_S
    """For one request."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not appear in any message."""
        return (self.api_key,) if self.api_key else ()


@dataclass(frozen=True)
class Connection:
    """A client and what was learnt while connecting."""

    client: QdrantClient = field(repr=False)
    kind: Kind
    """``"server"``, ``"memory"`` or ``"local"`` (files)."""
    location: str
    """Without secrets."""
    version: str
    """Of the server; of the client where there is none."""
    uses_grpc: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Must not appear in any message."""
    access: Access = field(default_factory=lambda: Access())
    """What other nodes are spoken to with."""
    why_rest: str = ""
    """Why gRPC is not used, where it is not."""

    @property
    def version_numbers(self) -> tuple[int, ...]:
        """Return major, minor and patch, as far as the server tells them."""
        return tuple(int(n) for n in re.findall(r"\d+", self.version)[:3])

    def to_node(self, url: str, retry: Retry) -> Connection:
        """Return a connection by REST to another node of the cluster, with the same access."""
        key, ca, timeout_s = self.access.api_key, self.access.ca, self.access.timeout_s
        return connect_server(
            url, api_key=key, ca=ca, prefer_grpc=False, timeout_s=timeout_s, retry=retry
        )


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
    ca: str | None = None,
    prefer_grpc: bool | None = None,
    timeout_s: int = TIMEOUT_S,
    retry: Retry | None = None,
) -> Connection:
    """Return a client of the server at `url`, after it answered."""
    check_url(url)
    access = Access(api_key, ca, timeout_s)
    retry = retry or Retry(deadline_s=PROBE_DEADLINE_S)
    _warn_of_clear_text(url, api_key)
    probe = _client(url, replace(access, timeout_s=min(_PROBE_TIMEOUT_S, timeout_s)))
    try:
        seen = retry.run(lambda: _probed(probe, url, access.secrets))
    finally:
        probe.close()
    port, why_rest = (None, "") if prefer_grpc is False else _grpc_port(url, access, seen)
    if prefer_grpc and port is None:
        raise StoreUnavailable(f"{url} cannot be used by gRPC: {why_rest}; use REST")
    client = _client(url, access, grpc_port=port)
    uses_grpc = port is not None
    return Connection(
        client, "server", url, seen.version, uses_grpc, access.secrets, access, why_rest
    )


def check_url(url: str) -> None:
    """Raise `InputError` unless the URL is one of a server, without secrets."""
    try:
        parts = urlsplit(url)
    except ValueError as error:  # may hold a key: not repeated
        raise InputError(
            f"the address of the store is not that of a server ({error}); give http(s)://host:port"
        ) from error
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
        raise _no_address(url)


def _no_address(url: str) -> InputError:
    return InputError(f"{url[:200]!r} is not the address of a server; give http(s)://host:port")


def _client(url: str, access: Access, *, grpc_port: int | None = None) -> QdrantClient:
    needs_none = access.ca is None and url.startswith("http://")
    trusted, roots = tls.trusted(access.ca, url), None if needs_none else tls.roots(access.ca)
    with warnings.catch_warnings():
        # Said once by us, with the way out.
        warnings.filterwarnings("ignore", "Api key is used with an insecure connection")
        try:
            return QdrantClient(
                url=url,
                port=None if urlsplit(url).port else _default_port(url),
                api_key=access.api_key,
                timeout=access.timeout_s,
                prefer_grpc=grpc_port is not None,
                grpc_port=grpc_port or GRPC_PORT,
                grpc_options=None if roots is None else {"root_certificates": roots},
                check_compatibility=False,  # it warns from a thread; describe() tells the version
                verify=trusted,
            )
        except ValueError as error:  # it reads addresses more strictly than the standard library
            raise _no_address(url) from error


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
    try:
        with translated("reach the store", url, secrets):
            seen = _seen(client)
    except AccessDenied:
        raise
    except StoreError as error:
        is_passing = isinstance(error, StoreUnavailable)
        if url.startswith("https") or isinstance(error, BrokenConnection) or not is_passing:
            tls.check_scheme(url)
        raise
    if not isinstance(seen.version, str) or not re.match(r"\d+\.\d+", seen.version):
        raise StoreError(f"the server at {url} does not tell its version; is it Qdrant?")
    return seen


def _warn_of_clear_text(url: str, api_key: str | None) -> None:
    parts = urlsplit(url)
    if api_key and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        log.warning("the API key travels unencrypted to %s; use https:// if the server can", url)


def _grpc_port(url: str, access: Access, seen: _Seen) -> tuple[int | None, str]:
    """Return the port where the same server speaks gRPC, or None and why there is none."""
    parts = urlsplit(url)
    if parts.path not in ("", "/"):
        return None, "there is no gRPC behind a path"
    port = (parts.port or REST_PORT) + 1
    try:
        socket.create_connection((parts.hostname or "", port), timeout=0.5).close()
    except OSError:
        return None, f"port {port} is closed"
    why = _why_no_grpc(url, replace(access, timeout_s=_PROBE_TIMEOUT_S), port, seen)
    if why is None:
        return port, ""
    if "certificate" in why:  # somebody meant it to be used
        log.warning("REST is used, which is slower than gRPC: %s", why)
    return None, why


def _why_no_grpc(url: str, access: Access, port: int, seen: _Seen) -> str | None:
    client = _client(url, access, grpc_port=port)
    try:
        with translated("speak gRPC", f"port {port}", access.secrets):
            is_same = _seen(client) == seen
    except (StoreError, InputError) as error:
        return str(error)
    finally:
        client.close()
    return None if is_same else f"another server responds on port {port}"


_LARGEST_REQUEST = 30 * 1024 * 1024
"""Bytes of a body; a server takes 32 MiB of JSON unless it is told otherwise. gRPC has no limit,
but what is sent is held in memory, here and there."""
_JSON_BYTES_A_FLOAT = 22  # measured: 21 and a comma
_BYTES_A_FLOAT = 4
_BYTES_A_POINT = 100  # id and punctuation
_BYTES_A_REQUEST = 1024  # what stands around the points

_LONG_PAUSE_S, _TOLD_EVERY_S = 5.0, 60.0
"""A pause that a person would wonder about, and how often such a one is told."""

_ONE_IS_TOO_LARGE = (
    "it is of a single point: store less in its payload, or raise the limit of the server or of "
    "the proxy before it"
)


@dataclass(frozen=True)
class Known:
    """What was last seen of a collection."""

    specs: dict[str, VectorSpec]
    limits: convert.Limits
    n_shards: int = 1
    n_replicas: int = 1
    """Of each shard."""
    has_shard_keys: bool = False
    indexes: Mapping[str, str] = field(default_factory=dict)
    """Kinds of the payload indexes, by JSON path."""

    @property
    def allowed(self) -> Allowed:
        """Which conditions its strict mode takes."""
        return Allowed(self.limits, self.indexes)


class Caller:
    """Makes requests through a connection."""

    def __init__(self, connection: Connection, retry: Retry) -> None:
        self.connection = connection
        self.retry = retry
        self.largest_request = _LARGEST_REQUEST
        """Bytes of one body, as far as the server has told."""
        self._known: dict[str, Known] = {}
        self._is_closed = False
        self._told_at: float | None = None
        # Local mode bears no two calls at a time: its arrays grow while they are read.
        is_server = connection.kind == "server"
        self._turn: AbstractContextManager[Any] = nullcontext() if is_server else RLock()

    @property
    def client(self) -> QdrantClient:
        """Return the client; `StoreError` after `close`."""
        if self._is_closed:
            raise StoreError(f"the store {self.connection.location} is closed; open it again")
        return self.connection.client

    def call(
        self, what: str, request: Callable[[], T], *, n: int = 1, retry: Retry | None = None
    ) -> T:
        """Return the answer of `request`, repeated while the reason of failure may pass.

        `n` is of how many parts it is: `OversizedRequestError` where fewer should be sent at once.
        `retry` is for what is not worth the patience of all other requests.
        """

        def attempt() -> T:
            with self._translated(what):
                return request()

        if self.connection.kind != "server":
            return attempt()
        with self._learning():
            return (retry or self.retry).run(attempt, can_split=n > 1, tell=self._tell)

    def call_once(self, what: str, request: Callable[[], T]) -> T:
        """Return the answer of a single attempt, where nothing depends on it."""
        with self._translated(what):
            return request()

    def _tell(self, error: StoreUnavailable, pause_s: float) -> None:
        """Say that a long pause is one that the server asks for, once a minute."""
        now = self.retry.clock()
        is_due = self._told_at is None or now - self._told_at >= _TOLD_EVERY_S
        if isinstance(error, Overloaded) and pause_s >= _LONG_PAUSE_S and is_due:
            self._told_at = now
            log.warning("%s; this continues automatically", error)

    @contextmanager
    def _learning(self) -> Iterator[None]:
        """Remember the size of a body that the server names when it refuses one."""
        try:
            yield
        except OversizedRequestError as error:
            if error.limit is not None:
                self.largest_request = min(self.largest_request, max(1, error.limit))
            raise

    def call_spreading(
        self, what: str, name: str, vectors: Iterable[str], request: Callable[[], T], *, n: int = 1
    ) -> T:
        """Do the same for vectors that some nodes of a cluster may not know yet.

        As long as the node that we speak to lists them all, a refusal of others may pass.
        """

        def attempt() -> T:
            try:
                with self._translated(what):
                    return request()
            except NotFound as error:
                if "not existing vector name" in str(error).lower() and self._lists(name, vectors):
                    raise StoreUnavailable(f"{error} (a node has not learnt of it)") from error
                raise

        with self._learning():
            return self.retry.run(attempt, can_split=n > 1, tell=self._tell)

    def _lists(self, name: str, vectors: Iterable[str]) -> bool:
        with self._translated(f"read {name!r}"):
            return set(vectors) <= set(convert.specs_of(self.client.get_collection(name)))

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        connection = self.connection
        with self._turn, translated(what, connection.location, connection.secrets):
            yield

    def look(self, name: str) -> models.CollectionInfo:
        """Return the server's description of a collection, and remember it."""
        info = self.call(f"read {name!r}", lambda: self.client.get_collection(name))
        params = info.config.params
        self._known[name] = Known(
            specs=convert.specs_of(info),
            limits=convert.limits_of(info),
            n_shards=params.shard_number or 1,
            n_replicas=params.replication_factor or 1,
            has_shard_keys=params.sharding_method == models.ShardingMethod.CUSTOM,
            indexes={name: i.data_type.value for name, i in info.payload_schema.items()},
        )
        return info

    def know(self, name: str, vectors: Sequence[str] = ()) -> Known:
        """Return what is remembered; looks again where it lacks one of `vectors`."""
        if name not in self._known or not set(vectors) <= set(self._known[name].specs):
            self.look(name)
        return self._known[name]

    def remembered(self, name: str) -> Known | None:
        """Return what is remembered, without a look."""
        return self._known.get(name)

    def learn(self, name: str, vector: str, spec: VectorSpec) -> None:
        """Remember a vector that was added, so that nobody need look."""
        known = self.know(name)
        self._known[name] = replace(known, specs={**known.specs, vector: spec})

    def forget(self) -> None:
        """Look again before the next request."""
        self._known.clear()

    def close(self) -> None:
        """Close the client, once."""
        if not self._is_closed:
            self._is_closed = True
            self.connection.client.close()

    def wait_until(
        self, is_done: Callable[[], bool], waiting: Callable[[], str], deadline_s: float
    ) -> None:
        """Poll until `is_done`; `StoreUnavailable` names what was waited for."""
        start, pause = self.retry.clock(), 0.05
        while not is_done():
            if self.retry.clock() - start > deadline_s:
                raise StoreUnavailable(
                    f"waited {deadline_s:.0f} s at {self.connection.location} until {waiting()}; "
                    f"nothing is lost, look again later or allow more time"
                )
            self.retry.sleep(pause)
            pause = min(1.0, pause * 1.2)  # what ends early is noticed early


def batch_size(caller: Caller, most: int, width: int, payloads: Sequence[Payload] = ()) -> int:
    """Return how many points, at most `most`, of `width` floats fit into one write or search."""
    if caller.connection.kind != "server":
        return max(1, most)
    longest = max((len(json.dumps(p, default=str)) for p in payloads if p), default=0)
    a_float = _BYTES_A_FLOAT if caller.connection.uses_grpc else _JSON_BYTES_A_FLOAT
    a_point = width * a_float + longest + _BYTES_A_POINT
    return max(1, min(most, (caller.largest_request - _BYTES_A_REQUEST) // a_point))


def in_batches(send: Callable[[slice], Any], n: int, size: int | Callable[[], int]) -> None:
    """Send `n` points, `size` at a time; halved where a request proves too large."""
    start, most = 0, n
    while start < n:
        wanted = size() if callable(size) else size
        part = slice(start, min(start + min(wanted, most), n))
        try:
            send(part)
        except OversizedRequestError as error:
            if part.stop - part.start == 1:
                raise OversizedRequestError(f"{error}; {_ONE_IS_TOO_LARGE}") from error
            most = (part.stop - part.start) // 2
            continue
        start = part.stop


STREAMS_BY_DEFAULT = 4
"""Whatever the number of shards: into one shard of a running 1.19.0, 200,000 points of 512
dimensions went at 0.66 of the speed of the client's own upload with one stream, 0.77 with two and
0.90 with four."""

_FEWEST_POINTS = 64


class Streams:
    """Threads that send parts of writes; at most as many requests are under way at once."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._pool = ThreadPoolExecutor(n, thread_name_prefix="upload") if n > 1 else None

    def send(self, send: Callable[[slice], Any], n_points: int, most: int) -> None:
        """Send `n_points` points, at most `most` a request; return when all are written.

        Every part is repeated by itself, and halved where it proves too large. If one fails for
        good, those that have not begun are not sent, those that have are waited for, and the
        error of the first of them is raised.
        """
        size = min(most, max(_FEWEST_POINTS, -(-n_points // self.n)))
        if self._pool is None or n_points <= size:
            return in_batches(send, n_points, size)
        jobs = [
            self._pool.submit(in_batches, _shifted(send, start), min(size, n_points - start), size)
            for start in range(0, n_points, size)
        ]
        wait(jobs, return_when=FIRST_EXCEPTION)
        for job in jobs:
            job.cancel()
        wait(jobs)
        for job in jobs:
            if not job.cancelled():
                job.result()
        return None

    def close(self) -> None:
        """Wait for what is under way; send nothing more."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _shifted(send: Callable[[slice], Any], start: int) -> Callable[[slice], Any]:
    return lambda part: send(slice(start + part.start, start + part.stop))
