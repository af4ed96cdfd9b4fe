"""The plain kernel of classification: NumPy, for machines without numba and as an oracle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intramodal.types import Floats


def mark_hits(
    scores: Floats, bias: Floats, truth: NDArray[np.int64], hits: NDArray[np.bool_]
) -> None:
    """Do what the compiled kernel's `mark_hits` does."""
    by_classifier = (scores + bias).reshape(*hits.shape, -1)
    # The first of equal scores: so does argmax.
    hits[:] = by_classifier.argmax(axis=2) == truth[:, None]
