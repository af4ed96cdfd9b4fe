"""Linear classifiers from a few images a class: nearest prototype and shrunken LDA.

Each takes unit images (n, d) and shots (K, s), rows of them, and returns weights and bias
(K, d + 1) in float32; the class with the largest score ``x @ W[:, :-1].T + W[:, -1]`` wins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from intramodal.types import Floats, unit_rows

_N_ROWS = 2048
"""Residuals held at once when a covariance is summed up; or one a class if these are more."""

Fit = Callable[[Floats, NDArray[np.int64]], Floats]
"""From unit images (n, d) and shots (K, s), rows of them, to weights and bias (K, d + 1)."""


def fit_prototypes(X: Floats, shots: NDArray[np.int64]) -> Floats:
    """Return weights and bias (K, d + 1) of the nearest prototype: the unit mean, and zero.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Unit rows.
    shots : ndarray of shape (K, s)
        Rows of `X`, by class.
    """
    return _with_bias(unit_rows(_means(X, shots)), np.zeros(len(shots)))


def fit_lda(X: Floats, shots: NDArray[np.int64]) -> Floats:
    """Return weights and bias (K, d + 1) of linear discriminant analysis with shrinkage.

    ``inv(Sigma) = d inv((n - 1) Sigma + tr(Sigma) I)`` with n = K s shots and Sigma the pooled
    covariance within classes (Kubokawa and Srivastava 2008, as Wang et al. 2024, *A hard-to-beat
    baseline for training-free CLIP-based adaptation*, use it). Scores are those relative to the
    mean of the classes, which shifts all classes of an image alike and spares float32 digits.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Unit rows.
    shots : ndarray of shape (K, s)
        Rows of `X`, by class.
    """
    n, d = shots.size, X.shape[1]
    means = _means(X, shots)
    width = max(1, _N_ROWS // len(shots))
    slabs = (shots.T[start : start + width] for start in range(0, shots.shape[1], width))
    residuals = ((X[slab] - means).reshape(-1, d) for slab in slabs)
    is_wide = n < d  # then the shots' Gram matrix is smaller than the scatter
    R = np.concatenate(list(residuals)) if is_wide else np.empty((0, d))
    G = R @ R.T if is_wide else sum((r.T @ r for r in residuals), np.zeros((d, d)))
    trace = float(np.trace(G))
    if trace <= n * float(np.finfo(np.float32).eps) ** 2:
        return fit_prototypes(X, shots)  # no scatter beyond rounding: identity covariance
    ridge = trace / (n - 1)
    G[np.diag_indices_from(G)] += ridge
    factor = cho_factor(G, lower=True, overwrite_a=True, check_finite=False)
    centre = means.mean(axis=0)
    C = means - centre
    if is_wide:  # Woodbury: inv(R'R + r I) = (I - R' inv(RR' + r I) R) / r
        W = d / ridge * (C - cho_solve(factor, R @ C.T, check_finite=False).T @ R)
    else:
        W = d * cho_solve(factor, C.T, check_finite=False).T
    return _with_bias(W, -0.5 * np.einsum("kd,kd->k", means + centre, W))


FITS: dict[str, Fit] = {"prototype": fit_prototypes, "lda": fit_lda}
"""The classifiers by name."""


def _means(X: Floats, shots: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.zeros((len(shots), X.shape[1]))
    for column in shots.T:  # memory is one row a class
        total += X[column]
    return np.asarray(total / shots.shape[1])


def _with_bias(W: NDArray[Any], bias: NDArray[np.float64]) -> Floats:
    return np.column_stack([W, bias]).astype(np.float32)
