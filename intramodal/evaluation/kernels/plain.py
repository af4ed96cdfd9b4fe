"""The plain kernel: NumPy and Python loops, for machines without numba and as an oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.kernels import figures

Ints = NDArray[np.int64]


def rank_block(
    S: NDArray[np.float32],
    pos_ptr: Ints,
    pos_idx: Ints,
    ign_ptr: Ints,
    ign_idx: Ints,
    ks: Ints,
    out: NDArray[np.float64],
) -> None:
    """Do what the compiled kernel's `rank_block` does."""
    for q in range(len(S)):
        positives = pos_idx[pos_ptr[q] : pos_ptr[q + 1]]
        if len(positives):
            _rank_one(S[q], positives, ign_idx[ign_ptr[q] : ign_ptr[q + 1]], ks, out[q])


def _rank_one(
    scores: NDArray[np.float32], positives: Ints, ignored: Ints, ks: Ints, row: Any
) -> None:
    visible = np.ones(len(scores), dtype=bool)
    visible[ignored] = False
    relevant = np.zeros(len(scores), dtype=bool)
    relevant[positives] = True
    for value, c, n, p, r in groups_of_equals(scores[visible], scores[positives]):
        if n == 1:
            figures.add_single(row, c, p, len(positives))
        else:
            figures.add_tied(row, c, n, p, r, len(positives))
            tied = relevant[(scores == value) & visible]  # in the gallery's order
            found = p + np.cumsum(tied)
            row[figures.AP_ID] += float((found / (c + np.arange(1, n + 1)))[tied].sum())
        figures.add_top_k(row, ks, c, n, p, r)


def groups_of_equals(
    scores: NDArray[np.float32], relevant: NDArray[np.float32]
) -> list[tuple[float, int, int, int, int]]:
    """Return (score, above, tied, relevant above, relevant tied) of each score, best first."""
    values, n_relevant = np.unique(relevant, return_counts=True)
    ordered = np.sort(scores)
    above = len(ordered) - np.searchsorted(ordered, values, side="right")
    tied = len(ordered) - np.searchsorted(ordered, values, side="left") - above
    seen = np.cumsum(n_relevant[::-1])[::-1] - n_relevant
    columns = (values, above, tied, seen, n_relevant)
    rows = zip(*(column[::-1].tolist() for column in columns), strict=True)
    return [(v, c, n, p, r) for v, c, n, p, r in rows]
