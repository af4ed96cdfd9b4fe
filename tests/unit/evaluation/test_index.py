"""The store's own answers: bounds that hold the exact figure, recall, and what is left out."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError
from intramodal.evaluation.index import (
    IndexResult,
    certified_ap,
    evaluate_index,
    first_places,
    recall_at_k,
)
from intramodal.evaluation.index_search import IndexSearch
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.evaluation.tasks import Sides
from intramodal.projection.projection import Projection
from intramodal.store.base import Filter, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.types import Distance, VectorTable

N, D = 120, 12
FIELDS = ["label", "split", "rare"]


@pytest.fixture(scope="module")
def collection() -> ImageCollection:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 6, N)
    X = rng.normal(size=(N, D)) + rng.normal(size=(6, D))[labels]
    store = open_store(":memory:")
    origin = VectorOrigin("test", "0" * 64)
    made = ImageCollection.create(store, "shop", {"raw": (D, origin), "pca": (D // 2, origin)})
    payloads = [
        {
            "label": f"l{label}",
            "split": "test" if n % 3 == 0 else "train",
            **({"rare": f"l{label}"} if n % 2 else {}),
        }
        for n, label in enumerate(labels)
    ]
    vectors = {"raw": X.astype(np.float32), "pca": X[:, : D // 2].astype(np.float32)}
    store.upsert("shop", list(range(N)), vectors, payloads)
    return made


@pytest.fixture(scope="module")
def table(collection: ImageCollection) -> VectorTable:
    return collection.table(["raw", "pca"], payload=FIELDS)


def asked(
    collection: ImageCollection, search: IndexSearch, *, field: str = "label", **options: Any
) -> IndexResult:
    (found,) = evaluate_index(collection, searches=[search], fields=[field], **options)
    return found


def plain_ap(ranking: np.ndarray) -> float:
    places = np.flatnonzero(ranking) + 1
    return float(np.mean(np.arange(1, len(places) + 1) / places))


def test_the_bounds_are_the_least_and_most_over_all_rankings_that_begin_so() -> None:
    for n, k, R in ((6, 3, 2), (6, 4, 3), (7, 2, 3), (5, 5, 2), (6, 3, 1)):
        rankings = {
            tuple(ranking) for ranking in itertools.permutations([True] * R + [False] * (n - R))
        }
        for head in {ranking[:k] for ranking in rankings}:
            full = [plain_ap(np.array(r)) for r in rankings if r[:k] == head]
            ap, least, most = certified_ap(np.array(head), R, n)
            assert (least, most) == pytest.approx((min(full), max(full)), abs=1e-12)
            assert ap <= least


@pytest.mark.parametrize("k", [1, 5, 20])
def test_the_interval_of_an_exact_search_holds_the_exact_figure(
    collection: ImageCollection, table: VectorTable, k: int
) -> None:
    exact = evaluate_retrieval(table, vectors=["raw"], fields=["label"], ties="id")["label", "raw"]
    found = asked(collection, IndexSearch("raw", exact=True), k=k, n_timed=3)
    assert (found.lower <= exact.ap + 1e-12).all()
    assert (exact.ap <= found.upper + 1e-12).all()
    assert (found.recall == 1).all()
    assert found.n_outside == 0
    assert len(found.latency_ms) == 3


def test_answers_to_the_end_of_the_gallery_give_the_exact_figure(
    collection: ImageCollection, table: VectorTable
) -> None:
    exact = evaluate_retrieval(table, vectors=["pca"], fields=["label"], ties="id")["label", "pca"]
    found = asked(collection, IndexSearch("pca", exact=True), k=N - 1)
    for figures in (found.ap, found.lower, found.upper):
        np.testing.assert_allclose(figures, exact.ap, atol=1e-12)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_the_first_places_of_an_exact_search_are_those_of_the_exact_ranking(
    collection: ImageCollection, table: VectorTable, k: int
) -> None:
    options: dict[str, Any] = {"vectors": ["raw"], "fields": ["label"], "ks": (1, k)}
    exact = evaluate_retrieval(table, **options)["label", "raw"].metrics
    found = asked(collection, IndexSearch("raw", exact=True), k=k, n_timed=1)
    np.testing.assert_allclose(found.ndcg, exact[f"ndcg@{k}"], atol=1e-12)
    np.testing.assert_allclose(found.precision, exact[f"precision@{k}"], atol=1e-12)
    np.testing.assert_allclose(found.precision_at_1, exact["precision@1"], atol=1e-12)
    values = found.to_dict()
    assert values["ndcg_at_k"] == pytest.approx(exact[f"ndcg@{k}"].mean(), abs=1e-12)
    assert values["precision_at_1"] == pytest.approx(exact["precision@1"].mean(), abs=1e-12)


def test_places_without_an_answer_count_as_wrong() -> None:
    ndcg, precision, at_1 = first_places(np.array([True, False, True]), n_relevant=5, k=4)
    gains = 1 / np.log2([2, 3, 4, 5])
    assert (precision, at_1) == (0.5, 1)
    assert ndcg == pytest.approx((gains[0] + gains[2]) / gains.sum())
    assert first_places(np.array([], dtype=bool), n_relevant=1, k=4) == (0, 0, 0)
    assert first_places(np.array([True]), n_relevant=1, k=4) == (1, 0.25, 1)


def test_a_two_stage_search_of_all_candidates_is_a_search_by_the_second_stage(
    collection: ImageCollection,
) -> None:
    plain = asked(collection, IndexSearch("raw"), k=10)
    two = IndexSearch("raw", prefetch="pca", candidates=N)
    found = asked(collection, two, k=10)
    np.testing.assert_array_equal(found.ap, plain.ap)
    few = IndexSearch("raw", prefetch="pca", candidates=10)
    assert asked(collection, few, k=10).recall.mean() < 1


def test_two_stages_of_few_candidates_lose_what_the_first_does_not_find(
    collection: ImageCollection, table: VectorTable
) -> None:
    found = asked(collection, IndexSearch("raw", prefetch="pca", candidates=10), k=10)
    X = [table.vectors[v] / np.linalg.norm(table.vectors[v], axis=1)[:, None] for v in
         ("raw", "pca")]  # fmt: skip
    for row in range(N):
        tops = []
        for Y in X:
            scores = Y @ Y[row]
            scores[row] = -2
            tops.append(set(np.argsort(-scores)[:10].tolist()))
        assert found.recall[row] == pytest.approx(len(tops[0] & tops[1]) / 10)


def test_a_fused_search_has_no_exact_ranking_to_recall(collection: ImageCollection) -> None:
    found = asked(collection, IndexSearch("raw", fuse="pca"), k=10)
    assert np.isnan(found.recall).all()
    assert found.to_dict()["recall"] is None
    assert found.to_dict()["search"] == "raw + pca"
    assert 0 < found.to_dict()["map_at_k"] < 1


def test_answers_without_a_label_are_taken_out_and_counted(
    collection: ImageCollection, table: VectorTable
) -> None:
    found = asked(collection, IndexSearch("raw", exact=True), field="rare", k=N - 1)
    exact = evaluate_retrieval(table, vectors=["raw"], fields=["rare"], ties="id")["rare", "raw"]
    np.testing.assert_allclose(found.ap, exact.ap, atol=1e-12)
    assert found.n_outside == len(exact.ap) * (N // 2)


def test_a_filtered_gallery_answers_alone(collection: ImageCollection, table: VectorTable) -> None:
    asks = np.array([value == "test" for value in table.payload["split"]])
    where = Filter(equals={"split": "train"})
    search = IndexSearch("raw", exact=True, where=where)
    found = asked(collection, search, k=10, sides=(asks, ~asks))
    assert found.n_outside == 0
    assert (found.recall == 1).all()
    assert len(found.ap) == asks.sum()


def test_equal_scores_are_equally_right() -> None:
    X = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    table = VectorTable([0, 1, 2, 3], {"raw": X})
    rows = np.array([0, 0, 0])
    answers = [np.array([1]), np.array([2]), np.array([3])]
    recall = recall_at_k(table, IndexSearch("raw"), rows, answers, 1)
    np.testing.assert_array_equal(recall, [1, 1, 0])


def test_a_search_cannot_be_fused_and_have_two_stages() -> None:
    with pytest.raises(InputError, match="one of the two"):
        IndexSearch("raw", prefetch="pca", fuse="pca")


def test_only_a_fused_search_has_weights() -> None:
    with pytest.raises(InputError, match="of a fused search"):
        IndexSearch("raw", prefetch="pca", weights=(2, 1))


@pytest.mark.parametrize("distance", ["Cosine", "Dot", "Euclid", "Manhattan"])
def test_recall_is_by_the_distance_that_the_collection_uses(
    rng: np.random.Generator, distance: Distance
) -> None:
    X = (rng.normal(size=(90, 6)) * rng.uniform(0.2, 5, size=(90, 1))).astype(np.float32)
    store = open_store(":memory:")
    store.create("foreign", {"raw": VectorSpec(6, distance)})
    store.upsert("foreign", list(range(90)), {"raw": X}, [{"label": n % 5} for n in range(90)])
    foreign = ImageCollection.open(store, "foreign")
    found = asked(foreign, IndexSearch("raw", exact=True), k=9)
    assert (found.recall == 1).all()
    assert found.to_dict()["distance"] == distance


@pytest.mark.parametrize("rerank", [None, 30])
@pytest.mark.parametrize("distance", ["Cosine", "Dot"])
def test_a_query_side_is_measured_against_its_own_exact_ranking(
    rng: np.random.Generator, distance: Distance, rerank: int | None
) -> None:
    X = (rng.normal(size=(N, D)) * rng.uniform(0.5, 3, size=(N, 1))).astype(np.float32)
    Q = np.linalg.qr(rng.normal(size=(D, 4)))[0]
    pca = Projection(Q, "pca", "clip", "3f9a", offset=np.full(D, 0.05, dtype=np.float32))
    search = IndexSearch("raw", query_side=pca, rerank=rerank)
    with open_store(":memory:") as store:
        store.create("shop", {"raw": VectorSpec(D, distance)})
        payloads = [{"label": f"l{n % 6}", "split": "ab"[n // 6 % 2]} for n in range(N)]
        store.upsert("shop", list(range(N)), {"raw": X}, payloads)
        collection = ImageCollection.open(store, "shop")
        options: dict[str, Any] = {"fields": ["label"], "searches": [search], "k": 10}
        found = evaluate_index(collection, **options)
        part = evaluate_index(collection, sides=Sides.parse("split=a", "split=b"), **options)
        judged = evaluate_retrieval(
            collection, vectors=["raw"], fields=["label"], query_side=pca, rerank=rerank
        )
    (row,), (of_part,) = found, part
    assert row.recall.mean() == of_part.recall.mean() == 1
    assert found.to_dict()["rows"][0]["search"] == search.name
    exact = judged["label", search.name]
    assert found.exact["label", search.name].map == pytest.approx(exact.map, abs=1e-6)
    if distance == "Cosine":
        assert row.precision.mean() == pytest.approx(exact.metrics["precision@10"].mean())
    else:
        assert exact.by_distance
        assert exact.by_distance.map != exact.map


def test_a_query_side_has_no_second_vector() -> None:
    pca = Projection(np.eye(4, 2), "pca", "clip", "3f9a")
    with pytest.raises(InputError, match="leave prefetch and fuse out"):
        IndexSearch("raw", query_side=pca, fuse="pca")
    with pytest.raises(InputError, match="give its projection as query_side"):
        IndexSearch("raw", rerank=5)
