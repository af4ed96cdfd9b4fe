"""Faults of gRPC: the same promises as over HTTP, by the codes that gRPC has for them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import grpc  # type: ignore[import-untyped]  # no stubs are shipped
import numpy as np
import pytest

from intramodal.errors import AccessDenied, InputError, NotFound, StoreError, StoreUnavailable
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.images import encoder_origin
from intramodal.ingest.pipeline import ingest_images
from intramodal.store.base import Cluster, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.server.client import Retry, connect_server
from intramodal.store.server.store import ServerStore
from tests.faults.pictures import generated
from tests.faults.schedules import DEADLINE_S, ORIGIN, Clock, Slept, Truth
from tests.faults.wire import RpcFault, WireServer

N, D = 600, 16
NAME = "photos"
CODE = grpc.StatusCode
PASSING = [
    RpcFault(CODE.UNAVAILABLE),
    RpcFault(CODE.UNAVAILABLE, is_applied=True),
    RpcFault(CODE.DEADLINE_EXCEEDED),
    RpcFault(CODE.DEADLINE_EXCEEDED, is_applied=True),
    RpcFault(CODE.RESOURCE_EXHAUSTED),
    RpcFault(CODE.RESOURCE_EXHAUSTED, retry_after_s=7),
    RpcFault(CODE.INTERNAL),
    RpcFault(CODE.CANCELLED),
    RpcFault(CODE.ABORTED, is_applied=True),
    RpcFault(CODE.UNKNOWN, details="transport error"),
    RpcFault(CODE.FAILED_PRECONDITION, details="No target shard 3 found for update"),
    RpcFault(CODE.UNAVAILABLE, retry_after_s=3),
]
LASTING = {
    CODE.INVALID_ARGUMENT: StoreError,
    CODE.UNAUTHENTICATED: AccessDenied,
    CODE.PERMISSION_DENIED: AccessDenied,
    CODE.NOT_FOUND: NotFound,
}
Act = Callable[[ServerStore], object]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(server: WireServer, clock: Clock) -> Iterator[ServerStore]:
    server.storage.clear()
    server.rpc_faults = []
    connection = connect_server(server.url)
    assert connection.uses_grpc, "found by itself on the next port"
    with closing(connection.client):
        # In one stream: which call a fault hits must not be a matter of chance.
        cluster = Cluster(upload_streams=1)
        yield ServerStore(connection, retry=clock.retry(), cluster=cluster)
    server.rpc_faults = []


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth.of(N, D)


def write(store: ServerStore, truth: Truth) -> ImageCollection:
    collection = ImageCollection.ensure(store, NAME, {"raw": (D, ORIGIN)})
    collection.write(truth.ids, {"raw": truth.X}, truth.payloads)
    return collection


def pauses(clock: Clock) -> list[float]:
    return [event.seconds for event in clock.journal if isinstance(event, Slept)]


@pytest.mark.parametrize("fault", PASSING, ids=str)
def test_every_call_of_the_main_job_is_repeated_until_it_is_answered(
    server: WireServer, store: ServerStore, clock: Clock, truth: Truth, fault: RpcFault
) -> None:
    photos = write(store, truth)
    # Every second call fails, the first of each pair.
    server.rpc_faults = [fault, None] * 200
    store.ensure_index(NAME, "label", "keyword")
    # At a pace, however high, one call follows the other.
    summary = backfill(photos, truth.projection, batch_size=200, throttle=1e9)
    hits = photos.search(truth.X[:5], using="raw", k=1, exact=True)
    server.rpc_faults = []
    assert summary.projected + summary.skipped == N
    assert hits.ids == [[i] for i in truth.ids[:5]]
    truth.check(server.storage.points(NAME), is_projected=True)
    asked = fault.retry_after_s or 0
    assert len(pauses(clock)) > 10
    assert all(asked + 0.05 <= pause <= asked + 0.1 for pause in pauses(clock))


@pytest.mark.parametrize("is_projected", [False, True])
def test_pictures_arrive_once_through_faults_of_every_kind(
    server: WireServer, store: ServerStore, clock: Clock, is_projected: bool
) -> None:
    records, encoder, truth = generated(N, NAME, D)
    rng = np.random.default_rng(5)
    photos = ImageCollection.ensure(store, NAME, {"raw": (D, encoder_origin(encoder))})
    server.rpc_faults = [
        PASSING[rng.integers(len(PASSING))] if rng.random() < 0.4 else None for _ in range(500)
    ]
    assert ingest_images(records, photos, encoder=encoder, batch_size=50).written == N
    if is_projected:
        backfill(photos, truth.projection, batch_size=100)
    truth.check(server.storage.points(NAME), is_projected=is_projected)
    assert pauses(clock)


@pytest.mark.parametrize("code", LASTING, ids=lambda code: code.name)
def test_what_will_not_pass_is_said_at_once(
    server: WireServer, store: ServerStore, clock: Clock, truth: Truth, code: grpc.StatusCode
) -> None:
    photos = write(store, truth)
    server.rpc_faults = [RpcFault(code)] * 100
    with pytest.raises((LASTING[code], InputError)) as caught:
        photos.count()
    assert "\n" not in str(caught.value)
    may_be_outdated = code in (CODE.NOT_FOUND, CODE.INVALID_ARGUMENT)
    assert len(server.rpc_faults) == 99 - may_be_outdated, "one look whether that is the reason"
    assert pauses(clock) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            RpcFault(CODE.FAILED_PRECONDITION, details="Storage locked: closed for moving"),
            "locked for writes: Storage locked: closed for moving",
        ),
        (
            RpcFault(
                CODE.RESOURCE_EXHAUSTED,
                details="No space left on device",
                metadata=(("qdrant-insufficient-storage", "disk"),),
            ),
            "disk is full, or its quota is used up: No space left on device; free some space",
        ),
    ],
    ids=["locked", "disk full"],
)
def test_what_somebody_has_to_change_is_a_sentence_and_no_pause(
    server: WireServer, store: ServerStore, clock: Clock, truth: Truth, fault: RpcFault, words: str
) -> None:
    photos = write(store, truth)
    server.rpc_faults = [fault] * 3
    with pytest.raises(StoreError, match=words) as caught:
        photos.write(truth.ids[:1], {"raw": truth.X[:1]}, truth.payloads[:1])
    assert not isinstance(caught.value, StoreUnavailable | AccessDenied)
    assert (len(server.rpc_faults), pauses(clock)) == (2, [])


def test_a_call_larger_than_the_rate_limit_is_halved_over_grpc(
    server: WireServer, store: ServerStore, clock: Clock, truth: Truth
) -> None:
    text = "Rate limiting exceeded: Write rate limit exceeded, request larger than rate limiter "
    too_large = RpcFault(
        CODE.RESOURCE_EXHAUSTED, details=f"{text}capacity, please try to split your request"
    )
    photos = write(store, truth)
    server.rpc_faults = [too_large, None, too_large]
    photos.write(truth.ids, {"raw": truth.X}, truth.payloads)
    truth.check(server.storage.points(NAME), is_projected=False)
    assert pauses(clock) == []


def test_an_outage_ends_in_one_sentence_and_the_same_call_goes_on(
    server: WireServer, store: ServerStore, clock: Clock, truth: Truth
) -> None:
    photos = write(store, truth)
    try:
        backfill_breaks_off(server, photos, truth)
    finally:
        server.before = lambda protocol, call: None
        server.rpc_faults = []
    assert sum(pauses(clock)) <= DEADLINE_S
    n_done = sum("pca" in point.vectors for point in server.storage.points(NAME).values())
    assert 0 < n_done < N
    summary = backfill(photos, truth.projection)
    assert (summary.projected, summary.skipped) == (N - n_done, n_done)
    truth.check(server.storage.points(NAME), is_projected=True)


def backfill_breaks_off(server: WireServer, photos: ImageCollection, truth: Truth) -> None:
    """Lose the server for good after the second page was written."""
    calls: list[str] = []

    def fall_silent(protocol: str, call: str) -> None:
        calls.append(call)
        if calls.count("UpdateVectors") == 2 and not server.rpc_faults:
            server.rpc_faults = [None, *[RpcFault(CODE.UNAVAILABLE)] * 1000]

    server.before = fall_silent
    with pytest.raises(StoreUnavailable, match="gave up after"):
        backfill(photos, truth.projection, batch_size=100)


def test_an_error_of_the_server_reads_the_same_over_both_protocols(server: WireServer) -> None:
    server.storage.clear()
    told = []
    for prefers_grpc in (False, True):
        connection = connect_server(server.url, prefer_grpc=prefers_grpc)
        with ServerStore(connection) as store:
            if not prefers_grpc:
                store.create(NAME, {"raw": VectorSpec(4)})
            with pytest.raises(NotFound) as absent:
                store.update_vectors(NAME, "raw", [7], np.ones((1, 4), np.float32))
            with pytest.raises(NotFound) as unknown:
                store.info("other")
            told.append((str(absent.value), str(unknown.value)))
    assert told[0] == told[1]
    assert "No point with id 7" in told[0][0]


def test_a_message_that_somebody_finds_too_large_is_halved_not_repeated(truth: Truth) -> None:
    """A server takes any size; a proxy before it may not."""
    with WireServer(speaks_grpc=True, largest_call=20_000) as narrow:
        clock = Clock()
        connection = connect_server(narrow.url)
        with ServerStore(connection, retry=clock.retry()) as store:
            write(store, truth)
        truth.check(narrow.storage.points(NAME), is_projected=False)
        assert pauses(clock) == []


def test_a_server_that_is_started_again_is_found_on_the_same_channel(truth: Truth) -> None:
    """Connections break, are refused for a while, and come back; here time really passes."""
    with ExitStack() as running:
        first = WireServer(speaks_grpc=True)
        stop = ExitStack()
        stop.enter_context(first)
        running.callback(stop.close)
        # Calls arrive at the same time, and it must die once.
        updates, seen = itertools.count(1), [0]

        def die(protocol: str, call: str) -> None:
            if call != "UpdateVectors":
                return
            nth = next(updates)
            seen.append(nth)
            if nth == 3:
                first.rpc_faults = [RpcFault(CODE.UNAVAILABLE)] * 1000
                threading.Thread(target=come_back, daemon=True).start()

        def come_back() -> None:
            stop.close()
            again = WireServer(speaks_grpc=True, storage=first.storage, port=first.port)
            running.enter_context(again)

        connection = connect_server(first.url)
        with ServerStore(connection, retry=Retry(deadline_s=60, longest_s=0.5)) as store:
            photos = write(store, truth)
            first.before = die
            assert backfill(photos, truth.projection, batch_size=100).projected == N
        assert max(seen) >= 3
        truth.check(first.storage.points(NAME), is_projected=True)
