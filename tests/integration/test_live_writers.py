"""A backfill and a copy beside writers, 20 writes a second of each kind, on a running server."""

from __future__ import annotations

import pytest

from intramodal.ingest.backfill.in_place import backfill
from intramodal.store.base import Filter, Store
from intramodal.store.collection import ImageCollection
from tests.faults.test_copy_writers import check_copy
from tests.faults.test_live_writers import N_FULL, SECONDS
from tests.faults.writers import A_SECOND, NAME, PROJECTION, Shop, live_writers
from tests.integration.servers import SERVER

# On the stand-in, tests/faults runs them.
pytestmark = pytest.mark.parametrize("running_qdrant", [SERVER], indirect=True)


@pytest.mark.parametrize(
    ("n", "seconds"),
    [(2000, 3.0), pytest.param(N_FULL, SECONDS, marks=pytest.mark.slow)],
)
def test_writers_of_every_kind_are_left_alone_and_a_repeat_fills_the_rest(
    store: Store, n: int, seconds: float
) -> None:
    shop = Shop.filled(store, n)
    photos = ImageCollection.open(store, NAME)
    with live_writers(shop):
        summary = backfill(photos, PROJECTION, batch_size=n // 20, throttle=n / seconds)
    assert min(shop.n_writes.values()) > 0.5 * A_SECOND * seconds  # the machine may be busy
    shop.check_end(summary)
    lacking, stale = shop.check()
    assert backfill(photos, PROJECTION).projected == len(lacking)
    assert store.count(NAME, Filter(lacks_vector="pca")) == 0
    assert shop.check() == (set(), stale)


def test_no_update_of_a_writer_to_both_collections_is_lost(store: Store) -> None:
    check_copy(store)
