"""How well image-image similarities follow from image-text ones, by number of anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.pairs import draw_any
from intramodal.evaluation.recovery import Recovery, recover_with_anchors
from intramodal.evaluation.results import data_frame, html_table, json_values
from intramodal.progress import progress

Array = NDArray[np.float64]

MAX_IMAGES = 2000
"""Images that the pairs are drawn from, at most: their cosines with all texts are held at once."""

_FIGURES = ("rms", "pearson", "spearman", "length", "condition")


@dataclass(frozen=True, eq=False, repr=False)
class RecoveryCurve:
    """Recovered against true image-image similarities, by number of anchors (section 3.1).

    Every figure has one value a number of anchors and subset; subset s is the beginning of the
    s-th random order of the texts, so subsets are nested along a curve.

    Parameters
    ----------
    sizes : ndarray of shape (n_sizes,), int64
        Numbers of anchors m, ascending.
    rms : ndarray of shape (n_sizes, n_subsets)
        Root mean square of the recovered minus the true similarity over the pairs.
    pearson, spearman : ndarray of shape (n_sizes, n_subsets)
        Correlation of the two over the pairs; NaN where one of them does not vary.
    length : ndarray of shape (n_sizes, n_subsets)
        Mean squared length of the recovered images, whose true length is 1: the part of the
        images that the anchors see.
    condition : ndarray of shape (n_sizes, n_subsets)
        Of the anchors' embeddings.
    rank : ndarray of shape (n_sizes, n_subsets), int64
        Of the anchors' embeddings; `dim` where the similarities are determined.
    dim : int
    spread : float
        Standard deviation of the true similarities over the pairs: what `rms` is to be read
        against.
    n_texts, n_images, n_pairs, seed : int
        Texts in all, images that the pairs were drawn from, pairs, seed of all draws.
    """

    sizes: NDArray[np.int64]
    rms: Array
    pearson: Array
    spearman: Array
    length: Array
    condition: Array
    rank: NDArray[np.int64]
    dim: int
    spread: float
    n_texts: int
    n_images: int
    n_pairs: int
    seed: int

    @property
    def n_free(self) -> NDArray[np.int64]:
        """Most directions that the anchors of a subset leave free, of shape (n_sizes,)."""
        return np.asarray(self.dim - self.rank.min(axis=1))

    def rows(self) -> list[dict[str, Any]]:
        """Return one dictionary a number of anchors: means, and their errors over the subsets.

        Standard errors are over the draw of the anchors, on the same pairs; None for a single
        subset, and where all texts are taken.
        """
        found = []
        for i, m in enumerate(self.sizes.tolist()):
            row: dict[str, Any] = {"n_anchors": m}
            for name in _FIGURES:
                row[name] = getattr(self, name)[i].mean()
                row[f"{name}_error"] = self._error(name, i)
            n_free = int(self.n_free[i])
            row |= {"rank": int(self.rank[i].min()), "n_free": n_free, "is_determined": not n_free}
            found.append(json_values(row))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        names = ("dim", "spread", "n_texts", "n_images", "n_pairs", "seed")
        values: dict[str, Any] = json_values({name: getattr(self, name) for name in names})
        return {**values, "n_subsets": self.rms.shape[1], "curve": self.rows()}

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a subset and size; needs the extra ``notebook``."""
        n_sizes, n_subsets = self.rms.shape
        figures = {name: getattr(self, name).ravel() for name in (*_FIGURES, "rank")}
        sizes, subsets = (
            np.repeat(self.sizes, n_subsets),
            np.tile(np.arange(n_subsets), n_sizes),
        )
        return data_frame({"n_anchors": sizes, "subset": subsets, **figures})

    def _error(self, name: str, i: int) -> float | None:
        values = getattr(self, name)[i]
        if len(values) < 2 or self.sizes[i] == self.n_texts:
            return None
        return float(values.std(ddof=1) / np.sqrt(len(values)))

    def _repr_html_(self) -> str:
        rows = [{k: v for k, v in row.items() if v is not None} for row in self.rows()]
        names = ("n_anchors", "rms", "pearson", "spearman", "rank", "n_free")
        return html_table(names, [[row.get(name, "–") for name in names] for row in rows])

    def __repr__(self) -> str:
        """Return counts, and the fewest anchors that determine the similarities."""
        full = self.sizes[self.n_free == 0]
        state = f"determined from {full[0]:,} anchors on" if len(full) else "not determined"
        return (
            f"RecoveryCurve({self.n_images:,} images, {self.n_texts:,} texts of {self.dim} "
            f"dimensions, {state})"
        )


