"""Collections that rank by another distance than the cosine: when it matters, what it gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score

from intramodal import open_store
from intramodal.errors import InputError
from intramodal.evaluation.agreement import compare_unlabelled
from intramodal.evaluation.compare import compare
from intramodal.evaluation.distances import as_products, distance_note, other_distances
from intramodal.evaluation.fewshot import evaluate_fewshot
from intramodal.evaluation.index import evaluate_index
from intramodal.evaluation.index_search import IndexSearch
from intramodal.evaluation.resampling import Resampling
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.evaluation.rivals.oti import Inversion, evaluate_inversion
from intramodal.evaluation.text_retrieval import evaluate_text_retrieval
from intramodal.store.base import VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.types import Distance, Floats, unit_rows

N, D, N_CLASSES = 60, 16, 6
LABELS = np.arange(N) % N_CLASSES
METRICS = {"Dot": lambda Q, G: -(Q @ G.T), "Euclid": cdist}
"""What a store sorts by, the least first."""


def rows_of_all_lengths(rng: np.random.Generator) -> Floats:
    centres = rng.normal(size=(N_CLASSES, D))[LABELS]
    X = unit_rows(centres + 0.8 * rng.normal(size=(N, D)))
    return (X * rng.uniform(1, 60, size=(N, 1)) + 5).astype(np.float32)


def stored(**vectors: tuple[Floats, Distance]) -> ImageCollection:
    store = open_store(":memory:")
    specs = {name: VectorSpec(X.shape[1], distance) for name, (X, distance) in vectors.items()}
    store.create("c", specs)
    payloads = [{"kind": f"k{label}"} for label in LABELS]
    store.upsert("c", list(range(N)), {name: X for name, (X, _) in vectors.items()}, payloads)
    return ImageCollection.open(store, "c")


def plain_map(X: Floats, distance: str, gallery: Floats | None = None) -> float:
    """Return the leave-one-out mAP by a distance, with scikit-learn's average precision."""
    far = METRICS[distance](X.astype(float), (X if gallery is None else gallery).astype(float))
    others = ~np.eye(N, dtype=bool)
    scores = [
        average_precision_score(LABELS[keep] == label, -row[keep])
        for row, keep, label in zip(far, others, LABELS, strict=True)
    ]
    return float(np.mean(scores))


def maps(found: Any, vector: str = "image") -> Any:
    return found.to_dict()["fields"]["kind"]["vectors"][vector]


@pytest.mark.parametrize("distance", ["Dot", "Euclid"])
def test_the_map_by_a_distance_is_that_of_sorting_by_it(
    rng: np.random.Generator, distance: Distance
) -> None:
    X = rows_of_all_lengths(rng)
    found = evaluate_retrieval(stored(image=(X, distance)), vectors=["image"], fields=["kind"])
    expected = {"distance": distance, "map": pytest.approx(plain_map(X, distance), abs=1e-9)}
    assert maps(found)["by_distance"] == expected
    assert abs(expected["map"].expected - maps(found)["map"]) > 0.05  # lengths say much here
    note = f"but searches rank 'image' by {distance}, and vectors differ in length"
    assert note in found.to_dict()["distance_note"]


def test_euclidean_order_survives_vectors_far_from_the_origin(rng: np.random.Generator) -> None:
    X = (rng.normal(size=(80, 8)) + 3000).astype(np.float32)
    Q, G = as_products(X[:20], X, "Euclid")
    order = np.argsort(-(Q @ G.T), axis=1)[:, :10]
    np.testing.assert_array_equal(order, np.argsort(cdist(X[:20], X), axis=1)[:, :10])


def test_no_product_ranks_by_manhattan() -> None:
    with pytest.raises(InputError, match="Manhattan"):
        as_products(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), "Manhattan")


