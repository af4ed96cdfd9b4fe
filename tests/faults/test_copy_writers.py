"""A copy beside a writer to both collections, 20 updates a second: none of them is lost.

``INTRAMODAL_COPY_S`` says for how many seconds the copy is throttled to last: 3 by default, 20 in
the full run.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from intramodal.errors import NotFound
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import Floats, PointId, unit_rows
from tests.contract.test_foreign import opened
from tests.plain_encoder import DIM, PlainEncoder, plain_projection

N, D = 5000, DIM
SECONDS = float(os.environ.get("INTRAMODAL_COPY_S", "3"))
A_SECOND = 20
ENCODER = PlainEncoder()
PROJECTION = plain_projection(ENCODER)


class Writer:
    """Writes to both collections, to the old one first: whole points, and parts of known ones.

    A part of a point that the new collection does not have yet is written to the old one alone.

    Attributes
    ----------
    written : dict of id to (ndarray, int)
        The last raw vector and number of each point that it wrote.
    """

    def __init__(self, store: Store) -> None:
        self.written: dict[PointId, tuple[Floats, int]] = {}
        self.error: BaseException | None = None
        self._store = store
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._end.set()
        self._thread.join(60)

    def _work(self) -> None:
        rng, number = np.random.default_rng(8), 0
        try:
            while not self._end.wait(1 / A_SECOND):
                number += 1
                point = int(rng.integers(0, N + 200))
                X = unit_rows(rng.normal(size=(1, D)))
                is_known = point < N or point in self.written
                (self._change if is_known and number % 2 else self._write)(point, number, X)
                self.written[point] = (X[0], number)
        except BaseException as error:  # noqa: BLE001  shown by the test
            self.error = error

    def _change(self, point: int, number: int, X: Floats) -> None:
        self._store.update_vectors("shop", "raw", [point], X)
        self._store.set_payload("shop", [point], {"number": number})
        with suppress(NotFound):  # the whole collection, or the point
            self._store.update_vectors("new", "raw", [point], X)
            self._store.update_vectors("new", "pca", [point], PROJECTION.apply(X))
            self._store.set_payload("new", [point], {"number": number})

    def _write(self, point: int, number: int, X: Floats) -> None:
        self._store.upsert("shop", [point], {"raw": X}, [{"number": number}])
        if self._store.exists("new"):
            both = {"raw": X, "pca": PROJECTION.apply(X)}
            self._store.upsert("new", [point], both, [{"number": number}])


def fill(store: Store) -> None:
    X = unit_rows(np.random.default_rng(1).normal(size=(N, D)))
    collection = ImageCollection.create(
        store, "shop", {"raw": (D, VectorOrigin(ENCODER.name, ENCODER.fingerprint))}
    )
    collection.write(list(range(N)), {"raw": X}, [{"number": 0}] * N)
    store.set_alias("shown", "shop")


@pytest.fixture(params=["memory", "stand-in by rest", "stand-in by grpc"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with opened(request.param, tmp_path) as store:
        yield store


def test_no_update_of_a_writer_to_both_collections_is_lost(store: Store) -> None:
    check_copy(store)


def check_copy(store: Store) -> None:
    """Copy beside a writer, and look at all that it has written."""
    fill(store)
    started = time.monotonic()
    with Writer(store) as writer:
        shop = ImageCollection.open(store, "shop")
        summary = copy_collection(
            shop, PROJECTION, new_collection="new", batch_size=250, throttle=N / SECONDS
        )
    assert writer.error is None
    assert time.monotonic() - started >= 0.9 * SECONDS
    assert len(writer.written) > 0.5 * A_SECOND * SECONDS  # the machine may be busy
    assert store.aliases() == {"shown": "new"}
    ids = list(writer.written)
    page = store.retrieve("new", ids, vectors=["raw", "pca"], payload=True)
    assert page.ids == ids
    assert [payload["number"] for payload in page.payloads] == [
        writer.written[point][1] for point in ids
    ]
    raw = np.stack([writer.written[point][0] for point in ids])
    # float32 rows, divided by their length once more
    np.testing.assert_allclose(page.vectors["raw"], raw, atol=1e-6)
    expected = unit_rows(PROJECTION.apply(raw))
    np.testing.assert_allclose(page.vectors["pca"], expected, atol=1e-6)
    assert N - len(ids) <= summary.copied <= N + len(ids)
    assert store.count("new") == store.count("shop")
