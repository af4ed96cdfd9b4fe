"""PCA←: the leading principal directions of class-name texts, applied to pictures.

Section 3.3 and appendix B of arXiv 2603.16100.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from intramodal.errors import InputError, RankError
from intramodal.projection.directions import principal_directions


class TextPCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Principal directions of text embeddings, as a linear map for image embeddings.

    `fit` centres the *texts* unless told otherwise; `transform` does not centre the pictures:
    their mean carries class information (paper, eq. 11).

    Parameters
    ----------
    n_components : int, optional
        Kept directions; half of the embedding's dimensions by default. More than the texts span
        is refused: those directions would be arbitrary and change with the thread count.
    normalize : bool
        Whether text rows are scaled to unit length before their covariance is taken.
    center : bool
        Whether directions are those of the covariance; without, of the texts' second moment, and
        "variance" below is the mean square.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, d)
        Orthonormal rows, by descending variance; the largest entry of each is positive.
    mean_ : ndarray of shape (d,)
        Mean of the text rows (unit rows where `normalize`).
    spectrum_ : ndarray of shape (d,)
        Variance of the texts along all directions, descending.
    explained_variance_, explained_variance_ratio_ : ndarray of shape (n_components_,)
        Kept part of the spectrum, and its share of the whole.
    rank_ : int
        Number of directions that the texts, centred or not, span numerically, by the precision
        that they were stored in: float16 values count as float16, whatever they were cast to.
    n_components_, n_features_in_, n_samples_ : int

    See Also
    --------
    intramodal.projection.projection.Projection : the same map as a file.

    References
    ----------
    J. Herzog, Y. Wang, *Reevaluating the Intra-Modal Misalignment Hypothesis in CLIP*,
    arXiv 2603.16100, section 3.3.

    Examples
    --------
    >>> texts = np.array([[1.0, 0.0, 0.1], [0.0, 1.0, 0.1], [-1.0, 0.0, 0.1]])
    >>> TextPCA(n_components=1, normalize=False).fit(texts).transform([[2.0, 0.0, 9.0]])
    array([[2.]])
    """

    def __init__(
        self, n_components: int | None = None, normalize: bool = True, center: bool = True
    ) -> None:
        self.n_components = n_components
        self.normalize = normalize
        self.center = center

    def fit(self, X: Any, y: object = None) -> TextPCA:
        """Find the directions of the text embeddings `X` (n, d).

        Raises
        ------
        RankError
            If the texts span fewer directions than are to be kept.
        """
        # A single dimension has no half to keep.
        X = validate_data(
            self,
            X,
            dtype=[np.float64, np.float32],
            ensure_min_samples=2,
            ensure_min_features=2,
        )
        texts = unit_texts(X) if self.normalize else X.astype(np.float64)
        self.n_samples_ = len(texts)
        self.mean_ = texts.mean(axis=0)
        self.spectrum_, directions = principal_directions(
            texts - self.mean_ if self.center else texts
        )
        noise = half_noise(X, normalize=self.normalize)
        self.rank_ = numerical_rank(self.spectrum_, X.shape, X.dtype, noise=noise)
        self.n_components_ = self._checked_components(X.shape[1])
        self.components_ = directions[: self.n_components_]
        self.explained_variance_ = self.spectrum_[: self.n_components_]
        self.explained_variance_ratio_ = self.explained_variance_ / self.spectrum_.sum()
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the coordinates (n, n_components_) of `X` (n, d) along the directions."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return np.asarray(X @ self.components_.T.astype(X.dtype))

    def adjust_mean(self, X: Any, mean: Any) -> NDArray[Any]:
        """Return `X` projected within the full space, with the lost part of a mean put back.

        Equation 12: ``Q L Q^T x + Q (1 - L) Q^T mean``. For plots and full-space use; distances
        between rows are those of `transform`.

        Parameters
        ----------
        X : array of shape (n, d)
            Image embeddings.
        mean : array of shape (d,)
            Mean image embedding.
        """
        check_is_fitted(self)
        mean = np.asarray(mean, dtype=np.float64)
        if mean.shape != (self.n_features_in_,):
            raise InputError(
                f"the mean must have shape ({self.n_features_in_},), got {mean.shape}"
            )
        lost = mean - self.components_.T @ (self.components_ @ mean)
        coordinates = self.transform(X)
        return np.asarray(coordinates @ self.components_.astype(coordinates.dtype) + lost)

    def _checked_components(self, d: int) -> int:
        wanted = d // 2 if self.n_components is None else self.n_components
        if isinstance(wanted, bool) or not isinstance(wanted, int | np.integer) or wanted < 1:
            raise InputError(f"n_components must be a whole number from 1, got {wanted!r}")
        if wanted > self.rank_:
            is_few = self.n_samples_ <= wanted
            more = f"at least {wanted + 1}" if is_few else "other or more"
            raise RankError(
                f"{self.n_samples_} anchors span {self.rank_} directions but n_components is "
                f"{wanted}; give {more} different anchors"
                + (f" or n_components<={self.rank_}" if self.rank_ else "")
            )
        return int(wanted)

    @property
    def _n_features_out(self) -> int:
        return int(self.n_components_)

    def __sklearn_tags__(self) -> Any:
        """Say that float32 stays float32."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def unit_texts(X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the rows of `X` (n, d) scaled to unit length in float64; zero rows stay zero."""
    X = X.astype(np.float64)
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.where(norms == 0, 1.0, norms))


def numerical_rank(
    spectrum: NDArray[np.float64],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    noise: float = 0.0,
) -> int:
    """Return how many variances are more than the rounding of `dtype` data of this shape.

    float32 data carry an error of eps a value, so their *standard deviations* below
    ``max(shape) eps`` of the largest are noise; float64 data lose half of their digits in the
    covariance, so there the same bound holds for the *variances*. A variance of at most `noise`
    is noise in either.
    """
    bound = max(shape) * float(np.finfo(dtype).eps)
    bound = bound**2 if dtype == np.float32 else bound
    return int((spectrum > max(bound * spectrum[0], noise)).sum())


def half_noise(X: NDArray[Any], *, normalize: bool) -> float:
    """Return the most variance that float16 rounding of texts (n, d) makes in any direction.

    Zero unless all values are float16 numbers. `numerical_rank`'s bound would be of no use here:
    at 1,000 texts it is the largest standard deviation itself. Instead, each value is off by at
    most half a unit in the last place, and no direction holds more than all these squares.
    """
    with np.errstate(over="ignore"):
        is_half = np.array_equal(X.astype(np.float16), X)
    if not is_half:
        return 0.0
    half = np.finfo(np.float16)
    texts = X.astype(np.float64)
    errors = np.maximum(np.abs(texts) * float(half.eps), float(half.smallest_subnormal)) / 2
    if normalize:
        lengths = np.linalg.norm(texts, axis=1, keepdims=True)
        errors /= np.where(lengths == 0, 1.0, lengths)
    return float(np.square(errors).sum() / (len(X) - 1))