def recovery_curve(
    X: NDArray[Any],
    T: NDArray[Any],
    *,
    sizes: Sequence[int] | None = None,
    n_subsets: int = 5,
    n_pairs: int = 20_000,
    seed: int = 0,
) -> RecoveryCurve:
    """Measure how well image-image similarities follow from image-text ones with m anchors.

    The cosines ``S_inter = X_T X_I^T`` are computed in float64. For every m, the images are
    recovered from the rows J of m random texts, ``X_I^T = X_T[J]^+ S_inter[J]`` (section 3.1 of
    arXiv 2603.16100), and ``x_i^T x_j`` of the recovered images is compared with that of the true
    ones, over the same random pairs i != j. Below d anchors the recovered image is the part of
    the true one that lies in the span of the anchors; from rank d on it is the image itself.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Images; rows are normalised here. Of more than `MAX_IMAGES` a random sample is taken.
    T : ndarray of shape (n_texts, d)
        Texts of the same model; rows are normalised here.
    sizes : sequence of int, optional
        Numbers of anchors; by default shares of d, and all texts.
    n_subsets : int
        Random orders of the texts.
    n_pairs : int
        Pairs of images, drawn with replacement.
    seed : int
        Of images, pairs and orders.

    Raises
    ------
    InputError
        For other shapes, rows that are zero or not finite, or numbers outside their range.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, T = rng.normal(size=(50, 8)), rng.normal(size=(20, 8))
    >>> curve = recovery_curve(X, T, sizes=[4, 8])
    >>> curve.n_free, bool(curve.rms[1].max() < 1e-6)
    (array([4, 0]), True)
    """
    X, T = _checked(X, "images"), _checked(T, "texts")
    _check_counts(X, T, n_subsets, n_pairs)
    wanted = _sizes(sizes, len(T), T.shape[1])
    rng = np.random.default_rng(seed)
    if len(X) > MAX_IMAGES:
        X = X[np.sort(rng.choice(len(X), MAX_IMAGES, replace=False))]
    pairs = draw_any(n_pairs, len(X), rng)
    truth = np.einsum("ij,ij->i", X[pairs[0]], X[pairs[1]])
    S = T @ X.T
    shape = (len(wanted), n_subsets)
    figures: dict[str, Array] = {name: np.empty(shape) for name in (*_FIGURES, "rank")}
    with progress(len(wanted) * n_subsets, "recover", unit="subset") as bar:
        for subset in range(n_subsets):
            order = rng.permutation(len(T))
            for i, m in enumerate(wanted):
                rows = order[:m]
                found = _figures(recover_with_anchors(S[rows], T[rows]), pairs, truth)
                for name, value in found.items():
                    figures[name][i, subset] = value
                bar.update(1)
    rank = figures.pop("rank").astype(np.int64)
    return RecoveryCurve(
        sizes=np.array(wanted, dtype=np.int64),
        **figures,
        rank=rank,
        dim=T.shape[1],
        spread=float(truth.std()),
        n_texts=len(T),
        n_images=len(X),
        n_pairs=n_pairs,
        seed=seed,
    )


def _figures(
    found: Recovery, pairs: tuple[NDArray[np.int64], NDArray[np.int64]], truth: Array
) -> dict[str, float]:
    from scipy.stats import rankdata

    X = found.images
    similarities = np.einsum("ij,ij->i", X[pairs[0]], X[pairs[1]])
    return {
        "rms": float(np.sqrt(np.mean((similarities - truth) ** 2))),
        "pearson": _correlation(similarities, truth),
        "spearman": _correlation(rankdata(similarities), rankdata(truth)),
        "length": float(np.einsum("ij,ij->i", X, X).mean()),
        "condition": found.condition,
        "rank": found.rank,
    }


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale > 0 else float("nan")


def _sizes(sizes: Sequence[int] | None, n_texts: int, d: int) -> list[int]:
    """Return the numbers of anchors, ascending; by default shares of d, and all texts."""
    if sizes is None:
        sizes = [
            max(1, round(d * s)) for s in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1, 5 / 4, 3 / 2)
        ]
        sizes = [m for m in sizes if m < n_texts] + [n_texts]
    wanted = sorted({int(m) for m in sizes})
    if not wanted or wanted[0] < 1 or wanted[-1] > n_texts:
        raise InputError(
            f"numbers of anchors lie between 1 and the {n_texts:,} texts, got "
            f"{', '.join(map(str, wanted)) or 'none'}"
        )
    return wanted


def _checked(X: NDArray[Any], what: str) -> Array:
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 2 or not X.size or not np.isfinite(X).all():
        raise InputError(f"{what} must be a finite matrix, one row each, got shape {X.shape}")
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    if not norms.all():
        raise InputError(f"row {int(np.argmin(norms))} of the {what} is zero; leave it out")
    return np.asarray(X / norms)


def _check_counts(X: Array, T: Array, n_subsets: int, n_pairs: int) -> None:
    if X.shape[1] != T.shape[1]:
        raise InputError(
            f"images have {X.shape[1]} dimensions and texts {T.shape[1]}; give the texts of the "
            f"images' model, projected as the images are"
        )
    if len(X) < 2 or n_subsets < 1 or n_pairs < 2:
        raise InputError(
            f"at least 2 images, 1 subset and 2 pairs are needed, got {len(X)}, {n_subsets} and "
            f"{n_pairs}"
        )
