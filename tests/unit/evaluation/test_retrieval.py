"""Retrieval from a table: protocols, multi-valued labels, and the published reference figures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from intramodal.errors import InputError
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.projection.text_pca import TextPCA
from intramodal.types import VectorTable, unit_rows

EXACT = 1e-12


def table(X: np.ndarray, **payload: list[object]) -> VectorTable:
    return VectorTable(list(range(len(X))), {"raw": X.astype(np.float32)}, payload)


def plain_ap(scores: np.ndarray, relevant: np.ndarray) -> float:
    ordered = relevant[np.argsort(-scores, kind="stable")]
    places = np.flatnonzero(ordered)
    return float(((np.arange(len(places)) + 1) / (places + 1)).mean())


def plain_map(
    X: np.ndarray, shares: np.ndarray, asks: np.ndarray, answers: np.ndarray
) -> list[float]:
    unit = unit_rows(X)
    found = []
    for q in asks:
        gallery = answers[answers != q]
        relevant = shares[q, gallery]
        if relevant.any():
            found.append(plain_ap(unit[gallery] @ unit[q], relevant))
    return found


def test_leave_one_out_equals_a_plain_loop(rng: np.random.Generator) -> None:
    X, labels = rng.normal(size=(60, 5)), rng.integers(0, 6, 60)
    got = evaluate_retrieval(table(X, label=labels.tolist()), vectors=["raw"], fields=["label"])[
        "label", "raw"
    ]
    expected = plain_map(X, labels[:, None] == labels, np.arange(60), np.arange(60))
    np.testing.assert_allclose(got.ap, expected, atol=EXACT)
    assert got.protocol == "leave-one-out"
    assert got.map == pytest.approx(np.mean(expected), abs=EXACT)


def test_query_against_gallery_equals_a_plain_loop(rng: np.random.Generator) -> None:
    X, labels = rng.normal(size=(60, 5)), rng.integers(0, 6, 60)
    asks = np.arange(60) < 20
    got = evaluate_retrieval(
        table(X, label=labels.tolist()), vectors=["raw"], fields=["label"], sides=(asks, ~asks)
    )["label", "raw"]
    expected = plain_map(X, labels[:, None] == labels, np.arange(20), np.arange(20, 60))
    np.testing.assert_allclose(got.ap, expected, atol=EXACT)
    assert (got.protocol, got.n_gallery) == ("query-gallery", 40)


def test_a_multi_valued_field_is_relevant_where_a_value_is_shared(
    rng: np.random.Generator,
) -> None:
    X = rng.normal(size=(40, 5))
    values = [sorted(set(rng.integers(0, 5, 2).tolist())) for _ in range(40)]
    got = evaluate_retrieval(table(X, tags=list(values)), vectors=["raw"], fields=["tags"])[
        "tags", "raw"
    ]
    shares = np.array([[bool(set(a) & set(b)) for b in values] for a in values])
    expected = plain_map(X, shares, np.arange(40), np.arange(40))
    np.testing.assert_allclose(got.ap, expected, atol=EXACT)


def test_a_query_never_finds_itself_not_even_among_duplicates() -> None:
    X = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
    got = evaluate_retrieval(
        table(X, label=["a", "b", "a", "b"]), vectors=["raw"], fields=["label"]
    )["label", "raw"]
    # Every query: its duplicate of the other class first, then one of two tied others.
    np.testing.assert_allclose(got.ap, (1 / 2 + 1 / 3) / 2, atol=EXACT)


def test_queries_without_positives_are_left_out_and_counted(rng: np.random.Generator) -> None:
    X = rng.normal(size=(5, 3))
    labels = ["a", "a", "b", "b", "c"]
    got = evaluate_retrieval(
        table(X, label=labels), vectors=["raw"], fields=["label"], min_class_size=1
    )["label", "raw"]
    assert (len(got.ap), got.n_without_positives) == (4, 1)


def test_a_split_in_which_nothing_is_relevant_is_refused(rng: np.random.Generator) -> None:
    X = rng.normal(size=(4, 3))
    asks = np.array([True, True, False, False])
    with pytest.raises(InputError, match="no query has a relevant image"):
        evaluate_retrieval(
            table(X, label=["a", "a", "b", "b"]),
            vectors=["raw"],
            fields=["label"],
            sides=(asks, ~asks),
        )["label", "raw"]


def test_drawn_queries_have_the_figures_they_have_among_all(rng: np.random.Generator) -> None:
    X, labels = rng.normal(size=(60, 5)), rng.integers(0, 6, 60).tolist()
    whole, drawn, again, other = (
        evaluate_retrieval(
            table(X, label=labels), vectors=["raw"], fields=["label"], max_queries=most, seed=seed
        )["label", "raw"]
        for most, seed in ((None, 0), (20, 1), (20, 1), (20, 2))
    )
    ap = dict(zip(whole.query_ids, whole.ap, strict=True))
    assert (len(drawn.query_ids), drawn.n_gallery) == (20, whole.n_gallery)
    np.testing.assert_allclose(drawn.ap, [ap[i] for i in drawn.query_ids], atol=EXACT)
    assert drawn.query_ids == again.query_ids != other.query_ids


def test_turning_all_vectors_changes_nothing(rng: np.random.Generator) -> None:
    X, labels = rng.normal(size=(60, 8)), rng.integers(0, 6, 60).tolist()
    turn, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    a = evaluate_retrieval(table(X, label=labels), vectors=["raw"], fields=["label"])[
        "label", "raw"
    ]
    b = evaluate_retrieval(table(X @ turn, label=labels), vectors=["raw"], fields=["label"])[
        "label", "raw"
    ]
    np.testing.assert_allclose(a.ap, b.ap, atol=1e-6)  # float32 products of 8 terms


# The reference table of the real data: independent NumPy, leave-one-out, classes of 5 and more.
REFERENCE = {
    "masterCategory": (985, 4, 0.800389, 0.832897, 0.996, 0.994),
    "subCategory": (963, 19, 0.713903, 0.765872, 0.919, 0.918),
    "articleType": (901, 37, 0.606651, 0.646136, 0.801, 0.804),
    "baseColour": (953, 24, 0.175766, 0.193170, 0.364, 0.383),
    "year": (986, 9, 0.399995, 0.404035, 0.643, 0.618),
    "season": (988, 4, 0.467555, 0.471059, 0.690, 0.684),
    "gender": (988, 5, 0.565044, 0.565238, 0.836, 0.828),
    "usage": (988, 4, 0.755920, 0.747671, 0.856, 0.856),
}


def projected(X: np.ndarray, real_data: Path) -> dict[str, np.ndarray]:
    texts = np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    components = TextPCA().fit(unit_rows(texts)).components_
    raw = X.astype(np.float32)
    return {"raw": raw, "pca": np.asarray(unit_rows(raw) @ components.T, dtype=np.float32)}


def check(found: VectorTable, field: str, expected: tuple[float, ...]) -> None:
    n, n_classes, *figures = expected
    for vector, value, first in zip(("raw", "pca"), figures[:2], figures[2:], strict=True):
        got = evaluate_retrieval(found, vectors=[vector], fields=[field], min_class_size=5)[
            field, vector
        ]
        assert (len(got.ap), len(got.class_mean())) == (n, n_classes)
        assert got.map == pytest.approx(value, abs=1e-4)  # as the reference table promises
        assert got.metrics["hit@1"].mean() == pytest.approx(first, abs=6e-4)  # three digits


@pytest.mark.real_data
def test_cifar_figures_equal_the_reference(real_data: Path) -> None:
    folder = real_data / "cifar10-500-clip-b32"
    labels = np.load(folder / "image_labels.npy").tolist()
    vectors = projected(np.load(folder / "image_embeddings.npy"), real_data)
    found = VectorTable(list(range(len(labels))), vectors, {"label": labels})
    check(found, "label", (500, 10, 0.586148, 0.740377, 0.834, 0.896))


@pytest.mark.real_data
@pytest.mark.parametrize("field", REFERENCE)
def test_fashion_figures_equal_the_reference(real_data: Path, field: str) -> None:
    folder = real_data / "fashion988-clip-b32"
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        labels = [row[field] for row in csv.DictReader(file)]
    vectors = projected(np.load(folder / "image_embeddings.npy"), real_data)
    found = VectorTable(list(range(len(labels))), vectors, {field: labels})
    check(found, field, REFERENCE[field])
