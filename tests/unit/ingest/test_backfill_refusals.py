"""What a backfill refuses before it has declared anything, and its plan with it."""

from __future__ import annotations

from typing import Any

import pytest

from intramodal.errors import InputError, StoreError, Unsupported
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.plan import plan_backfill, plan_copy
from intramodal.projection.projection import Projection
from intramodal.store.collection import ImageCollection
from intramodal.store.open import open_store
from tests.faults.wire import WireServer
from tests.unit.ingest.backfill_kit import MATRIX, ORIGIN, PROJECTION, N, photos_in

OTHER = Projection(MATRIX[:, ::-1].copy(), "pca", "test", "ab")


@pytest.mark.parametrize("place", ["edge", ":memory:", "server"])
@pytest.mark.parametrize(
    ("wanted", "error", "why"),
    [
        ({"vector": "a:b"}, InputError, "cannot be the name of a vector"),
        ({"datatype": "uint8"}, InputError, "uint8"),
        ({"datatype": "nonsense"}, (InputError, Unsupported), "nonsense"),
    ],
    ids=str,
)
def test_what_cannot_be_stored_is_refused_before_it_is_declared_and_by_the_plan(
    place: str, wanted: dict[str, Any], error: type[StoreError], why: str, tmp_path: Any
) -> None:
    with WireServer() as server:
        where = {"edge": str(tmp_path), "server": server.url}.get(place, place)
        with open_store(where) as store:
            photos = photos_in(store)
            before = store.info("photos").metadata
            for act in (plan_backfill, backfill):
                with pytest.raises(error, match=why):
                    act(photos, PROJECTION, **wanted)
            assert store.info("photos").metadata == before
            assert set(store.info("photos").vectors) == {"raw"}
            # And the name is free for another projection.
            if "datatype" in wanted:
                assert backfill(ImageCollection.open(store, "photos"), OTHER).projected == N


def test_a_type_that_only_some_stores_know_is_refused_by_the_plan_of_the_others(
    tmp_path: Any,
) -> None:
    with open_store(str(tmp_path)) as store:
        photos = photos_in(store)
        with pytest.raises(Unsupported, match=r"'turbo4'.*embedded store knows float32"):
            plan_backfill(photos, PROJECTION, datatype="turbo4")


def test_a_copy_is_never_made_with_uint8_either() -> None:
    with open_store(":memory:") as store:
        photos = photos_in(store)
        with pytest.raises(InputError, match="uint8"):
            plan_copy(photos, PROJECTION, new_collection="new", datatype="uint8")


def test_a_vector_is_not_declared_under_a_name_that_it_cannot_have() -> None:
    with open_store(":memory:") as store:
        photos = photos_in(store)
        with pytest.raises(InputError, match="cannot be the name of a vector"):
            photos.add_vector("a:b", 4, ORIGIN)
        assert set(ImageCollection.open(store, "photos").manifest.vectors) == {"raw"}
