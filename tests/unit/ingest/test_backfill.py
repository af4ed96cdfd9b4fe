from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from intramodal.errors import InputError, ManifestMismatchError
from intramodal.ingest.backfill import points
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill, recompute
from intramodal.ingest.backfill.plan import plan_backfill
from intramodal.projection.projection import Projection
from intramodal.runs.ledger import RunLedger
from intramodal.runs.run import Run
from intramodal.store.base import Filter, Store, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import unit_rows

N, D = 230, 16
RAW = VectorOrigin("test", "ab")


@pytest.fixture
def projection(rng: np.random.Generator) -> Projection:
    matrix = np.linalg.qr(rng.normal(size=(D, D // 2)))[0]
    return Projection(matrix, "pca", "test", "ab")


@pytest.fixture
def photos(store: Store, rng: np.random.Generator) -> ImageCollection:
    collection = ImageCollection.create(store, "photos", {"raw": (D, RAW)})
    write(collection, rng, range(N))
    return collection


def write(collection: ImageCollection, rng: np.random.Generator, ids: range) -> None:
    X = rng.normal(size=(len(ids), D)).astype(np.float32)
    collection.write(list(ids), {"raw": X}, [{"label": f"l{i % 3}", "n": i} for i in ids])


def everything(collection: ImageCollection) -> tuple[list[object], bytes, list[object]]:
    table = collection.table(["raw"], payload=["label", "n"])
    return list(table.ids), table.vectors["raw"].tobytes(), list(table.payload.items())


def assert_projected(collection: ImageCollection, projection: Projection) -> None:
    table = collection.table(["raw", "pca"])
    assert table.n_incomplete == 0
    expected = unit_rows(projection.apply(table.vectors["raw"]))
    # float32 dot products over 16 terms, stored normalised
    np.testing.assert_allclose(table.vectors["pca"], expected, atol=1e-5)


def test_every_point_gets_the_projected_vector_and_nothing_else_changes(
    photos: ImageCollection, projection: Projection
) -> None:
    before = everything(photos)
    summary = backfill(photos, projection, batch_size=64)
    assert (summary.projected, summary.skipped, summary.unprojectable) == (N, 0, 0)
    assert everything(photos) == before
    assert_projected(photos, projection)
    reopened = ImageCollection.open(photos.store, "photos").origin("pca")
    assert reopened.is_complete
    assert (reopened.projection, reopened.source) == (projection.fingerprint, "raw")


def test_a_repeat_writes_nothing(photos: ImageCollection, projection: Projection) -> None:
    backfill(photos, projection)
    again = backfill(photos, projection)
    assert (again.projected, again.skipped) == (0, N)


def test_a_stopped_backfill_goes_on_where_it_was(
    photos: ImageCollection, projection: Projection
) -> None:
    class StopsAfterTwo(Projection):
        n_batches = 0

        def apply(self, X: np.ndarray) -> np.ndarray:
            type(self).n_batches += 1
            if self.n_batches > 2:
                raise KeyboardInterrupt
            return super().apply(X)

    stopping = StopsAfterTwo(projection.matrix, "pca", "test", "ab")
    with pytest.raises(KeyboardInterrupt):
        backfill(photos, stopping, batch_size=50)
    assert not ImageCollection.open(photos.store, "photos").origin("pca").is_complete
    rest = backfill(photos, projection, batch_size=50)
    assert (rest.projected, rest.skipped) == (N - 100, 100)
    assert_projected(photos, projection)


def test_points_written_meanwhile_are_taken_up_by_the_same_call(
    photos: ImageCollection, projection: Projection, rng: np.random.Generator
) -> None:
    class WritesOnce(Projection):
        is_done = False

        def apply(self, X: np.ndarray) -> np.ndarray:
            if not self.is_done:
                type(self).is_done = True
                write(photos, rng, range(5))  # points that were filled or will be, changed
                write(photos, rng, range(1000, 1010))
            return super().apply(X)

    backfill(photos, WritesOnce(projection.matrix, "pca", "test", "ab"), batch_size=50)
    assert photos.table(["raw", "pca"]).n_incomplete == 0
    assert photos.count() == N + 10


def test_only_the_points_asked_for_get_the_vector_until_all_are(
    photos: ImageCollection, projection: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "_IDS_A_FILTER", 20)  # several filters a call
    some = backfill(photos, projection, only=[*range(70), 999], batch_size=16)
    assert (some.projected, some.skipped, some.unprojectable) == (70, 0, 0)
    found = photos.table(["pca"])
    assert sorted(map(int, found.ids)) == list(range(70))
    assert not ImageCollection.open(photos.store, "photos").origin("pca").is_complete
    more = backfill(photos, projection, only=range(60, 100))
    assert (more.projected, more.skipped) == (30, 10)
    rest = backfill(photos, projection)
    assert (rest.projected, rest.skipped) == (N - 100, 100)
    assert ImageCollection.open(photos.store, "photos").origin("pca").is_complete
    backfill(photos, projection, only=[0])
    assert ImageCollection.open(photos.store, "photos").origin("pca").is_complete
    assert_projected(photos, projection)


def test_a_projection_of_another_model_is_refused_before_anything_is_written(
    photos: ImageCollection, projection: Projection
) -> None:
    other = Projection(projection.matrix, "pca", "other", "cd")
    with pytest.raises(ManifestMismatchError, match="fitted for other"):
        backfill(photos, other)
    assert set(photos.info().vectors) == {"raw"}


def test_a_second_projection_cannot_enter_the_same_vector(
    photos: ImageCollection, projection: Projection
) -> None:
    backfill(photos, projection)
    other = Projection(-projection.matrix, "pca", "test", "ab")
    with pytest.raises(ManifestMismatchError, match="another vector name"):
        backfill(photos, other)
    assert backfill(photos, other, vector="pca2").projected == N


@pytest.mark.parametrize(("source", "vector"), [("raw", "raw"), ("raw", None)])
def test_what_cannot_be_projected_is_refused(
    photos: ImageCollection, source: str, vector: str | None
) -> None:
    too_long = Projection(np.eye(D + 1, 4), "pca", "test", "ab")
    with pytest.raises(InputError, match=r"into itself|takes 17"):
        backfill(photos, too_long, source=source, vector=vector)


def test_points_without_the_source_vector_are_counted(
    store: Store, projection: Projection, rng: np.random.Generator
) -> None:
    store.create("shop", {"image": VectorSpec(D), "other": VectorSpec(2)})
    X = rng.normal(size=(3, D)).astype(np.float32)
    store.upsert("shop", [1, 2, 3], {"image": X}, [{}] * 3)
    store.upsert("shop", [4], {"other": np.ones((1, 2), np.float32)}, [{}])
    shop = ImageCollection.open(store, "shop")
    with pytest.raises(ManifestMismatchError, match="intramodal adopt"):
        backfill(shop, projection, source="image")
    shop.declare("image", RAW)
    plan = plan_backfill(shop, projection, source="image")
    assert (plan.n_missing, plan.n_unprojectable, plan.bytes_added) == (3, 1, 3 * 8 * 4)
    assert set(shop.info().vectors) == {"image", "other"}
    summary = backfill(shop, projection, source="image")
    assert (summary.projected, summary.unprojectable) == (3, 1)
    assert plan_backfill(shop, projection, source="image").n_missing == 0


def test_a_zero_vector_is_listed_and_does_not_hold_the_rest_up(
    photos: ImageCollection, projection: Projection
) -> None:
    photos.write([9999], {"raw": np.zeros((1, D), np.float32)}, [{}])
    with RunLedger.open(":memory:") as ledger, ledger.run("backfill") as run:
        summary = backfill(photos, projection, run=run)
        failures = ledger.failures(run.id)
    assert (summary.projected, summary.unprojectable) == (N, 1)
    assert [(f.item, f.stage) for f in failures] == [("9999", "project")]


def test_a_run_of_every_job_names_the_projection(
    photos: ImageCollection, projection: Projection
) -> None:
    jobs: list[Callable[[Run], object]] = [
        lambda run: backfill(photos, projection, run=run),
        lambda run: recompute(photos, projection, where=Filter(ids=[1]), run=run),
        lambda run: copy_collection(photos, projection, new_collection="new", run=run),
    ]
    for job in jobs:
        with RunLedger.open(":memory:") as ledger, ledger.run("backfill") as run:
            job(run)
            found = ledger.fingerprints(run.id)
        assert [(one.kind, one.name, one.fingerprint) for one in found] == [
            ("projection", "pca", projection.fingerprint)
        ]
