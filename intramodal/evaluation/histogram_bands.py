"""Intervals of histograms of cosines: of a sample of pairs, or of all pairs of some pictures.

All pairs of n pictures are n (n - 1) / 2 numbers, but only n pictures are independent: groups of
pictures are left out with all their pairs, and what that changes says what others would change.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.contrast import Contrast
from intramodal.evaluation.inference import LEVEL
from intramodal.evaluation.left_out import pointwise, pooled
from intramodal.evaluation.pairs import ClassPairs, fine_bins
from intramodal.evaluation.population import Population
from intramodal.types import Floats

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

_N_COSINES = 2**21
"""Cosines held at once."""


@dataclass(frozen=True, eq=False)
class Bands:
    """The 95% intervals of two histograms, bin by bin.

    Parameters
    ----------
    a, b : ndarray of shape (2, n_bins)
        Lower and upper ends of the densities.
    speaks_of : str
        What could have been otherwise: the sampled pairs, or the pictures.
    """

    a: Array
    b: Array
    speaks_of: str


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
        used = rest.sum(axis=1) > 0
        density, *without = (
            counts / counts.sum() / widths for counts in (whole[which], *rest[used])
        )
        return np.maximum(pointwise(density, np.array(without), sizes[used]), 0.0)

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
    from scipy.stats import norm

    z2 = float(norm.ppf((1 + LEVEL) / 2)) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return np.stack([np.maximum(centre - half, 0.0), centre + half])
