from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError, ManifestMismatchError, StoreError
from intramodal.ingest.adopt import adopt_collection
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.pipeline import IngestSummary, ingest_vectors
from intramodal.ingest.vectors.load import check_target, vectors_of
from intramodal.ingest.vectors.ready import ReadyVectors, open_ready
from intramodal.projection.projection import Projection
from intramodal.runs.ledger import RunLedger
from intramodal.store.base import Filter, Store, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import declared_fingerprint, point_id, unit_rows
from tests.unit.ingest.pipeline_kit import counts

N, D, MODEL = 130, 16, "some clip"
ORIGIN = VectorOrigin(MODEL, declared_fingerprint(MODEL))


@pytest.fixture
def X(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(N, D)).astype(np.float32)


@pytest.fixture
def half(rng: np.random.Generator) -> Projection:
    matrix = np.linalg.qr(rng.normal(size=(D, D // 2)))[0]
    return Projection(matrix, "pca", MODEL, "3f9a")


def ready(folder: Path, X: np.ndarray, *, label: str = "l", extra: str = "") -> ReadyVectors:
    np.save(folder / "x.npy", X)
    lines = [f"sku-{n},{label}{n % 3},{extra}" for n in range(len(X))]
    (folder / "meta.csv").write_text("\n".join(["sku,label,extra", *lines]))
    return open_ready(folder / "x.npy", dataset="shop", table=folder / "meta.csv", id_column="sku")


def load(
    store: Store,
    source: ReadyVectors,
    *,
    projection: Projection | None = None,
    vector: str = "raw",
    origin: VectorOrigin = ORIGIN,
    **options: Any,
) -> IngestSummary:
    vectors = vectors_of(source, origin, vector, projection)
    collection = ImageCollection.ensure(store, "shop", vectors)
    check_target(collection, vector, vectors)
    options = {"batch_size": 40, **options}
    return ingest_vectors(source, collection, vector=vector, projection=projection, **options)


def stored(store: Store, *vectors: str) -> dict[Any, tuple[dict[str, Any], dict[str, bytes]]]:
    found = {}
    for page in store.scroll("shop", vectors=vectors, payload=True):
        for row, point in enumerate(page.ids):
            rows = {name: Y[row].tobytes() for name, Y in page.vectors.items()}
            found[point] = (page.payloads[row], rows)
    return found


def column(store: Store, vector: str) -> np.ndarray:
    """Return a vector of all points, in the order of the rows they are from."""
    page = store.retrieve(
        "shop", [point_id("shop", f"sku-{n}") for n in range(N)], vectors=[vector]
    )
    return page.vectors[vector]


def test_rows_arrive_with_both_vectors_payload_and_indexes(
    store: Store, tmp_path: Path, X: np.ndarray, half: Projection, no_thread_is_left: None
) -> None:
    summary = load(store, ready(tmp_path, X), projection=half)
    assert counts(summary) == (N, 0, 0, 0, 0)
    np.testing.assert_allclose(column(store, "raw"), unit_rows(X), atol=1e-6)  # float32
    np.testing.assert_allclose(column(store, "pca"), unit_rows(half.apply(X)), atol=1e-5)
    payload, _ = stored(store)[point_id("shop", "sku-4")]
    assert payload == {"sku": "sku-4", "label": "l1"}
    assert store.info("shop").indexes.keys() == {"label"} or store.location == ":memory:"
    pca = ImageCollection.open(store, "shop").origin("pca")
    assert (pca.projection, pca.source) == (half.fingerprint, "raw")


def test_unit_rows_are_stored_bit_for_bit(store: Store, tmp_path: Path, X: np.ndarray) -> None:
    # Powers of two: rows of exactly unit length, which no normalisation can change.
    signs = np.where(X > 0, np.float32(0.25), np.float32(-0.25))
    load(store, ready(tmp_path, signs))
    assert column(store, "raw").tobytes() == signs.tobytes()


def test_a_repeat_writes_nothing(
    store: Store, tmp_path: Path, X: np.ndarray, half: Projection
) -> None:
    source = ready(tmp_path, X)
    load(store, source, projection=half)
    before = stored(store, "raw", "pca")
    assert counts(load(store, source, projection=half)) == (0, N, 0, 0, 0)
    assert counts(load(store, source, projection=half, batch_size=7)) == (0, N, 0, 0, 0)
    assert stored(store, "raw", "pca") == before


def test_a_changed_row_is_rewritten_and_what_others_added_stays(
    store: Store, tmp_path: Path, X: np.ndarray, half: Projection
) -> None:
    load(store, ready(tmp_path, X), projection=half)
    one, other = point_id("shop", "sku-3"), point_id("shop", "sku-4")
    shop = ImageCollection.open(store, "shop")
    shop.add_vector("theirs", 2, VectorOrigin("theirs", "9c"))
    store.update_vectors("shop", "theirs", [one, other], np.eye(2, dtype=np.float32))
    store.set_payload("shop", [one, other], {"seen": True})
    before = stored(store, "raw", "pca", "theirs")
    X[3] = -X[3]
    changed = load(store, ready(tmp_path, X), projection=half)
    assert counts(changed) == (1, N - 1, 0, 0, 0)
    np.testing.assert_allclose(column(store, "raw"), unit_rows(X), atol=1e-6)  # float32
    np.testing.assert_allclose(column(store, "pca"), unit_rows(half.apply(X)), atol=1e-5)
    after = stored(store, "raw", "pca", "theirs")
    payload, vectors = after.pop(one)
    was, had = before.pop(one)
    assert payload == was
    assert vectors["theirs"] == had["theirs"]
    assert after == before


def test_changed_payload_alone_touches_no_vector(
    store: Store, tmp_path: Path, X: np.ndarray
) -> None:
    load(store, ready(tmp_path, X))
    store.set_payload("shop", [point_id("shop", "sku-0")], {"seen": True})
    before = {point: vectors for point, (_, vectors) in stored(store, "raw").items()}
    assert counts(load(store, ready(tmp_path, X, label="m"))) == (0, 0, N, 0, 0)
    after = stored(store, "raw")
    assert {point: vectors for point, (_, vectors) in after.items()} == before
    assert {payload["label"] for payload, _ in after.values()} == {"m0", "m1", "m2"}
    assert after[point_id("shop", "sku-0")][0]["seen"] is True


def test_an_emptied_cell_is_removed_once(store: Store, tmp_path: Path, X: np.ndarray) -> None:
    load(store, ready(tmp_path, X, extra="x"))
    assert counts(load(store, ready(tmp_path, X))) == (0, 0, N, 0, 0)
    assert counts(load(store, ready(tmp_path, X))) == (0, N, 0, 0, 0)
    assert store.count("shop", Filter(equals={"extra": "x"})) == 0


def test_a_projected_vector_that_is_stale_or_missing_is_mended(
    store: Store, tmp_path: Path, X: np.ndarray, half: Projection
) -> None:
    source = ready(tmp_path, X)
    load(store, source, projection=half)
    points = [point_id("shop", f"sku-{n}") for n in (1, 2)]
    store.update_vectors("shop", "pca", points[:1], np.ones((1, D // 2), np.float32))
    page = store.retrieve("shop", points[1:], vectors=["raw"], payload=True)
    store.upsert("shop", page.ids, page.vectors, page.payloads)  # a writer that knows only raw
    assert counts(load(store, source, projection=half)) == (2, N - 2, 0, 0, 0)
    np.testing.assert_allclose(column(store, "pca"), unit_rows(half.apply(X)), atol=1e-5)


@pytest.mark.parametrize("length", [1e-300, 1e-39, 1e-4, 1e4, 1e39, 1e300])
def test_vectors_of_any_length_are_written_once(
    store: Store, tmp_path: Path, X: np.ndarray, half: Projection, length: float
) -> None:
    """Issue 20, F02."""
    scaled = X.astype(np.float64)
    scaled[::2] *= length
    source = ready(tmp_path, scaled)
    assert counts(load(store, source, projection=half)) == (N, 0, 0, 0, 0)
    assert counts(load(store, source, projection=half)) == (0, N, 0, 0, 0)
    np.testing.assert_allclose(column(store, "raw"), unit_rows(X), atol=1e-6)  # float32
    np.testing.assert_allclose(column(store, "pca"), unit_rows(half.apply(X)), atol=1e-5)


def test_a_row_beyond_float32_is_listed_where_lengths_count(
    store: Store, tmp_path: Path, X: np.ndarray
) -> None:
    wide = X.astype(np.float64)
    wide[3] *= 1e300
    store.create("shop", {"raw": VectorSpec(D, "Dot")})
    adopt_collection(ImageCollection.open(store, "shop"), made_by=MODEL)
    summary = load(store, ready(tmp_path, wide))
    assert counts(summary) == (N - 1, 0, 0, 1, 0)
    assert [f["item"] for f in summary.failures] == ["sku-3"]


def test_rows_that_cannot_be_stored_are_listed_and_stop_nothing(
    store: Store, tmp_path: Path, X: np.ndarray, half: Projection
) -> None:
    X[0], X[50, 3], X[51, 0], X[129] = 0, np.nan, np.inf, 0
    with RunLedger.open(":memory:") as ledger, ledger.run("ingest") as run:
        summary = load(store, ready(tmp_path, X), projection=half, run=run)
        logged = [(f.item, f.stage) for f in ledger.failures(run.id)]
    assert counts(summary) == (N - 4, 0, 0, 4, 0)
    assert [f["item"] for f in summary.failures] == ["sku-0", "sku-50", "sku-51", "sku-129"]
    assert [f["reason"] for f in summary.failures] == [
        "the vector is zero",
        *["the vector is missing, of another length, or not finite"] * 2,
        "the vector is zero",
    ]
    assert logged == [(f["item"], "read") for f in summary.failures]
    assert store.count("shop") == N - 4


def test_a_row_that_goes_bad_leaves_the_stored_point_alone(
    store: Store, tmp_path: Path, X: np.ndarray
) -> None:
    load(store, ready(tmp_path, X))
    before = stored(store, "raw")
    X[9] = np.nan
    assert counts(load(store, ready(tmp_path, X))) == (0, N - 1, 0, 1, 0)
    assert stored(store, "raw") == before


def test_too_many_failures_end_it(store: Store, tmp_path: Path, X: np.ndarray) -> None:
    X[::2] = 0
    with pytest.raises(InputError, match=r"^40 rows failed and 30 are allowed"):
        load(store, ready(tmp_path, X), max_failures=30)
    assert store.count("shop") == 40  # the good rows of both blocks that were read
    assert counts(load(store, ready(tmp_path, X), max_failures=N // 2))[3] == N // 2


def test_a_block_without_a_usable_row_is_no_obstacle(
    store: Store, tmp_path: Path, X: np.ndarray, half: Projection
) -> None:
    X[40:80] = 0
    assert counts(load(store, ready(tmp_path, X), projection=half)) == (N - 40, 0, 0, 40, 0)


def test_another_models_vectors_are_refused(store: Store, tmp_path: Path, X: np.ndarray) -> None:
    source = ready(tmp_path, X)
    load(store, source)
    other = VectorOrigin("other", declared_fingerprint("other"))
    with pytest.raises(ManifestMismatchError, match="made by some clip"):
        load(store, source, origin=other)
    # The same model, loaded here and known by its weights, is the same model.
    assert load(store, source, origin=replace(ORIGIN, encoder_fingerprint="3f9a")).skipped == N


def test_projections_that_do_not_fit_are_refused(
    store: Store, tmp_path: Path, X: np.ndarray, half: Projection
) -> None:
    source = ready(tmp_path, X)
    with pytest.raises(ManifestMismatchError, match="fitted for dino"):
        load(store, source, projection=Projection(half.matrix, "pca", "dino", "77"))
    with pytest.raises(InputError, match="16 dimensions, the projection takes 5"):
        load(store, source, projection=Projection(np.eye(5, 2), "pca", MODEL, "3f9a"))
    with pytest.raises(InputError, match="own name"):
        load(store, source, projection=half, vector="pca")
    assert not store.exists("shop")
    load(store, source, projection=half)
    with pytest.raises(InputError, match="would lack it; give `projection`"):
        load(store, source)
    with pytest.raises(ManifestMismatchError, match="was made by"):
        load(store, source, projection=Projection(-half.matrix, "pca", MODEL, "3f9a"))


def test_one_of_several_projected_vectors_is_enough(
    store: Store, tmp_path: Path, X: np.ndarray, half: Projection
) -> None:
    load(store, ready(tmp_path, X), projection=half)
    shop = ImageCollection.open(store, "shop")
    backfill(shop, Projection(-half.matrix, "pca", MODEL, "3f9a"), vector="pca2")
    more = np.concatenate([X, -X])
    assert counts(load(store, ready(tmp_path, more), projection=half))[:2] == (N, N)
    with pytest.raises(InputError, match="would lack it"):
        load(store, ready(tmp_path, more))


def test_a_collection_that_was_adopted_is_compared_in_its_own_terms(
    store: Store, tmp_path: Path, X: np.ndarray
) -> None:
    store.create("shop", {"raw": VectorSpec(D, distance="Dot")})
    ImageCollection.open(store, "shop").declare("raw", ORIGIN)
    assert load(store, ready(tmp_path, X)).written == N
    assert column(store, "raw").tobytes() == X.tobytes()
    X[0] *= 2  # the same direction, but another vector under a dot product
    assert counts(load(store, ready(tmp_path, X))) == (1, N - 1, 0, 0, 0)


def test_the_store_is_written_in_one_thread_beside_the_reader(
    store: Store, tmp_path: Path, X: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = set()
    insert = store.insert

    def noted(*arguments: Any) -> None:
        writers.add(threading.current_thread().name)
        insert(*arguments)

    monkeypatch.setattr(store, "insert", noted)
    load(store, ready(tmp_path, X), batch_size=10)
    assert writers == {"store-0"}


def test_a_collection_of_another_size_is_refused_before_anything_is_written(
    store: Store, tmp_path: Path, X: np.ndarray, no_thread_is_left: None
) -> None:
    source = ready(tmp_path, X)
    vectors = vectors_of(source, ORIGIN, "raw", None)
    collection = ImageCollection.create(store, "shop", {"raw": (D + 1, ORIGIN)})
    with pytest.raises(ManifestMismatchError, match=f"has {D + 1} dimensions"):
        check_target(collection, "raw", vectors)
    with pytest.raises(ManifestMismatchError, match=f"has {D + 1} dimensions"):
        ingest_vectors(source, collection, batch_size=10)
    assert store.count("shop") == 0


def test_vectors_of_another_model_are_refused_by_the_job_itself(
    store: Store, tmp_path: Path, X: np.ndarray
) -> None:
    collection = ImageCollection.create(store, "shop", {"raw": (D, ORIGIN)})
    with pytest.raises(ManifestMismatchError, match="not by another"):
        ingest_vectors(ready(tmp_path, X), collection, made_by="another")
    assert store.count("shop") == 0


def test_a_store_that_fails_ends_the_load_with_its_error(
    store: Store,
    tmp_path: Path,
    X: np.ndarray,
    no_thread_is_left: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: Any) -> None:
        raise StoreError("the disk is full")

    collection = ImageCollection.create(store, "shop", {"raw": (D, ORIGIN)})
    monkeypatch.setattr(store, "insert", fail)
    with pytest.raises(StoreError, match="the disk is full"):
        ingest_vectors(ready(tmp_path, X), collection, batch_size=10)
    assert store.count("shop") == 0
