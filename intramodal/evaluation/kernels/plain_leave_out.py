"""Each query's average precision without each group, ranked again: an oracle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.kernels import figures
from intramodal.evaluation.kernels.plain import groups_of_equals

Ints = NDArray[np.int64]


def leave_out_block(
    S: NDArray[np.float32],
    pos_ptr: Ints,
    pos_idx: Ints,
    groups: Ints,
    own: Ints,
    query: Ints,
    out: NDArray[np.float64],
) -> None:
    """Do what the compiled kernel's `leave_out_block` does."""
    for q in range(len(S)):
        positives = pos_idx[pos_ptr[q] : pos_ptr[q + 1]]
        for g in range(out.shape[1]):
            left = positives[groups[positives] != g]
            if g == own[q] or not len(left):
                continue
            visible = groups != g
            if query[q] >= 0:
                visible[query[q]] = False
            out[q, g] = _average_precision(S[q][visible], S[q][left])


def _average_precision(scores: NDArray[np.float32], relevant: NDArray[np.float32]) -> float:
    total = sum(
        figures.precision_sum(c, n, p, r) for _, c, n, p, r in groups_of_equals(scores, relevant)
    )
    return total / len(relevant)
