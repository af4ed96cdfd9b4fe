"""Cosines of many pairs of images as counts in fine bins, what follows from them, and intervals.

Whatever is wanted of the cosines afterwards (histogram, mean, AUC) follows from the counts, so
that memory does not depend on the number of pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from intramodal.evaluation.intervals import (
    FRACTION,
    LEVEL,
    LeftOut,
    normal_quantile,
    pointwise,
    pooled,
)
from intramodal.evaluation.labels import LabelCodes
from intramodal.evaluation.resampling import Population
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
    """Which of n rows share a class, by one value a row or several; pairs are two positions."""

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


Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contrast:
    """Two sets of cosines, not empty, as counts (N_FINE,) by fine bin; `a` expected above `b`.

    Means and moments take every cosine as the middle of its fine bin: they are right to 1e-6.
    """

    a: Counts
    b: Counts
    n_bins: int

    @cached_property
    def n_pairs(self) -> tuple[int, int]:
        """Numbers of pairs of `a` and of `b`."""
        return int(self.a.sum()), int(self.b.sum())

    @cached_property
    def edges(self) -> Array:
        """Edges (n_bins + 1,) over the range of both; edges of fine bins, so no pair is split."""
        low, width = self._bins
        return 2.0 * (low + width * np.arange(self.n_bins + 1)) / N_FINE - 1.0

    @cached_property
    def densities(self) -> tuple[Array, Array]:
        """Histograms (n_bins,) of `a` and `b`, each of area 1."""
        return self._density(self.a), self._density(self.b)

    def bin_of(self, fine: Counts) -> Counts:
        """Return the bin of the histograms that each fine bin is in, the nearest if none."""
        low, width = self._bins
        return np.clip((fine - low) // width, 0, self.n_bins - 1)

    @property
    def overlap(self) -> float:
        """Common area of the histograms."""
        return float((np.minimum(*self.densities) * np.diff(self.edges)).sum())

    @property
    def auc(self) -> float:
        """Chance that one of `a` lies above one of `b`; pairs in one fine bin count one half."""
        return float(self._shares[0] @ self._placed[0])

    @property
    def auc_error(self) -> float:
        """Bound of what the order within fine bins can change in `auc`."""
        return float(self._shares[0] @ self._shares[1] / 2)

    @property
    def means(self) -> tuple[float, float]:
        """Mean cosines of `a` and of `b`."""
        return float(self._moments[0][0]), float(self._moments[1][0])

    @property
    def d_prime(self) -> float:
        """Difference of the means in units of the root mean variance; NaN without variance."""
        return (self.means[0] - self.means[1]) / float(np.sqrt(self._variance or np.nan))

    @property
    def mean_errors(self) -> tuple[float, float]:
        """Standard errors of `means`, if the pairs are an independent sample."""
        a, b = (np.sqrt(m[1] / n) for m, n in zip(self._moments, self.n_pairs, strict=True))
        return float(a), float(b)

    @property
    def overlap_error(self) -> float:
        """First-order standard error of `overlap`, if the pairs are an independent sample.

        The overlap is the share of `a` in bins where `a` is the lower one, and the share of `b`
        in the others: two independent binomial shares.
        """
        is_lower = self.densities[0] < self.densities[1]
        total = 0.0
        for density, chosen, n in zip(
            self.densities, (is_lower, ~is_lower), self.n_pairs, strict=True
        ):
            share = float((density * np.diff(self.edges))[chosen].sum())
            total += share * (1 - share) / n
        return float(np.sqrt(max(total, 0.0)))

    @property
    def auc_standard_error(self) -> float:
        """DeLong's standard error of `auc`, if the pairs are an independent sample."""
        total = 0.0
        for share, placed, n in zip(self._shares, self._placed, self.n_pairs, strict=True):
            total += float(share @ (placed - share @ placed) ** 2) / n
        return float(np.sqrt(total))

    @property
    def d_prime_error(self) -> float:
        """Standard error of `d_prime`, if the pairs are an independent sample.

        The delta method on both means and both variances.
        """
        variance = self._variance or np.nan
        by_variance = -(self.means[0] - self.means[1]) / (4 * variance**1.5)
        total = 0.0
        for moments, n, sign in zip(self._moments, self.n_pairs, (1, -1), strict=True):
            _, second, third, fourth = moments
            by_mean = sign / np.sqrt(variance)
            total += float(by_mean**2 * second) / n
            total += float(by_variance**2 * (fourth - second**2)) / n
            total += float(2 * by_mean * by_variance * third) / n
        return float(np.sqrt(total))

    @cached_property
    def _filled(self) -> NDArray[np.intp]:
        """Fine bins that hold a pair of either; most hold none."""
        return np.flatnonzero(self.a + self.b)

    @cached_property
    def _shares(self) -> tuple[Array, Array]:
        """Share of the pairs of `a` and of `b` in each filled bin."""
        (a, b), (n_a, n_b) = (self.a[self._filled], self.b[self._filled]), self.n_pairs
        return a / n_a, b / n_b

    @cached_property
    def _placed(self) -> tuple[Array, Array]:
        """Share of `b` below, and share of `a` above, each filled bin; half of those inside."""
        a, b = self._shares
        return np.cumsum(b) - b / 2, 1 - np.cumsum(a) + a / 2

    @cached_property
    def _bins(self) -> tuple[int, int]:
        """First fine bin that is filled, and fine bins a bin."""
        low = int(self._filled[0])
        return low, -(-(int(self._filled[-1]) + 1 - low) // self.n_bins)

    def _density(self, counts: Counts) -> Array:
        low, width = self._bins
        inside = counts[low : low + width * self.n_bins]
        padded = np.zeros(width * self.n_bins, dtype=np.int64)
        padded[: len(inside)] = inside
        by_bin = padded.reshape(self.n_bins, width).sum(axis=1)
        return np.asarray(by_bin / counts.sum() / np.diff(self.edges))

    @property
    def _variance(self) -> float:
        return float(self._moments[0][1] + self._moments[1][1]) / 2

    @cached_property
    def _moments(self) -> tuple[Array, Array]:
        middle = (2.0 * self._filled + 1.0) / N_FINE - 1.0
        return _moments(self._shares[0], middle), _moments(self._shares[1], middle)


def _moments(share: Array, values: Array) -> Array:
    """Return mean, variance, and third and fourth central moment."""
    mean = share @ values
    away = values - mean
    squares = away * away  # products: NumPy raises to the third power by logarithms
    return np.array([mean, share @ squares, share @ (squares * away), share @ (squares * squares)])


@dataclass(frozen=True, eq=False)
class Bands:
    """The 95% intervals (2, n_bins) of the densities of two histograms, bin by bin."""

    a: Array
    b: Array
    speaks_of: str
    """What could have been otherwise: the sampled pairs, or the pictures."""


@dataclass(frozen=True, eq=False)
class Units:
    """What is left out in turn: the group of each picture (n,), and whom that speaks of."""

    groups: NDArray[np.int64]
    speaks_of: str

    @classmethod
    def of(cls, population: Population, rows: NDArray[np.intp]) -> Units:
        """Return the units of some rows of a table; one that takes no part is one by itself."""
        units = population.groups[rows]
        alone = population.n_groups + np.arange(len(rows))
        _, dense = np.unique(np.where(units >= 0, units, alone), return_inverse=True)
        return cls(pooled(dense, seed=population.seed), population.phrase)


def of_sample(contrast: Contrast) -> Bands:
    """Return the bands of pairs drawn at random: Wilson's interval of each bin's share."""
    widths = np.diff(contrast.edges)
    a, b = (
        _wilson(density * widths, n) / widths
        for density, n in zip(contrast.densities, contrast.n_pairs, strict=True)
    )
    return Bands(a, b, "other samples of pairs")


def by_class(X: Floats, classes: ClassPairs, contrast: Contrast, units: Units) -> Bands:
    """Return the bands of same- and other-class pairs, over all pairs of unit rows X (n, d)."""
    return _bands(*_image_pairs(X, classes, contrast, units.groups), contrast, units)


def by_modality(X: Floats, T: Floats, contrast: Contrast, units: Units) -> Bands:
    """Return the bands of image-image and of text-image pairs; the unit texts T (m, d) stay."""
    images, touching_images = _image_pairs(X, None, contrast, units.groups)
    between = _text_pairs(X, T, contrast, units.groups)
    whole = np.stack([images.sum(axis=0), between.sum(axis=0)])
    touching = np.stack([touching_images.sum(axis=1), between], axis=1)
    return _bands(whole, touching, contrast, units)


def _bands(whole: Counts, touching: Counts, contrast: Contrast, units: Units) -> Bands:
    """Return the bands from the pairs (2, n_bins), and those (n_groups, 2, n_bins) of a group."""
    sizes, widths = np.bincount(units.groups).astype(np.float64), np.diff(contrast.edges)

    def band(which: int) -> Array:
        rest = whole[which] - touching[:, which]
        shares, used = LeftOut(rest, rest.sum(axis=1), sizes).means()
        return pointwise(whole[which] / whole[which].sum(), shares, used) / widths

    return Bands(band(0), band(1), units.speaks_of)


def _image_pairs(
    X: Floats, classes: ClassPairs | None, contrast: Contrast, groups: NDArray[np.int64]
) -> tuple[Counts, Counts]:
    """Return the pairs of images (2, n_bins), and those each group takes part in.

    Same-class pairs come first, then the others; all are others without classes.
    """
    order, bounds = _in_groups(groups)
    n_bins, n_groups = contrast.n_bins, len(bounds) - 1
    whole = np.zeros(2 * n_bins, dtype=np.int64)
    touching = np.zeros((n_groups, 2 * n_bins), dtype=np.int64)
    U = X[order]
    for group, rows in _row_blocks(bounds, len(X)):
        rest = slice(rows.start, len(X))
        bins = contrast.bin_of(fine_bins(U[rows] @ U[rest].T))
        is_same = False if classes is None else classes.is_same(order[rows], order[rest])
        bins += n_bins * np.logical_not(is_same)
        bins[np.tri(*bins.shape, dtype=np.bool_)] = 2 * n_bins  # itself, and pairs counted before
        for other in range(group, n_groups):
            part = bins[:, max(0, bounds[other] - rows.start) : bounds[other + 1] - rows.start]
            found = np.bincount(part.ravel(), minlength=2 * n_bins + 1)[:-1]
            whole += found
            touching[group] += found
            touching[other] += found * (other != group)
    return whole.reshape(2, n_bins), touching.reshape(n_groups, 2, n_bins)


def _text_pairs(X: Floats, T: Floats, contrast: Contrast, groups: NDArray[np.int64]) -> Counts:
    """Return how many text-image pairs the images of each group are in, (n_groups, n_bins)."""
    order, bounds = _in_groups(groups)
    counts = np.zeros((len(bounds) - 1, contrast.n_bins), dtype=np.int64)
    for group, rows in _row_blocks(bounds, len(T)):
        bins = contrast.bin_of(fine_bins(X[order[rows]] @ T.T))
        counts[group] += np.bincount(bins.ravel(), minlength=contrast.n_bins)
    return counts


def _in_groups(groups: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows ordered by group, and where in that order each group begins and ends."""
    order = np.argsort(groups, kind="stable")
    return order, np.searchsorted(groups[order], np.arange(int(groups.max()) + 2))


def _row_blocks(bounds: NDArray[np.intp], width: int) -> Iterator[tuple[int, slice]]:
    """Yield blocks of rows of one group each, in order."""
    size = max(1, _N_COSINES // max(width, 1))
    for group, (first, last) in enumerate(itertools.pairwise(bounds)):
        for start in range(int(first), int(last), size):
            yield group, slice(start, min(start + size, int(last)))


def _wilson(share: Array, n: int) -> Array:
    """Return Wilson's interval (2, n_bins) of binomial shares: it holds for empty bins, too."""
    z2 = normal_quantile((1 + LEVEL) / 2) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return np.clip(np.stack([centre - half, centre + half]), *FRACTION)
