"""Without labels: neighbours in common, the images that disagree, and zero-shot pseudo-labels."""

from __future__ import annotations

import numpy as np
import pytest

from intramodal.errors import InputError
from intramodal.evaluation.agreement import neighbour_overlap, pseudo_labels
from intramodal.types import VectorTable


def table(n: int = 60, seed: int = 0) -> VectorTable:
    X = np.random.default_rng(seed).normal(size=(n, 10)).astype(np.float32)
    return VectorTable(list(range(n)), {"raw": X, "pca": X[:, :4], "same": 3 * X})


def nearest(X: np.ndarray, row: int, k: int) -> set[int]:
    scores = X @ X[row] / np.linalg.norm(X, axis=1)
    scores[row] = -np.inf
    return set(np.argsort(-scores)[:k].tolist())


@pytest.mark.parametrize("k", [1, 10, 59])
def test_overlap_is_the_share_of_common_neighbours(k: int) -> None:
    found = table()
    agreement = neighbour_overlap(found, ("raw", "pca"), k=k)
    X, Z = found.vectors["raw"], found.vectors["pca"]
    expected = [len(nearest(X, row, k) & nearest(Z, row, k)) / k for row in range(60)]
    np.testing.assert_allclose(agreement.overlap, expected)
    # All have asked: the mean is known.
    assert agreement.interval == pytest.approx((np.mean(expected),) * 2)


def test_length_does_not_count() -> None:
    assert neighbour_overlap(table(), ("raw", "same")).overlap.min() == 1


def test_equals_at_the_cut_are_taken_in_the_order_of_the_table() -> None:
    X = np.repeat(np.eye(2, dtype=np.float32), [5, 1], axis=0)
    found = VectorTable(list(range(6)), {"raw": X, "pca": X.copy()})
    assert neighbour_overlap(found, ("raw", "pca"), k=2).overlap.min() == 1


def test_the_images_with_the_fewest_common_neighbours_come_first() -> None:
    agreement = neighbour_overlap(table(), ("raw", "pca"), k=5)
    by_id = dict(zip(agreement.ids, agreement.overlap, strict=True))
    worst = agreement.disagreements(10)
    assert max(by_id[i] for i in worst) <= min(by_id[i] for i in by_id if i not in worst)


def test_a_sample_asks_everyone_and_has_an_interval_that_usually_holds_the_mean() -> None:
    found = table(400)
    everyone = neighbour_overlap(found, ("raw", "pca"), k=5).overlap.mean()
    samples = [
        neighbour_overlap(found, ("raw", "pca"), k=5, n_queries=100, seed=seed)
        for seed in range(40)
    ]
    assert all(len(sample.ids) == 100 for sample in samples)
    held = sum(low <= everyone <= high for low, high in (s.interval for s in samples))
    assert held >= 33  # P(fewer of 40 at 95%) < 0.2%


def test_as_many_neighbours_as_images_are_refused() -> None:
    with pytest.raises(InputError, match="60 nearest of 60"):
        neighbour_overlap(table(), ("raw", "pca"), k=60)


def test_pseudo_labels_are_the_nearest_texts_with_their_softmax() -> None:
    rng = np.random.default_rng(1)
    X, T = rng.normal(size=(30, 8)), rng.normal(size=(5, 8))
    found = pseudo_labels(X.astype(np.float32), T.astype(np.float32), list("abcde"))
    cosines = (X / np.linalg.norm(X, axis=1)[:, None]) @ (T / np.linalg.norm(T, axis=1)[:, None]).T
    weights = np.exp(100 * cosines)
    assert found.labels == ["abcde"[i] for i in cosines.argmax(axis=1)]
    shares = weights.max(axis=1) / weights.sum(axis=1)
    np.testing.assert_allclose(found.confidence, shares, rtol=1e-4)  # float32 cosines times 100


def test_only_confident_labels_are_kept_and_counted() -> None:
    X = np.array([[1, 0], [1, 0.999], [0, 1]], dtype=np.float32)
    found = pseudo_labels(X, np.eye(2, dtype=np.float32), ["x", "y"])
    assert found.confident(0.9) == ["x", None, "y"]
    plain = found.to_dict(0.9)
    assert plain["n_confident"] == 2
    assert plain["classes"] == [{"name": "x", "n_images": 1}, {"name": "y", "n_images": 1}]


@pytest.mark.parametrize(("shape", "names"), [((2, 3), "xy"), ((3, 2), "xy"), ((1, 2), "x")])
def test_texts_that_cannot_serve_are_refused(shape: tuple[int, int], names: str) -> None:
    with pytest.raises(InputError):
        pseudo_labels(np.ones((4, 2), np.float32), np.ones(shape, np.float32), list(names))
