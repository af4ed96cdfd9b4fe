from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from intramodal.errors import RankError
from intramodal.projection.text_pca import TextPCA


@parametrize_with_checks([TextPCA(n_components=1)])
def test_it_is_an_estimator_as_scikit_learn_wants_it(estimator: Any, check: Any) -> None:
    check(estimator)


def test_the_directions_are_the_leading_eigenvectors_of_the_covariance(
    rng: np.random.Generator,
) -> None:
    texts = rng.normal(size=(200, 12)) * np.linspace(3, 1, 12)
    fitted = TextPCA(normalize=False).fit(texts)
    covariance = np.cov(texts, rowvar=False)
    assert fitted.components_.shape == (6, 12)
    np.testing.assert_allclose(
        covariance @ fitted.components_.T,
        fitted.components_.T * fitted.explained_variance_,
        atol=1e-10,  # float64 eigenvectors of a 12 x 12 matrix
    )
    np.testing.assert_allclose(fitted.components_ @ fitted.components_.T, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(fitted.spectrum_.sum(), np.trace(covariance))


def test_pictures_are_not_centred(rng: np.random.Generator) -> None:
    fitted = TextPCA().fit(rng.normal(size=(50, 8)))
    X, c = rng.normal(size=(5, 8)), rng.normal(size=8)
    np.testing.assert_allclose(
        fitted.transform(X + c) - fitted.transform(X),
        np.tile(c @ fitted.components_.T, (5, 1)),
        atol=1e-12,  # float64
    )


def test_more_components_than_the_anchors_span_are_refused(rng: np.random.Generator) -> None:
    texts = rng.normal(size=(100, 512)).astype(np.float32)
    with pytest.raises(RankError, match=r"100 anchors span 99 directions but n_components is 256"):
        TextPCA().fit(texts)
    assert TextPCA(99).fit(texts).n_components_ == 99


def test_many_anchors_of_few_directions_are_told_from_few_anchors(
    rng: np.random.Generator,
) -> None:
    flat = rng.normal(size=(100, 3)) @ rng.normal(size=(3, 16))
    for texts, advice in ((flat, "give other or more different"), (flat[:8], "at least 9")):
        with pytest.raises(RankError, match=advice):
            TextPCA(8, normalize=False).fit(texts)


@pytest.mark.parametrize("cast", [np.float16, np.float32, np.float64])
def test_rounding_to_float16_spans_no_direction(
    rng: np.random.Generator, cast: type[np.floating[Any]]
) -> None:
    """Issue 17: float16 texts looked as if they spanned the whole space, noise for directions."""
    texts = (rng.normal(size=(300, 40)) @ rng.normal(size=(40, 128))).astype(np.float16)
    with pytest.raises(RankError, match="300 anchors span 40 directions but n_components is 64"):
        TextPCA().fit(texts.astype(cast))
    assert TextPCA(40).fit(texts.astype(cast)).rank_ == 40


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_float16_texts_of_any_length_keep_the_directions_that_they_span(
    rng: np.random.Generator, scale: float
) -> None:
    # At 1e-4 most values are subnormal in float16: 15 directions stand out of a coarser grid.
    texts = (scale * rng.uniform(-1, 1, size=(400, 16))).astype(np.float16)
    texts[:, -1] = texts[:, 0]
    for normalize in (True, False):
        assert TextPCA(normalize=normalize).fit(texts).rank_ == 15


def test_the_mean_is_put_back_by_equation_12(rng: np.random.Generator) -> None:
    fitted = TextPCA().fit(rng.normal(size=(50, 8)))
    X, mean = rng.normal(size=(5, 8)), rng.normal(size=8)
    P = fitted.components_.T @ fitted.components_
    np.testing.assert_allclose(
        fitted.adjust_mean(X, mean), X @ P + mean @ (np.eye(8) - P), atol=1e-12
    )


@pytest.mark.real_data
def test_real_texts_span_their_space_and_half_of_it_is_kept(real_data: Path) -> None:
    texts = np.load(real_data / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    fitted = TextPCA().fit(texts)
    assert fitted.components_.shape == (256, 512)
    assert fitted.rank_ > 2 * 200
    assert fitted.rank_ > TextPCA().fit(texts.astype(np.float16)).rank_ > 2 * 200
    assert fitted.explained_variance_ratio_.sum() > 0.8
