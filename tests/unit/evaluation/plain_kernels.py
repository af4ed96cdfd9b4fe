"""The kernels of `intramodal.evaluation.kernels.cpu` in NumPy and Python loops: an oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.kernels import cpu
from intramodal.types import Floats

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
            cpu.add_single.py_func(row, c, p, len(positives))
        else:
            cpu.add_tied.py_func(row, c, n, p, r, len(positives))
            tied = relevant[(scores == value) & visible]  # in the gallery's order
            found = p + np.cumsum(tied)
            row[cpu.AP_ID] += float((found / (c + np.arange(1, n + 1)))[tied].sum())
        cpu.add_top_k.py_func(row, ks, c, n, p, r)


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


def mark_hits(
    scores: Floats, bias: Floats, truth: NDArray[np.int64], hits: NDArray[np.bool_]
) -> None:
    """Do what the compiled kernel's `mark_hits` does."""
    by_classifier = (scores + bias).reshape(*hits.shape, -1)
    # The first of equal scores: so does argmax.
    hits[:] = by_classifier.argmax(axis=2) == truth[:, None]


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
        cpu.precision_sum.py_func(c, n, p, r)
        for _, c, n, p, r in groups_of_equals(scores, relevant)
    )
    return total / len(relevant)
