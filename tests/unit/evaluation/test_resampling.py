"""The interval of one mAP: whom it speaks of, and that it is the one of the comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from intramodal.errors import InputError, NotFound
from intramodal.evaluation.index import IndexResult, evaluate_index, judge_search
from intramodal.evaluation.index_search import IndexSearch
from intramodal.evaluation.intervals import group_jackknife, sign_flip
from intramodal.evaluation.ranking import Ties
from intramodal.evaluation.resampling import Resampling, choose_population
from intramodal.evaluation.retrieval import RetrievalResult, evaluate_retrieval, run_task
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.evaluation.text_retrieval import evaluate_text_retrieval
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.types import VectorTable

N, DIM = 150, 10
ROUNDING = 1e-9  # sums of float64 precisions, in another order


def pictures(n_classes: int, *, n: int = N, seed: int = 0) -> VectorTable:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = rng.normal(size=(n_classes, DIM))
    X = (centres[labels] + rng.normal(size=(n, DIM))).astype(np.float32)
    payload: dict[str, list[Any]] = {
        "label": [f"c{label:02d}" for label in labels],
        "split": ["train" if i % 3 else "test" for i in range(n)],
        "shoot": (np.arange(n) // 10).tolist(),
    }
    return VectorTable(list(range(n)), {"raw": X}, payload)


def evaluated(
    table: VectorTable, *, split: Any = None, cluster: str | None = None, **options: Any
) -> RetrievalResult:
    found = evaluate_retrieval(
        table,
        vectors=["raw"],
        fields=["label"],
        sides=split,
        resampling=Resampling(cluster),
        **options,
    )
    return found["label", "raw"]


def searched(collection: ImageCollection, search: IndexSearch, **options: Any) -> IndexResult:
    (found,) = evaluate_index(collection, searches=[search], fields=["label"], **options)
    return found


def ends(found: object) -> tuple[float, float]:
    return found.low, found.high  # type: ignore[attr-defined]


def image_groups(table: VectorTable, **options: object) -> np.ndarray:
    task = RetrievalTask.from_table(table, "label", **options)  # type: ignore[arg-type]
    return choose_population(table, task, "image", seed=0).groups


def test_many_classes_are_what_the_interval_speaks_of() -> None:
    result = evaluated(pictures(25))
    by_class = result.class_mean().values()
    sums = np.array([mean * n for mean, n in by_class])
    expected = sign_flip(sums, np.array([n for _, n in by_class], float), seed=0)
    assert result.interval is not None
    assert (result.interval.population, result.interval.n_units) == ("classes", 25)
    assert ends(result.interval) == pytest.approx(expected.interval, abs=ROUNDING)
    assert result.interval.low < result.map < result.interval.high


def test_pictures_of_few_classes_are_left_out_as_queries_and_as_gallery() -> None:
    table = pictures(4)
    result = evaluated(table)
    groups = image_groups(table)
    without = [evaluated(table.take(np.flatnonzero(groups != g)), cluster="none").map
               for g in range(groups.max() + 1)]  # fmt: skip
    expected = group_jackknife(result.map, np.array(without), np.bincount(groups).astype(float))
    assert result.interval is not None
    assert result.interval.population == "images"
    assert ends(result.interval) == pytest.approx(expected.interval, abs=1e-7)


def test_the_interval_of_a_split_leaves_pictures_out_on_either_side() -> None:
    table = pictures(4)
    result = evaluated(table, split="split")
    asks = np.array([value == "test" for value in table.payload["split"]])
    groups = image_groups(table, split=(asks, ~asks))
    without = []
    for g in range(groups.max() + 1):
        part = table.take(np.flatnonzero(groups != g))
        without.append(evaluated(part, split="split", cluster="none").map)
    expected = group_jackknife(result.map, np.array(without), np.bincount(groups).astype(float))
    assert result.protocol == "query-gallery"
    assert ends(result.interval) == pytest.approx(expected.interval, abs=1e-7)


@pytest.mark.parametrize("ties", ["sklearn", "best", "worst", "id"])
def test_another_order_of_ties_moves_the_interval_and_not_its_width(ties: Ties) -> None:
    table = pictures(4)
    table.vectors["raw"][:, 1:] = 0  # cosines are 1 or -1: nearly all are tied
    plain, other = evaluated(table), evaluated(table, ties=ties)
    assert plain.interval is not None
    shift = other.map - plain.map
    assert ends(other.interval) == pytest.approx(
        (plain.interval.low + shift, plain.interval.high + shift), abs=ROUNDING
    )


@pytest.mark.parametrize("cluster", ["image", "shoot"])
def test_effects_are_the_same_whether_units_are_left_out_while_ranking_or_after(
    cluster: str,
) -> None:
    table = pictures(4)
    names = ["raw", "mixed", "cut"]
    for name, n_kept in zip(names[1:], (7, 4), strict=True):
        table.vectors[name] = table.vectors["raw"].copy()
        table.vectors[name][:, n_kept:] = 0
    task = RetrievalTask.from_table(table, "label", max_queries=60)
    population = choose_population(table, task, cluster, seed=0)
    a, *others = (run_task(task, table, name) for name in names)
    known = {name: population.ranked_without(table, task, name)[1] for name in names[:2]}
    plain = population.retrieval_effects(table, task, a, others)
    found = population.retrieval_effects(table, task, a, others, without=known)
    assert [effect.delta for effect in found] == [effect.delta for effect in plain]
    for got, expected in zip(found, plain, strict=True):
        assert got.interval == pytest.approx(expected.interval, abs=ROUNDING)


def test_a_field_of_the_payload_can_be_the_units() -> None:
    result = evaluated(pictures(25), cluster="shoot")
    assert result.interval is not None
    assert (result.interval.population, result.interval.n_units) == ("shoot", N // 10)


def test_few_queries_speak_of_no_others() -> None:
    table = pictures(4)
    asks = np.arange(N) < 4
    assert evaluated(table, split=(asks, ~asks)).interval is None
    assert evaluated(table.take(np.array([0, 1, 4, 5]))).interval is None
    assert evaluated(table, cluster="none").interval is None
    assert evaluated(table, cluster="none").to_dict()["interval"] is None
    with pytest.raises(InputError, match="at least 5"):
        evaluated(table, cluster="class")


def test_texts_of_many_classes_are_their_own_units() -> None:
    table = pictures(25)
    texts = np.random.default_rng(3).normal(size=(25, DIM)).astype(np.float32)
    result = evaluate_text_retrieval(table, texts=texts, fields=["label"])["label"]
    assert result.interval is not None
    assert result.interval.population == "classes"
    expected = sign_flip(result.ap, np.ones(25), seed=0)
    assert ends(result.interval) == pytest.approx(expected.interval, abs=ROUNDING)


def test_pictures_are_left_out_of_what_texts_find() -> None:
    table = pictures(4)
    texts = np.random.default_rng(3).normal(size=(4, DIM)).astype(np.float32)
    result = evaluate_text_retrieval(table, texts=texts, fields=["label"])["label"]
    groups = image_groups(table)
    without = [
        evaluate_text_retrieval(
            table.take(np.flatnonzero(groups != g)),
            texts=texts, fields=["label"], resampling=Resampling("none"),
        )["label"].map
        for g in range(groups.max() + 1)
    ]  # fmt: skip
    expected = group_jackknife(result.map, np.array(without), np.bincount(groups).astype(float))
    assert ends(result.interval) == pytest.approx(expected.interval, abs=1e-7)


@pytest.fixture(scope="module")
def collection() -> ImageCollection:
    table = pictures(4)
    store = open_store(":memory:")
    made = ImageCollection.create(store, "shop", {"raw": (DIM, VectorOrigin("test", "0" * 64))})
    payloads = [{name: column[i] for name, column in table.payload.items()} for i in range(N)]
    store.upsert("shop", table.ids, table.vectors, payloads)
    return made


@pytest.mark.parametrize("denominator", ["relevant", "min"])
def test_pictures_left_out_of_all_answers_give_the_interval_of_the_full_map(
    collection: ImageCollection, denominator: str
) -> None:
    # With all of the gallery among the answers nothing could have come up from below.
    search = IndexSearch("raw", exact=True)
    found = searched(collection, search, k=N - 1, denominator=denominator)
    exact = evaluated(collection.table(["raw"], payload=["label"]))
    assert found.ap.mean() == pytest.approx(exact.map, abs=1e-6)  # another float32 product
    assert ends(found.interval) == pytest.approx(ends(exact.interval), abs=1e-4)


def test_an_index_is_asked_beside_the_exact_ranking(collection: ImageCollection) -> None:
    several = evaluate_index(
        collection, searches=[IndexSearch("raw")], fields=["label"], sides="split", k=5
    )
    found, beside = several["label", "raw"], several.exact["label", "raw"]
    exact = evaluated(pictures(4), split="split")
    assert beside.map == pytest.approx(exact.map, abs=1e-6)  # the store normalises its vectors
    assert (found.k, found.n_outside) == (5, 0)
    assert found.search.where == Filter(equals={"split": ["train"]})
    assert found.query_ids == beside.query_ids
    assert found.lower.mean() - 1e-6 <= beside.map <= found.upper.mean() + 1e-6
    (row,) = several.to_dict()["rows"]
    assert (row["denominator"], row["exact_map"]) == ("all relevant", beside.map)
    search = IndexSearch("raw", params={"hnsw_ef": 16})
    assert searched(collection, search, k=3).k == 3


def test_drawn_queries_are_the_same_beside_the_exact_ranking(collection: ImageCollection) -> None:
    several = evaluate_index(
        collection, searches=[IndexSearch("raw")], fields=["label"], max_queries=9, seed=4
    )
    found, beside = several["label", "raw"], several.exact["label", "raw"]
    assert found.query_ids == beside.query_ids
    assert len(found.ap) == 9


def test_an_index_is_asked_of_a_collection_and_by_searches_that_are_told_apart(
    collection: ImageCollection,
) -> None:
    about: Any = {"searches": [IndexSearch("raw")], "fields": ["label"]}
    with pytest.raises(InputError, match="through a collection, not a table; give the collection"):
        evaluate_index(pictures(4), **about)  # type: ignore[arg-type]
    twice = [IndexSearch("raw"), IndexSearch("raw", exact=True)]
    with pytest.raises(InputError, match="2 searches are called 'raw'; evaluate them one by one"):
        evaluate_index(collection, searches=twice, fields=["label"])
    with pytest.raises(InputError, match="no search to evaluate"):
        evaluate_index(collection, searches=[], fields=["label"])


def test_what_searches_share_is_said_once(collection: ImageCollection) -> None:
    searches = [
        IndexSearch("raw", exact=True, params={"hnsw_ef": 16, "indexed_only": True}),
        IndexSearch("raw", prefetch="raw", params={"hnsw_ef": 16, "indexed_only": False}),
    ]
    found = evaluate_index(collection, searches=searches, fields=["label"], k=3, n_timed=1)
    told = found.to_dict()
    assert (told["k"], told["exact"], told["params"]) == (3, False, {"hnsw_ef": 16})
    alone = evaluate_index(
        collection, searches=searches[:1], fields=["label"], n_timed=1
    ).to_dict()
    assert (alone["exact"], alone["params"]) == (True, dict(searches[0].params))


def test_a_split_without_a_side_is_refused() -> None:
    with pytest.raises(InputError, match="side of the split"):
        evaluated(pictures(4), split=(np.ones(3, bool), np.ones(N, bool)))
    with pytest.raises(InputError, match="no point has label=test; its values are 'c00' or"):
        evaluated(pictures(4), split="label")


def test_few_relevant_items_can_be_the_denominator(collection: ImageCollection) -> None:
    over_all, over_k = (
        searched(collection, IndexSearch("raw"), k=7, denominator=name)
        for name in ("relevant", "min")
    )
    assert (over_all.n_relevant > 7).all()
    np.testing.assert_allclose(over_k.ap, over_all.ap * over_all.n_relevant / 7, atol=1e-12)
    np.testing.assert_array_equal(over_k.lower, over_all.lower)
    assert over_k.to_dict()["denominator"] == "min(k, relevant)"
    with pytest.raises(InputError, match="relevant or min"):
        searched(collection, IndexSearch("raw"), denominator="hits")


def test_intervals_hold_the_true_figure_about_as_often_as_they_say() -> None:
    found = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(25), 6)
        centres = rng.normal(size=(25, DIM)) * rng.uniform(0.2, 2, size=(25, 1))
        X = (centres[labels] + rng.normal(size=(150, DIM))).astype(np.float32)
        table = VectorTable(list(range(150)), {"raw": X}, {"label": labels.tolist()})
        found.append(evaluated(table))
    truth = np.mean([result.map for result in found])
    held = [r.interval is not None and r.interval.low <= truth <= r.interval.high for r in found]
    assert 0.88 <= np.mean(held) <= 1.0  # 0.95 - 3 sqrt(.95 .05 / 100)


def test_what_a_table_was_read_without_is_named(collection: ImageCollection) -> None:
    table, texts = pictures(4), np.eye(4, DIM, dtype=np.float32)
    calls: list[Callable[[], object]] = [
        lambda: evaluate_retrieval(table, vectors=["pca"], fields=["label"])["label", "pca"],
        lambda: evaluate_retrieval(table, vectors=["raw"], fields=["year"])["year", "raw"],
        lambda: evaluate_retrieval(table, vectors=["raw"], fields=["label"], sides="side")[
            "label", "raw"
        ],
        lambda: evaluate_retrieval(
            table, vectors=["raw"], fields=["label"], resampling=Resampling("year")
        )["label", "raw"],
        lambda: evaluate_text_retrieval(table, texts=texts, vector="pca", fields=["label"]),
        lambda: evaluate_text_retrieval(table, texts=texts, fields=["year"]),
        lambda: judge_search(
            collection,
            table,
            RetrievalTask.from_table(table, "label"),
            IndexSearch("raw", prefetch="pca"),
            k=100,
        ),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"read without the .*; read it, too"):
            call()


def test_a_collection_names_the_vectors_that_it_has(collection: ImageCollection) -> None:
    with pytest.raises(NotFound, match="no vector 'pca'; it has 'raw'"):
        evaluate_retrieval(collection, vectors=["pca"], fields=["label"])["label", "pca"]
    with pytest.raises(InputError, match="no point has a value in field 'year'"):
        evaluate_retrieval(collection, vectors=["raw"], fields=["year"])["year", "raw"]
    with pytest.raises(NotFound, match="no vector 'pca'; it has 'raw'"):
        searched(collection, IndexSearch("raw", prefetch="pca"))


@pytest.mark.parametrize("k", [1, 4, 15, 60])
def test_the_interval_at_k_is_as_wide_as_if_the_store_was_asked_without_each_picture(
    collection: ImageCollection, k: int
) -> None:
    table = collection.table(["raw"], payload=["label"])
    found = searched(collection, IndexSearch("raw", exact=True), k=k)
    labels = np.array(table.payload["label"])
    S = table.vectors["raw"] @ table.vectors["raw"].T
    np.fill_diagonal(S, -2)
    is_relevant = labels[np.argsort(-S, axis=1)] == labels[:, None]
    assert found.ap.mean() == pytest.approx(at_k(is_relevant[:, :-1], k).mean(), abs=1e-6)
    without = []
    for g in range(N):
        kept = np.arange(N) != g
        order = np.argsort(-S[kept][:, kept], axis=1)
        is_relevant = labels[kept][order] == labels[kept][:, None]
        without.append(at_k(is_relevant[:, :-1], k).mean())
    expected = group_jackknife(float(found.ap.mean()), np.array(without), np.ones(N))
    low, high = found.interval.low, found.interval.high  # type: ignore[union-attr]
    # What comes up from below place k is guessed: without a guess it is 1.1 to 1.8 times as wide.
    assert (high - low) / np.diff(expected.interval)[0] == pytest.approx(1, abs=0.1)


def at_k(is_relevant: np.ndarray, k: int) -> np.ndarray:
    """Return AP@k over all relevant items of rankings (n, m); the last place is the query's."""
    hits = np.cumsum(is_relevant[:, :k], axis=1) / np.arange(1, k + 1)
    return (hits * is_relevant[:, :k]).sum(axis=1) / is_relevant.sum(axis=1)