@pytest.mark.parametrize("distance", ["Cosine", "Dot", "Euclid"])
@pytest.mark.parametrize("length", [1, 7])
def test_vectors_of_one_length_are_ranked_as_by_cosine(
    rng: np.random.Generator, distance: Distance, length: float
) -> None:
    # As half precision stores them: off by 1e-4.
    X = (length * unit_rows(rng.normal(size=(N, D)))).astype(np.float16).astype(np.float32)
    collection = stored(image=(X, distance))
    assert other_distances(collection, collection.table(["image"]), ["image"]) == {}
    found = evaluate_retrieval(collection, vectors=["image"], fields=["kind"]).to_dict()
    assert found["distance_note"] is None
    assert found["fields"]["kind"]["vectors"]["image"]["by_distance"] is None


def test_cosine_never_differs_and_a_table_is_ranked_by_nothing(rng: np.random.Generator) -> None:
    X = rows_of_all_lengths(rng)
    collection = stored(image=(X, "Cosine"), dot=(X, "Dot"))
    table = collection.table(["image", "dot"])
    assert other_distances(collection, table, ["image", "dot"]) == {"dot": "Dot"}
    assert other_distances(table, table, ["dot"]) == {}


def test_manhattan_is_named_and_has_no_map(rng: np.random.Generator) -> None:
    collection = stored(image=(unit_rows(rows_of_all_lengths(rng)), "Manhattan"))
    found = evaluate_retrieval(collection, vectors=["image"], fields=["kind"])
    assert maps(found)["by_distance"] == {"distance": "Manhattan", "map": None}
    assert found.to_dict()["distance_note"] == (
        "Figures here are by cosine, but searches rank 'image' by Manhattan."
    )


def test_a_note_names_every_vector_once() -> None:
    note = distance_note({"a": "Dot", "b": "Euclid", "c": "Dot"}, has_map=False)
    assert note == (
        "Figures here are by cosine, but searches rank 'a' and 'c' by Dot and 'b' by Euclid, and "
        "vectors differ in length."
    )


def test_the_index_gives_the_map_by_which_it_ranks_beside_that_by_cosine(
    rng: np.random.Generator,
) -> None:
    X = rows_of_all_lengths(rng)
    collection = stored(image=(X, "Dot"), fine=(X, "Cosine"))
    searches = [IndexSearch("image"), IndexSearch("fine"), IndexSearch("image", fuse="fine")]
    found = evaluate_index(collection, searches=searches, fields=["kind"], k=N - 1, n_timed=1)
    image, fine, fused = found.to_dict()["rows"]
    # All answers, in the order of the store: its mAP@k is the mAP by its distance.
    expected = {"distance": "Dot", "map": pytest.approx(image["map_at_k"], abs=1e-9)}
    assert image["by_distance"] == expected
    assert fine["by_distance"] is None
    assert fused["by_distance"] is None
    assert fine["exact_map"] == pytest.approx(image["exact_map"], abs=1e-9)
    assert found.to_dict()["distance_note"].startswith("The exact mAP is by cosine")


def test_a_comparison_gives_both_maps_of_the_vectors_that_are_ranked_otherwise(
    rng: np.random.Generator,
) -> None:
    X = rows_of_all_lengths(rng)
    collection = stored(image=(X, "Dot"), fine=(X, "Cosine"))
    found = compare(collection, "image", "fine", fields=["kind"], tasks=["retrieval"]).to_dict()
    row = found["fields"]["kind"]
    assert row["map_by_distance"] == {"image": pytest.approx(plain_map(X, "Dot"), abs=1e-9)}
    assert "'image' by Dot" in found["distance_note"]
    table = collection.table(["image", "fine"], payload=["kind"])
    found = compare(table, "image", "fine", fields=["kind"], tasks=["retrieval"]).to_dict()
    assert (found["distance_note"], found["fields"]["kind"]["map_by_distance"]) == (None, None)


