"""Faults on the wire: nothing is lost, doubled or spoilt, whatever breaks and whenever."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest

from intramodal.errors import StoreError
from intramodal.ingest.backfill import backfill
from intramodal.store.collection import ImageCollection
from intramodal.store.server import ServerStore
from tests.faults.schedules import ORIGIN, Truth, Wire, check_journal, schedule

N_SCHEDULES = int(os.environ.get("INTRAMODAL_FAULT_SCHEDULES", "20"))
N_POINTS, D = 5000, 16
NAME = "photos"


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth.of(N_POINTS, D)


def write(store: ServerStore, truth: Truth) -> None:
    collection = ImageCollection.ensure(store, NAME, {"raw": (D, ORIGIN)})
    store.ensure_index(NAME, "label", "keyword")
    for start in range(0, N_POINTS, 1000):
        part = slice(start, start + 1000)
        collection.write(truth.ids[part], {"raw": truth.X[part]}, truth.payloads[part])


def project(store: ServerStore, truth: Truth) -> None:
    summary = backfill(ImageCollection.open(store, NAME), truth.projection)
    assert summary.written + summary.skipped == N_POINTS


def read(store: ServerStore, truth: Truth) -> None:
    table = ImageCollection.open(store, NAME).table(["raw", "pca"], payload=["label", "n"])
    order = np.argsort(truth.ids)
    assert table.ids == [truth.ids[row] for row in order]
    np.testing.assert_array_equal(table.vectors["raw"], truth.X[order])
    assert table.payload["n"] == list(order)


def attempt(act: Callable[[], None]) -> StoreError | None:
    try:
        act()
    except StoreError as error:
        return error
    return None


@pytest.mark.parametrize("seed", range(N_SCHEDULES))
def test_whatever_breaks_each_point_arrives_once_and_as_it_was(
    wire: Wire, truth: Truth, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    for act in (write, project, read):
        wire.journal.clear()
        wire.proxy.plan(schedule(rng))
        store = wire.store()
        error = attempt(lambda: act(store, truth))  # noqa: B023  called at once
        check_journal(wire.journal, error)
        wire.proxy.heal()
        if error is not None:
            wire.journal.clear()
            act(wire.store() if seed % 2 else store, truth)
            check_journal(wire.journal, None)
        truth.check(wire.server.storage.points(NAME), is_projected=act is not write)
    manifest = ImageCollection.open(wire.store(), NAME).manifest
    assert manifest.vectors["pca"].is_complete
