"""How far apart two sets of cosines lie, from their counts in fine bins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.pairs import N_FINE, Counts

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Contrast:
    """Two sets of cosines, `a` expected above `b`.

    Means and moments take every cosine as the middle of its fine bin: they are right to 1e-6.

    Parameters
    ----------
    a, b : ndarray of shape (N_FINE,)
        Numbers of pairs by fine bin; neither is empty.
    n_bins : int
        Of the histograms.
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
    return np.array([mean, *(share @ (values - mean) ** power for power in (2, 3, 4))])
