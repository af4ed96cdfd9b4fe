"""Projected queries against stored vectors: the formula, the reranking, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import Projection, search
from intramodal.errors import InputError, ManifestMismatchError, NotFound
from intramodal.store.base import Store, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import Manifest, VectorOrigin
from intramodal.store.open import open_store
from intramodal.store.query_side import QuerySide
from intramodal.types import Floats, unit_rows
from tests.query_sides import centred_projection, shifted_rows

N, D = 40, 16
CLIP = VectorOrigin("clip", "3f9a")


@pytest.fixture(params=[":memory:", "edge"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    where = request.param if request.param == ":memory:" else str(tmp_path / "store")
    with open_store(where) as opened:
        yield opened


@pytest.fixture
def X(rng: np.random.Generator) -> Floats:
    return shifted_rows(rng, N, D)


@pytest.fixture
def pca(rng: np.random.Generator, X: Floats) -> Projection:
    return centred_projection(rng, X, 6)


def photos(
    store: Store,
    X: Floats,
    *,
    vector: str = "raw",
    distance: Any = "Cosine",
    origin: VectorOrigin | None = CLIP,
) -> ImageCollection:
    metadata = Manifest({vector: origin}, "photos").to_metadata() if origin else None
    store.create("photos", {vector: VectorSpec(X.shape[1], distance)}, metadata=metadata)
    store.upsert(
        "photos", list(range(len(X))), {vector: X}, [{"path": f"{i}.jpg"} for i in range(len(X))]
    )
    return ImageCollection.open(store, "photos")


def stored_order(pca: Projection, X: Floats, q: int) -> list[int]:
    Z = unit_rows(pca.apply(X))
    return [int(i) for i in np.argsort(-(Z @ Z[q]), kind="stable") if i != q]


@pytest.mark.parametrize("distance", ["Cosine", "Dot"])
@pytest.mark.parametrize("vector", ["raw", ""])
def test_the_stored_vectors_are_ranked_by_the_projected_query(
    store: Store, X: Floats, pca: Projection, vector: str, distance: str
) -> None:
    collection = photos(store, X, vector=vector, distance=distance)
    side = QuerySide(pca, vector)
    hits = side.search(collection, X[:3], k=N, exact=True, exclude=[0, 1, 2])
    for q in range(3):
        scores = pca.query(X[q : q + 1])[0] @ X.T
        assert hits.ids[q] == [i for i in np.argsort(-scores, kind="stable") if i != q]


def test_reranking_the_first_places_gives_the_order_of_the_stored_projections(
    store: Store, X: Floats, pca: Projection
) -> None:
    collection = photos(store, X)
    whole = QuerySide(pca, "raw", N).search(collection, X[:3], k=5, exact=True, exclude=[0, 1, 2])
    Z = unit_rows(pca.apply(X))
    for q in range(3):
        assert whole.ids[q] == stored_order(pca, X, q)[:5]
        # float32 cosines over 6 terms
        np.testing.assert_allclose(whole.scores[q], Z[whole.ids[q]] @ Z[q], atol=1e-6)
    some = QuerySide(pca, "raw", 4).search(collection, X[:1], k=8, exact=True, exclude=[0])
    plain = QuerySide(pca, "raw").search(collection, X[:1], k=8, exact=True, exclude=[0])
    assert some.ids[0][4:] == plain.ids[0][4:]
    assert some.ids[0][:4] == [i for i in stored_order(pca, X, 0) if i in plain.ids[0][:4]]
    assert [len(ids) for ids in some.ids] == [8]


def test_a_search_shows_the_query_side_beside_the_stored_vector(
    store: Store, X: Floats, pca: Projection
) -> None:
    collection = photos(store, X)
    found = search(collection, point=3, vectors=["raw"], query_side=pca, rerank=N, k=4, exact=True)
    assert list(found.vectors) == ["raw", f"pca_centered@query:{N}"]
    hits = found.vectors[f"pca_centered@query:{N}"]
    assert [hit["id"] for hit in hits] == stored_order(pca, X, 3)[:4]
    assert hits[0]["path"] == f"{hits[0]['id']}.jpg"


def test_a_model_that_nobody_declared_is_taken_from_the_projection_and_said(
    store: Store, X: Floats, pca: Projection, caplog: pytest.LogCaptureFixture
) -> None:
    collection = photos(store, X, origin=None)
    with caplog.at_level(logging.WARNING):
        found = search(collection, point=3, vectors=["raw"], query_side=pca, k=4)
    assert "nothing says which model made 'raw' of 'photos'" in caplog.text
    assert len(found.vectors["pca_centered@query"]) == 4


@pytest.mark.parametrize("distance", ["Euclid", "Manhattan"])
def test_a_distance_that_counts_what_is_dropped_is_refused(
    store: Store, X: Floats, pca: Projection, distance: str
) -> None:
    collection = photos(store, X, distance=distance)
    with pytest.raises(InputError, match=f"compared by {distance}, which counts what"):
        QuerySide(pca, "raw").check(collection)


def test_vectors_that_the_projection_is_not_for_are_refused(
    store: Store, X: Floats, pca: Projection
) -> None:
    collection = photos(store, X)
    with pytest.raises(NotFound, match="no vector 'image'"):
        QuerySide(pca, "image").check(collection)
    with pytest.raises(ManifestMismatchError, match="fitted for siglip"):
        QuerySide(replace(pca, encoder="siglip", encoder_fingerprint="77aa"), "raw").check(
            collection
        )
    shorter = replace(pca, matrix=pca.matrix[:12], offset=None)
    with pytest.raises(InputError, match="has 16 dimensions, the projection takes 12"):
        QuerySide(shorter, "raw").check(collection)
    with pytest.raises(InputError, match="number of results from 1, got 0"):
        QuerySide(pca, "raw", 0)
    with pytest.raises(InputError, match="give its projection as query_side"):
        QuerySide.of(None, ["raw"], 100)
    made = VectorOrigin("clip", "3f9a", projection="aa11", source="image")
    store.drop("photos")
    with pytest.raises(InputError, match="projected already; search it as it is"):
        QuerySide(pca, "raw").check(photos(store, X, origin=made))


def test_a_text_has_no_query_side(store: Store, X: Floats, pca: Projection) -> None:
    with pytest.raises(InputError, match="no query side for them"):
        search(photos(store, X), text="a cat", vectors=["raw"], query_side=pca)


def test_an_image_is_encoded_by_the_model_that_the_projection_names(
    store: Store, X: Floats, pca: Projection
) -> None:
    asked: list[str] = []

    def load(name: str) -> Any:
        asked.append(name)
        raise InputError("enough")

    with pytest.raises(InputError, match="enough"):
        search(photos(store, X, origin=None), image=Path("cat.jpg"), vectors=["raw"],
               query_side=pca, encoder=load)  # fmt: skip
    assert asked == ["clip"]
