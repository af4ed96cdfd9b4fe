"""The fault suites in front of a running server: the same tests behind another proxy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pytest

from intramodal.errors import StoreUnavailable
from intramodal.ingest.backfill.in_place import backfill
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.server.client import connect_server
from intramodal.types import PointId
from tests.faults.proxy import Fault, FaultProxy
from tests.faults.schedules import Clock, Truth, Wire
from tests.faults.test_fault_schedules import (
    N_POINTS,
    NAME,
    pictures,
    test_whatever_breaks_each_picture_arrives_once_and_as_it_was,
    test_whatever_breaks_each_point_is_written_and_read_once_and_as_it_was,
    truth,
    write,
)
from tests.faults.wire import Point
from tests.integration.servers import SERVER, Qdrant

__all__ = [
    "pictures",
    "test_whatever_breaks_each_picture_arrives_once_and_as_it_was",
    "test_whatever_breaks_each_point_is_written_and_read_once_and_as_it_was",
    "truth",
]


# On the stand-in, tests/faults runs them: there the proxy stands before it as well.
pytestmark = pytest.mark.parametrize("running_qdrant", [SERVER], indirect=True)


@dataclass(frozen=True)
class Storage:
    """What a server holds, read past the proxy."""

    server: Qdrant

    def points(self, name: str) -> dict[PointId, Point]:
        """Return every point, with the vectors that it has."""
        found: dict[PointId, Point] = {}
        with self.server.store() as store:
            vectors = list(store.info(name).vectors)
            for page in store.scroll(name, vectors=vectors, payload=True):
                for row, point in enumerate(page.ids):
                    rows = {v: X[row] for v, X in page.vectors.items()}
                    there = {v: x for v, x in rows.items() if not np.isnan(x).any()}
                    assert point not in found
                    found[point] = Point(there, page.payloads[row])
        return found

    def clear(self) -> None:
        """Drop what a schedule has left."""
        with self.server.store() as store:
            for name in store.collections():
                store.drop(name)


@dataclass(frozen=True)
class Served:
    """Stands where the tests expect the stand-in of the wire."""

    url: str
    storage: Storage


@pytest.fixture
def wire(qdrant: Qdrant) -> Iterator[Wire]:
    journal: list[object] = []
    clock = Clock(journal)
    with FaultProxy(qdrant.url, journal) as proxy:
        connection = connect_server(proxy.url, api_key=qdrant.api_key, retry=clock.retry())
        with closing(connection.client):
            proxy.watch(connection.client)
            served = Served(qdrant.url, Storage(qdrant))
            yield Wire(served, proxy, connection, clock, journal)  # type: ignore[arg-type]


@pytest.mark.parametrize("n_requests", [5, 20])
def test_a_backfill_goes_on_after_the_connection_was_gone_for_good(
    wire: Wire, truth: Truth, n_requests: int
) -> None:
    write(wire.store(), truth)
    photos = ImageCollection.open(wire.store(), NAME)
    wire.proxy.plan([*[None] * n_requests, *[Fault("reset")] * 1000])
    with pytest.raises(StoreUnavailable, match="gave up"):
        backfill(photos, truth.projection, batch_size=500)
    wire.proxy.heal()
    n_left = N_POINTS - photos.count(Filter(has_vector="pca"))
    summary = backfill(ImageCollection.open(wire.store(), NAME), truth.projection)
    assert (summary.projected, summary.skipped) == (n_left, N_POINTS - n_left)
    truth.check(wire.server.storage.points(NAME), is_projected=True)
