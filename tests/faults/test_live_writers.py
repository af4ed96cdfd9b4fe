"""A backfill beside writers of the same collection: it ends, and nothing of theirs is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from intramodal.ingest.backfill.in_place import backfill
from intramodal.store.base import Filter, Store, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.server.client import connect_server
from intramodal.store.server.store import ServerStore
from tests.cli.kit import run
from tests.contract.test_foreign import needs_engine, opened
from tests.faults.wire import WireServer
from tests.faults.writers import (
    A_SECOND,
    KINDS,
    NAME,
    NEW_WITHOUT,
    PROJECTION,
    SOURCE_ALONE,
    BetweenPages,
    Shop,
    live_writers,
)

N, BATCH = 1500, 100
N_FULL, SECONDS = 20_000, 30.0
ON_SERVERS = ["memory", "stand-in by rest", "stand-in by grpc"]


@pytest.fixture(params=[pytest.param("edge", marks=needs_engine), *ON_SERVERS])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with opened(request.param, tmp_path) as store:
        yield store


@pytest.mark.parametrize("kind", KINDS)
def test_a_writer_is_never_overwritten_and_never_keeps_a_backfill_from_ending(
    store: Store, kind: str
) -> None:
    shop = Shop.filled(store, N)
    photos = ImageCollection.open(store, NAME)
    summary = backfill(photos, BetweenPages(shop, [kind], BATCH), batch_size=BATCH)
    assert shop.n_writes[kind] >= 6 * N / BATCH
    shop.check_end(summary)
    lacking, stale = shop.check()
    assert bool(stale) == (kind == SOURCE_ALONE)
    assert summary.lacking == len(lacking)
    assert (summary.late > 0) == bool(shop.without)
    assert photos.origin("pca").is_complete == (not lacking)


def test_all_of_them_at_once_leave_nothing_that_a_repeat_does_not_fill(store: Store) -> None:
    shop = Shop.filled(store, N)
    photos = ImageCollection.open(store, NAME)
    summary = backfill(photos, BetweenPages(shop, KINDS, BATCH), batch_size=BATCH)
    shop.check_end(summary)
    assert summary.lacking > 0
    assert not ImageCollection.open(store, NAME).origin("pca").is_complete
    again = backfill(photos, PROJECTION)
    assert (again.projected, again.late, again.lacking) == (summary.lacking, 0, 0)
    assert store.count(NAME, Filter(lacks_vector="pca")) == 0
    assert ImageCollection.open(store, NAME).origin("pca").is_complete


def test_the_command_ends_well_beside_a_writer_without_the_vector_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    PROJECTION.save(tmp_path / "pca.safetensors")
    with WireServer() as server, ServerStore(connect_server(server.url)) as store:
        shop = Shop.filled(store, N)
        command = ("backfill", NAME, "--projection", "pca.safetensors", "--store", server.url)

        def write(method: str, path: str) -> None:
            if path.endswith("/points/vectors"):
                shop.write(NEW_WITHOUT, 0)

        server.before = write
        done = run(*command)
        server.before = lambda method, path: None
        assert done["lacking"] == store.count(NAME, Filter(lacks_vector="pca")) > 0
        assert done["sentence"].endswith(
            "let their writer write both vectors, then run the same command again"
        )
        assert run(*command)["projected"] == done["lacking"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Local mode is not recommended:UserWarning")
@pytest.mark.parametrize("store", ON_SERVERS, indirect=True)
def test_twenty_writes_a_second_of_every_kind_harm_nothing_in_half_a_minute(store: Store) -> None:
    shop = Shop.filled(store, N_FULL)
    photos = ImageCollection.open(store, NAME)
    started = time.monotonic()
    with live_writers(shop):
        summary = backfill(photos, PROJECTION, throttle=N_FULL / SECONDS)
    assert time.monotonic() - started > 0.9 * SECONDS
    # The machine may be busy.
    assert min(shop.n_writes.values()) > 0.5 * A_SECOND * SECONDS
    shop.check_end(summary)


@pytest.mark.parametrize("uses_grpc", [False, True])
@pytest.mark.parametrize(("version", "tells"), [("1.15.5", False), ("1.16.2", True)])
def test_a_server_that_cannot_leave_vectors_alone_is_warned_of_once(
    version: str, tells: bool, uses_grpc: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        WireServer(version=version, speaks_grpc=uses_grpc) as server,
        ServerStore(connect_server(server.url, prefer_grpc=uses_grpc)) as store,
    ):
        ours, theirs = np.eye(2, dtype=np.float32)
        store.create(NAME, {"raw": VectorSpec(2), "pca": VectorSpec(2)})
        store.upsert(NAME, [1], {"raw": ours[None], "pca": theirs[None]}, [{}])
        store.upsert(NAME, [2], {"raw": ours[None]}, [{}])
        for _ in range(2):
            store.update_vectors(NAME, "pca", [1, 2], np.stack([ours] * 2), only_lacking=True)
        found = store.retrieve(NAME, [1, 2], vectors=["pca"]).vectors["pca"]
        np.testing.assert_array_equal(found, [theirs if tells else ours, ours])
    warned = [text for text in caplog.messages if "replaces what others write" in text]
    assert len(warned) == (0 if tells else 1)
