"""Principal directions, without scikit-learn: most runs need no more of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def principal_directions(
    centred: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return variances (d,), descending, and directions (d, d) as rows of centred data (n, d)."""
    return directions_of(centred.T @ centred / (len(centred) - 1))


def directions_of(
    covariance: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return variances (d,), descending, and directions (d, d) as rows of a covariance (d, d)."""
    variances, vectors = np.linalg.eigh(covariance)
    directions = vectors.T[::-1]
    # An eigenvector's sign is arbitrary: make its largest entry positive.
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    return np.maximum(variances[::-1], 0.0), directions * signs[:, None]


def right_singular(
    rows: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return squared singular values (k,), descending, and right vectors (k, d) of `rows` (n, d).

    By the eigenvectors of the smaller of both products. LAPACK's divide-and-conquer SVD fails to
    converge on some rows of less than full rank (OpenBLAS 0.3.31); this always does, and costs
    less. Directions whose square is rounding of the largest are left out.
    """
    n, d = rows.shape
    squares, vectors = np.linalg.eigh(rows @ rows.T if n < d else rows.T @ rows)
    squares, vectors = squares[::-1], vectors[:, ::-1]
    kept = squares > max(n, d) * np.finfo(np.float64).eps * max(squares[0], 0.0)
    squares, vectors = squares[kept], vectors[:, kept]
    if n < d:
        vectors = rows.T @ vectors / np.sqrt(squares)
    return squares, vectors.T
