from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from intramodal.errors import InputError
from intramodal.evaluation.precision_recall import LEVELS, interpolated, precision_recall
from intramodal.types import VectorTable, unit_rows


def by_sklearn(relevant: np.ndarray, others: np.ndarray) -> np.ndarray:
    truth = np.r_[np.ones(len(relevant)), np.zeros(len(others))]
    precision, recall, _ = precision_recall_curve(truth, np.r_[relevant, others])
    # its last point, (1, 0), is no threshold
    return np.array([precision[:-1][recall[:-1] >= level - 1e-9].max() for level in LEVELS])


@pytest.mark.parametrize("n_values", [3, 1000])
def test_one_query_agrees_with_scikit_learn_with_and_without_ties(
    rng: np.random.Generator, n_values: int
) -> None:
    for _ in range(40):
        relevant = rng.integers(n_values, size=rng.integers(1, 12)) / n_values
        others = rng.integers(n_values, size=rng.integers(0, 30)) / n_values
        expected = by_sklearn(relevant, others)
        np.testing.assert_allclose(interpolated(relevant, others), expected, atol=1e-12)


def table(rng: np.random.Generator, n: int = 60) -> VectorTable:
    labels = [f"kind {i % 5}" for i in range(n)]
    centres = rng.normal(size=(5, 8))
    X = centres[np.arange(n) % 5] + rng.normal(size=(n, 8))
    noise = rng.normal(size=(n, 8))
    vectors = {"raw": X.astype(np.float32), "noise": noise.astype(np.float32)}
    return VectorTable([f"{i:03}" for i in range(n)], vectors, {"kind": labels})


def test_the_curve_is_the_mean_over_queries_that_never_find_themselves(
    rng: np.random.Generator,
) -> None:
    data = table(rng)
    found = precision_recall(data, vectors=["raw", "noise"], field="kind")
    X, labels = unit_rows(data.vectors["raw"]), np.array(data.payload["kind"])
    curves = []
    for i in range(len(data)):
        others = np.arange(len(data)) != i
        same = (labels == labels[i]) & others
        scores = X @ X[i]
        curves.append(by_sklearn(scores[same], scores[others & ~same]))
    # float32 products of 8 terms in another order may swap two neighbours of a ranking
    np.testing.assert_allclose(found.precision["raw"], np.mean(curves, axis=0), atol=2e-3)
    assert found.chance == pytest.approx(11 / 59)
    assert (found.n_queries, found.n_averaged) == (60, 60)
    assert np.all(np.diff(found.precision["raw"]) <= 1e-12)
    assert found.precision["raw"][25] > found.precision["noise"][25]


def test_many_queries_are_sampled_evenly_and_the_count_is_told(rng: np.random.Generator) -> None:
    found = precision_recall(table(rng), vectors=["raw"], field="kind", max_queries=7)
    assert (found.n_queries, found.n_averaged) == (60, 7)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_field_that_is_no_label_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="without the field"):
        precision_recall(table(rng), vectors=["raw"], field="colour")
