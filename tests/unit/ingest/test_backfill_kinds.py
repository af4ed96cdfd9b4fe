"""Collections of other distances and datatypes: projected from what they hold, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from intramodal.errors import InputError, Unsupported
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.verify import storage_error
from intramodal.store.base import Store, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.open import open_store
from intramodal.store.server.client import connect_memory
from intramodal.store.server.store import ServerStore
from intramodal.types import unit_rows
from tests.unit.ingest.backfill_kit import ORIGIN, PROJECTION, D, rows, shop_in

N = 20


@pytest.mark.parametrize("distance", ["Cosine", "Dot", "Euclid", "Manhattan"])
@pytest.mark.parametrize("datatype", ["float32", "float16", "uint8"])
def test_what_is_stored_is_projected(store: Store, distance: str, datatype: str) -> None:
    """`raw` as the store gives it back, scaled to unit length: any distance, any precision."""
    shop = shop_in(store, {"raw": VectorSpec(D, distance, datatype)})  # type: ignore[arg-type]
    shop.declare("raw", ORIGIN)
    X = np.round(127 + 100 * rows(range(N))) if datatype == "uint8" else 3 * rows(range(N))
    store.upsert("shop", list(range(N)), {"raw": X.astype(np.float32)}, [{}] * N)
    assert backfill(shop, PROJECTION).projected == N
    table = shop.table(["raw", "pca"])
    expected = unit_rows(PROJECTION.apply(table.vectors["raw"]))
    made = shop.info().vectors["pca"]
    # The client's local mode adds float32 alone.
    takes = datatype == "float16" and store.location != ":memory:"
    assert made == VectorSpec(D // 2, datatype="float16" if takes else "float32")
    # float32 products, normalised by the engine, and what half floats lose where it has them
    atol = 1e-5 + storage_error(made)
    np.testing.assert_allclose(table.vectors["pca"], expected, atol=atol)


def test_local_mode_adds_no_vector_of_another_datatype() -> None:
    with open_store(":memory:") as store:
        shop = shop_in(store, {"raw": VectorSpec(D)})
        shop.declare("raw", ORIGIN)
        with pytest.raises(InputError, match="float32 only, not of float16"):
            backfill(shop, PROJECTION, datatype="float16")
        assert set(shop.info().vectors) == {"raw"}


def test_several_rows_a_point_are_refused_in_one_sentence() -> None:
    connection = connect_memory()
    client: QdrantClient = connection.client
    several = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    config = models.VectorParams(size=D, distance="Cosine", multivector_config=several)
    client.create_collection("shop", vectors_config={"raw": config})
    with ServerStore(connection) as store:
        shop = ImageCollection.open(store, "shop")
        shop.declare("raw", ORIGIN)
        with pytest.raises(Unsupported, match="is a multivector"):
            backfill(shop, PROJECTION)
        assert set(shop.info().vectors) == {"raw"}
