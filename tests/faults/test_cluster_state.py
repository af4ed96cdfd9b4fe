"""What a cluster tells of itself, and what goes on where it does not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from qdrant_client import models

from intramodal.ingest.backfill.in_place import backfill
from intramodal.store.base import VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.server.client import connect_server
from intramodal.store.server.cluster import NODE_DEADLINE_S
from intramodal.store.server.store import ServerStore
from tests.cli.kit import run
from tests.faults.replay import recorded
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
                options = {"replication_factor": 2, "shard_number": 2}
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


def stored(server: WireServer, *more: str, code: int = 0) -> list[dict[str, str]]:
    """Return what `doctor` says of the store, without the line that describes it."""
    found = run("doctor", "--store", server.url, "--runs", ":memory:", *more, code=code)
    lines = [check for check in found["checks"] if check["name"] == "store"]
    assert "2 collections" in lines[0]["detail"]
    return lines[1:]


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)


@pytest.mark.usefixtures("no_key")
@pytest.mark.parametrize("place", ["/collections/photos", "/collections/photos/cluster"])
def test_doctor_shows_the_rest_where_one_collection_cannot_be_read(
    server: WireServer, place: str
) -> None:
    refusing(server, place, 500)
    server.storage.cluster.is_one_down = True
    started = time.monotonic()
    lines = stored(server, "--deadline", "0.5", code=1)
    assert time.monotonic() - started < 20
    problems = [line["detail"] for line in lines if line["state"] == "problem"]
    assert len(problems) == 1
    assert "'photos'" in problems[0]
    assert REFUSALS[500] in problems[0]
    warnings = [line["detail"] for line in lines if line["state"] == "warning"]
    assert any(detail.startswith("'prints': shard 1 on") for detail in warnings)


@pytest.mark.usefixtures("no_key")
def test_doctor_is_patient_for_a_few_seconds_only(server: WireServer) -> None:
    refusing(server, "/collections/photos", 500)
    started = time.monotonic()
    assert len(stored(server, code=1)) == 1
    assert time.monotonic() - started < 30  # and not 120


@pytest.mark.usefixtures("no_key")
def test_doctor_names_a_dead_node_before_any_write_has_met_it(server: WireServer) -> None:
    assert stored(server) == []
    server.storage.cluster.down = 1
    (line,) = stored(server)
    assert line["state"] == "warning"
    assert line["detail"].startswith("the server cannot reach the node http://node-1:6335/: ")
    assert "Failed to connect" in line["detail"]
    assert "start the node again" in line["remedy"]
    refusing(server, "/cluster", 403)
    assert stored(server) == []


def test_the_recorded_state_of_a_cluster_names_the_node_that_is_down() -> None:
    exchanges = recorded("cluster.jsonl", "1.19.0")
    (state,) = [e for e in exchanges if (e.topic, e.path) == ("node down", "/cluster")]
    told = models.ClusterStatusOneOf1.model_validate(state.answer.content["result"])
    assert list(told.message_send_failures) == ["http://127.0.0.1:7023/"]
