"""Controls of a projection: what they are, and the published figures they give."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intramodal.errors import InputError
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.projection import controls
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.projection import Projection
from intramodal.projection.text_pca import TextPCA
from intramodal.types import VectorTable, unit_rows

ROUNDING = 1e-5  # float32 products of 12 terms


@pytest.fixture
def half(rng: np.random.Generator) -> Projection:
    Q, _ = np.linalg.qr(rng.normal(size=(12, 6)))
    return Projection(Q.astype(np.float32), "pca", "clip", "3f9a")


@pytest.fixture
def X(rng: np.random.Generator) -> np.ndarray:
    return (rng.normal(size=(50, 12)) * np.arange(1, 13) + 1).astype(np.float32)


def test_all_directions_of_the_texts_begin_with_those_that_are_kept(
    rng: np.random.Generator,
) -> None:
    texts = rng.normal(size=(40, 12)) * np.arange(1, 13)
    anchors = AnchorSet(tuple(f"name {i}" for i in range(40)))
    about = {"anchors": anchors, "encoder": "clip", "encoder_fingerprint": "3f9a"}
    half, whole = (
        Projection.from_text(texts, n_components=n, **about)  # type: ignore[arg-type]
        for n in (6, 12)
    )
    found = controls.all_directions(half, texts)
    assert (found.matrix[:, :6] == half.matrix).all()
    np.testing.assert_allclose(found.matrix, whole.matrix, atol=ROUNDING)
    for others in (texts[:39], texts[::-1] * rng.normal(size=(40, 1)), texts[:, :11]):
        assert controls.all_directions(half, others) is half


def test_a_projection_that_was_not_fitted_to_texts_has_no_further_directions(
    half: Projection, X: np.ndarray
) -> None:
    assert controls.all_directions(half, X) is half


def test_the_controls_are_orthonormal_and_as_large_as_the_projection(
    half: Projection, X: np.ndarray
) -> None:
    for control in (
        controls.random_projection(half),
        controls.truncation(half),
        controls.bottom_components(half),
        controls.image_pca(half, unit_rows(X)),
    ):
        assert control.matrix.shape == (12, 6), control
        np.testing.assert_allclose(control.matrix.T @ control.matrix, np.eye(6), atol=ROUNDING)


def test_the_bottom_is_what_the_projection_drops(half: Projection) -> None:
    bottom = controls.bottom_components(half)
    np.testing.assert_allclose(half.matrix.T @ bottom.matrix, 0, atol=ROUNDING)
    both = np.hstack([half.matrix, bottom.matrix])
    np.testing.assert_allclose(both @ both.T, np.eye(12), atol=ROUNDING)


def test_nothing_is_left_of_a_projection_that_drops_nothing(half: Projection) -> None:
    whole = Projection(np.eye(12, dtype=np.float32), "pca", "clip", "3f9a")
    with pytest.raises(InputError, match="drops no direction"):
        controls.bottom_components(whole)


def test_the_image_directions_carry_the_most_variance(half: Projection, X: np.ndarray) -> None:
    unit = unit_rows(X)
    found = controls.image_pca(half, unit_rows(X)).apply(X).var(axis=0).sum()
    _, singular, _ = np.linalg.svd(unit - unit.mean(axis=0))
    assert found == pytest.approx((singular[:6] ** 2).sum() / len(X), rel=1e-5)


def test_centring_takes_the_mean_of_the_unit_images_away(half: Projection, X: np.ndarray) -> None:
    np.testing.assert_allclose(
        controls.centring(half, unit_rows(X)).apply(X).mean(axis=0), 0, atol=ROUNDING
    )
    expected = (unit_rows(X) - unit_rows(X).mean(axis=0)) @ half.matrix
    np.testing.assert_allclose(
        controls.centred(half, unit_rows(X)).apply(X), expected, atol=ROUNDING
    )


def test_the_random_control_depends_on_the_seed_only(half: Projection) -> None:
    a, b, c = (controls.random_projection(half, seed=seed).fingerprint for seed in (1, 1, 2))
    assert a == b != c


def test_controls_that_need_the_texts_directions_are_left_out_without_them(
    half: Projection, X: np.ndarray
) -> None:
    free = {"random", "truncation", "image_pca", "centring"}
    assert set(controls.apply_controls(half, unit_rows(X), has_texts=False)) == free
    all_of_them = set(controls.apply_controls(half, unit_rows(X), has_texts=True))
    assert all_of_them == free | {"bottom", "pca_centered"}


# The reference table of the real data, mAP x 100: CIFAR-10, article type, gender.
REFERENCE = {
    "bottom": (38.47, 50.82, 56.02),
    "image_pca": (58.57, 60.78, 56.52),
    "centring": (64.32, 63.91, 58.22),
}
SWEEP = {64: (71.6, 58.5), 128: (75.5, 62.9), 192: (74.8, 64.3), 256: (74.0, 64.6)}


def real_projection(real_data: Path) -> Projection:
    texts = np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    matrix = TextPCA().fit(unit_rows(texts)).components_.T
    return Projection(matrix.astype(np.float32), "pca", "clip", "3f9a")


def real_map(real_data: Path, column: int, make: object) -> float:
    folder = real_data / ("fashion988-clip-b32" if column else "cifar10-500-clip-b32")
    X = np.load(folder / "image_embeddings.npy").astype(np.float32)
    if column:
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
            labels = [row[("", "articleType", "gender")[column]] for row in csv.DictReader(file)]
    else:
        labels = np.load(folder / "image_labels.npy").tolist()
    # Labels of fewer than five images are dropped first: controls of the images see the rest.
    kept = [i for i, label in enumerate(labels) if labels.count(label) >= 5]
    Z, labels = make(X[kept]), [labels[i] for i in kept]  # type: ignore[operator]
    table = VectorTable(list(range(len(Z))), {"z": Z}, {"label": labels})
    return (
        100
        * evaluate_retrieval(table, vectors=["z"], fields=["label"], min_class_size=5)[
            "label", "z"
        ].map
    )


@pytest.mark.real_data
@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("column", [0, 1, 2])
def test_controls_give_the_reference_figures(real_data: Path, name: str, column: int) -> None:
    like = real_projection(real_data)
    found = real_map(
        real_data,
        column,
        lambda X: controls.apply_controls(like, unit_rows(X), has_texts=True)[name],
    )
    assert found == pytest.approx(REFERENCE[name][column], abs=0.006)  # two digits, rounded


@pytest.mark.real_data
@pytest.mark.parametrize("n", SWEEP)
@pytest.mark.parametrize("column", [0, 1])
def test_fewer_dimensions_give_the_reference_figures(real_data: Path, n: int, column: int) -> None:
    like = real_projection(real_data)
    found = real_map(real_data, column, replace(like, matrix=like.matrix[:, :n]).apply)
    assert found == pytest.approx(SWEEP[n][column], abs=0.06)  # one digit, rounded
