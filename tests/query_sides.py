"""Vectors with a common part, and a centred projection of them, for queries that are projected."""

from __future__ import annotations

import numpy as np

from intramodal import Projection
from intramodal.types import Floats, unit_rows


def shifted_rows(rng: np.random.Generator, n: int, d: int) -> Floats:
    """Return unit rows (n, d) whose mean is far from zero."""
    return unit_rows(rng.normal(size=(n, d)) + 0.5)


def centred_projection(rng: np.random.Generator, X: Floats, k: int) -> Projection:
    """Return a projection of vectors `X` (n, d) to k dimensions that subtracts their mean."""
    Q = np.linalg.qr(rng.normal(size=(X.shape[1], k)))[0]
    return Projection(Q, "pca_centered", "clip", "3f9a", offset=X.mean(axis=0))
