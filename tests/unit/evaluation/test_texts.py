"""Projected texts, images with the mean put back, and the count of unit-norm equations."""

from __future__ import annotations

import numpy as np
import pytest

from intramodal.errors import InputError
from intramodal.evaluation import recovery as recovery_check
from intramodal.evaluation.misalignment import adjust_mean
from intramodal.evaluation.recovery import check_norms
from intramodal.evaluation.texts import project_texts
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.projection import Projection
from intramodal.projection.text_pca import TextPCA
from intramodal.types import unit_rows


@pytest.fixture
def texts(rng) -> np.ndarray:
    return (rng.normal(size=(30, 12)) + 0.5).astype(np.float32)


@pytest.fixture
def projection(texts) -> Projection:
    anchors = AnchorSet(tuple(f"name {i}" for i in range(len(texts))))
    return Projection.from_text(texts, anchors=anchors, encoder="clip", encoder_fingerprint="3f9a")


def test_the_adjusted_mean_is_that_of_the_estimator(rng, texts, projection):
    X = rng.normal(size=(20, 12)).astype(np.float32)
    unit = unit_rows(X)
    expected = TextPCA().fit(texts).adjust_mean(unit, unit.mean(axis=0))
    assert adjust_mean(X, projection) == pytest.approx(expected, abs=1e-5)  # float32 products


def test_the_adjusted_mean_changes_no_distance_and_restores_the_mean(rng, projection):
    X = unit_rows(rng.normal(size=(20, 12)) + 1.0)
    Z, adjusted = projection.apply(X), adjust_mean(X, projection)
    for i, j in ((0, 1), (3, 17)):
        expected = np.linalg.norm(Z[i] - Z[j])
        assert np.linalg.norm(adjusted[i] - adjusted[j]) == pytest.approx(expected, abs=1e-5)
    assert adjusted.mean(axis=0) == pytest.approx(X.mean(axis=0), abs=1e-5)


def test_a_given_mean_is_put_back_instead_of_that_of_the_images(rng, projection):
    X, mean = unit_rows(rng.normal(size=(5, 12))), rng.normal(size=12)
    Q = projection.matrix.astype(np.float64)
    expected = X @ Q @ Q.T + (mean - Q @ Q.T @ mean)
    assert adjust_mean(X, projection, mean=mean) == pytest.approx(expected, abs=1e-5)


def test_texts_are_projected_without_centring(texts, projection):
    expected = unit_rows(texts) @ projection.matrix
    assert project_texts(3 * texts, projection) == pytest.approx(expected, abs=1e-6)


def test_a_centred_projection_has_no_texts_but_the_same_adjusted_mean(rng, texts, projection):
    centred = Projection(
        projection.matrix, "pca_centered", "clip", "3f9a", np.full(12, 0.1, np.float32)
    )
    assert project_texts(texts, centred) is None
    with pytest.raises(InputError, match=r"texts of shape \(n, 12\), got \(3, 3\)"):
        project_texts(np.eye(3), centred)
    X = rng.normal(size=(5, 12))
    assert adjust_mean(X, centred) == pytest.approx(adjust_mean(X, projection), abs=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: project_texts(np.eye(3), p), r"texts of shape \(n, 12\), got \(3, 3\)"),
        (lambda p: adjust_mean(np.eye(3), p), r"vectors of shape \(n, 12\), got \(3, 3\)"),
    ],
)
def test_other_lengths_are_refused(projection, call, words):
    with pytest.raises(InputError, match=words):
        call(projection)


def test_directions_that_are_not_orthonormal_have_no_lost_mean():
    skewed = Projection(np.array([[1, 1], [0, 1]], np.float32), "isoclip", "clip", "3f9a")
    with pytest.raises(InputError, match="not orthonormal"):
        adjust_mean(np.eye(2), skewed)


def draw(rng, n: int, d: int) -> np.ndarray:
    return rng.normal(size=(n, d))


def test_enough_pictures_are_recovered_from_a_sample_of_them(rng):
    found = check_norms(draw(rng, 50, 4), draw(rng, 9, 4))
    assert (found.n_images, found.n_needed, found.n_used) == (50, 10, 20)
    assert (found.is_determined, found.n_free, found.rank) == (True, 0, 10)
    assert found.rms < 1e-6


def test_too_few_pictures_say_how_many_directions_are_free(rng):
    found = check_norms(draw(rng, 7, 4), draw(rng, 9, 4)).to_dict()
    assert (found["is_determined"], found["n_free"], found["rms"]) == (False, 3, None)


def test_systems_too_large_to_solve_are_counted_only(rng, monkeypatch):
    monkeypatch.setattr(recovery_check, "MOST_UNKNOWNS", 9)
    monkeypatch.setattr(recovery_check, "MOST_IMAGES", 6)
    many, few = (check_norms(draw(rng, n, 4), draw(rng, 9, 4)) for n in (12, 7))
    assert (many.is_determined, many.n_free, many.n_used) == (None, None, 0)
    assert (few.is_determined, few.n_free, few.rank, few.n_used) == (False, 3, None, 0)


def test_texts_of_another_length_are_refused(rng):
    with pytest.raises(InputError, match="images have 4 dimensions and texts 3"):
        check_norms(draw(rng, 7, 4), draw(rng, 9, 3))
