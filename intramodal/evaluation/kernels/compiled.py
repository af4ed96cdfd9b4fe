"""The compiled kernel: one pass over the scores of a query, no sort of the gallery.

Only the scores of the relevant items are sorted; they cut the line into intervals, and how many
gallery items lie in each is all that is needed. The range of the relevant scores is divided into
equal buckets. Most hold no relevant score, so counting a bucket is enough; the few items that
share one with a relevant score are compared with it.
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
_LEAST_BUCKETS, _MOST_BUCKETS = 64, 4096  # two counters each fill a first-level cache
_BUCKETS_PER_ITEM = 32
_CHUNK = 512
_LARGEST = 3e38
"""Nearly the largest float32: a scale that is infinite would make zero times it NaN."""


@numba.njit(cache=True)
def _ascending(scores: Any) -> Any:
    """Return the scores in order, and infinity behind them: no search runs past the end."""
    t = np.empty(len(scores) + 1, dtype=scores.dtype)
    t[:-1] = np.sort(scores)
    t[-1] = np.inf
    return t


@numba.njit(cache=True, inline="always")
def _bucket(score: Any, least: Any, scale: Any, top: Any) -> Any:
    """Return the bucket of a score: 0 below `least`, the last one is `top` + 1.

    All in the scores' own precision: rounding may move a bucket's edge, but the same way for
    every score, so that the order of buckets never contradicts that of scores.
    """
    place = min(max((score - least) * scale, np.float32(-1)), top) + np.float32(1)
    return np.int32(place)


@numba.njit(cache=True)
def _grid(t: Any) -> Any:
    """Return the grid: table, scale, top; table[b] is the first relevant item from bucket b on.

    Unsigned: numba would check a signed index for being negative, at every look-up.
    """
    m = len(t) - 1
    n_buckets = max(_LEAST_BUCKETS, min(_MOST_BUCKETS, _BUCKETS_PER_ITEM * m))
    top = np.float32(n_buckets - 1)
    spread = float(t[m - 1]) - float(t[0])
    scale = np.float32(min(n_buckets / spread, _LARGEST) if spread > 0 else 0.0)
    table = np.empty(n_buckets + 2, dtype=np.uint32)
    place = 0
    for j in range(m):
        bucket = _bucket(t[j], t[0], scale, top)
        table[place : bucket + 1] = j
        place = max(place, bucket + 1)
    table[place:] = m
    return table, scale, top


@numba.njit(cache=True, inline="always")
def _interval(score: Any, t: Any, grid: Any) -> Any:
    """Return how many relevant scores (ascending) are below `score`."""
    table, scale, top = grid
    place = np.uint64(table[np.uint64(_bucket(score, t[0], scale, top))])
    while t[place] < score:
        place += np.uint64(1)
    return place


@numba.njit(cache=True)
def _sift(scores: Any, t: Any, grid: Any, below: Any, kept: Any) -> int:
    """Count the items of buckets without a relevant score; keep the others, return how many."""
    table, scale, top = grid
    is_shared = np.zeros(len(table), dtype=np.uint8)
    for b in range(len(table) - 1):
        is_shared[b] = table[b] != table[b + 1]
    # Two sets of counters: neighbours in the same bucket need not wait for each other.
    counts = np.zeros((2, len(table)), dtype=np.int32)
    chunk = np.empty(_CHUNK, dtype=np.int32)
    least = t[0]
    n = np.uint64(0)
    for start in range(0, len(scores), _CHUNK):
        size = min(_CHUNK, len(scores) - start)
        for i in range(size):  # a loop of its own: the compiler makes it eight or sixteen at once
            chunk[i] = _bucket(scores[start + i], least, scale, top)
        for i in range(size):
            bucket = np.uint64(chunk[i])
            counts[i & 1, bucket] += 1
            kept[n] = scores[start + i]
            n += np.uint64(is_shared[bucket])
    for b in range(len(table)):
        if not is_shared[b]:
            below[table[b]] += counts[0, b] + counts[1, b]
    return int(n)


@numba.njit(cache=True)
def _place_all(scores: Any, t: Any, grid: Any, kept: Any, below: Any, equal: Any) -> None:
    n_kept = _sift(scores, t, grid, below, kept)
    for i in range(n_kept):
        score = kept[i]
        place = _interval(score, t, grid)
        below[place] += 1
        if t[place] == score:
            equal[place] += 1


@numba.njit(cache=True)
def _take_out(scores: Any, t: Any, grid: Any, below: Any, equal: Any) -> None:
    for i in range(len(scores)):
        place = _interval(scores[i], t, grid)
        below[place] -= 1
        if t[place] == scores[i]:
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
    t = _ascending(scores[positives])
    grid = _grid(t)
    below = np.zeros(m + 1, dtype=np.int32)
    equal = np.zeros(m + 1, dtype=np.int32)
    _place_all(scores, t, grid, kept, below, equal)
    _take_out(scores[ignored], t, grid, below, equal)
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
    grid = _grid(t)
    for i in range(len(scores)):
        if groups[i] >= 0 and scores[i] >= t[0]:
            place = _interval(scores[i], t, grid)
            below[groups[i], place] += 1
            if t[place] == scores[i]:
                equal[groups[i], place] += 1


@numba.njit(cache=True)
def _leave_out_one(
    scores: Any, positives: Any, groups: Any, own: int, n_groups: int, row: Any
) -> None:
    m = len(positives)
    t = _ascending(scores[positives])
    relevant_group = groups[positives][np.argsort(scores[positives])]
    below = np.zeros((n_groups, m + 1), dtype=np.int32)
    equal = np.zeros((n_groups, m + 1), dtype=np.int32)
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
