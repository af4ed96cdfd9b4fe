"""An alias that is moved while a job writes: all of it goes where the alias meant at first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.errors import AccessDenied, NotFound
from intramodal.ingest.adopt import adopt_collection
from intramodal.ingest.backfill.in_place import backfill, recompute
from intramodal.ingest.pipeline import images_collection, ingest_images, ingest_vectors
from intramodal.ingest.vectors.ready import open_ready
from intramodal.projection.projection import Projection
from intramodal.store.base import Filter, Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.store.own_name import under_own_name
from intramodal.types import ImageRecord, point_id
from tests.plain_encoder import PlainEncoder
from tests.unit.ingest.pipeline_kit import records

N, D = 50, 16
ORIGIN = VectorOrigin("test", "ab")
PCA = Projection(np.eye(D, 4, dtype=np.float32), "pca", "test", "ab")


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store(":memory:") as opened:
        for name in ("v1", "v2"):
            made = ImageCollection.create(opened, name, {"raw": (D, ORIGIN)})
            X = np.random.default_rng(3).normal(size=(N, D)).astype(np.float32)
            made.write(list(range(N)), {"raw": X}, [{}] * N)
        opened.set_alias("shop", "v1")
        yield opened


def moved_before(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str, alias: str = "shop"
) -> None:
    """Let the alias mean the other collection right before a call of the store."""
    original: Callable[..., Any] = getattr(store, call)

    def moving(*arguments: Any, **named: Any) -> Any:
        store.set_alias(alias, "v2")
        return original(*arguments, **named)

    monkeypatch.setattr(store, call, moving)


def test_a_backfill_fills_what_the_alias_meant_when_it_began(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = ImageCollection.open(store, "shop")
    moved_before(store, monkeypatch, "update_vectors")
    assert backfill(photos, PCA).projected == N
    assert store.count("v1", Filter(has_vector="pca")) == N
    assert ImageCollection.open(store, "v1").origin("pca").is_complete
    other = ImageCollection.open(store, "v2")
    assert set(other.vectors) == {"raw"}
    assert "pca" not in other.manifest.vectors
    assert set(photos.vectors) == {"raw"}, "it means the other one from now on"


def test_a_collection_opened_by_an_alias_knows_what_a_backfill_has_made(store: Store) -> None:
    photos = ImageCollection.open(store, "shop")
    assert backfill(photos, PCA).collection == "v1"
    assert photos.name == "shop"
    assert photos.origin("pca").is_complete
    store.delete_alias("shop")
    with pytest.raises(NotFound, match="'shop'"):
        recompute(photos, PCA, where=Filter())


def test_an_alias_that_was_moved_since_it_was_opened_is_read_anew(store: Store) -> None:
    photos = ImageCollection.open(store, "shop")
    store.set_alias("shop", "v2")
    assert backfill(photos, PCA).collection == "v2"
    assert recompute(collection=photos, projection=PCA, where=Filter()).collection == "v2"
    assert set(store.info("v1").vectors) == {"raw"}


def test_ready_vectors_go_where_the_alias_meant_when_the_ingest_began(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    np.save(tmp_path / "X.npy", np.eye(N, D, dtype=np.float32) + 1)
    ready = open_ready(tmp_path / "X.npy", dataset="shop")
    before = store.retrieve("v2", [0], vectors=["raw"]).vectors["raw"]
    moved_before(store, monkeypatch, "update_vectors")
    done = ingest_vectors(ready, ImageCollection.open(store, "shop"))
    assert (done.collection, done.written) == ("v1", N)
    np.testing.assert_array_equal(
        store.retrieve("v2", [0], vectors=["raw"]).vectors["raw"], before
    )


def test_images_go_where_the_alias_meant_and_keep_their_ids(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = PlainEncoder()
    for name in ("p1", "p2"):
        images_collection(store, name, encoder=encoder)
    store.set_alias("pictures", "p1")
    photos = images_collection(store, "pictures", encoder=encoder)
    original = store.insert

    def moving(*arguments: Any, **named: Any) -> None:
        store.set_alias("pictures", "p2")
        original(*arguments, **named)

    monkeypatch.setattr(store, "insert", moving)
    source: list[ImageRecord] = records(40)
    assert ingest_images(source, photos, encoder=encoder).written == 40
    assert (store.count("p1"), store.count("p2")) == (40, 0)
    ids = [point_id("pictures", one.key) for one in source]
    assert len(store.retrieve("p1", ids).ids) == 40


def test_what_is_adopted_is_what_was_checked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("v1", "v2"):
        store.set_metadata(name, {"intramodal:raw": None})
    moved_before(store, monkeypatch, "set_metadata")
    adopt_collection(ImageCollection.open(store, "shop"), made_by="m")
    assert ImageCollection.open(store, "v1").origin("raw").encoder == "m"
    assert "raw" not in ImageCollection.open(store, "v2").manifest.vectors


def test_a_key_that_may_not_list_aliases_does_not_end_a_job(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> dict[str, str]:
        raise AccessDenied("not allowed")

    monkeypatch.setattr(store, "aliases", refused)
    photos = ImageCollection.open(store, "v1")
    assert under_own_name(photos) is photos
    assert backfill(photos, PCA).projected == N
