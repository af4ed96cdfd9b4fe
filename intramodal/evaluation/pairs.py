"""Cosines of many pairs of images as counts in fine bins: all pairs in blocks, or a sample.

Whatever is wanted of the cosines afterwards (histogram, mean, AUC) follows from the counts, so
that memory does not depend on the number of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from intramodal.evaluation.labels import LabelCodes
from intramodal.types import Floats

Counts = NDArray[np.int64]
"""Numbers of pairs by fine bin, of shape (N_FINE,)."""

Rows = slice | NDArray[np.intp]

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""First and second row of each pair."""

N_FINE = 2**20
"""Bins between cosines -1 and 1, each 1.9e-6 wide: 16 steps of a float32 cosine near 1."""

_N_COSINES = 2**21
"""Cosines held at once: 8 MB of float32, and about five times as much while they are counted."""
_N_DRAWS = 2**18
"""Most pairs drawn at once; a small sample draws four times what is missing."""
_N_ROUNDS = 200
"""Rounds of drawing after which a kind of pair counts as too rare for the rest of its sample."""


class ClassPairs:
    """Which rows share a class; for fields of one or of several values a row.

    Parameters
    ----------
    codes : LabelCodes
        Of n kept rows; pairs are positions among these.
    """

    def __init__(self, codes: LabelCodes) -> None:
        self.codes = codes

    def is_same(self, rows: Rows, columns: Rows) -> NDArray[np.bool_]:
        """Return whether rows and columns share a class, (n_rows, n_columns)."""
        if self.codes.is_multi:
            return np.asarray((self._members[rows] @ self._members[columns].T).toarray() > 0)
        codes = self.codes.codes
        return np.asarray(codes[rows, None] == codes[None, columns])

    def n_shared(self, pairs: Pairs) -> NDArray[np.int64]:
        """Return how many classes each pair shares."""
        i, j = pairs
        if self.codes.is_multi:
            both = self._members[i].multiply(self._members[j])
            return np.asarray(both.sum(axis=1), dtype=np.int64)
        return np.asarray(self.codes.codes[i] == self.codes.codes[j], dtype=np.int64)

    def draw_same(self, n: int, rng: np.random.Generator) -> Pairs:
        """Return about n pairs that share a class, each such pair equally likely.

        A pair is drawn through one of its classes; one that shares several would come too often
        and is kept with the inverse probability.
        """
        sizes, rows = self.codes.class_sizes, self._by_class
        weights = sizes * (sizes - 1.0)
        if not weights.any():
            return rows[:0], rows[:0]
        k = rng.choice(len(sizes), size=n, p=weights / weights.sum())
        first, second = _distinct(sizes[k], rng)
        start = (np.cumsum(sizes) - sizes)[k]
        pairs = rows[start + first], rows[start + second]
        return _only(pairs, rng.random(n) * self.n_shared(pairs) < 1)

    def draw_other(self, n: int, rng: np.random.Generator) -> Pairs:
        """Return at most n pairs that share no class, each such pair equally likely."""
        pairs = draw_any(n, len(self.codes), rng)
        return _only(pairs, self.n_shared(pairs) == 0)

    @cached_property
    def _members(self) -> csr_array:
        codes = self.codes
        ones = np.ones(len(codes.indices), dtype=np.int32)
        shape = (len(codes), len(codes.names))
        return csr_array((ones, codes.indices, codes.indptr), shape=shape)

    @cached_property
    def _by_class(self) -> NDArray[np.int64]:
        """Row of each membership, ordered by class."""
        owner = np.repeat(np.arange(len(self.codes)), np.diff(self.codes.indptr))
        return owner[np.argsort(self.codes.indices, kind="stable")]


def count_all(X: Floats, classes: ClassPairs) -> tuple[Counts, Counts]:
    """Return the counts of same-class and of other pairs, over all pairs of unit rows X (n, d)."""
    total = np.zeros(2 * N_FINE + 1, dtype=np.int64)
    for start, stop in _blocks(len(X), len(X)):
        rest = slice(start, len(X))
        bins = fine_bins(X[start:stop] @ X[rest].T)
        bins += N_FINE * classes.is_same(slice(start, stop), rest)
        bins[np.tri(*bins.shape, dtype=np.bool_)] = 2 * N_FINE  # itself, and pairs already counted
        total += np.bincount(bins.ravel(), minlength=len(total))
    return total[N_FINE:-1], total[:N_FINE]


def count_between(X: Floats, Y: Floats) -> Counts:
    """Return the counts of all pairs of one unit row of X (n, d) and one of Y (m, d)."""
    total = np.zeros(N_FINE, dtype=np.int64)
    for start, stop in _blocks(len(X), len(Y)):
        total += np.bincount(fine_bins(X[start:stop] @ Y.T).ravel(), minlength=N_FINE)
    return total


def count_sample(
    X: Floats,
    Y: Floats,
    n_wanted: int,
    draw: Callable[[int, np.random.Generator], Pairs],
    rng: np.random.Generator,
) -> Counts:
    """Return the counts of n_wanted drawn pairs of a unit row of X and one of Y.

    Pairs are drawn with replacement; fewer come back if hardly any draw is kept.
    """
    total = np.zeros(N_FINE, dtype=np.int64)
    for _ in range(_N_ROUNDS + n_wanted // _N_DRAWS):
        missing = n_wanted - int(total.sum())
        if missing == 0:
            break
        n_drawn = min(_N_DRAWS, max(4096, 4 * missing))
        i, j = (part[:missing] for part in draw(n_drawn, rng))
        for start, stop in _blocks(len(i), X.shape[1]):
            cosines = np.einsum("ij,ij->i", X[i[start:stop]], Y[j[start:stop]])
            total += np.bincount(fine_bins(cosines), minlength=N_FINE)
    return total


def draw_any(n: int, n_rows: int, rng: np.random.Generator) -> Pairs:
    """Return n pairs of different rows, each pair equally likely."""
    return _distinct(np.full(n, n_rows, dtype=np.int64), rng)


def fine_bins(cosines: Floats) -> NDArray[np.int64]:
    """Return the fine bin of each cosine; rounding beyond 1 falls in the last."""
    bins = ((cosines + np.float32(1)) * np.float32(N_FINE / 2)).astype(np.int64)
    return np.clip(bins, 0, N_FINE - 1, out=bins)


def _distinct(sizes: NDArray[np.int64], rng: np.random.Generator) -> Pairs:
    """Return two different places below each size."""
    first, second = rng.integers(sizes), rng.integers(np.maximum(sizes - 1, 1))
    return first, second + (second >= first)


def _only(pairs: Pairs, kept: NDArray[np.bool_]) -> Pairs:
    return pairs[0][kept], pairs[1][kept]


def _blocks(n: int, width: int) -> Iterator[tuple[int, int]]:
    size = max(1, _N_COSINES // max(width, 1))
    for start in range(0, n, size):
        yield start, min(start + size, n)
