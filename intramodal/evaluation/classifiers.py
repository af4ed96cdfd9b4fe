"""Linear classifiers from a few images a class: nearest prototype and shrunken LDA.

Each takes unit images (n, d) and shots (K, s), rows of them, and returns weights and bias
(K, d + 1) in float32; the class with the largest score ``x @ W[:, :-1].T + W[:, -1]`` wins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk

from intramodal.types import Floats, unit_rows

Array = NDArray[np.float64]

Kind = tuple[str, int]
"""Name of a classifier, and its number of shots."""

_N_ROWS = 2048
"""Contrasts held at once while scatter is summed up; or d, or one a class, if these are more."""


def fit_prototypes(X: Floats, shots: NDArray[np.int64]) -> Floats:
    """Return weights and bias (K, d + 1) of the nearest prototype: the unit mean, and zero."""
    return np.asarray(fit_nested(X, shots, [("prototype", shots.shape[1])])[0])


def fit_lda(X: Floats, shots: NDArray[np.int64]) -> Floats:
    """Return weights and bias (K, d + 1) of linear discriminant analysis with shrinkage.

    ``inv(Sigma) = d inv((n - 1) Sigma + tr(Sigma) I)`` with n = K s shots and Sigma the pooled
    covariance within classes (Kubokawa and Srivastava 2008, as Wang et al. 2024, *A hard-to-beat
    baseline for training-free CLIP-based adaptation*, use it). Scores are those relative to the
    mean of the classes, which shifts all classes of an image alike and spares float32 digits.
    """
    return np.asarray(fit_nested(X, shots, [("lda", shots.shape[1])])[0])


def fit_nested(X: Floats, shots: NDArray[np.int64], kinds: Sequence[Kind]) -> Floats:
    """Return weights and bias (n_kinds, K, d + 1) of several classifiers on the first shots.

    In one pass: the first shots of a class are also shots of its larger samples.
    """
    total, scatter = np.zeros((len(shots), X.shape[1])), _Scatter(X.shape[1])
    is_scattered = any(name == "lda" for name, _ in kinds)
    found = np.empty((len(kinds), len(shots), X.shape[1] + 1), dtype=np.float32)
    for n_shots in range(1, max(s for _, s in kinds) + 1):
        shot = X[shots[:, n_shots - 1]]
        if is_scattered and n_shots > 1:
            scatter.add(shot, total, n_shots)
        total += shot
        for i, (name, s) in enumerate(kinds):
            if s == n_shots:
                found[i, :, :-1], found[i, :, -1] = FITS[name](total / s, s, scatter)
    return found


class _Scatter:
    """The scatter within classes of the shots so far: by few rows, or d x d once that is less.

    The rows are Helmert's contrasts, ``sqrt((s - 1) / s)`` times the difference of a class's
    s-th shot from the mean of those before: the scatter of contrasts 2 to s is that of the
    residuals of all s shots, and further shots add to it. They are summed up in slabs.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.rows: list[Array] = []
        self.n_rows = 0
        self.G: Array | None = None  # d x d, its lower triangle

    def add(self, shot: Floats, total: Array, n_shots: int) -> None:
        """Add one shot a class (K, d); `total` is the sum of the n_shots - 1 before."""
        contrasts = shot - total / (n_shots - 1)
        contrasts *= np.sqrt((n_shots - 1) / n_shots)
        self.rows.append(contrasts)
        self.n_rows += len(contrasts)
        if self.G is None and self.n_rows >= self.dim:
            self.G = np.zeros((self.dim, self.dim), order="F")
        if self.G is not None and self.n_rows >= _N_ROWS:
            self._sum_up()

    def _sum_up(self) -> None:
        if self.rows:
            R = np.concatenate(self.rows)
            self.G = dsyrk(1.0, R.T, beta=1.0, c=self.G, lower=1, overwrite_c=1)
        self.rows, self.n_rows = [], 0

    def gram(self) -> tuple[Array, Array]:
        """Return the contrasts (m, d) and their products (m, m); or none, and the scatter."""
        R = np.empty((0, self.dim))
        if self.G is not None:
            self._sum_up()
            return R, self.G.copy(order="F")
        R = np.concatenate([R, *self.rows])
        return R, R @ R.T


Linear = tuple[NDArray[Any], Array]
"""Weights (K, d) and bias (K,)."""


def _prototypes(means: Array, n_shots: int, scatter: _Scatter) -> Linear:
    return unit_rows(means), np.zeros(len(means))


def _lda(means: Array, n_shots: int, scatter: _Scatter) -> Linear:
    n, d = n_shots * len(means), means.shape[1]
    R, G = scatter.gram()
    trace = float(np.trace(G))
    if trace <= n * float(np.finfo(np.float32).eps) ** 2:
        return _prototypes(means, n_shots, scatter)  # none beyond rounding: identity covariance
    ridge = trace / (n - 1)
    G[np.diag_indices_from(G)] += ridge
    factor = cho_factor(G, lower=True, overwrite_a=True, check_finite=False)
    centre = means.mean(axis=0)
    C = means - centre
    if len(R):  # Woodbury: inv(R'R + r I) = (I - R' inv(RR' + r I) R) / r
        W = d / ridge * (C - cho_solve(factor, R @ C.T, check_finite=False).T @ R)
    else:
        W = d * cho_solve(factor, C.T, check_finite=False).T
    return W, -0.5 * np.einsum("kd,kd->k", means + centre, W)


FITS: dict[str, Callable[[Array, int, _Scatter], Linear]] = {
    "prototype": _prototypes,
    "lda": _lda,
}
"""The classifiers by name: from class means, number of shots and scatter to weights and bias."""
