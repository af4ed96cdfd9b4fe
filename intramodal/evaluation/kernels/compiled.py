"""The compiled kernel: one pass over the scores of a query, no sort of the gallery.

Only the scores of the relevant items are sorted. They cut the line into intervals; every gallery
item that is at least as good as the worst of them is placed into its interval through a table
of equal buckets, so that one lookup and rarely a comparison or two do. Suffix sums of the counts
then say how many items stand above each relevant one.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from intramodal.evaluation.kernels import figures

_add_single = numba.njit(cache=True)(figures.add_single)
_add_tied = numba.njit(cache=True)(figures.add_tied)
_add_top_k = numba.njit(cache=True)(figures.add_top_k)
_precision_sum = numba.njit(cache=True)(figures.precision_sum)

_AP_ID = figures.AP_ID
_LEAST_BUCKETS, _MOST_BUCKETS = 64, 4096
_BUCKETS_PER_ITEM = 12


@numba.njit(cache=True)
def _fill_table(table: Any, t: Any, scale: float) -> None:
    """Set table[b] to the first relevant item whose bucket is b or later."""
    n_buckets = len(table) - 1
    place = 0
    for j in range(len(t)):
        bucket = int(min((t[j] - t[0]) * scale, n_buckets - 1.0))
        while place <= bucket:
            table[place] = j
            place += 1
    while place <= n_buckets:
        table[place] = len(t)
        place += 1


@numba.njit(cache=True, inline="always")
def _interval(score: Any, t: Any, table: Any, scale: float) -> int:
    """Return how many relevant scores (ascending) are below `score`, which is >= t[0]."""
    # The minimum is taken before the cast: a tiny spread makes products beyond any integer.
    bucket = int(min((score - t[0]) * scale, len(table) - 2.0))
    place = table[bucket]
    while place < len(t) and t[place] < score:
        place += 1
    return int(place)


@numba.njit(cache=True)
def _scale(t: Any, n_buckets: int) -> float:
    spread = float(t[-1]) - float(t[0])
    return n_buckets / spread if spread > 0 else 0.0


@numba.njit(cache=True)
def _survivors(scores: Any, least: Any, kept: Any) -> int:
    """Copy the scores that are at least `least`, without a branch; return how many."""
    n = 0
    for i in range(len(scores)):
        kept[n] = scores[i]
        n += scores[i] >= least
    return n


@numba.njit(cache=True)
def _place_all(
    scores: Any, t: Any, table: Any, scale: float, kept: Any, below: Any, equal: Any
) -> None:
    n_kept = _survivors(scores, t[0], kept)
    for i in range(n_kept):
        score = kept[i]
        place = _interval(score, t, table, scale)
        below[place] += 1
        if place < len(t) and t[place] == score:
            equal[place] += 1


@numba.njit(cache=True)
def _take_out(
    scores: Any, ignored: Any, t: Any, table: Any, scale: float, below: Any, equal: Any
) -> None:
    for i in range(len(ignored)):
        score = scores[ignored[i]]
        if score >= t[0]:
            place = _interval(score, t, table, scale)
            below[place] -= 1
            if place < len(t) and t[place] == score:
                equal[place] -= 1


@numba.njit(cache=True)
def _by_id(scores: Any, value: Any, positives: Any, ignored: Any, c: int, p: int) -> float:
    """Return the sum of precisions of a tied group whose items stand in the gallery's order."""
    is_positive = np.zeros(len(scores), dtype=np.bool_)
    is_ignored = np.zeros(len(scores), dtype=np.bool_)
    is_positive[positives] = True
    is_ignored[ignored] = True
    total = 0.0
    rank, found = c, p
    for i in range(len(scores)):
        if scores[i] == value and not is_ignored[i]:
            rank += 1
            if is_positive[i]:
                found += 1
                total += found / rank
    return total


@numba.njit(cache=True)
def _rank_one(scores: Any, positives: Any, ignored: Any, ks: Any, kept: Any, row: Any) -> None:
    m = len(positives)
    t = np.sort(scores[positives])
    n_buckets = max(_LEAST_BUCKETS, min(_MOST_BUCKETS, _BUCKETS_PER_ITEM * m))
    table = np.empty(n_buckets + 1, dtype=np.int32)
    scale = _scale(t, n_buckets)
    _fill_table(table, t, scale)
    below = np.zeros(m + 1, dtype=np.int32)
    equal = np.zeros(m, dtype=np.int32)
    _place_all(scores, t, table, scale, kept, below, equal)
    _take_out(scores, ignored, t, table, scale, below, equal)
    c, p, high = below[m], 0, m
    while high > 0:
        low = high - 1
        while low > 0 and t[low - 1] == t[low]:
            low -= 1
        n, r = equal[low], high - low
        if n == 1:
            _add_single(row, c, p, m)
        else:
            _add_tied(row, c, n, p, r, m)
            row[_AP_ID] += _by_id(scores, t[low], positives, ignored, c, p)
        _add_top_k(row, ks, c, n, p, r)
        c += below[low]
        p += r
        high = low


