"""The compiled kernel of classification: one pass over the scores, no winner is looked up.

One thread: it costs a fiftieth of the product that made the scores, and threads that wait for
each other cost more.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(cache=True)
def _wins(scores: Any, bias: Any, start: Any, own: Any, stop: Any) -> Any:
    """Return whether column `own` has more than those before it, and no less than those after.

    No early end: without branches the compiler compares many columns at once. NaN never wins.
    """
    value = scores[own] + bias[own]
    n_ahead = np.int32(0)
    for j in range(start, own):
        n_ahead += np.int32(not scores[j] + bias[j] < value)
    for j in range(own + np.uint64(1), stop):
        n_ahead += np.int32(not scores[j] + bias[j] <= value)
    return n_ahead == 0


@numba.njit(cache=True)
def mark_hits(scores: Any, bias: Any, truth: Any, hits: Any) -> None:
    """Say which images are classified right; the first of equal scores wins.

    Parameters
    ----------
    scores : ndarray of shape (n, P K), float32
        Of P classifiers of K classes each, without the bias.
    bias : ndarray of shape (P K,), float32
    truth : ndarray of shape (n,), int64
        Class of each image.
    hits : ndarray of shape (n, P), bool
        Written.
    """
    # Unsigned: numba would check a signed index for being negative, at every look-up.
    n_classes = np.uint64(scores.shape[1] // hits.shape[1])
    for i in range(len(scores)):
        row = scores[i]
        for p in range(hits.shape[1]):
            start = np.uint64(p) * n_classes
            own = start + np.uint64(truth[i])
            hits[i, p] = _wins(row, bias, start, own, start + n_classes)
