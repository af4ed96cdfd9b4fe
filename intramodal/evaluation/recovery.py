"""Image-image similarities from image-text ones: they have no freedom of their own.

Section 3.1 and appendix A of arXiv 2603.16100. The cosines of images with enough texts fix the
cosines of the images with each other, so a model trained on image-text pairs alone does not leave
the latter to chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.results import json_values

Array = NDArray[np.float64]

MOST_BYTES = 2**31
"""Largest system of unit-norm equations that is solved."""


@dataclass(frozen=True, eq=False, repr=False)
class Recovery:
    """Images as far as their cosines with texts fix them.

    Parameters
    ----------
    images : ndarray of shape (n, d)
        float64. With anchors in the coordinates of the texts; without, up to a rotation.
    method : {"anchors", "unit norms"}
    n_equations, n_unknowns : int
        Of the linear system: anchors and d for each image; n and d (d + 1) / 2 in all.
    rank : int
        Numerical rank of the system.
    condition : float
        Largest over smallest kept singular value of the system.
    residual : float
        Norm of what the solution leaves unexplained, over the norm of the right-hand side.
    norm_error : float
        Root mean square of ``|x|^2 - 1`` over the recovered images, whose true length is 1: an
        error that can be seen without the truth.
    """

    images: Array
    method: Literal["anchors", "unit norms"]
    n_equations: int
    n_unknowns: int
    rank: int
    condition: float
    residual: float
    norm_error: float

    @property
    def n_free(self) -> int:
        """Number of directions that the equations leave free."""
        return self.n_unknowns - self.rank

    @property
    def is_determined(self) -> bool:
        """Whether the similarities follow; else `images` is the solution of least norm."""
        return self.n_free == 0

    def similarities(self) -> Array:
        """Return the similarities of the images with each other, (n, n)."""
        return np.asarray(self.images @ self.images.T)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values, without the images."""
        figures = {k: v for k, v in vars(self).items() if k != "images"}
        found = {**figures, "n_free": self.n_free, "is_determined": self.is_determined}
        values: dict[str, Any] = json_values(found)
        return values

    def __repr__(self) -> str:
        """Return method, whether the similarities are determined, and the condition number."""
        free = "1 direction is" if self.n_free == 1 else f"{self.n_free:,} directions are"
        state = "determined" if self.is_determined else f"not determined: {free} free"
        return (
            f"Recovery(by {self.method}, {self.n_equations:,} equations for "
            f"{self.n_unknowns:,} unknowns, {state}, condition {self.condition:.3g})"
        )


def recover_with_anchors(S: NDArray[Any], T: NDArray[Any]) -> Recovery:
    """Recover images from their cosines with known texts (section 3.1).

    With the unit texts ``X_T`` of a set J of anchors and ``S_inter = X_T X_I^T``,

        X_I^T = X_T[J]^+ S_inter[J],    S_intra = X_I X_I^T

    which is unique where ``X_T[J]`` has rank d; else the images' part in the span of the anchors
    comes back. What must be full is the rank, not the number of distinct texts; an error of the
    cosines grows by at most the condition number.

    Parameters
    ----------
    S : ndarray of shape (m, n)
        Cosines of m texts with n images.
    T : ndarray of shape (m, d)
        Embeddings of the texts; rows are normalised here.

    Raises
    ------
    InputError
        For other shapes, values that are not finite, or texts that are all zero.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, T = (A / np.linalg.norm(A, axis=1)[:, None] for A in rng.normal(size=(2, 9, 4)))
    >>> found = recover_with_anchors(T @ X.T, T)
    >>> found.is_determined, bool(np.allclose(found.similarities(), X @ X.T))
    (True, True)
    >>> recover_with_anchors(T[:3] @ X.T, T[:3]).n_free
    1
    """
    eps = _epsilon(S, T)
    S, T = _matrix(S, "S"), _unit(_matrix(T, "T"))
    if len(S) != len(T):
        raise InputError(
            f"S has {len(S)} rows and there are {len(T)} texts; give one row of cosines a text"
        )
    U, s, W = np.linalg.svd(T, full_matrices=False)
    rank = _rank(s, T.shape, eps)
    X = (S.T @ U[:, :rank] / s[:rank]) @ W[:rank]
    return Recovery(
        images=X,
        method="anchors",
        n_equations=T.shape[0],
        n_unknowns=T.shape[1],
        rank=rank,
        condition=float(s[0] / s[rank - 1]),
        residual=_ratio(np.linalg.norm(T @ X.T - S), np.linalg.norm(S)),
        norm_error=_norm_error(X),
    )


