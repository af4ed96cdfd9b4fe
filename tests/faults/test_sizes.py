"""Requests that are too large: for a server's memory, for a proxy, for a rate limit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from intramodal.errors import InputError, StoreError, StoreUnavailable
from intramodal.store.base import Filter, VectorSpec
from intramodal.store.open import open_store
from intramodal.store.server.refusals import OversizedRequestError
from intramodal.store.server.store import ServerStore
from intramodal.types import unit_rows
from tests.faults.proxy import Fault, Served, failing
from tests.faults.schedules import Slept, Wire
from tests.faults.wire import WireServer

NAME, N, D = "photos", 700, 256
MIB = 1024**2
X = unit_rows(np.random.default_rng(4).normal(size=(N, D)).astype(np.float32))
IDS = list(range(N))
SPLIT = "Rate limiting exceeded: Write rate limit exceeded, request larger than rate limiter "
SPLIT += "capacity, please try to split your request"


@pytest.fixture
def store(wire: Wire) -> Iterator[ServerStore]:
    store = wire.store()
    store.create(NAME, {"raw": VectorSpec(D)})
    store.info(NAME)  # it remembers what it has seen
    wire.journal.clear()
    yield store
    wire.proxy.largest_body, wire.proxy.is_curt = None, False


def write(store: ServerStore) -> None:
    store.upsert(NAME, IDS, {"raw": X}, [{"n": i} for i in IDS])


def check(wire: Wire) -> None:
    points = wire.server.storage.points(NAME)
    assert [points[i].payload["n"] for i in IDS] == IDS
    np.testing.assert_array_equal([points[i].vectors["raw"] for i in IDS], X)


def refused(wire: Wire) -> list[Served]:
    return [event for event in wire.served() if event.fault is not None]


def test_a_limit_that_the_server_names_is_kept_from_then_on(
    wire: Wire, store: ServerStore
) -> None:
    """Seen on 1.19.0 with max_request_size_mb: 1: an ingest by REST failed at once."""
    wire.proxy.largest_body = MIB
    write(store)
    check(wire)
    assert len(refused(wire)) == 1
    assert not any(isinstance(event, Slept) for event in wire.journal)
    wire.journal.clear()
    write(store)
    store.update_vectors(NAME, "raw", IDS, X)
    store.query_batch(NAME, X[:200], using="raw", k=1)
    assert refused(wire) == []


def test_a_limit_that_is_kept_to_oneself_is_found_by_halving(
    wire: Wire, store: ServerStore
) -> None:
    wire.proxy.largest_body, wire.proxy.is_curt = MIB + MIB // 10, True
    write(store)
    check(wire)
    # Each size is tried twice: a server that is started again breaks a connection, too.
    assert len(refused(wire)) == 2
    wire.journal.clear()
    write(store)
    assert refused(wire) == []


def test_a_server_that_is_started_again_gets_the_same_request_again(
    wire: Wire, store: ServerStore
) -> None:
    wire.proxy.plan([Fault("reset"), Fault("refuse"), Fault("reset")])
    write(store)
    check(wire)
    n_whole = len([e for e in wire.served() if e.fault is None and e.method == "PUT"])
    assert len(refused(wire)) == 3
    wire.journal.clear()
    write(store)
    assert len(wire.served()) == n_whole


def test_one_point_that_no_request_can_carry_is_named_with_the_way_out(
    wire: Wire, store: ServerStore
) -> None:
    wire.proxy.largest_body = MIB
    with pytest.raises(OversizedRequestError, match=r"limit: 1048576 bytes.*single point") as told:
        store.upsert(NAME, [1], {"raw": X[:1]}, [{"scan": "x" * 2 * MIB}])
    assert "\n" not in str(told.value)
    assert len(wire.served()) == 1


def test_one_point_under_which_the_connection_breaks_is_repeated_to_the_deadline(
    wire: Wire, store: ServerStore
) -> None:
    wire.proxy.largest_body, wire.proxy.is_curt = MIB, True
    with pytest.raises(StoreUnavailable, match=r"under a request of [\d,]+ bytes.*gave up"):
        store.upsert(NAME, [1], {"raw": X[:1]}, [{"scan": "x" * 2 * MIB}])
    assert len(wire.served()) > 5


def test_a_small_body_under_which_the_connection_breaks_may_be_over_a_limit(
    wire: Wire, store: ServerStore
) -> None:
    wire.proxy.largest_body, wire.proxy.is_curt = 100_000, True
    with pytest.raises(StoreUnavailable, match=r"while a body of 3\d\d,\d{3} bytes.*size limit"):
        store.upsert(NAME, [1], {"raw": X[:1]}, [{"scan": "x" * 300_000}])


def acts(store: ServerStore) -> dict[str, Any]:
    return {
        "write": lambda: write(store),
        "update": lambda: store.update_vectors(NAME, "raw", IDS, X),
        "payload": lambda: store.set_payload(NAME, IDS, {"seen": True}),
        "read": lambda: store.retrieve(NAME, IDS),
        "search": lambda: store.query_batch(NAME, X[:80], using="raw", k=1),
        "delete": lambda: store.delete(NAME, IDS),
    }


def test_a_request_larger_than_the_rate_limit_is_halved_at_once(
    wire: Wire, store: ServerStore
) -> None:
    write(store)
    for name, act in acts(store).items():
        wire.journal.clear()
        wire.proxy.plan([None] * (name == "delete") + [failing(429, SPLIT)] * 2)
        act()
        assert len(refused(wire)) == 2, name
        assert not any(isinstance(event, Slept) for event in wire.journal), name
        wire.proxy.heal()
    assert wire.server.storage.points(NAME) == {}


def test_batches_stay_below_the_rates_that_a_collection_allows(wire: Wire) -> None:
    limits = models.StrictModeConfig(enabled=True, write_rate_limit=100, read_rate_limit=60)
    wire.server.storage.create(
        NAME,
        models.CreateCollection(
            vectors={"raw": models.VectorParams(size=D, distance=models.Distance.COSINE)},
            strict_mode_config=limits,
            shard_number=4,
        ),
    )
    # Only sizes are looked at here: the rates themselves would take minutes.
    usage = wire.server.storage.find(NAME).usage
    usage.reads = usage.writes = None
    store = wire.store()
    assert store.upload_streams(NAME) == 1, "streams would wait for each other"
    for name, n_least in {"write": 7, "update": 7, "payload": 7, "read": 12, "search": 2}.items():
        wire.journal.clear()
        acts(store)[name]()
        assert len(wire.served()) == n_least, name


def test_a_full_disk_is_a_sentence_and_no_pause(wire: Wire, store: ServerStore) -> None:
    wire.proxy.plan([failing(507, "Disk usage 97% is above the limit")] * 3)
    with pytest.raises(StoreError, match=re.escape("disk is full, or its quota")) as caught:
        write(store)
    assert "97%" in str(caught.value)
    assert len(wire.journal) == 1


@pytest.mark.parametrize("largest", [20_000, 400_000])
def test_a_message_of_grpc_is_bounded_by_what_its_points_hold(largest: int) -> None:
    """A thousand points of a megabyte each would be a message of a gigabyte."""
    from intramodal.store.server.client import batch_size, connect_server

    with WireServer(speaks_grpc=True) as server:
        store = ServerStore(connect_server(server.url))
        n = batch_size(store._server, 1000, D, [{"scan": "x" * largest}])
        store.close()
    assert 30 * MIB - largest < n * (largest + 4 * D) < 31 * MIB or n == 1000


@pytest.mark.parametrize("kind", ["rest", "grpc", "edge"])
def test_pages_hold_so_many_bytes_whatever_the_points_carry(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: 600 points with payloads of a megabyte took 3.5 GB."""
    monkeypatch.setattr("intramodal.store.pages.PAGE_BYTES", 2 * MIB)
    with ExitStack() as running:
        place = str(tmp_path / "store")
        if kind != "edge":
            place = running.enter_context(WireServer(speaks_grpc=kind == "grpc")).url
        store = running.enter_context(open_store(place))
        store.create(NAME, {"raw": VectorSpec(4)})
        n = 200
        payloads = [{"scan": "x" * 50_000, "n": i} for i in range(n)]
        store.upsert(NAME, list(range(n)), {"raw": np.ones((n, 4), np.float32)}, payloads)
        whole = [page.payloads for page in store.scroll(NAME, payload=True)]
        part = [page.payloads for page in store.scroll(NAME, payload=["n"])]
        large = [page.payloads for page in store.scroll(NAME, payload=["scan"])]
        assert store.retrieve(NAME, list(range(n)), payload=True).payloads == payloads
    assert [p for page in whole for p in page] == payloads
    assert max(map(len, whole)) <= 2 * MIB // 50_000
    assert list(map(len, part)) == [128, n - 128], "small fields need no smaller pages"
    assert len(large[0]) == 128, "of which nothing is known yet"
    assert max(map(len, large[1:])) <= 2 * MIB // 50_000


