"""The cache of Tip-Adapter: how much the shots of each class speak for an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.types import Floats


def cache_logits(
    affinities: Floats, beta: float, n_shots: int, weights: NDArray[Any] | None = None
) -> Floats:
    """Return (m, K): ``exp(-beta (1 - affinity)) L``, L the one-hot labels of the shots.

    Parameters
    ----------
    affinities : ndarray of shape (m, K s)
        Affinities of images to shots, class after class.
    beta : float
        Sharpness.
    n_shots : int
        s, shots a class.
    weights : ndarray of shape (K s,), optional
        What the one-hot label of each shot is multiplied by.
    """
    close = np.exp(np.float32(beta) * (affinities - 1))
    if weights is not None:
        close *= weights.astype(np.float32)
    return class_sums(close, n_shots)


def class_sums(values: Floats, n_shots: int) -> Floats:
    """Return the sums (m, K) of values (m, K s) over the shots of each class."""
    m, n_keys = values.shape
    return np.asarray(values.reshape(m, n_keys // n_shots, n_shots).sum(axis=2), dtype=np.float32)
