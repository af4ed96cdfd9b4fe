"""The kernels of `intramodal.evaluation.kernels` in NumPy and Python loops: an oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.kernels import cpu
from intramodal.evaluation.ranking import Lists
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
    by_id: bool,
) -> None:
    """Do what the compiled kernel's `rank_block` does; the order of ties is always told."""
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


def curves_block(
    S: NDArray[np.float32], positives: Lists, ignored: Lists, groups: Any, levels: Any
) -> tuple[NDArray[np.float64], Ints]:
    """Do what the compiled kernel's `curves_block` does."""
    gallery, own, n_groups = groups
    sums = np.zeros((n_groups + 1, len(levels)))
    counts = np.zeros(n_groups + 1, dtype=np.int64)
    for q, scores in enumerate(S):
        is_relevant, is_there = np.zeros(len(scores), bool), np.ones(len(scores), bool)
        is_relevant[positives[1][positives[0][q] : positives[0][q + 1]]] = True
        is_there[ignored[1][ignored[0][q] : ignored[0][q + 1]]] = False
        parts = is_relevant, is_there & ~is_relevant
        if not is_relevant.any():
            continue
        # Items of no group are of one that is then forgotten.
        split = [np.where(gallery[part] < 0, n_groups, gallery[part]) for part in parts]
        curves = without_groups(
            scores[parts[0]], scores[parts[1]], (split[0], split[1]), n_groups + 1, levels
        )
        curves = np.delete(curves, n_groups, axis=0)
        if own[q] >= 0:
            curves[own[q]] = np.nan
        sums += np.nan_to_num(curves)
        counts += np.isfinite(curves[:, 0])
    return sums, counts


def interpolated(
    relevant: Floats, others: Floats, levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return one query's interpolated precision at ascending recall levels in [0, 1].

    From the scores of what is relevant, at least one, and of what is not.
    """
    nowhere = np.zeros(len(relevant), np.int64), np.zeros(len(others), np.int64)
    return np.asarray(without_groups(relevant, others, nowhere, 0, levels)[0])


def without_groups(
    relevant: Floats,
    others: Floats,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]],
    n_groups: int,
    levels: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return one query's interpolated precision (n_groups + 1, n_levels) without each group.

    The last row is with all. `groups` are those of `relevant` and of `others`, below `n_groups`.
    NaN without a group that holds all that is relevant.
    """
    hits = np.sort(relevant)
    n_hits, n_rows = len(hits), n_groups + 1
    # Found at the threshold of hit i, the lowest first: those that reach it.
    found = np.zeros((2, n_rows, n_hits), dtype=np.int64)
    for which, scores, group in ((0, relevant, groups[0]), (1, others, groups[1])):
        reach = np.searchsorted(hits, scores, side="right")
        total = np.bincount(reach, minlength=n_hits + 1)[1:][::-1].cumsum()[::-1]
        found[which] = total
        if n_groups:
            counts = np.bincount(group * (n_hits + 1) + reach, minlength=n_groups * (n_hits + 1))
            by_group = counts.reshape(n_groups, n_hits + 1)[:, 1:]
            found[which, :-1] -= by_group[:, ::-1].cumsum(axis=1)[:, ::-1]
    right, all_found = found[0], found.sum(axis=0)
    # The threshold of a hit that is left out does no harm: the next one has as many right ones
    # and no more wrong ones.
    precision = np.divide(right, all_found, out=np.zeros(right.shape), where=all_found > 0)
    best = np.maximum.accumulate(precision, axis=1)
    at = _last_place(right, np.ceil(levels * right[:, :1] - 1e-9).astype(np.int64))
    curves = np.take_along_axis(best, at, axis=1)
    curves[right[:, 0] == 0] = np.nan
    return np.asarray(curves)


def _last_place(right: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return in each row the last place with at least as many right ones as wanted.

    `right` (n_rows, n_hits) falls along its rows, so that one search over all of them will do.
    """
    n_rows, n_hits = right.shape
    start = np.arange(n_rows)[:, None] * (n_hits + 1)
    keys, asked = start + n_hits - right, start + n_hits - wanted
    at = np.searchsorted(keys.ravel(), asked.ravel(), side="right").reshape(asked.shape)
    return np.asarray(np.maximum(at - 1 - np.arange(n_rows)[:, None] * n_hits, 0))
