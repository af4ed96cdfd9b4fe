"""What one fault costs: a pause and another try, or one clear error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from intramodal.errors import (
    AccessDenied,
    Conflict,
    InputError,
    NotFound,
    StoreError,
    StoreUnavailable,
)
from intramodal.store.base import Filter, Store, VectorSpec
from intramodal.store.server.client import Retry, connect_server
from intramodal.store.server.store import ServerStore
from intramodal.types import point_id, unit_rows
from tests.faults.proxy import Fault, busy, failing, page
from tests.faults.schedules import DEADLINE_S, TRANSIENT, Slept, Wire, check_journal
from tests.faults.wire import WireServer

NAME, N, D = "photos", 20, 4
X = unit_rows(np.random.default_rng(3).normal(size=(N, D)))
IDS = list(range(N))
RAW = {"raw": VectorSpec(D)}
NEVER = (400, 401, 403, 404, 405, 409, 413, 422, 501, 507)

SPLIT = ("upsert", "update", "retrieve", "query", "payload")
"""Calls that are made in halves where a request is too large."""

Act = Callable[[Store], Any]


@pytest.fixture
def store(wire: Wire) -> ServerStore:
    store = wire.store()
    store.create(NAME, RAW)
    store.upsert(NAME, IDS, {"raw": X}, [{"n": i} for i in IDS])
    wire.journal.clear()
    return store


ONE_REQUEST: dict[str, Act] = {
    "collections": lambda s: s.collections(),
    "exists": lambda s: s.exists(NAME),
    "aliases": lambda s: s.aliases(),
    "count": lambda s: s.count(NAME, Filter(has_vector="raw")),
    "scroll": lambda s: [p.ids for p in s.scroll(NAME, vectors=["raw"], payload=True)],
    "retrieve": lambda s: s.retrieve(NAME, IDS[:3], payload=True).payloads,
    "query": lambda s: s.query_batch(NAME, X[:2], using="raw", k=3).ids,
    "upsert": lambda s: s.upsert(NAME, IDS, {"raw": X}, [{"n": i} for i in IDS]),
    "update": lambda s: s.update_vectors(NAME, "raw", IDS, X),
    "payload": lambda s: s.set_payload(NAME, IDS, {"seen": True}),
}
"""Calls that cost one request, and give the same answer when they are made twice."""

CHANGES: dict[str, tuple[Act, Act, Act]] = {
    # before, the change, what must hold after it
    "create": (
        lambda s: None,
        lambda s: s.create("new", {"a": VectorSpec(2)}, metadata={"by": "us"}),
        lambda s: s.info("new").metadata == {"by": "us"},
    ),
    "drop": (
        lambda s: s.create("new", RAW),
        lambda s: s.drop("new"),
        lambda s: not s.exists("new"),
    ),
    "metadata": (
        lambda s: None,
        lambda s: s.set_metadata(NAME, {"a": 1}),
        lambda s: s.info(NAME).metadata == {"a": 1},
    ),
    "add_vector": (
        lambda s: None,
        lambda s: s.add_vector(NAME, "pca", VectorSpec(2)),
        lambda s: s.info(NAME).vectors == {**RAW, "pca": VectorSpec(2)},
    ),
    "delete_vector": (
        lambda s: s.add_vector(NAME, "pca", VectorSpec(2)),
        lambda s: s.delete_vector(NAME, "pca"),
        lambda s: s.info(NAME).vectors == RAW,
    ),
    "index": (
        lambda s: None,
        lambda s: s.ensure_index(NAME, "n", "integer"),
        lambda s: s.info(NAME).indexes == {"n": "integer"},
    ),
    "set_alias": (
        lambda s: s.create("new", RAW) or s.set_alias("shown", "new"),
        lambda s: s.set_alias("shown", NAME),
        lambda s: s.aliases() == {"shown": NAME},
    ),
    "delete_alias": (
        lambda s: s.set_alias("shown", NAME),
        lambda s: s.delete_alias("shown"),
        lambda s: s.aliases() == {},
    ),
    "delete": (
        lambda s: None,
        lambda s: s.delete(NAME, IDS[:5]),
        lambda s: s.count(NAME) == N - 5,
    ),
    "optimize": (
        lambda s: None,
        lambda s: s.optimize(NAME),
        lambda s: s.info(NAME).status == "green",
    ),
}
"""Calls that are more than one request, or that find the world changed when they are repeated."""


@pytest.mark.parametrize("fault", TRANSIENT, ids=str)
def test_a_passing_fault_costs_one_pause_and_changes_no_answer(
    wire: Wire, store: ServerStore, fault: Fault
) -> None:
    for name, act in ONE_REQUEST.items():
        expected = act(store)
        wire.journal.clear()
        wire.proxy.plan([fault])
        assert act(store) == expected, name
        broken, pause, answered = wire.journal
        assert (broken.fault, answered.fault) == (fault, None)
        assert (broken.method, broken.path) == (answered.method, answered.path)
        assert isinstance(pause, Slept)
        check_journal(wire.journal, None)
    points = wire.server.storage.points(NAME)
    assert {i: points[i].payload for i in points} == {i: {"n": i, "seen": True} for i in IDS}
    np.testing.assert_array_equal([points[i].vectors["raw"] for i in IDS], X)


@pytest.mark.parametrize("fault", [Fault("reset"), Fault("late"), Fault("lose")], ids=str)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_survives_a_fault_at_each_of_its_requests(
    wire: Wire, store: ServerStore, change: str, fault: Fault
) -> None:
    prepare, act, holds = CHANGES[change]
    n_requests, n_done = 1, 0
    while n_done < n_requests:
        wire.server.storage.clear()
        store = wire.store()
        store.create(NAME, RAW)
        store.upsert(NAME, IDS, {"raw": X}, [{}] * N)
        prepare(store)
        wire.journal.clear()
        wire.proxy.plan([None] * n_done + [fault, fault])
        act(store)
        check_journal(wire.journal, None)
        n_requests = sum(event.fault is None for event in wire.served())
        n_done += 1
        assert holds(store), f"request {n_done} of {n_requests}"


def test_a_collection_that_somebody_else_made_in_between_is_a_conflict(wire: Wire) -> None:
    def be_faster(seconds: float) -> None:
        config = models.CreateCollection(
            vectors={"raw": models.VectorParams(size=D, distance=models.Distance.COSINE)},
            metadata={"by": "them"},
        )
        wire.server.storage.create(NAME, config)

    store = ServerStore(wire.connection, retry=Retry(sleep=be_faster))
    wire.proxy.plan([None, failing(503)])
    with pytest.raises(Conflict, match=NAME):
        store.create(NAME, RAW, metadata={"by": "us"})


@pytest.mark.parametrize("status", [400, 404])
def test_a_write_that_a_node_refuses_for_a_new_name_is_repeated(
    wire: Wire, store: ServerStore, status: int
) -> None:
    store.add_vector(NAME, "pca", VectorSpec(D))
    wire.journal.clear()
    # After each refusal our own node is asked whether it still lists the name.
    wire.proxy.plan([failing(status, "Not existing vector name error: pca"), None] * 3)
    store.update_vectors(NAME, "pca", IDS, X)
    assert len(wire.pauses()) == 3
    assert store.count(NAME, Filter(has_vector="pca")) == N


def is_asked_once(wire: Wire) -> bool:
    """Return whether no request was repeated; one look may tell whether what is known is old."""
    asked = [(event.method, event.path) for event in wire.served()]
    return asked[1:] in ([], [("GET", f"/collections/{NAME}")]) and len(asked) == len(set(asked))


@pytest.mark.parametrize("status", NEVER)
def test_what_will_not_pass_is_asked_once(wire: Wire, store: ServerStore, status: int) -> None:
    fault = failing(status, "so it is")
    for name, act in ONE_REQUEST.items():
        if status == 413 and name in SPLIT:
            continue  # sent in halves: the next test
        wire.journal.clear()
        wire.proxy.plan([fault] * 5)
        with pytest.raises((StoreError, InputError)) as caught:
            act(store)
        assert not isinstance(caught.value, StoreUnavailable), name
        assert wire.proxy.url in str(caught.value)
        assert is_asked_once(wire), name


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, AccessDenied), (403, AccessDenied), (404, NotFound), (409, Conflict)],
)
def test_what_will_not_pass_is_named(
    wire: Wire, store: ServerStore, status: int, expected: type[StoreError]
) -> None:
    wire.proxy.plan([failing(status, "so it is")])
    with pytest.raises(expected, match="so it is"):
        store.count(NAME)


def test_a_write_that_is_too_large_is_sent_in_halves_and_each_point_once(wire: Wire) -> None:
    with WireServer(largest_request=3000) as server, closing(connect(server)) as store:
        store.create(NAME, RAW)
        n = 300
        many = unit_rows(np.random.default_rng(4).normal(size=(n, D)))
        store.upsert(NAME, list(range(n)), {"raw": many}, [{"n": i} for i in range(n)])
        store.add_vector(NAME, "pca", VectorSpec(D))
        store.update_vectors(NAME, "pca", list(range(n)), many)
        points = server.storage.points(NAME)
        assert [points[i].payload["n"] for i in range(n)] == list(range(n))
        for vector in ("raw", "pca"):
            np.testing.assert_array_equal([points[i].vectors[vector] for i in range(n)], many)


def connect(server: WireServer) -> ServerStore:
    def never(seconds: float) -> None:
        pytest.fail(f"slept {seconds} s")

    return ServerStore(connect_server(server.url), retry=Retry(sleep=never))


def test_one_point_that_is_too_large_is_asked_once(wire: Wire, store: ServerStore) -> None:
    wire.proxy.plan([failing(413)] * 3)
    with pytest.raises(StoreError, match="413"):
        store.upsert(NAME, [1], {"raw": X[:1]}, [{}])
    assert len(wire.journal) == 1


def test_deleting_and_marking_many_points_fits_into_requests(wire: Wire) -> None:
    n = 2000
    with WireServer(largest_request=20_000) as server, closing(connect(server)) as store:
        ids = [point_id("many", str(i)) for i in range(n)]
        store.create(NAME, {"raw": VectorSpec(1)})
        store.upsert(NAME, ids, {"raw": np.ones((n, 1), np.float32)}, [{}] * n)
        store.set_payload(NAME, ids, {"seen": True})
        assert store.count(NAME, Filter(equals={"seen": True})) == n
        assert store.retrieve(NAME, ids).ids == ids
        store.delete(NAME, ids)
        assert store.count(NAME) == 0


# the pauses


@pytest.mark.parametrize("asked", [0, 1, 30, 119])
def test_the_pause_a_server_asks_for_is_kept(wire: Wire, store: ServerStore, asked: int) -> None:
    wire.proxy.plan([busy(str(asked))])
    assert store.count(NAME) == N
    (pause,) = wire.pauses()
    assert asked + 0.05 <= pause <= asked + 0.1


@pytest.mark.parametrize("asked", ["120", "86400", "9" * 30])
def test_a_pause_beyond_the_deadline_is_not_waited_for(
    wire: Wire, store: ServerStore, asked: str
) -> None:
    wire.proxy.plan([busy(asked)] * 3)
    with pytest.raises(StoreUnavailable, match=r"busy .*gave up after 1 attempt in 0 s"):
        store.count(NAME)
    assert wire.pauses() == []


@pytest.mark.parametrize("asked", ["-5", "Wed, 21 Oct 2026 07:28:00 GMT", "soon", "1.5", "nan"])
def test_a_pause_that_is_no_number_of_seconds_means_busy(
    wire: Wire, store: ServerStore, asked: str
) -> None:
    wire.proxy.plan([busy(asked)])
    assert store.count(NAME) == N
    (pause,) = wire.pauses()
    assert 0.05 <= pause <= 0.1


@pytest.mark.parametrize("fault", TRANSIENT, ids=str)
def test_an_outage_longer_than_the_deadline_is_one_clear_error_and_passes_without_trace(
    wire: Wire, store: ServerStore, fault: Fault
) -> None:
    def write() -> None:
        store.upsert(NAME, IDS, {"raw": X[::-1]}, [{"n": -i} for i in IDS])

    wire.proxy.plan([fault] * 1000)
    with pytest.raises(StoreUnavailable, match="write points to 'photos'") as caught:
        write()
    check_journal(wire.journal, caught.value)
    assert sum(wire.pauses()) <= DEADLINE_S
    wire.proxy.heal()
    write()
    points = wire.server.storage.points(NAME)
    np.testing.assert_array_equal([points[i].vectors["raw"] for i in IDS], X[::-1])
    assert len(points) == N


# answers of somebody else


@pytest.mark.parametrize(
    "body", ["{}", "[]", "null", "7", '""', '{"message": "maintenance"}', '{"result": null}']
)
def test_json_of_somebody_else_is_an_error_and_never_an_answer(
    wire: Wire, store: ServerStore, body: str
) -> None:
    fault = Fault("answer", 200, body.encode())
    for act in [*ONE_REQUEST.values(), *(act for _, act, _ in CHANGES.values())]:
        wire.proxy.plan([fault] * 1000)
        with pytest.raises(StoreError, match="not Qdrant's"):
            act(store)
        wire.proxy.heal()


def test_a_login_page_is_an_error_that_says_so_and_is_asked_once(
    wire: Wire, store: ServerStore
) -> None:
    for act in ONE_REQUEST.values():
        wire.journal.clear()
        wire.proxy.plan([page()] * 3)
        with pytest.raises(StoreError, match="a web page or a proxy's"):
            act(store)
        assert is_asked_once(wire)
