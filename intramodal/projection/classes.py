"""What labelled vectors say of their classes: means, and how images of one class spread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.projection.directions import right_singular
from intramodal.projection.text_pca import unit_texts

Doubles = NDArray[np.float64]

_BLOCK_ROWS = 4096
"""Rows that are held in float64 at a time."""


@dataclass(frozen=True, eq=False)
class Classes:
    """Class means and the pooled spread within classes, of centred unit vectors.

    Parameters
    ----------
    counts : ndarray of shape (n_classes,)
    means : ndarray of shape (n_classes, d)
    variances : ndarray of shape (k,)
        Variance within classes along `directions`; zero along all others.
    directions : ndarray of shape (k, d)
        Orthonormal rows.
    floor : float
        Added to every variance, also along the other directions.
    """

    counts: NDArray[np.int64]
    means: Doubles
    variances: Doubles
    directions: Doubles
    floor: float

    @classmethod
    def of(
        cls, X: NDArray[Any], codes: NDArray[np.int64], mean: Doubles, *, shrinkage: float = 1.0
    ) -> Classes:
        """Return the statistics of vectors `X` (n, d), class `codes` (n,), around `mean` (d,).

        The floor is `shrinkage` times the mean variance over all directions. Raises `InputError`
        where no class has two different vectors.
        """
        counts = np.bincount(codes)
        means = _class_sums(X, codes, mean) / counts[:, None]
        squares, directions = _spread(X, codes, mean + means)
        n_free = len(X) - len(counts)
        if n_free < 1 or not squares.sum() > 0:
            raise InputError(
                f"{len(X)} labelled images of {len(counts)} classes show no spread within a "
                f"class; give at least two different images of some class"
            )
        variances = squares / n_free
        floor = shrinkage * float(variances.sum()) / X.shape[1]
        return cls(counts, means, variances, directions, floor)

    def whitened(self, M: Doubles) -> Doubles:
        """Return rows `M` (m, d) by the inverse square root of the spread within classes."""
        bare = self.floor**-0.5
        gain = (self.variances + self.floor) ** -0.5 - bare
        return np.asarray(bare * M + (M @ self.directions.T * gain) @ self.directions)


def centred_blocks(X: NDArray[Any], mean: Doubles | float) -> Iterator[tuple[slice, Doubles]]:
    """Yield unit rows of `X` (n, d) less `mean` in float64, with the rows they are."""
    for start in range(0, len(X), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        yield rows, unit_texts(X[rows]) - mean


def mean_of(X: NDArray[Any]) -> Doubles:
    """Return the mean (d,) of the unit rows of `X` (n, d)."""
    total = sum((block.sum(axis=0) for _, block in centred_blocks(X, 0.0)), np.zeros(X.shape[1]))
    return np.asarray(total / len(X))


def _class_sums(X: NDArray[Any], codes: NDArray[np.int64], mean: Doubles) -> Doubles:
    """Return the sum of each class's centred rows, (n_classes, d)."""
    from scipy.sparse import csr_array  # here: a map that is only applied needs no scipy

    sums = np.zeros((int(codes.max()) + 1, X.shape[1]))
    for rows, block in centred_blocks(X, mean):
        some = codes[rows]
        ones = (np.ones(len(some)), some, np.arange(len(some) + 1))
        sums += csr_array(ones, shape=(len(some), len(sums))).T @ block
    return sums


def _spread(
    X: NDArray[Any], codes: NDArray[np.int64], centres: Doubles
) -> tuple[Doubles, Doubles]:
    """Return squared singular values (k,) and right vectors (k, d) of rows less their class mean.

    Many rows: by the eigenvectors of their (d, d) scatter, added up block by block. That is one
    product where the SVD of all rows costs several. Squaring loses directions whose spread is
    below 1e-8 of the largest; the floor that is added to all of them is far above that.
    """
    n, d = X.shape
    if n < d:
        return right_singular(unit_texts(X) - centres[codes])
    scatter = np.zeros((d, d))
    for rows, block in centred_blocks(X, 0.0):
        block -= centres[codes[rows]]
        scatter += block.T @ block
    squares, vectors = np.linalg.eigh(scatter)
    return np.maximum(squares, 0.0), vectors.T
