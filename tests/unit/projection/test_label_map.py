from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from intramodal.errors import InputError
from intramodal.projection.classes import Classes
from intramodal.projection.label_map import LabelMap


@parametrize_with_checks([LabelMap()])
def test_it_is_an_estimator_as_scikit_learn_wants_it(estimator: Any, check: Any) -> None:
    check(estimator)


def labelled(
    rng: np.random.Generator, n: int = 300, d: int = 40, n_classes: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    y = rng.integers(n_classes, size=n)
    X = rng.normal(size=(n, d)) * np.linspace(1, 3, d) + 2 * rng.normal(size=(n_classes, d))[y]
    return X, y


def unit(X: np.ndarray) -> np.ndarray:
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def published(
    X: np.ndarray, y: np.ndarray, Q: np.ndarray, G: np.ndarray, weight: float
) -> np.ndarray:
    """The closed form as it was written down, by plain NumPy with the SVD of all rows."""
    mu = unit(G).mean(axis=0)
    c = unit(X) - mu
    names, codes, n_c = np.unique(y, return_inverse=True, return_counts=True)
    n, d, n_classes = len(X), X.shape[1], len(names)
    m = np.stack([c[y == name].mean(axis=0) for name in names])
    _, S, V = np.linalg.svd(c - m[codes], full_matrices=False)
    v = S**2 / (n - n_classes)
    s = v.sum() / d
    W = np.eye(d) / np.sqrt(s) + V.T @ np.diag((v + s) ** -0.5 - s**-0.5) @ V
    _, sv, K = np.linalg.svd(np.sqrt(n_c)[:, None] * (m @ W), full_matrices=False)
    k = n_classes - 1
    psi = np.maximum(1e-6, (sv[:k] ** 2 - 1) / n)
    P = W @ K[:k].T @ np.diag(np.sqrt(psi / (psi + 1 / np.median(n_c) + 1)))
    g = unit(G) - mu
    r = [np.sqrt(np.mean(np.sum((g @ block) ** 2, axis=1))) for block in (Q, P)]
    return np.hstack([Q * np.sqrt(1 - weight) / r[0], P * np.sqrt(weight) / r[1]])


@pytest.mark.parametrize("n", [30, 300])  # fewer rows than dimensions, and more
def test_it_is_the_closed_form(rng: np.random.Generator, n: int) -> None:
    X, y = labelled(rng, n)
    G, Z = rng.normal(size=(50, 40)) + 0.3, rng.normal(size=(6, 40))
    Q, _ = np.linalg.qr(rng.normal(size=(40, 8)))
    fitted = LabelMap(Q).fit(X, y, gallery=G)
    expected = published(X, y, Q, G, weight=0.5 if n < 100 else 0.8)
    wanted = (unit(Z) - unit(G).mean(axis=0)) @ expected
    found = fitted.transform(Z)
    # float64; an axis keeps its direction up to its sign, so inner products are compared.
    np.testing.assert_allclose(found @ found.T, wanted @ wanted.T, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found[:, :8], wanted[:, :8], atol=1e-9)
    assert (fitted.n_text_, fitted.n_label_) == (8, 4)


def test_signs_do_not_depend_on_the_order_of_rows(rng: np.random.Generator) -> None:
    X, y = labelled(rng)
    order = rng.permutation(len(X))
    first, second = LabelMap().fit(X, y).matrix_, LabelMap().fit(X[order], y[order]).matrix_
    np.testing.assert_allclose(first, second, atol=1e-8)


def test_a_label_weight_is_the_share_of_the_mean_squared_length(rng: np.random.Generator) -> None:
    X, y = labelled(rng)
    Z = LabelMap(label_weight=0.3).fit(X, y).transform(X)
    of_labels = np.square(Z[:, -4:]).sum(axis=1).mean()
    assert of_labels == pytest.approx(0.3)
    assert np.square(Z).sum(axis=1).mean() == pytest.approx(1.0)
    assert LabelMap(label_weight=1.0).fit(X, y).n_text_ == 0


def test_few_labels_weigh_as_much_as_the_texts_and_many_more(rng: np.random.Generator) -> None:
    X, y = labelled(rng)
    assert LabelMap().fit(X[:99], y[:99]).label_weight_ == 0.5
    assert LabelMap().fit(X[:100], y[:100]).label_weight_ == 0.8


def test_label_axes_are_at_most_as_many_as_asked_for(rng: np.random.Generator) -> None:
    X, y = labelled(rng)
    assert LabelMap(n_components=2).fit(X, y).n_label_ == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_weight": 0.0}, "label_weight is a share above 0"),
        ({"n_components": 0}, "n_components must be at least 1"),
        ({"text_directions": np.eye(3)}, "text_directions have 3 dimensions, the rows 40"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    rng: np.random.Generator, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        LabelMap(**settings).fit(*labelled(rng))


def test_one_class_and_classes_of_one_image_are_refused(rng: np.random.Generator) -> None:
    X, _ = labelled(rng)
    with pytest.raises(InputError, match="two classes, got 1 class"):
        LabelMap().fit(X, np.zeros(len(X), dtype=int))
    with pytest.raises(InputError, match="no spread within a class"):
        LabelMap().fit(X, np.arange(len(X)))


def test_a_fit_takes_less_than_twice_the_products_it_consists_of(rng: np.random.Generator) -> None:
    n, d = 10_000, 512
    X, y = labelled(rng, n, d, 100)
    X = X.astype(np.float32)
    c = X.astype(np.float64)
    started = time.perf_counter()
    np.linalg.eigh(c.T @ c)  # the scatter: fewer products than its thin SVD
    np.linalg.eigh(c.T @ c)  # the images' own principal axes
    c @ rng.normal(size=(d, 128))
    products_s = time.perf_counter() - started
    started = time.perf_counter()
    LabelMap().fit(X, y)
    # Generous: other work shares the machine. Reading the rows costs as much as a product here.
    assert time.perf_counter() - started < 4 * products_s + 0.5


@pytest.mark.parametrize("n", [30, 300])
def test_whitening_is_the_inverse_root_of_the_spread_within_classes(
    rng: np.random.Generator, n: int
) -> None:
    X, y = labelled(rng, n)
    mean = unit(X).mean(axis=0)
    within = Classes.of(X, y, mean)
    R = unit(X) - mean - within.means[y]
    S = R.T @ R / (n - 5)
    spread = S + np.trace(S) / 40 * np.eye(40)
    whitened = within.whitened(np.eye(40))
    np.testing.assert_allclose(whitened @ spread @ whitened, np.eye(40), atol=1e-8)
