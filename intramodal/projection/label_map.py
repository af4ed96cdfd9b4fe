"""Axes that tell the classes of a label apart, beside directions of texts: one affine map.

A closed form: class means, whitened by the spread within classes, and their principal axes, each
weighted by how far it can be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from intramodal.errors import InputError
from intramodal.projection.classes import Classes, Doubles, centred_blocks, mean_of
from intramodal.projection.directions import directions_of, right_singular
from intramodal.projection.text_pca import unit_texts

N_AXES = 64
"""Axes of either block, at most."""
MANY_LABELS = 100
"""From so many labelled rows on the labels weigh more than the texts."""
LABEL_WEIGHTS = (0.5, 0.8)
"""Weight of the label axes with fewer labelled rows than that, and with more."""
_LEAST = 1e-6
"""Spread between classes that is assumed where the means show none."""


class LabelMap(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Affine map of image embeddings to text axes and label axes, fitted to labels.

    Rows are scaled to unit length and centred. Inner products of what `transform` returns are
    those of the two blocks, weighted; they are meant to be compared by cosine.

    Parameters
    ----------
    text_directions : ndarray of shape (d, m), optional
        Directions of texts, such as the matrix of PCA←: the first `N_AXES`, made orthonormal.
        Without them the principal axes of the centred images take their place.
    label_weight : float, optional
        Share of the label axes in the mean squared length, in (0, 1]; by default .5 below 100
        labelled rows, else .8.
    n_components : int
        Label axes at most; there are no more than classes less one.
    shrinkage : float
        Times the mean variance within classes, what is added to each.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    counts_ : ndarray of shape (n_classes,)
        Labelled rows of each class.
    mean_ : ndarray of shape (d,)
        What is subtracted from unit rows: the mean of the gallery's.
    matrix_ : ndarray of shape (d, n_text_ + n_label_)
        Text axes first.
    n_text_, n_label_ : int
    label_weight_ : float
    n_features_in_ : int

    See Also
    --------
    intramodal.projection.fit.fit_label_map : the same as a `Projection`, with its provenance.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 20)
    >>> X = rng.normal(size=(40, 8)) + 3 * np.eye(8)[y]
    >>> Z = LabelMap().fit(X, y).transform(X)
    >>> Z.shape, bool((Z[y == 0, -1].mean() > 0) != (Z[y == 1, -1].mean() > 0))
    ((40, 5), True)
    """

    def __init__(
        self,
        text_directions: NDArray[Any] | None = None,
        label_weight: float | None = None,
        n_components: int = N_AXES,
        shrinkage: float = 1.0,
    ) -> None:
        self.text_directions = text_directions
        self.label_weight = label_weight
        self.n_components = n_components
        self.shrinkage = shrinkage

    def fit(self, X: Any, y: Any, *, gallery: NDArray[Any] | None = None) -> LabelMap:
        """Find the map from labelled rows.

        Parameters
        ----------
        X : array of shape (n, d)
            Embeddings.
        y : array of shape (n,)
            One label a row; at least two classes.
        gallery : ndarray of shape (m, d), optional
            Rows that need no label, such as those that will be searched: the mean and the
            lengths of the blocks are theirs, which labelled rows would show too favourably.

        Raises
        ------
        InputError
            If there is one class only, or no spread within any; for a weight or a number of axes
            that cannot be.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_features=2)
        rows = X if gallery is None else gallery
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._check(X.shape[1])
        self.mean_ = mean_of(rows)
        within = Classes.of(X, codes, self.mean_, shrinkage=self.shrinkage)
        self.counts_ = within.counts
        few, many = LABEL_WEIGHTS
        default = few if len(X) < MANY_LABELS else many
        self.label_weight_ = default if self.label_weight is None else float(self.label_weight)
        most = max(1, X.shape[1] // 2)
        of_labels = label_axes(within, min(self.n_components, most))
        of_texts = self._text_axes(rows, min(N_AXES, most))
        self.n_text_, self.n_label_ = of_texts.shape[1], of_labels.shape[1]
        self.matrix_ = self._weighted(rows, of_texts, of_labels)
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Return the mapped rows (n, n_text_ + n_label_) of `X` (n, d)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return np.asarray((unit_texts(X) - self.mean_) @ self.matrix_).astype(X.dtype)

    def _check(self, d: int) -> None:
        if len(self.classes_) < 2:
            raise InputError(
                f"label axes need two classes, got {len(self.classes_)} class; choose a field "
                f"with at least two values"
            )
        if self.label_weight is not None and not 0 < self.label_weight <= 1:
            raise InputError(
                f"label_weight is a share above 0 and up to 1, got {self.label_weight}"
            )
        if isinstance(self.n_components, bool) or self.n_components < 1:
            raise InputError(f"n_components must be at least 1, got {self.n_components!r}")
        if self.text_directions is not None and len(self.text_directions) != d:
            raise InputError(
                f"text_directions have {len(self.text_directions)} dimensions, the rows {d}; "
                f"take both from one model"
            )

    def _text_axes(self, rows: NDArray[Any], most: int) -> Doubles:
        """Return orthonormal axes (d, at most `most`); none where labels have all the weight."""
        if self.label_weight_ == 1:
            return np.empty((rows.shape[1], 0))
        return text_axes(self.text_directions, rows, self.mean_, most)

    def _weighted(self, rows: NDArray[Any], of_texts: Doubles, of_labels: Doubles) -> Doubles:
        """Return both blocks, scaled to their shares of the mean squared length over rows."""
        shares = 1 - self.label_weight_, self.label_weight_
        return weighted_blocks(rows, self.mean_, [of_texts, of_labels], shares)

    @property
    def _n_features_out(self) -> int:
        return int(self.matrix_.shape[1])

    def __sklearn_tags__(self) -> Any:
        """Say that labels are needed, and that float32 stays float32."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def label_axes(within: Classes, most: int) -> Doubles:
    """Return axes (d, k) that tell classes apart, in the metric of the spread within them.

    There are at most `most`, and at most classes less one; an axis along which the class means
    spread little against their own error is short.
    """
    counts = within.counts
    whitened = within.whitened(within.means)
    squares, vectors = right_singular(np.sqrt(counts)[:, None] * whitened)
    k = min(most, len(counts) - 1, len(vectors))
    between = np.maximum(_LEAST, (squares[:k] - 1) / counts.sum())
    trust = np.sqrt(between / (between + 1 / np.median(counts) + 1))
    axes = within.whitened(vectors[:k]).T * trust
    largest = np.abs(axes).argmax(axis=0)
    # A singular vector's sign is arbitrary: make its largest entry positive.
    return np.asarray(axes * np.where(axes[largest, np.arange(k)] < 0, -1.0, 1.0))


