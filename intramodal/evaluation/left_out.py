"""Pointwise intervals of curves and histograms, from leaving groups of units out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.inference import group_jackknife

Array = NDArray[np.float64]

N_GROUPS = 20
"""Groups that are left out in turn: standard errors to about 16%, and t of 19 degrees."""


def pooled(units: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """Return units as at most `N_GROUPS` random groups of whole units, -1 as it is.

    Parameters
    ----------
    units : ndarray of shape (n,)
        Unit of each row, from 0; -1 for rows that take no part.
    seed : int

    Examples
    --------
    >>> pooled(np.array([0, 0, 1, -1]), seed=0)
    array([ 0,  0,  1, -1])
    """
    n_units = int(units.max()) + 1
    numbers = np.arange(n_units) % min(N_GROUPS, n_units)
    group = np.random.default_rng(seed).permutation(numbers)
    return np.where(units >= 0, group[units], -1)


def pointwise(whole: Array, without: Array, sizes: Array) -> Array:
    """Return the 95% interval of each value by itself, (2, n_values).

    Parameters
    ----------
    whole : ndarray of shape (n_values,)
    without : ndarray of shape (n_groups, n_values)
        The values without each group.
    sizes : ndarray of shape (n_groups,)
        Pictures in each group.
    """
    ends = [
        group_jackknife(float(value), without[:, i], sizes).interval
        for i, value in enumerate(whole)
    ]
    return np.array(ends, dtype=np.float64).reshape(-1, 2).T