def test_a_number_beyond_float32_is_refused_by_name_and_payload_keeps_its_doubles(
    store: ServerStore,
) -> None:
    """The server would take 1e39 and keep infinity; of a cosine vector the direction counts."""
    wide = X[:2].astype(np.float64)
    wide[1, 3] = 1e39
    store.create("dot", {"raw": VectorSpec(D, "Dot")})
    with pytest.raises(InputError, match=r"row 1 of vector 'raw' holds 1e\+39.*beyond float32"):
        store.upsert("dot", [1, 2], {"raw": wide}, [{}, {}])
    with pytest.raises(InputError, match="beyond float32"):
        store.query_batch("dot", wide, using="raw", k=1)
    store.upsert(NAME, [1, 2], {"raw": wide}, [{}, {}])
    kept = store.retrieve(NAME, [2], vectors=["raw"]).vectors["raw"]
    np.testing.assert_allclose(kept, np.eye(D)[3:4], atol=1e-7)  # float32 rounding
    with pytest.raises(InputError, match="NaN or infinity"):
        store.update_vectors(NAME, "raw", [1], np.full((1, D), np.nan))
    store.upsert(NAME, [1], {"raw": X[:1]}, [{"mass": 1e39}])
    assert store.retrieve(NAME, [1], payload=True).payloads == [{"mass": 1e39}]
    assert store.count(NAME, Filter({"mass": 1e39})) == 1
