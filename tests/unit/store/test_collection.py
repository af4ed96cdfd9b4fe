from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intramodal.errors import InputError, ManifestMismatchError, NotFound
from intramodal.store.base import Filter, Store, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.types import Floats, PointId, point_id, unit_rows

CLIP = VectorOrigin("clip", "3f9a")
PROJECTED = VectorOrigin("clip", "3f9a", projection="aa11", source="raw", method="text-pca")


@pytest.fixture(params=[":memory:", "edge"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    where = request.param if request.param == ":memory:" else str(tmp_path / "store")
    with open_store(where) as opened:
        yield opened


def vectors(n: int, dim: int = 8, seed: int = 0) -> Floats:
    return unit_rows(np.random.default_rng(seed).normal(size=(n, dim)))


def filled(store: Store, n: int = 12) -> tuple[ImageCollection, list[PointId], Floats]:
    collection = ImageCollection.create(store, "pets", {"raw": (8, CLIP)})
    ids: list[PointId] = [point_id("pets", f"{i}.jpg") for i in range(n)]
    X = vectors(n)
    collection.write(ids, {"raw": X}, [{"label": f"l{i % 3}"} for i in range(n)])
    return collection, ids, X


def test_a_collection_opens_with_the_manifest_it_was_made_with(store: Store) -> None:
    filled(store)
    opened = ImageCollection.open(store, "pets")
    assert opened.manifest.vectors == {"raw": CLIP}
    assert opened.manifest.dataset == "pets"
    assert repr(opened) == "ImageCollection('pets', 12 points, raw: 8)"


def test_a_missing_collection_is_answered_with_the_closest_names(store: Store) -> None:
    filled(store)
    with pytest.raises(NotFound, match="no collection 'pest'; the store has 'pets'"):
        ImageCollection.open(store, "pest")


def test_ensure_refuses_another_encoder_another_size_and_a_vector_that_is_not_there(
    store: Store,
) -> None:
    filled(store)
    siglip = VectorOrigin("siglip", "77aa")
    for wanted in ({"raw": (8, siglip)}, {"raw": (9, CLIP)}, {"pca": (4, PROJECTED)}):
        with pytest.raises(ManifestMismatchError):
            ImageCollection.ensure(store, "pets", wanted)
    assert ImageCollection.ensure(store, "pets", {"raw": (8, CLIP)}).count() == 12


def test_a_table_is_in_id_order_whatever_the_order_of_writing(store: Store) -> None:
    collection, ids, X = filled(store)
    table = collection.table(["raw"], payload=["label"])
    assert table.ids == sorted(ids, key=str)
    rows = [ids.index(i) for i in table.ids]
    np.testing.assert_allclose(table.vectors["raw"], X[rows], atol=1e-6)  # float32 storage
    assert table.payload["label"] == [f"l{row % 3}" for row in rows]


def test_a_table_leaves_out_points_without_the_vector_and_counts_them(store: Store) -> None:
    collection, ids, _ = filled(store)
    collection.add_vector("pca", 4, PROJECTED)
    store.update_vectors("pets", "pca", ids[:5], vectors(5, 4))
    table = collection.table(["raw", "pca"])
    assert set(table.ids) == set(ids[:5])
    assert table.n_incomplete == 7


def test_a_sampled_table_holds_that_many_points_of_those_that_match(store: Store) -> None:
    collection, ids, X = filled(store, n=30)
    where = Filter({"label": "l1"})
    table = collection.table(["raw"], payload=["label"], where=where, sample=4, seed=3)
    assert (len(table), table.drawn_from) == (4, 10)
    assert table.ids == sorted(table.ids, key=str)
    rows = [ids.index(i) for i in table.ids]
    np.testing.assert_allclose(table.vectors["raw"], X[rows], atol=1e-6)
    assert table.payload["label"] == ["l1"] * 4


def test_a_table_of_an_unknown_vector_names_the_known_ones(store: Store) -> None:
    collection, _, _ = filled(store)
    with pytest.raises(NotFound, match="no vector 'pca'; it has 'raw'"):
        collection.table(["pca"])


def test_neighbours_never_contain_the_query_even_among_duplicates(store: Store) -> None:
    collection = ImageCollection.create(store, "twins", {"raw": (8, CLIP)})
    ids: list[PointId] = list(range(1, 7))
    collection.write(ids, {"raw": np.repeat(vectors(1), 6, axis=0)}, [{} for _ in ids])
    hits = collection.neighbours(ids, using="raw", k=5)
    for query, found in zip(ids, hits.ids, strict=True):
        assert found == [i for i in ids if i != query]  # equal scores: ascending ids


def test_an_added_vector_is_declared_incomplete_until_it_is_finished(store: Store) -> None:
    collection, ids, _ = filled(store)
    collection.add_vector("pca", 4, PROJECTED)
    assert not ImageCollection.open(store, "pets").origin("pca").is_complete
    assert store.count("pets", Filter(lacks_vector="pca")) == len(ids)
    collection.finish_vector("pca")
    assert ImageCollection.open(store, "pets").origin("pca").is_complete


def test_a_vector_name_is_never_reused_for_another_projection(store: Store) -> None:
    collection, _, _ = filled(store)
    collection.add_vector("pca", 4, PROJECTED)
    with pytest.raises(ManifestMismatchError, match="another vector name"):
        collection.add_vector("pca", 4, replace(PROJECTED, projection="bb22"))


def test_a_foreign_vector_of_unknown_origin_is_not_overwritten(store: Store) -> None:
    store.create("foreign", {"raw": VectorSpec(8), "pca": VectorSpec(4)})
    collection = ImageCollection.open(store, "foreign")
    with pytest.raises(ManifestMismatchError, match="nothing says how it was made"):
        collection.add_vector("pca", 4, PROJECTED)
    with pytest.raises(ManifestMismatchError, match="intramodal adopt"):
        collection.origin("raw")


def test_a_forgotten_vector_is_gone_from_collection_and_manifest(store: Store) -> None:
    collection, _, _ = filled(store)
    collection.add_vector("pca", 4, PROJECTED)
    collection.forget("pca")
    opened = ImageCollection.open(store, "pets")
    assert set(opened.info().vectors) == {"raw"}
    assert set(opened.manifest.vectors) == {"raw"}


def test_a_new_vector_cannot_have_a_comma_in_its_name(store: Store) -> None:
    """Issue 20, F24: no list of names could hold it; those of others are written in quotes."""
    origin = VectorOrigin("clip", "3f9a")
    with pytest.raises(InputError, match="'a,b' cannot be the name of a new vector"):
        ImageCollection.create(store, "shop", {"a,b": (4, origin)})
    shop = ImageCollection.create(store, "shop", {"raw": (4, origin)})
    with pytest.raises(InputError, match="'a,b' cannot be the name of a new vector"):
        shop.add_vector("a,b", 4, origin)
    assert list(ImageCollection.open(store, "shop").vectors) == ["raw"]
