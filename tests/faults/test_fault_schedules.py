"""Faults on the wire: nothing is lost, doubled or spoilt, whatever breaks and whenever."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest

from intramodal.errors import StoreError
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.images import encoder_origin
from intramodal.ingest.pipeline import ingest_images
from intramodal.store.collection import ImageCollection, tabled
from intramodal.store.origins import projected_origin
from intramodal.store.server.store import ServerStore
from intramodal.types import ImageRecord
from tests.faults.pictures import TinyEncoder, generated
from tests.faults.schedules import ORIGIN, Truth, Wire, check_journal, schedule

N_SCHEDULES = int(os.environ.get("INTRAMODAL_FAULT_SCHEDULES", "20"))
# An ingest costs three times a write of ready vectors; the full count is of ingests.
FEW, MANY = range(0, N_SCHEDULES, 4), [seed for seed in range(N_SCHEDULES) if seed % 4]
INGESTS, WRITES = (FEW, MANY) if N_SCHEDULES <= 20 else (range(N_SCHEDULES), FEW)
N_POINTS, D = 5000, 16
NAME = "photos"

Pictures = tuple[list[ImageRecord], TinyEncoder, Truth]
Act = Callable[[ServerStore], None]


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth.of(N_POINTS, D)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return generated(N_POINTS, NAME, D)


def write(store: ServerStore, truth: Truth) -> None:
    collection = ImageCollection.ensure(store, NAME, {"raw": (D, ORIGIN)})
    store.ensure_index(NAME, "label", "keyword")
    for start in range(0, N_POINTS, 1000):
        part = slice(start, start + 1000)
        collection.write(truth.ids[part], {"raw": truth.X[part]}, truth.payloads[part])


def take_up(store: ServerStore, pictures: Pictures, *, is_projected: bool) -> None:
    records, encoder, truth = pictures
    origin = encoder_origin(encoder)
    vectors = {"raw": (D, origin)}
    if is_projected:
        vectors["pca"] = (D // 2, projected_origin(truth.projection, origin, "raw"))
    collection = ImageCollection.ensure(store, NAME, vectors)
    projection = truth.projection if is_projected else None
    summary = ingest_images(
        records, collection, encoder=encoder, projection=projection, batch_size=200
    )
    assert (summary.failed, summary.updated, summary.pruned) == (0, 0, 0)
    assert summary.written + summary.skipped == N_POINTS


def project(store: ServerStore, truth: Truth) -> None:
    # At a pace, however high, one request follows the other.
    summary = backfill(ImageCollection.open(store, NAME), truth.projection, throttle=1e9)
    assert summary.projected + summary.skipped == N_POINTS


def read(store: ServerStore, truth: Truth) -> None:
    # A plain scroll: slices are read by threads of their own (tests/faults/test_scans.py).
    pages = ImageCollection.open(store, NAME).scroll(vectors=["raw"], payload=["label"])
    table = tabled(pages, ["raw"], ["label"])
    order = np.argsort(truth.ids)
    assert table.ids == [truth.ids[row] for row in order]
    np.testing.assert_allclose(table.vectors["raw"], truth.X[order], rtol=0, atol=truth.atol)
    assert table.payload["label"] == [truth.payloads[row]["label"] for row in order]


def attempt(act: Act, store: ServerStore) -> StoreError | None:
    try:
        act(store)
    except StoreError as error:
        return error
    return None


def survive(wire: Wire, act: Act, rng: np.random.Generator) -> bool:
    """Make a call through faults; if they outlast it, the same call without faults ends it.

    Returns whether the first call went through.
    """
    wire.journal.clear()
    wire.proxy.plan(schedule(rng))
    store = wire.store()
    error = attempt(act, store)
    check_journal(wire.journal, error)
    wire.proxy.heal()
    if error is not None:
        wire.journal.clear()
        act(wire.store() if rng.random() < 1 / 2 else store)
        check_journal(wire.journal, None)
    return error is None


def survive_backfill(wire: Wire, truth: Truth, rng: np.random.Generator) -> None:
    survive(wire, lambda store: project(store, truth), rng)
    truth.check(wire.server.storage.points(NAME), is_projected=True)
    manifest = ImageCollection.open(wire.store(), NAME).manifest
    assert manifest.vectors["pca"].is_complete


@pytest.mark.parametrize("seed", INGESTS)
def test_whatever_breaks_each_picture_arrives_once_and_as_it_was(
    wire: Wire, pictures: Pictures, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    is_projected = bool(rng.random() < 1 / 2)
    survive(wire, lambda store: take_up(store, pictures, is_projected=is_projected), rng)
    pictures[2].check(wire.server.storage.points(NAME), is_projected=is_projected)
    survive_backfill(wire, pictures[2], rng)


@pytest.mark.parametrize("seed", WRITES)
def test_whatever_breaks_each_point_is_written_and_read_once_and_as_it_was(
    wire: Wire, truth: Truth, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    if survive(wire, lambda store: write(store, truth), rng):
        answered = [r for r in wire.served() if r.fault is None and r.method == "PUT"]
        n_batches = sum(request.path.endswith("/points") for request in answered)
        assert n_batches == 5 * 4, "1,000 points are 4 requests, each of which is answered once"
    truth.check(wire.server.storage.points(NAME), is_projected=False)
    survive_backfill(wire, truth, rng)
    survive(wire, lambda store: read(store, truth), rng)
