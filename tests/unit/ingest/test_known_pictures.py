"""Pictures whose points exist: only what the ingest is about is written, and safely so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from intramodal.errors import StoreError
from intramodal.ingest.pipeline import ingest_images
from intramodal.projection.projection import Projection
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import ImageRecord, point_id, unit_rows
from tests.plain_encoder import DIM, PlainEncoder, collection_for
from tests.unit.ingest.pipeline_kit import N, contents, counts, png, record, records

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


def with_empty_pca(store: Store, encoder: PlainEncoder, projection: Projection) -> ImageCollection:
    """Return a collection of all pictures, to which `pca` was added but not filled."""
    collection = collection_for(store, encoder)
    ingest_images(records(), collection, encoder=encoder)
    origin = VectorOrigin(
        encoder.name, encoder.fingerprint, projection=projection.fingerprint, source="raw"
    )
    collection.add_vector("pca", projection.dim_out, origin)
    return collection


def test_unchanged_pictures_without_the_projection_are_projected_from_their_stored_vector(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    collection = with_empty_pca(store, encoder, projection)
    full = [point_id("photos", f"{n:05}.png") for n in range(10)]
    ours = np.ones((10, DIM // 2), dtype=np.float32)
    store.update_vectors("photos", "pca", full, ours)
    before = contents(collection)
    relabelled = [record(n, shelf=n) if n == 40 else record(n) for n in range(N)]
    summary = ingest_images(relabelled, collection, encoder=encoder, projection=projection)
    assert counts(summary) == (0, 10, 0, 0, 0)
    assert summary.projected == N - 10
    assert encoder.n_encoded == N  # by the first ingest
    table = collection.table(["raw", "pca"], payload=["path", "shelf"])
    assert (len(table), table.n_incomplete) == (N, 0)
    is_ours = np.isin(table.ids, full)
    expected = np.where(
        is_ours[:, None], unit_rows(ours)[:1], unit_rows(projection.apply(table.vectors["raw"]))
    )
    # float32 dot products over 24 terms, stored normalised
    np.testing.assert_allclose(table.vectors["pca"], expected, atol=1e-6)
    assert [shelf for shelf in table.payload["shelf"] if shelf is not None] == [40]
    after = contents(collection)
    assert {key: rows for key, (_, _, rows) in after.items()} == {
        key: rows for key, (_, _, rows) in before.items()
    }
    again = ingest_images(relabelled, collection, encoder=encoder, projection=projection)
    assert (again.projected, again.skipped) == (0, N)


def test_a_stored_vector_that_cannot_be_projected_is_listed(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    collection = with_empty_pca(store, encoder, projection)
    zero = point_id("photos", "00003.png")
    store.update_vectors("photos", "raw", [zero], np.zeros((1, DIM), dtype=np.float32))
    summary = ingest_images(records(), collection, encoder=encoder, projection=projection)
    assert (summary.projected, summary.failed) == (N - 1, 1)
    assert summary.failures == [
        {"item": "00003.png", "stage": "project", "reason": "its vector 'raw' is zero"}
    ]


def test_a_changed_picture_keeps_what_others_have_added_to_its_point(
    store: Store, encoder: PlainEncoder, projection: Projection
) -> None:
    collection = collection_for(store, encoder, projection)
    ingest_images(records(), collection, encoder=encoder, projection=projection)
    changed = point_id("photos", "00005.png")
    store.set_payload("photos", [changed], {"reviewed": {"by": ["a", None]}})
    source = [replace(record(n), read=lambda: png(500)) if n == 5 else record(n) for n in range(N)]
    before = contents(collection, ["raw", "pca"])
    summary = ingest_images(source, collection, encoder=encoder, projection=projection)
    assert counts(summary) == (1, N - 1, 0, 0, 0)
    after = contents(collection, ["raw", "pca"])
    _, payload, rows = after.pop("00005.png")
    _, known, old_rows = before.pop("00005.png")
    assert after == before
    assert payload["sha256"] != known["sha256"]
    assert {**payload, "sha256": 0} == {**known, "sha256": 0}
    assert payload["reviewed"] == {"by": ["a", None]}
    assert all(rows[vector] != old_rows[vector] for vector in ("raw", "pca"))


class Failing:
    """A store whose writes of one vector fail while it is told so."""

    def __init__(self, store: Store, vector: str) -> None:
        self._store = store
        self._vector = vector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def update_vectors(self, name: str, vector: str, *rest: Any, **how: Any) -> None:
        if vector == self._vector:
            raise StoreError("the disk is full")
        self._store.update_vectors(name, vector, *rest, **how)


@pytest.mark.parametrize("vector", ["raw", "pca"])
def test_a_picture_whose_write_broke_off_is_encoded_again_whatever_it_is_by_then(
    store: Store, encoder: PlainEncoder, projection: Projection, vector: str
) -> None:
    collection = collection_for(store, encoder, projection)
    ingest_images(records(3), collection, encoder=encoder, projection=projection)
    before = contents(collection, ["raw", "pca"])
    changed = [record(0), replace(record(1), read=lambda: png(500)), record(2)]
    broken: Any = ImageCollection(
        Failing(store, vector),  # type: ignore[arg-type]  # it passes on all else
        "photos",
        collection.manifest,
    )
    with pytest.raises(StoreError, match="the disk is full"):
        ingest_images(changed, broken, encoder=encoder, projection=projection)
    # The old picture is back: its hash alone would say that nothing is to do.
    summary = ingest_images(records(3), collection, encoder=encoder, projection=projection)
    assert counts(summary) == (1, 2, 0, 0, 0)
    assert contents(collection, ["raw", "pca"]) == before


class Elsewhere(PlainEncoder):
    """Encodes in any thread, as if in another process."""

    def encode_pixels(self, pixels: Any) -> Any:
        return np.stack([self.vector(one) for one in pixels])


class Overlapping(Failing):
    """A store in which a whole other ingest runs before the first write of a vector."""

    def __init__(self, store: Store, vector: str, other: Any) -> None:
        super().__init__(store, vector)
        self._others = [other]

    def update_vectors(self, name: str, vector: str, *rest: Any, **how: Any) -> None:
        if vector == self._vector and self._others:
            self._others.pop()()
        self._store.update_vectors(name, vector, *rest, **how)


@pytest.mark.parametrize("vector", ["raw", "pca"])
def test_two_ingests_at_once_never_leave_a_vector_under_the_hash_of_another(
    store: Store, encoder: PlainEncoder, projection: Projection, vector: str
) -> None:
    collection = collection_for(store, encoder, projection)
    ingest_images(records(2), collection, encoder=encoder, projection=projection)
    one, other = (
        [replace(record(n), read=lambda n=n, v=version: png(v + n)) for n in range(2)]
        for version in (500, 600)
    )

    def run_other() -> None:
        ingest_images(other, collection, encoder=Elsewhere(), projection=projection)

    overlapping: Any = ImageCollection(
        Overlapping(store, vector, run_other),  # type: ignore[arg-type]  # it passes on all else
        "photos",
        collection.manifest,
    )
    ingest_images(one, overlapping, encoder=encoder, projection=projection)
    assert ingest_images(other, collection, encoder=encoder, projection=projection).written == 2
    table = collection.table(["raw", "pca"])
    expected = unit_rows(projection.apply(table.vectors["raw"]))
    np.testing.assert_allclose(table.vectors["pca"], expected, atol=1e-6)
    assert ingest_images(other, collection, encoder=encoder, projection=projection).skipped == 2


class Deleting(PlainEncoder):
    """While it encodes, somebody deletes a point."""

    def __init__(self, store: Store, point: str) -> None:
        super().__init__()
        self._delete = lambda: store.delete("photos", [point])

    def encode_pixels(self, pixels: Any) -> Any:
        self._delete()
        return super().encode_pixels(pixels)


def test_a_point_that_is_deleted_meanwhile_is_listed_and_the_others_are_written(
    store: Store, encoder: PlainEncoder
) -> None:
    collection = collection_for(store, encoder)
    ingest_images(records(4), collection, encoder=encoder)
    changed = [replace(record(n), read=lambda n=n: png(500 + n)) for n in range(4)]
    deleting = Deleting(store, point_id("photos", "00002.png"))
    summary = ingest_images(changed, collection, encoder=deleting)
    assert counts(summary) == (3, 0, 0, 1, 0)
    assert summary.failures[0]["item"] == "00002.png"
    assert "deleted meanwhile; run the same command again" in summary.failures[0]["reason"]
    assert counts(ingest_images(changed, collection, encoder=encoder)) == (1, 3, 0, 0, 0)


class Adding(PlainEncoder):
    """While it encodes, another writer adds the same picture with a vector of its own."""

    def __init__(self, store: Store, point: str) -> None:
        super().__init__()
        self._store, self._point = store, point

    def encode_pixels(self, pixels: Any) -> Any:
        vectors = {"raw": np.ones((1, DIM), np.float32), "caption": np.ones((1, 3), np.float32)}
        self._store.insert("photos", [self._point], vectors, [{"by": "another"}])
        return super().encode_pixels(pixels)


def test_a_point_that_another_writer_adds_meanwhile_keeps_all_it_has(
    store: Store, encoder: PlainEncoder
) -> None:
    raw = VectorOrigin(encoder.name, encoder.fingerprint)
    caption = VectorOrigin("another", "")
    collection = ImageCollection.create(
        store, "photos", {"raw": (DIM, raw), "caption": (3, caption)}
    )
    point = point_id("photos", "00001.png")
    source: list[ImageRecord] = records(3)
    ingest_images(source, collection, encoder=Adding(store, point))
    page = store.retrieve("photos", [point], vectors=["caption"], payload=True)
    assert page.payloads == [{"by": "another"}]
    assert np.isfinite(page.vectors["caption"]).all()
    assert counts(ingest_images(source, collection, encoder=encoder)) == (1, 2, 0, 0, 0)
    page = store.retrieve("photos", [point], vectors=["caption"], payload=True)
    assert page.payloads[0]["by"] == "another"
    assert page.payloads[0]["path"] == "00001.png"
    assert np.isfinite(page.vectors["caption"]).all()
