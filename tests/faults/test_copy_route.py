"""The copy route: on a server that is too old, through faults, and killed while it copies."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from intramodal.errors import StoreError, Unsupported
from intramodal.ingest.backfill.copy import CopySummary, copy_collection
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.plan import plan_backfill, plan_copy
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.projection.projection import Projection
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.store.server.store import ServerStore
from intramodal.types import unit_rows
from tests.faults.schedules import ORIGIN, Truth, Wire, check_journal, schedule
from tests.faults.test_kills import (
    BATCH,
    DEADLINE_S,
    KILLS,
    N_POINTS,
    TellingProjection,
    moment,
    started,
)
from tests.faults.wire import WireServer
from tests.plain_encoder import DIM, PlainEncoder, plain_projection

N_SCHEDULES = max(4, int(os.environ.get("INTRAMODAL_FAULT_SCHEDULES", "20")) // 5)
N, D = 600, 16


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth.of(N, D)


def fill(store: ServerStore, truth: Truth) -> ImageCollection:
    collection = ImageCollection.create(store, "photos", {"raw": (D, ORIGIN)})
    store.ensure_index("photos", "label", "keyword")
    collection.write(truth.ids, {"raw": truth.X}, truth.payloads)
    store.set_aliases({"shown": "photos", "listed": "photos"})
    return collection


# A server below 1.18


@pytest.fixture
def old_server() -> Iterator[WireServer]:
    with WireServer(version="1.17.1") as server:
        yield server


def test_a_server_below_1_18_is_told_of_the_copy_and_gets_it(
    old_server: WireServer, truth: Truth
) -> None:
    with open_store(old_server.url) as store:
        assert isinstance(store, ServerStore)
        photos = fill(store, truth)
        for act in (backfill, plan_backfill):
            with pytest.raises(Unsupported, match=r"Qdrant 1\.17\.1 .*`new_collection`"):
                act(photos, truth.projection)
        assert set(ImageCollection.open(store, "photos").manifest.vectors) == {"raw"}
        assert plan_copy(photos, truth.projection, new_collection="new").aliases == [
            "listed",
            "shown",
        ]
        summary = copy_collection(photos, truth.projection, new_collection="new")
        assert (summary.copied, summary.projected, summary.compared) == (N, N, 200)
        truth.check(old_server.storage.points("photos"), is_projected=False)
        truth.check(old_server.storage.points("shown"), is_projected=True)
        assert store.info("new").indexes == {"label": "keyword"}
        assert rollback_vector(ImageCollection.open(store, "new")).aliases == ["listed", "shown"]
        truth.check(old_server.storage.points("shown"), is_projected=False)


def test_the_copy_of_an_old_server_is_filled_but_its_vector_not_removed(
    old_server: WireServer, truth: Truth
) -> None:
    with open_store(old_server.url) as store:
        assert isinstance(store, ServerStore)
        copy_collection(fill(store, truth), truth.projection, new_collection="new")
        new = ImageCollection.open(store, "new")
        new.write(truth.ids[:5], {"raw": truth.X[:5]}, truth.payloads[:5])
        assert backfill(new, truth.projection).projected == 5
        truth.check(old_server.storage.points("new"), is_projected=True)


# Faults on the wire


@pytest.mark.parametrize("seed", range(N_SCHEDULES))
def test_whatever_breaks_the_copy_is_whole_before_clients_are_switched(
    wire: Wire, truth: Truth, seed: int
) -> None:
    fill(wire.store(), truth)
    wire.journal.clear()
    wire.proxy.plan(schedule(np.random.default_rng([17, seed])))
    error = attempt(wire.store(), truth)
    check_journal(wire.journal, error)
    wire.proxy.heal()
    if wire.server.storage.aliases["shown"] == "new":
        truth.check(wire.server.storage.points("new"), is_projected=True)
    if error is not None:
        assert attempt(wire.store(), truth) is None
    assert wire.server.storage.aliases == {"shown": "new", "listed": "new"}
    truth.check(wire.server.storage.points("new"), is_projected=True)
    truth.check(wire.server.storage.points("photos"), is_projected=False)


def attempt(store: ServerStore, truth: Truth) -> StoreError | None:
    try:
        photos = ImageCollection.open(store, "photos")
        copy_collection(photos, truth.projection, new_collection="new", batch_size=100)
    except StoreError as error:
        return error
    return None


# Kills of an embedded copy


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop") / "store"
    X = unit_rows(np.random.default_rng(4).normal(size=(N_POINTS, DIM)))
    with open_store(str(folder)) as store:
        encoder = PlainEncoder()
        origin = VectorOrigin(encoder.name, encoder.fingerprint)
        made = ImageCollection.create(store, "shop", {"raw": (DIM, origin)})
        payloads = [{"label": f"l{n % 7}", "n": n} for n in range(N_POINTS)]
        made.write(list(range(N_POINTS)), {"raw": X}, payloads)
        store.set_alias("shown", "shop")
    return folder


def run_copy(projection: Projection, location: str) -> CopySummary:
    with open_store(location) as store:
        collection = ImageCollection.open(store, "shop")
        return copy_collection(collection, projection, new_collection="new", batch_size=BATCH)


def kill_copy(batch: int, pause_s: float, location: str) -> None:
    """Start the copy in a child, and kill it `pause_s` after it has begun the given batch."""
    with started([sys.executable, "-m", "tests.faults.test_copy_route", location]) as child:
        assert child.stdout is not None
        while (line := child.stdout.readline()) and int(line) < batch:
            pass
        assert line, f"the child ended with {child.wait()} before batch {batch}"
        time.sleep(pause_s)
        child.kill()
        assert child.wait(DEADLINE_S) == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("kill", range(KILLS))
def test_a_killed_copy_is_completed_by_the_same_call(
    shop: Path, tmp_path: Path, kill: int
) -> None:
    location = str(tmp_path / "store")
    shutil.copytree(shop, location)
    batch, pause_s = moment(kill + 2000, N_POINTS // BATCH)
    kill_copy(batch, pause_s, location)
    projection = plain_projection(PlainEncoder())
    summary = run_copy(projection, location)
    assert summary.copied + summary.skipped == N_POINTS
    # What was there is not copied again; the first batch is two requests: whole payloads are
    # weighed by a few before many are read.
    assert summary.skipped >= (batch - 1) * BATCH
    with open_store(location) as store:
        assert store.aliases() == {"shown": "new"}
        old, new = (
            ImageCollection.open(store, name).table(["raw"], payload=["label", "n"])
            for name in ("shop", "new")
        )
        assert (new.ids, new.payload) == (old.ids, old.payload)
        assert new.vectors["raw"].tobytes() == old.vectors["raw"].tobytes()
        assert store.count("new", Filter(has_vector="pca")) == N_POINTS
        assert ImageCollection.open(store, "new").origin("pca").is_complete
    assert run_copy(projection, location).copied == 0


if __name__ == "__main__":
    plain = plain_projection(PlainEncoder())
    told = TellingProjection(plain.matrix, plain.method, plain.encoder, plain.encoder_fingerprint)
    run_copy(told, sys.argv[1])
