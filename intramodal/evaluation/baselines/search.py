"""Search for constants on validation images: which of a grid classifies most of them right.

Logits of all methods are linear in one of their constants. For it the whole grid costs one pass:
an image is right on one interval, whose ends are where its class meets another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float64]

_N_LOGITS = 2**19
"""Logits of constants that are tried at once, 4 MB; or those of one if larger."""


def steps(start: float, stop: float, count: int) -> Grid:
    """Return `count` even steps from `start` that stop one short of `stop`, as published code.

    Examples
    --------
    >>> steps(0.1, 12.1, 4).round(3).tolist()
    [0.1, 3.1, 6.1, 9.1]
    """
    return np.asarray(start + np.arange(count) * (stop - start) / count)


def right_counts(
    base: NDArray[Any], slope: NDArray[Any], truth: NDArray[np.int64], weights: Grid
) -> NDArray[np.int64]:
    """Return how many images ``base + weight * slope`` classifies right, for every weight.

    Parameters
    ----------
    base, slope : ndarray of shape (..., m, K)
        Leading axes are further constants; they broadcast.
    truth : ndarray of shape (m,)
        Class of each image.
    weights : ndarray of shape (g,)

    Returns
    -------
    ndarray of shape (..., g)
        Of equal logits the first class counts, but where two classes meet within rounding.
    """
    ahead, gain = (_before_others(part, truth) for part in (base, slope))
    with np.errstate(divide="ignore", invalid="ignore"):
        meets = -ahead / gain  # ahead + weight gain > 0; no gain: minus or plus infinity
    unclear = np.isnan(meets)  # no gain and level: the first class wins
    loses = np.arange(base.shape[-1]) < truth[:, None]
    meets = np.where(unclear, np.where(loses, np.inf, -np.inf), meets)
    low = np.where(gain >= 0, meets, -np.inf).max(axis=-1)[..., None]
    high = np.where(gain < 0, meets, np.inf).min(axis=-1)[..., None]
    return np.asarray(((low < weights) & (weights < high)).sum(axis=-2), dtype=np.int64)


def _before_others(logits: NDArray[Any], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    own = np.take_along_axis(logits, _column(truth, logits.ndim), axis=-1)
    return np.asarray(np.subtract(own, logits, dtype=np.float64))


def _column(truth: NDArray[np.int64], ndim: int) -> NDArray[np.int64]:
    return truth.reshape((1,) * (ndim - 2) + (-1, 1))


def batches(constants: Grid, n_logits: int) -> Iterator[Grid]:
    """Yield a grid in parts for which `n_logits` logits each fit into memory."""
    size = max(1, _N_LOGITS // max(1, n_logits))
    for start in range(0, len(constants), size):
        yield constants[start : start + size]


def first_best(counts: NDArray[np.int64], *grids: Grid) -> tuple[float, ...]:
    """Return the constants at the first of the largest counts, in the order of the grids.

    Parameters
    ----------
    counts : ndarray of shape (g_1, g_2, ...)
    *grids : ndarray of shape (g_i,)
        One an axis.
    """
    at = np.unravel_index(int(counts.argmax()), counts.shape)
    return tuple(float(grid[i]) for grid, i in zip(grids, at, strict=True))
