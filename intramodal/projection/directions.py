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
