"""Several nodes: a new vector name that travels through a cluster."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import grpc  # type: ignore[import-untyped]  # no stubs are shipped
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from intramodal.errors import NotFound, StoreError, StoreUnavailable
from intramodal.store.base import VectorSpec
from intramodal.store.server import convert
from intramodal.store.server.client import Caller
from intramodal.store.server.refusals import translated

T = TypeVar("T")

SPREAD_DEADLINE_S = 60.0

_NOBODY = str(uuid.UUID(int=0))
"""An id that no point has: the search that asks for it looks at nothing else."""


def wait_until_known(
    server: Caller, name: str, vector: str, spec: VectorSpec, nodes: Sequence[str] = ()
) -> None:
    """Return when all nodes that can be asked know a vector of a collection."""
    if not nodes and _is_alone(server):
        return  # it has answered that it knows it
    with _opened(server, nodes) as others:
        waiting = _Waiting(server, name, vector, spec, others)
        server.wait_until(
            waiting.is_over,
            lambda: f"the vector {vector!r} of {name!r} is known everywhere ({waiting.lags})",
            SPREAD_DEADLINE_S,
        )


def _is_alone(server: Caller) -> bool:
    """Return whether a server says that it is not part of a cluster."""
    try:
        status = server.call("read the state of the cluster", server.client.cluster_status)
    except StoreUnavailable:
        raise
    except StoreError:  # a key or a proxy that does not let one ask
        return False
    return getattr(status, "status", None) == "disabled"


@contextmanager
def _opened(server: Caller, nodes: Sequence[str]) -> Iterator[dict[str, QdrantClient]]:
    clients: dict[str, QdrantClient] = {}
    try:
        for url in nodes:
            connection = server.connection.to_node(url, server.retry)
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
        self._nodes = {server.connection.location: server.client, **others}

    def is_over(self) -> bool:
        """Return whether everybody who can be asked knows the name."""
        for url, client in self._nodes.items():
            if not self._is_listed(url, client):
                self.lags = f"{url} does not list it"
                return False
            if self._n_pending(url, client):
                self.lags = f"{url} has changes of the cluster to apply"
                return False
        self.lags = "a node refuses it"
        return self._is_taken()

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
        try:
            status = self._asked("read the state of the cluster", url, client.cluster_status)
        except StoreUnavailable:
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
            if "enough active replicas" not in f"{error}":
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

        return self._server.retry.run(attempt)
