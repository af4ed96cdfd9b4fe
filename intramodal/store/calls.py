"""Requests to one server: repeated where that helps, in batches it accepts, errors of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import RLock
from typing import Any, TypeVar

from qdrant_client import QdrantClient, models

from intramodal.errors import NotFound, StoreError, StoreUnavailable
from intramodal.store import words
from intramodal.store.base import VectorSpec
from intramodal.store.client_errors import OversizedRequestError, translated
from intramodal.store.connect import Connection
from intramodal.store.retry import Retry
from intramodal.types import Payload

T = TypeVar("T")

_LARGEST_REQUEST = 30 * 1024 * 1024  # bytes; the server takes 32 MiB of JSON
_JSON_BYTES_A_FLOAT = 22  # measured: 21 and a comma
_JSON_BYTES_A_POINT = 100  # id and punctuation


@dataclass(frozen=True)
class Known:
    """What was last seen of a collection."""

    specs: dict[str, VectorSpec]
    limits: words.Limits
    n_shards: int = 1
    has_shard_keys: bool = False


class Caller:
    """Makes requests through a connection.

    Parameters
    ----------
    connection : Connection
    retry : Retry
        Also gives the clock and the sleep to everything that waits.
    """

    def __init__(self, connection: Connection, retry: Retry) -> None:
        self.connection = connection
        self.retry = retry
        self._known: dict[str, Known] = {}
        self._is_closed = False
        # Local mode bears no two calls at a time: its arrays grow while they are read.
        is_server = connection.kind == "server"
        self._turn: AbstractContextManager[Any] = nullcontext() if is_server else RLock()

    @property
    def client(self) -> QdrantClient:
        """Return the client; `StoreError` after `close`."""
        if self._is_closed:
            raise StoreError(f"the store {self.connection.location} is closed; open it again")
        return self.connection.client

    def call(self, what: str, request: Callable[[], T]) -> T:
        """Return the answer of `request`, repeated while the reason of failure may pass."""

        def attempt() -> T:
            with self._translated(what):
                return request()

        return attempt() if self.connection.kind != "server" else self.retry.run(attempt)

    def call_spreading(
        self, what: str, name: str, vectors: Iterable[str], request: Callable[[], T]
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

        return self.retry.run(attempt)

    def _lists(self, name: str, vectors: Iterable[str]) -> bool:
        with self._translated(f"read {name!r}"):
            return set(vectors) <= set(words.specs_of(self.client.get_collection(name)))

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
            specs=words.specs_of(info),
            limits=words.limits_of(info),
            n_shards=params.shard_number or 1,
            has_shard_keys=params.sharding_method == models.ShardingMethod.CUSTOM,
        )
        return info

    def know(self, name: str, vectors: Sequence[str] = ()) -> Known:
        """Return what is remembered; looks again where it lacks one of `vectors`."""
        if name not in self._known or not set(vectors) <= set(self._known[name].specs):
            self.look(name)
        return self._known[name]

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
            pause = min(2.0, pause * 1.5)


def batch_size(
    connection: Connection,
    limits: words.Limits,
    most: int,
    width: int,
    payloads: Sequence[Payload] = (),
) -> int:
    """Return how many points fit into one write.

    Parameters
    ----------
    most : int
        Never more than this.
    width : int
        Floats a point.
    payloads : sequence of dict
        JSON over REST is limited in bytes, and they are part of it.
    """
    size = min(most, limits.points_a_write or most)
    if connection.kind == "server" and not connection.uses_grpc:
        longest = max((len(json.dumps(p, default=str)) for p in payloads if p), default=0)
        a_point = width * _JSON_BYTES_A_FLOAT + longest + _JSON_BYTES_A_POINT
        size = min(size, _LARGEST_REQUEST // a_point)
    return max(1, size)


def in_batches(send: Callable[[slice], Any], n: int, size: int) -> None:
    """Send `n` points, `size` at a time; halved where a request proves too large."""
    start = 0
    while start < n:
        part = slice(start, min(start + size, n))
        try:
            send(part)
        except OversizedRequestError:
            if part.stop - part.start == 1:
                raise
            size = (part.stop - part.start) // 2
            continue
        start = part.stop
