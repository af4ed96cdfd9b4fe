"""Projected queries judged as a vector of their own: against plain loops, and on real vectors."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from intramodal import AnchorSet, Projection, Resampling, VectorTable, evaluate_retrieval
from intramodal.errors import InputError
from intramodal.evaluation.retrieval import RetrievalResults
from intramodal.types import Floats, unit_rows
from tests.query_sides import centred_projection, shifted_rows
from tests.unit.evaluation.test_retrieval import EXACT, plain_ap

N, D = 50, 12


@pytest.fixture
def X(rng: np.random.Generator) -> Floats:
    return shifted_rows(rng, N, D)


@pytest.fixture
def pca(rng: np.random.Generator, X: Floats) -> Projection:
    return centred_projection(rng, X, 5)


def table(X: Floats, n_labels: int = 5) -> VectorTable:
    return VectorTable(
        list(range(len(X))), {"raw": X}, {"label": [i % n_labels for i in range(len(X))]}
    )


def plain_aps(scores: Floats, cosines: Floats, n_first: int) -> list[float]:
    """Rank every row against all others, the first places by the cosines."""
    found = []
    for q in range(len(scores)):
        order = [i for i in np.argsort(-scores[q], kind="stable") if i != q]
        first = sorted(order[:n_first], key=lambda i: -cosines[q, i])
        ranked = np.array(first + order[n_first:])
        found.append(plain_ap(-np.arange(len(ranked)), ranked % 5 == q % 5))
    return found


@pytest.mark.parametrize("rerank", [None, 7, 1000])
def test_the_figures_are_those_of_a_plain_loop(
    X: Floats, pca: Projection, rerank: int | None
) -> None:
    found = evaluate_retrieval(
        table(X), vectors=["raw"], fields=["label"], query_side=pca, rerank=rerank
    )
    Z = unit_rows(pca.apply(X))
    expected = plain_aps(pca.query(X) @ X.T, Z @ Z.T, rerank or 0)
    name = "pca_centered@query" if rerank is None else f"pca_centered@query:{rerank}"
    assert [result.vector for result in found] == ["raw", name]
    np.testing.assert_allclose(found["label", name].ap, expected, atol=EXACT)
    interval = found["label", name].interval
    assert interval is not None
    assert interval.low < found["label", name].map < interval.high


def test_reranking_everything_is_the_stored_projection(X: Floats, pca: Projection) -> None:
    both = table(X).with_unit_vectors({"pca": unit_rows(pca.apply(X))})
    found = evaluate_retrieval(
        both, vectors=["raw", "pca"], fields=["label"], query_side=pca, rerank=N
    )
    stored, mapped = found["label", "pca"], found["label", f"pca_centered@query:{N}"]
    np.testing.assert_allclose(mapped.ap, stored.ap, atol=EXACT)
    assert stored.interval
    assert mapped.interval
    assert (mapped.interval.low, mapped.interval.high) == pytest.approx(
        (stored.interval.low, stored.interval.high)
    )


def test_a_device_and_a_vector_of_the_same_name_are_refused(X: Floats, pca: Projection) -> None:
    with pytest.raises(InputError, match="on the CPU, not on 'cpu'"):
        evaluate_retrieval(table(X), vectors=["raw"], fields=["label"], query_side=pca, rerank=5,
                           device="cpu")  # fmt: skip
    taken = table(X).with_unit_vectors({"pca_centered@query": X})
    with pytest.raises(InputError, match="is called 'pca_centered@query' and there is a vector"):
        evaluate_retrieval(taken, vectors=["raw"], fields=["label"], query_side=pca)


MARGINS = {"map": 0.005, "precision@1": 0.003}


def assert_as_stored(table: VectorTable, texts: Floats, fields: list[str]) -> None:
    """Compare the centred query side, its first 100 reranked, with the stored route."""
    X = table.unit("raw")
    pca = Projection.from_text(
        texts, anchors=AnchorSet.imagenet(), encoder="e", encoder_fingerprint="f",
        center=X.mean(axis=0),
    )  # fmt: skip
    stored = table.with_unit_vectors({"pca": unit_rows(pca.apply(X))})

    def judged(rerank: int | None) -> RetrievalResults:
        return evaluate_retrieval(
            stored, vectors=["raw", "pca"], fields=fields, min_class_size=5, query_side=pca,
            rerank=rerank, resampling=Resampling("none"),
        )  # fmt: skip

    plain, reranked = judged(None), judged(100)
    for field in fields:
        wanted = reranked[field, "pca"]
        got = reranked[field, "pca_centered@query:100"]
        assert abs(plain[field, "pca_centered@query"].map - wanted.map) <= MARGINS["map"]
        assert abs(got.map - wanted.map) <= MARGINS["map"]
        at_1 = [float(found.metrics["precision@1"].mean()) for found in (got, wanted)]
        assert abs(at_1[0] - at_1[1]) <= MARGINS["precision@1"]


def texts(real_data: Path) -> Floats:
    found: Floats = np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    return found


@pytest.mark.real_data
def test_cifar_is_ranked_as_by_the_stored_projection(real_data: Path) -> None:
    source = real_data / "cifar10-500-clip-b32"
    labels = np.load(source / "image_labels.npy").tolist()
    X = np.load(source / "image_embeddings.npy")
    images = VectorTable(list(range(len(X))), {"raw": X}, {"label": labels})
    assert_as_stored(images, texts(real_data), ["label"])


@pytest.mark.real_data
def test_every_field_of_fashion_is_ranked_as_by_the_stored_projection(real_data: Path) -> None:
    source = real_data / "fashion988-clip-b32"
    with (source / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    fields = [name for name in rows[0] if name not in ("row", "id", "productDisplayName")]
    X = np.load(source / "image_embeddings.npy")
    payload = {name: [row[name] for row in rows] for name in fields}
    images = VectorTable(list(range(len(X))), {"raw": X}, payload)
    assert_as_stored(images, texts(real_data), fields)