def text_axes(
    directions: NDArray[Any] | None, rows: NDArray[Any], mean: Doubles, most: int
) -> Doubles:
    """Return the first directions of texts (d, m) as orthonormal axes (d, k).

    Without any they are the principal axes of centred rows.
    """
    if directions is None:
        scatter = sum(
            (block.T @ block for _, block in centred_blocks(rows, mean)),
            np.zeros((rows.shape[1], rows.shape[1])),
        )
        return np.asarray(directions_of(scatter)[1][:most].T)
    axes, R = np.linalg.qr(np.asarray(directions, dtype=np.float64)[:, :most])
    # As the given directions point.
    return np.asarray(axes * np.where(np.diag(R) < 0, -1.0, 1.0))


def weighted_blocks(
    rows: NDArray[Any], mean: Doubles, blocks: Sequence[Doubles], shares: Sequence[float]
) -> Doubles:
    """Return blocks of axes (d, k) side by side, scaled to shares of the mean squared length.

    Lengths are those of centred `rows` (n, d) along them.
    """
    axes = np.hstack(blocks)
    squares = np.zeros(axes.shape[1])
    for _, block in centred_blocks(rows, mean):
        squares += np.square(block @ axes).sum(axis=0)
    sizes = [block.shape[1] for block in blocks]
    parts = np.split(squares / len(rows), np.cumsum(sizes)[:-1])
    lengths = np.sqrt([part.sum() for part in parts])
    scales = np.sqrt(shares) / np.where(lengths > 0, lengths, 1.0)
    return np.asarray(axes * np.repeat(scales, sizes))
