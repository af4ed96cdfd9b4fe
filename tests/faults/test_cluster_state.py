"""What a cluster tells of itself, and what goes on where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from intramodal.ingest.backfill.in_place import backfill
from intramodal.store.base import VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.server.client import connect_server
from intramodal.store.server.cluster import NODE_DEADLINE_S
from intramodal.store.server.store import ServerStore
from tests.faults.schedules import ORIGIN, Clock, Slept, Truth
from tests.faults.wire import WireServer
from tests.faults.wire.cluster import Cluster as Nodes
from tests.faults.wire.errors import WireError

D = 16
NAMES = ("photos", "prints")
TRUTH = Truth.of(30, D)
REFUSALS = {
    403: "Forbidden: Global access is required",
    404: "Not found: no such page",
    500: "Service internal error: the state is not known",
}


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer() as server:
        server.storage.cluster = Nodes(2, replicas=2)
        connection = connect_server(server.url, prefer_grpc=False)
        with closing(connection.client):
            store = ServerStore(connection, retry=Clock().retry())
            for name in NAMES:
                options = {"replication_factor": 2}
                photos = ImageCollection.create(store, name, {"raw": (D, ORIGIN)}, options=options)
                photos.write(TRUTH.ids, {"raw": TRUTH.X}, TRUTH.payloads)
        yield server


def refusing(server: WireServer, path: str, status: int) -> None:
    """Refuse one path from now on."""

    def before(method: str, asked: str) -> None:
        if asked == path:
            raise WireError(status, REFUSALS[status])

    server.before = before


@pytest.mark.parametrize("status", list(REFUSALS))
def test_writes_go_on_in_order_where_the_state_of_the_cluster_cannot_be_read(
    server: WireServer, status: int
) -> None:
    refusing(server, "/cluster", status)
    clock = Clock()
    connection = connect_server(server.url, prefer_grpc=False)
    with closing(connection.client):
        store = ServerStore(connection, retry=clock.retry())
        server.storage.cluster.orderings.clear()
        store.upsert(NAMES[0], [1], {"raw": np.ones((1, D), np.float32)}, [{}])
        store.upsert(NAMES[0], [2], {"raw": np.ones((1, D), np.float32)}, [{}])
    assert server.storage.cluster.orderings == ["medium", "medium"]
    waited = sum(one.seconds for one in clock.journal if isinstance(one, Slept))
    # It is asked once, not before every write.
    assert (0 < waited <= NODE_DEADLINE_S) if status == 500 else waited == 0


@pytest.mark.parametrize("status", list(REFUSALS))
def test_a_vector_is_added_and_filled_all_the_same(server: WireServer, status: int) -> None:
    refusing(server, "/cluster", status)
    connection = connect_server(server.url, prefer_grpc=False)
    with closing(connection.client):
        store = ServerStore(connection, retry=Clock().retry())
        photos = ImageCollection.open(store, NAMES[0])
        summary = backfill(photos, TRUTH.projection)
        assert summary.projected == len(TRUTH.ids)
        assert photos.origin(summary.vector).is_complete
        assert store.info(NAMES[0]).vectors[summary.vector] == VectorSpec(D // 2)
