"""Writes to a collection of several shards: several at once, and every point once as before."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest

from intramodal.errors import AccessDenied, InputError, NotFound, StoreError
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.images import encoder_origin
from intramodal.ingest.pipeline import ingest_images
from intramodal.store.base import Cluster
from intramodal.store.collection import ImageCollection
from intramodal.store.origins import projected_origin
from intramodal.store.server.client import Retry, connect_server
from intramodal.store.server.store import ServerStore
from tests.faults.pictures import generated
from tests.faults.proxy import Fault, FaultProxy, failing
from tests.faults.schedules import ORIGIN, TRANSIENT, Truth
from tests.faults.wire import RpcFault, WireServer

N, D, NAME = 1200, 16, "photos"
N_SCHEDULES = int(os.environ.get("INTRAMODAL_FAULT_SCHEDULES", "20")) * 3 // 10
PATIENCE_S = 20.0
WRITES = ("/points", "/points/vectors")


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth.of(N, D)


def is_write(method: str, path: str) -> bool:
    is_rest = method == "PUT" and path.endswith(WRITES)
    return is_rest or (method == "gRPC" and path in ("Upsert", "UpdateVectors"))


@dataclass
class Meeting:
    """Holds writes back until `n` of them are under way, then lets these go on.

    Without the n-th, those that wait fail after some seconds: the test would see 500s.
    """

    n: int
    most: int = 0
    _under_way: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, method: str, path: str) -> None:
        if not is_write(method, path):
            return
        with self._changed:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most >= self.n, timeout=PATIENCE_S)
            self._under_way -= 1


@contextmanager
def opened(
    url: str, *, grpc: bool = False, streams: int | None = None, deadline_s: float = 20.0
) -> Iterator[ServerStore]:
    connection = connect_server(url, prefer_grpc=grpc)
    # Short pauses that really pass: here threads wait at the same time.
    retry = Retry(deadline_s, first_s=0.002, longest_s=0.02, rng=random.Random(1))
    with closing(ServerStore(connection, retry=retry, cluster=Cluster(streams))) as store:
        yield store


def made(store: ServerStore, n_shards: int, name: str = NAME) -> ImageCollection:
    options = {"shard_number": n_shards}
    return ImageCollection.create(store, name, {"raw": (D, ORIGIN)}, options=options)


def upserted(store: ServerStore, truth: Truth) -> None:
    made(store, 3).write(truth.ids, {"raw": truth.X}, truth.payloads)


@pytest.fixture
def empty(server: WireServer) -> Iterator[WireServer]:
    server.storage.clear()
    yield server
    server.before = lambda method, path: None
    server.rpc_faults = []


@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
@pytest.mark.parametrize(
    ("n_shards", "asked", "expected"),
    [(1, None, 4), (3, None, 4), (12, None, 4), (1, 3, 3), (6, 8, 8), (6, 1, 1)],
)
def test_four_writes_are_under_way_or_as_many_as_were_asked_for(
    empty: WireServer,
    truth: Truth,
    n_shards: int,
    asked: int | None,
    expected: int,
    grpc: bool,
) -> None:
    with opened(empty.url, grpc=grpc, streams=asked) as store:
        photos = made(store, n_shards)
        assert store.upload_streams(NAME) == expected
        meeting = empty.before = Meeting(expected)
        photos.write(truth.ids, {"raw": truth.X}, truth.payloads)
        assert meeting.most == expected
        meeting = empty.before = Meeting(expected)
        assert backfill(photos, truth.projection, batch_size=N).projected == N
        assert meeting.most == expected
    truth.check(empty.storage.points(NAME), is_projected=True)


@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
def test_batches_of_pictures_too_small_to_be_split_are_under_way_together(
    empty: WireServer, grpc: bool
) -> None:
    records, encoder, truth = generated(N, NAME, D)
    origin = encoder_origin(encoder)
    vectors = {
        "raw": (D, origin),
        "pca": (D // 2, projected_origin(truth.projection, origin, "raw")),
    }
    with opened(empty.url, grpc=grpc) as store:
        photos = ImageCollection.create(store, NAME, vectors, options={"shard_number": 3})
        meeting = empty.before = Meeting(3)
        done = ingest_images(
            records, photos, encoder=encoder, projection=truth.projection, batch_size=40
        )
    assert (done.written, done.failed) == (N, 0)
    assert meeting.most == 3
    truth.check(empty.storage.points(NAME), is_projected=True)


def test_a_copy_is_written_in_parallel(empty: WireServer, truth: Truth) -> None:
    with opened(empty.url) as store:
        upserted(store, truth)
        meeting = empty.before = Meeting(3)
        photos = ImageCollection.open(store, NAME)
        done = copy_collection(photos, truth.projection, new_collection="photos_v2")
    assert (done.copied, meeting.most) == (N, 3), "the copy has as many shards"
    truth.check(empty.storage.points("photos_v2"), is_projected=True)


def test_parts_keep_within_what_one_request_may_hold(empty: WireServer, truth: Truth) -> None:
    sizes: list[int] = []
    upsert = empty.storage
    with opened(empty.url, streams=4) as store:
        made(store, 1)
        original = upsert.find(NAME).upsert
        upsert.find(NAME).upsert = lambda ids, *rest: (  # type: ignore[method-assign]
            sizes.append(len(ids)), original(ids, *rest),
        )[1]  # fmt: skip
        write = ImageCollection.open(store, NAME).write
        write(truth.ids[:100], {"raw": truth.X[:100]}, truth.payloads[:100])
        write(truth.ids[:400], {"raw": truth.X[:400]}, truth.payloads[:400])
        write(truth.ids, {"raw": truth.X}, truth.payloads)
    assert sorted(sizes[:2]) == [36, 64], "of less than 64 points one request is made"
    assert sorted(sizes[2:6]) == [100] * 4
    assert sorted(sizes[6:]) == sorted([256] * (N // 256) + [N % 256]), "REST: 256 at a time"


# Faults


def act_of(kind: str, truth: Truth) -> Callable[[ServerStore], object]:
    if kind == "upsert":
        return lambda store: ImageCollection.ensure(store, NAME, {"raw": (D, ORIGIN)}).write(
            truth.ids, {"raw": truth.X}, truth.payloads
        )
    return lambda store: backfill(
        ImageCollection.open(store, NAME), truth.projection, batch_size=700
    )


# The proxy refuses and stalls one connection at a time: with several it cannot tell which.
PASSING = [f for f in TRANSIENT if f.kind not in ("stall", "refuse") and not f.retry_after_s]


@pytest.mark.parametrize("seed", range(N_SCHEDULES))
def test_whatever_breaks_in_parallel_each_point_is_written_as_it_was(
    empty: WireServer, truth: Truth, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    with (
        FaultProxy(empty.url) as proxy,
        opened(proxy.url, deadline_s=3.0 if seed % 3 else 0.8) as store,
    ):
        proxy.watch(store._server.client)
        made(store, 4)
        for kind in ("upsert", "backfill"):
            steps: list[Fault | None] = [
                PASSING[rng.integers(len(PASSING))] if rng.random() < 0.5 else None
                for _ in range(40)
            ]
            if seed % 3 == 0:  # an outage that no deadline outlasts
                steps[int(rng.integers(40)) :] = [Fault("reset")] * 100_000
            proxy.plan(steps)
            error = attempt(act_of(kind, truth), store)
            proxy.heal()
            assert seed % 3 == 0 or error is None
            if error is not None:
                assert "gave up after" in str(error)
                assert "\n" not in str(error)
                act_of(kind, truth)(store)
            truth.check(empty.storage.points(NAME), is_projected=kind == "backfill")


def attempt(act: Callable[[ServerStore], object], store: ServerStore) -> StoreError | None:
    try:
        act(store)
    except StoreError as error:
        return error
    return None


@pytest.mark.parametrize("seed", range(max(2, N_SCHEDULES // 2)))
def test_the_same_over_grpc(empty: WireServer, truth: Truth, seed: int) -> None:
    from tests.faults.test_grpc_faults import PASSING as CODES

    rng = np.random.default_rng(seed)
    passing = [fault for fault in CODES if not fault.retry_after_s]
    with opened(empty.url, grpc=True) as store:
        made(store, 4)
        for kind in ("upsert", "backfill"):
            faults: list[RpcFault | None] = [
                passing[rng.integers(len(passing))] if rng.random() < 0.5 else None
                for _ in range(40)
            ]
            empty.rpc_faults = faults
            act_of(kind, truth)(store)
            empty.rpc_faults = []
            truth.check(empty.storage.points(NAME), is_projected=kind == "backfill")


def test_what_fails_for_good_ends_the_write_and_what_has_not_begun_is_not_sent(
    empty: WireServer, truth: Truth
) -> None:
    with FaultProxy(empty.url) as proxy, opened(proxy.url) as store:
        photos = made(store, 2)
        proxy.journal.clear()
        proxy.plan([failing(403, "no right to write")] * 100)
        with pytest.raises(AccessDenied, match="no right to write"):
            photos.write(truth.ids, {"raw": truth.X}, truth.payloads)
        assert len(proxy.journal) < 5, "of five parts"
        proxy.heal()
        photos.write(truth.ids, {"raw": truth.X}, truth.payloads)
    truth.check(empty.storage.points(NAME), is_projected=False)


def test_a_missing_point_is_told_of_from_any_part(empty: WireServer, truth: Truth) -> None:
    with opened(empty.url) as store:
        upserted(store, truth)
        photos = ImageCollection.open(store, NAME)
        photos.add_vector("pca", D // 2, projected_origin(truth.projection, ORIGIN, "raw"))
        Z = truth.projected.astype(np.float32)
        gone = [truth.ids[3], truth.ids[-3]]
        store.delete(NAME, gone)
        with pytest.raises(NotFound, match="No point with id"):
            store.update_vectors(NAME, "pca", truth.ids, Z)
        store.upsert(NAME, gone, {"raw": truth.X[[3, -3]]}, [truth.payloads[n] for n in (3, -3)])
        # Other parts were written or not; a backfill takes up what is missing.
        backfill(photos, truth.projection)
    truth.check(empty.storage.points(NAME), is_projected=True)


def test_a_part_that_is_too_large_is_halved_by_itself(truth: Truth) -> None:
    with WireServer(largest_request=30_000) as narrow, opened(narrow.url) as store:
        upserted(store, truth)
        truth.check(narrow.storage.points(NAME), is_projected=False)


def test_a_closed_store_leaves_no_thread_behind(empty: WireServer, truth: Truth) -> None:
    before = set(threading.enumerate())
    with opened(empty.url) as store:
        upserted(store, truth)
        assert any(t.name.startswith("upload") for t in threading.enumerate())
    assert not [t for t in set(threading.enumerate()) - before if t.name.startswith("upload")]


def test_local_mode_writes_one_after_another(truth: Truth) -> None:
    from intramodal.store.server.client import connect_memory

    with ServerStore(connect_memory(), cluster=Cluster(upload_streams=4)) as store:
        made(store, 4)
        assert store.upload_streams(NAME) == 1
        with pytest.raises(InputError):
            store.upsert(NAME, [1], {"raw": np.full((1, D), np.nan, np.float32)}, [{}])
