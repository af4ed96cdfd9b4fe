"""Several nodes: a new vector name that travels through a cluster."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]  # no stubs are shipped
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from intramodal.errors import NotFound, StoreError, StoreUnavailable
from intramodal.store.base import VectorSpec
from intramodal.store.server import convert
from intramodal.store.server.client import Caller, Retry
from intramodal.store.server.refusals import translated
from intramodal.types import ShardKey

T = TypeVar("T")

log = logging.getLogger(__name__)

SPREAD_DEADLINE_S = 60.0
NODE_DEADLINE_S = 7.0
"""A node that does not answer is left out after at most 10 s: no attempt starts later than this,
and one takes 3 s."""

_NODE_IS_DOWN = ("enough active replicas", "read operations failed")
"""A replica is dead; or it is not known to be yet, as no write has met it."""

_NOBODY = str(uuid.UUID(int=0))
"""An id that no point has: the search that asks for it looks at nothing else."""


def wait_until_known(
    server: Caller, name: str, vector: str, spec: VectorSpec, nodes: Sequence[str] = ()
) -> list[str]:
    """Return when all nodes that answer know a vector of a collection; returns those that do not.

    A node that is down learns the name before it comes back.
    """
    if not nodes and is_alone(server):
        return []  # it has answered that it knows it
    with opened(server, nodes) as others:
        waiting = _Waiting(server, name, vector, spec, others)
        server.wait_until(
            waiting.is_over,
            lambda: f"the vector {vector!r} of {name!r} is known everywhere ({waiting.lags})",
            SPREAD_DEADLINE_S,
        )
        return [url for url in nodes if url not in waiting.nodes]


def lacking_by_node(
    server: Caller, name: str, where: models.Filter, nodes: Sequence[str]
) -> dict[str, int]:
    """Return how many points match on each node that answers, which reads its own replicas."""
    found: dict[str, int] = {}
    with opened(server, nodes) as others:
        for url, client in {server.connection.location: server.client, **others}.items():
            with suppress(StoreError), translated(f"count {name!r}", url, _place(server)[1]):
                found[url] = client.count(name, count_filter=where, exact=True).count
    return found


def ids_everywhere(
    server: Caller,
    name: str,
    where: models.Filter,
    limit: int,
    key: ShardKey | None,
    compared: Sequence[str] = (),
    *,
    start: Any = None,
) -> set[Any]:
    """Return which points match on every replica, with the same vectors of those `compared`.

    At most `limit` points may match on one replica; or they are the first from `start` on.
    `StoreUnavailable` after a few seconds where a replica is down.
    """

    def read() -> set[Any]:
        records, _ = server.client.scroll(
            name,
            scroll_filter=where,
            limit=limit,
            offset=start,
            with_payload=False,
            with_vectors=list(compared) or False,
            # Gives the records that all replicas answer with alike.
            consistency=models.ReadConsistencyType.ALL,
            shard_key_selector=key,
        )
        return {record.id for record in records}

    return server.call(f"read every replica of {name!r}", read, retry=patient(server))


def _place(server: Caller) -> tuple[str, tuple[str, ...]]:
    return server.connection.location, server.connection.secrets


def inactive_replicas(server: Caller, name: str) -> list[str]:
    """Return a phrase for each replica that is not active; none where one may not look."""
    try:
        info = server.call(
            f"read the replicas of {name!r}",
            lambda: server.client.collection_cluster_info(name),
            retry=patient(server),
        )
    except StoreUnavailable:
        raise
    except StoreError:  # a key, a proxy, or a server that knows no clusters
        return []
    found: list[tuple[Any, int]] = [(shard, info.peer_id) for shard in info.local_shards]
    found += [(shard, shard.peer_id) for shard in info.remote_shards]
    bad = [(s, peer) for s, peer in found if s.state != models.ReplicaState.ACTIVE]
    uris = _uris(server) if bad else {}
    return [
        f"shard {shard.shard_id} on {uris.get(str(peer), f'peer {peer}')} is "
        f"{models.ReplicaState(shard.state).value}"
        for shard, peer in bad
    ]


def _uris(server: Caller) -> dict[str, str]:
    try:
        status = _status(server)
    except StoreError:
        return {}
    return {peer: info.uri for peer, info in (getattr(status, "peers", None) or {}).items()}


def unreachable_nodes(server: Caller) -> dict[str, str]:
    """Return which nodes the one that is asked cannot send to, and its words why.

    It tells that before any write has met them, when their replicas are called active still.
    """
    try:
        status = _status(server)
    except StoreUnavailable:
        raise
    except StoreError:  # a key or a proxy that does not let one ask
        return {}
    failures = getattr(status, "message_send_failures", None) or {}
    return {
        uri: " ".join(f"{failed.latest_error or 'no reason given'}".split())
        for uri, failed in failures.items()
    }


def is_alone(server: Caller) -> bool:
    """Return whether a server says that it is not part of a cluster."""
    try:
        status = _status(server)
    except StoreUnavailable as error:
        # Only the order of writes hangs on it: no reason to let them all fail.
        log.warning("%s; it is taken for a node of a cluster", error)
        return False
    except StoreError:  # a key or a proxy that does not let one ask
        return False
    return getattr(status, "status", None) == "disabled"


def _status(server: Caller) -> Any:
    """Return what a server says of its cluster; asked for a few seconds only."""
    return server.call(
        "read the state of the cluster", server.client.cluster_status, retry=patient(server)
    )


def patient(server: Caller) -> Retry:
    """Return how long a node that may be down is asked; one that is busy is none."""
    usual = server.retry.deadline_s
    return replace(server.retry, deadline_s=min(usual, NODE_DEADLINE_S), pauses_s=usual)


@contextmanager
def opened(server: Caller, nodes: Sequence[str]) -> Iterator[dict[str, QdrantClient]]:
    """Yield clients of the nodes that answer; others are named in a warning."""
    clients: dict[str, QdrantClient] = {}
    try:
        for url in nodes:
            try:
                connection = server.connection.to_node(url, patient(server))
            except StoreUnavailable as error:
                log.warning("%s; the other nodes continue without it", error)
                continue
            clients[url] = connection.client
        yield clients
    finally:
        for client in clients.values():
            client.close()


class _Waiting:
    """Asks everybody again and again; `lags` says who did not know the name last time."""

    def __init__(
        self,
        server: Caller,
        name: str,
        vector: str,
        spec: VectorSpec,
        others: dict[str, QdrantClient],
    ) -> None:
        self.lags = ""
        self._server = server
        self._name = name
        self._vector = vector
        self._spec = spec
        self.nodes = {server.connection.location: server.client, **others}

    def is_over(self) -> bool:
        """Return whether everybody who can be asked knows the name."""
        for url, client in list(self.nodes.items()):
            try:
                self.lags = self._lag(url, client)
            except StoreUnavailable as error:
                if client is self._server.client:
                    raise
                log.warning("%s; the other nodes continue without it", error)
                del self.nodes[url]
                continue
            if self.lags:
                return False
        self.lags = "a node refuses it"
        return self._is_taken()

    def _lag(self, url: str, client: QdrantClient) -> str:
        """Return what a node still has to do, nothing where it is ready."""
        if not self._is_listed(url, client):
            return f"{url} does not list it"
        return f"{url} has changes of the cluster to apply" if self._n_pending(url, client) else ""

    def _is_listed(self, url: str, client: QdrantClient) -> bool:
        try:
            info = self._asked(
                f"read {self._name!r}", url, lambda: client.get_collection(self._name)
            )
        except NotFound:
            if client is self._server.client:
                raise
            return False  # the node may have to learn of the collection first
        return self._vector in convert.specs_of(info)

    def _n_pending(self, url: str, client: QdrantClient) -> int:
        """Return how many changes of the cluster a node knows and has not applied."""
        is_own = client is self._server.client
        try:
            status = (
                _status(self._server)
                if is_own
                else self._asked("read the state of the cluster", url, client.cluster_status)
            )
        except StoreUnavailable:
            if is_own:  # it does answer, as it has listed the name
                return 0
            raise
        except StoreError:  # a key or a proxy that does not let one ask
            return 0
        info = getattr(status, "raft_info", None)  # absent where there is no cluster
        return int(info.pending_operations) if info is not None else 0

    def _is_taken(self) -> bool:
        """Return whether every shard takes the name, on every node that holds one."""
        try:
            self._asked(f"search {self._name!r}", self._server.connection.location, self._search)
        except NotFound:
            return False
        return True

    def _search(self) -> None:
        try:
            self._probe(models.ReadConsistencyType.ALL)
        except (UnexpectedResponse, grpc.RpcError) as error:
            if not any(words in f"{error}" for words in _NODE_IS_DOWN):
                raise
            self._probe(None)  # a node is down: it learns the name before it comes back

    def _probe(self, consistency: models.ReadConsistencyType | None) -> None:
        probe = models.QueryRequest(
            query=[1.0] + [0.0] * (self._spec.size - 1),
            using=self._vector,
            limit=1,
            filter=models.Filter(must=models.HasIdCondition(has_id=[_NOBODY])),
        )
        self._server.client.query_batch_points(self._name, [probe], consistency=consistency)

    def _asked(self, what: str, url: str, ask: Callable[[], T]) -> T:
        def attempt() -> T:
            with translated(what, url, self._server.connection.secrets):
                return ask()

        is_other = url != self._server.connection.location
        return (patient(self._server) if is_other else self._server.retry).run(attempt)