def test_a_recorded_comparison_keeps_the_maps_by_distance(rng: np.random.Generator) -> None:
    logged: dict[str, float | None] = {}

    class Kept:
        def log_metric(self, name: str, value: float | None, **_: Any) -> None:
            logged[name] = value

    X = rows_of_all_lengths(rng)
    found = evaluate_retrieval(stored(image=(X, "Dot")), vectors=["image"], fields=["kind"])
    found["kind", "image"].log_map(Kept())  # type: ignore[arg-type]  # a run, as far as needed
    assert logged == {
        "mAP": found["kind", "image"].map,
        "mAP by Dot": maps(found)["by_distance"]["map"],
    }


@pytest.mark.parametrize("distance", ["Dot", "Euclid"])
def test_texts_find_images_by_the_distance_of_the_images(
    rng: np.random.Generator, distance: Distance
) -> None:
    X = rows_of_all_lengths(rng)
    T = np.stack([X[c == LABELS].mean(axis=0) for c in range(N_CLASSES)]).astype(np.float32)
    found = evaluate_text_retrieval(
        stored(image=(X, distance)),
        texts=T,
        vector="image",
        fields=["kind"],
        resampling=Resampling("none"),
    ).to_dict()
    far = METRICS[distance](T.astype(float), X.astype(float))
    expected = np.mean([average_precision_score(c == LABELS, -far[c]) for c in range(N_CLASSES)])
    own = found["fields"]["kind"]["by_distance"]
    assert own == {"distance": distance, "map": pytest.approx(expected, abs=1e-9)}
    assert found["distance_note"]


def test_inverted_queries_find_images_by_the_distance_of_the_images(
    rng: np.random.Generator,
) -> None:
    X = rows_of_all_lengths(rng)
    nothing = np.zeros(N, dtype=np.float32)
    texts = Inversion(list(range(N)), X + 1, X, nothing, nothing, 0)
    found = evaluate_inversion(
        stored(image=(X, "Dot")),
        texts,
        vector="image",
        fields=["kind"],
        resampling=Resampling("none"),
    )
    expected = plain_map(X + 1, "Dot", gallery=X)
    assert maps(found, "oti")["by_distance"]["map"] == pytest.approx(expected, abs=1e-9)
    assert maps(found)["by_distance"]["map"] == pytest.approx(plain_map(X, "Dot"), abs=1e-9)


def test_fewshot_says_that_its_prototypes_are_by_cosine(rng: np.random.Generator) -> None:
    collection = stored(image=(rows_of_all_lengths(rng), "Dot"))
    found = evaluate_fewshot(
        collection, vectors=["image"], fields=["kind"], episodes=2, classifiers=["prototype"]
    )
    assert found.to_dict()["distance_note"] == (
        "Figures here are by cosine, but searches rank 'image' by Dot, and vectors differ in "
        "length."
    )


def test_common_neighbours_are_counted_by_the_rankings_of_the_store_too(
    rng: np.random.Generator,
) -> None:
    X = rows_of_all_lengths(rng)
    found = compare_unlabelled(stored(a=(X, "Dot"), b=(X, "Euclid")), "a", "b", k=5).to_dict()
    tops = []
    for metric in METRICS.values():
        far = metric(X.astype(float), X.astype(float))
        np.fill_diagonal(far, np.inf)
        tops.append(np.argsort(far, axis=1)[:, :5])
    common = np.mean([len(set(x) & set(y)) / 5 for x, y in zip(*tops, strict=True)])
    assert found["agreement"]["overlap"] == 1  # by cosine they are one vector
    assert found["overlap_by_distance"] == pytest.approx(common)
    assert found["sentences"][-1].endswith(
        f"By the rankings of the store they share {common:.1%}."
    )
    alike = compare_unlabelled(stored(a=(X, "Cosine"), b=(X, "Cosine")), "a", "b", k=5).to_dict()
    assert (alike["overlap_by_distance"], len(alike["sentences"])) == (None, 1)