def recover_without_anchors(S: NDArray[Any], *, dim: int | None = None) -> Recovery:
    """Recover images, up to a rotation, from cosines with unknown texts (appendix A).

    With the thin singular value decomposition ``S_inter = U D V^T`` of rank d, ``X_I = V C`` for
    some C. Of ``Q = C C^T``, symmetric, every image of unit length gives one linear equation,

        v_i^T Q v_i = 1,    S_intra = V Q V^T

    so n >= d (d + 1) / 2 images in general position fix Q.

    Parameters
    ----------
    S : ndarray of shape (m, n)
        Cosines of m texts with n images.
    dim : int, optional
        The embedding's dimensions d; by default the numerical rank of `S`, which is right if the
        texts and the images span the space. Where `S` has a lower rank, nothing of the missing
        dimensions is known, and the similarities are not determined.

    Raises
    ------
    InputError
        For values that are not finite, a rank above `dim`, or a system beyond `MOST_BYTES`.

    Notes
    -----
    A system of n >= d (d + 1) / 2 equations is solved as it is. A smaller one is solved by its
    Gram matrix, the squares of ``v_i^T v_j``: n x n instead of n x d (d + 1) / 2.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, T = (A / np.linalg.norm(A, axis=1)[:, None] for A in rng.normal(size=(2, 30, 4)))
    >>> found = recover_without_anchors(T @ X.T)
    >>> found.is_determined, bool(np.allclose(found.similarities(), X @ X.T))
    (True, True)
    >>> recover_without_anchors(T @ X[:9].T).n_free  # 9 images, 10 unknowns
    1
    """
    eps = _epsilon(S)
    S = _matrix(S, "S")
    _, s, W = np.linalg.svd(S, full_matrices=False)
    n_seen = _rank(s, S.shape, eps)
    d = n_seen if dim is None else dim
    if n_seen > d:
        raise InputError(
            f"S has rank {n_seen}, more than the {d} dimensions given; give the dimensions of "
            f"the embedding, or leave them out"
        )
    # Rows of length about sqrt(d): the equations then are of the order of one.
    V = W[:n_seen].T * np.sqrt(S.shape[1])
    n_unknowns = n_norms_needed(d)
    solve = _solved if len(V) >= n_norms_needed(n_seen) else _solved_by_gram
    Q, rank, condition = solve(V, eps)
    X = V @ _root(Q)
    return Recovery(
        images=X,
        method="unit norms",
        n_equations=len(V),
        n_unknowns=n_unknowns,
        rank=rank,
        condition=condition,
        residual=_ratio(np.linalg.norm(np.einsum("ij,ij->i", V @ Q, V) - 1), np.sqrt(len(V))),
        norm_error=_norm_error(X),
    )


def n_norms_needed(d: int) -> int:
    """Return how many unit images fix a d-dimensional space without anchors: d (d + 1) / 2.

    Examples
    --------
    >>> n_norms_needed(512)
    131328
    """
    return d * (d + 1) // 2


def _solved(V: Array, eps: float) -> tuple[Array, int, float]:
    """Solve the equations v^T Q v = 1 as they are; return Q, their rank and condition."""
    from scipy.linalg import lstsq

    _require_room(len(V), V.shape[1] * (V.shape[1] + 1) // 2)
    rows, columns = np.triu_indices(V.shape[1])
    # sqrt(2): the unknowns' norm is then that of Q, in which each of these stands twice.
    scale = np.where(rows == columns, 1.0, np.sqrt(2.0))
    M = V[:, rows] * V[:, columns] * scale
    cond = max(M.shape) * eps
    q, _, rank, s = lstsq(M, np.ones(len(M)), cond=cond, overwrite_a=True, check_finite=False)
    Q = np.zeros((V.shape[1], V.shape[1]))
    Q[rows, columns] = q / scale
    return Q + np.triu(Q, 1).T, int(rank), float(s[0] / s[rank - 1])


def _solved_by_gram(V: Array, eps: float) -> tuple[Array, int, float]:
    """Return the Q of least norm, and rank and condition of fewer equations than unknowns."""
    _require_room(len(V), len(V))
    values, vectors = np.linalg.eigh((V @ V.T) ** 2)
    kept = values > len(V) * eps * values[-1]
    y = (vectors[:, kept] / values[kept]) @ vectors[:, kept].sum(axis=0)
    condition = float(np.sqrt(values[-1] / values[kept][0]))
    return np.asarray((V.T * y) @ V), int(kept.sum()), condition


def _require_room(n_rows: int, n_columns: int) -> None:
    needed = 8 * n_rows * n_columns
    if needed > MOST_BYTES:
        raise InputError(
            f"the unit-norm equations of {n_rows:,} images take {needed / 2**30:,.1f} GiB and "
            f"{MOST_BYTES / 2**30:.0f} are allowed; give fewer images, or recover with anchors"
        )


def _root(Q: Array) -> Array:
    """Return C with C C^T = Q, without the negative part that an undetermined Q may have."""
    values, vectors = np.linalg.eigh(Q)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _rank(s: Array, shape: tuple[int, ...], eps: float) -> int:
    rank = int((s > max(shape) * eps * s[0]).sum())
    if rank == 0:
        raise InputError("all cosines or texts are zero; nothing can be recovered from them")
    return rank


def _epsilon(*arrays: NDArray[Any]) -> float:
    """Return the rounding of the coarsest of some arrays; whole numbers are exact."""
    types = [np.asarray(A).dtype for A in arrays]
    return max(float(np.finfo(t if t.kind == "f" else np.float64).eps) for t in types)


def _matrix(M: NDArray[Any], name: str) -> Array:
    M = np.asarray(M, dtype=np.float64)
    if M.ndim != 2 or not M.size or not np.isfinite(M).all():
        raise InputError(
            f"{name} must be a finite matrix with at least one row and column, got shape {M.shape}"
        )
    return M


def _unit(X: Array) -> Array:
    """Return unit rows in float64: `unit_rows` would round them to float32."""
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.where(norms == 0, 1.0, norms))


def _norm_error(X: Array) -> float:
    lengths = np.einsum("ij,ij->i", X, X)
    return float(np.sqrt(np.mean((lengths - 1.0) ** 2)))


def _ratio(a: Any, b: Any) -> float:
    return float(a / b) if b else 0.0