@numba.njit(cache=True, parallel=True)
def rank_block(
    S: Any, pos_ptr: Any, pos_idx: Any, ign_ptr: Any, ign_idx: Any, ks: Any, out: Any
) -> None:
    """Fill `out` (b, n_figures, zeros) with the sums of `figures` for each row of `S` (b, n).

    Parameters
    ----------
    S : ndarray of shape (b, n)
        float32 scores without NaN.
    pos_ptr, pos_idx : ndarray of shape (b + 1,) and (n_positives,)
        Relevant columns of each row, none of them ignored.
    ign_ptr, ign_idx : ndarray of shape (b + 1,) and (n_ignored,)
        Columns that are not there for that row: the query itself, junk.
    ks : ndarray of shape (n_ks,)
    """
    for q in numba.prange(len(S)):
        positives = pos_idx[pos_ptr[q] : pos_ptr[q + 1]]
        if len(positives) > 0:
            ignored = ign_idx[ign_ptr[q] : ign_ptr[q + 1]]
            kept = np.empty(S.shape[1] + 1, dtype=S.dtype)
            _rank_one(S[q], positives, ignored, ks, kept, out[q])


@numba.njit(cache=True)
def _count_by_group(scores: Any, groups: Any, t: Any, below: Any, equal: Any) -> None:
    n_buckets = max(_LEAST_BUCKETS, min(_MOST_BUCKETS, _BUCKETS_PER_ITEM * len(t)))
    table = np.empty(n_buckets + 1, dtype=np.int32)
    scale = _scale(t, n_buckets)
    _fill_table(table, t, scale)
    for i in range(len(scores)):
        score = scores[i]
        if score >= t[0] and groups[i] >= 0:
            place = _interval(score, t, table, scale)
            below[groups[i], place] += 1
            if place < len(t) and t[place] == score:
                equal[groups[i], place] += 1


@numba.njit(cache=True)
def _leave_out_one(
    scores: Any, positives: Any, groups: Any, own: int, n_groups: int, row: Any
) -> None:
    m = len(positives)
    order = np.argsort(scores[positives])
    t = scores[positives][order]
    relevant_group = groups[positives][order]
    below = np.zeros((n_groups, m + 1), dtype=np.int32)
    equal = np.zeros((n_groups, m), dtype=np.int32)
    _count_by_group(scores, groups, t, below, equal)
    all_below, all_equal = below.sum(axis=0), equal.sum(axis=0)
    for g in range(n_groups):
        if g == own:
            continue
        c, p, high, total = all_below[m] - below[g, m], 0, m, 0.0
        while high > 0:
            low = high - 1
            r = int(relevant_group[low] != g)
            while low > 0 and t[low - 1] == t[low]:
                low -= 1
                r += int(relevant_group[low] != g)
            if r > 0:
                total += _precision_sum(c, all_equal[low] - equal[g, low], p, r)
            c += all_below[low] - below[g, low]
            p += r
            high = low
        if p > 0:
            row[g] = total / p


@numba.njit(cache=True, parallel=True)
def leave_out_block(
    S: Any, pos_ptr: Any, pos_idx: Any, groups: Any, own: Any, query: Any, out: Any
) -> None:
    """Fill `out` (b, n_groups) with each query's average precision without each group.

    Entries stay as they are where the query itself is in the group, or nothing relevant is left.

    Parameters
    ----------
    S : ndarray of shape (b, n)
    pos_ptr, pos_idx : as in `rank_block`
    groups : ndarray of shape (n,)
        Group of each column.
    own : ndarray of shape (b,)
        Group of each query; -1 for none.
    query : ndarray of shape (b,)
        Column that is the query itself; -1 for none.
    """
    for q in numba.prange(len(S)):
        positives = pos_idx[pos_ptr[q] : pos_ptr[q + 1]]
        if len(positives) > 0:
            visible = groups.copy()
            if query[q] >= 0:
                visible[query[q]] = -1
            _leave_out_one(S[q], positives, visible, own[q], out.shape[1], out[q])
