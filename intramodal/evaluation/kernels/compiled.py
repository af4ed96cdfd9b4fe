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

_AP_ID = figures.AP_ID
_LEAST_BUCKETS, _MOST_BUCKETS = 64, 4096  # their counters fill half a first-level cache
_BUCKETS_PER_ITEM = 16
_CHUNK = 512
_CROWD = 16
"""Relevant items in one bucket from which on sorting them by insertion would cost too much."""
_LARGEST = 3e38
"""Nearly the largest float32: a scale that is infinite would make zero times it NaN."""


@numba.njit(cache=True, inline="always")
def _bucket(score: Any, least: Any, scale: Any, top: Any) -> Any:
    """Return the bucket of a score: 0 below `least`, the last one is `top` + 1.

    All in the scores' own precision: rounding may move a bucket's edge, but the same way for
    every score, so that the order of buckets never contradicts that of scores. Comparisons
    instead of `min` and `max`, whose rules for NaN keep the compiler from doing many at once.
    """
    place = (score - least) * scale
    place = place if place > np.float32(-1) else np.float32(-1)
    place = place if place < top else top
    return np.int32(place + np.float32(1))


@numba.njit(cache=True)
def _scale(scores: Any) -> Any:
    """Return least, scale and top: what `_bucket` needs to divide the range of `scores`."""
    least, most = scores.min(), scores.max()
    n_buckets = max(_LEAST_BUCKETS, min(_MOST_BUCKETS, _BUCKETS_PER_ITEM * len(scores)))
    spread = float(most) - float(least)
    scale = min(n_buckets / spread, _LARGEST) if spread > 0 else 0.0
    return least, np.float32(scale), np.float32(n_buckets - 1)


@numba.njit(cache=True)
def _sort_within_buckets(t: Any, m: int, most: int) -> None:
    """Sort t[:m], whose buckets are in order already and hold at most `most` items each."""
    if most > _CROWD:
        t[:m] = np.sort(t[:m])
        return
    for i in range(1, m):
        value, j = t[i], i
        while j > 0 and t[j - 1] > value:
            t[j] = t[j - 1]
            j -= 1
        t[j] = value


@numba.njit(cache=True)
def _ascending(scores: Any) -> Any:
    """Return the scores in order with infinity behind them, and their grid.

    No search runs past an infinite end. The grid is table, least, scale, top; table[b] is the
    first relevant item from bucket b on. Unsigned: numba would check a signed index for being
    negative, at every look-up.
    """
    least, scale, top = _scale(scores)
    table = np.zeros(int(top) + 3, dtype=np.uint32)
    for score in scores:
        table[np.uint64(_bucket(score, least, scale, top)) + np.uint64(1)] += np.uint32(1)
    most = table.max()
    for b in range(1, len(table)):
        table[b] += table[b - 1]
    t = np.empty(len(scores) + 1, dtype=scores.dtype)
    filled = table.copy()
    for score in scores:
        bucket = np.uint64(_bucket(score, least, scale, top))
        t[filled[bucket]] = score
        filled[bucket] += np.uint32(1)
    t[-1] = np.inf
    _sort_within_buckets(t, len(scores), most)
    return t, (table, least, scale, top)


@numba.njit(cache=True, inline="always")
def _interval(score: Any, t: Any, grid: Any) -> Any:
    """Return how many relevant scores (ascending) are below `score`."""
    table, least, scale, top = grid
    place = np.uint64(table[np.uint64(_bucket(score, least, scale, top))])
    place += np.uint64(t[place] < score)  # mostly all: no jump that could be guessed wrong
    while t[place] < score:
        place += np.uint64(1)
    return place


@numba.njit(cache=True)
def _sift(scores: Any, grid: Any, is_shared: Any, counts: Any, kept: Any) -> int:
    """Count the items of each bucket; keep those of shared ones, return how many.

    `kept` has room for one more than there are scores: each is written, and stays if counted.
    """
    _, least, scale, top = grid
    places = np.empty(_CHUNK, dtype=np.int32)
    chunk = np.full(_CHUNK, -np.inf, dtype=scores.dtype)
    n = np.uint64(0)
    for start in range(0, len(scores), _CHUNK):
        size = min(_CHUNK, len(scores) - start)
        part = scores[start : start + size]
        if size < _CHUNK:
            chunk[:size] = part
            part = chunk
        for i in range(_CHUNK):  # of known length: the compiler makes it sixteen at once
            places[i] = _bucket(part[i], least, scale, top)
        for i in range(size):
            bucket = np.uint64(places[i])
            counts[bucket] += 1
            kept[n] = part[i]
            n += np.uint64(is_shared[bucket])
    return int(n)


@numba.njit(cache=True)
def _add_unshared(counts: Any, is_shared: Any, t: Any, grid: Any, below: Any) -> None:
    """Add the counts of the buckets without relevant items to the interval they lie in."""
    _, least, scale, top = grid
    total = np.int32(0)
    for b in range(len(counts)):
        total += counts[b] * np.int32(not is_shared[b])
        counts[b] = total
    before = np.int32(0)
    for j in range(len(t) - 1):
        until = counts[np.uint64(_bucket(t[j], least, scale, top))]
        below[j] += until - before
        before = until
    below[len(t) - 1] += total - before


@numba.njit(cache=True)
def _place_all(scores: Any, t: Any, grid: Any, kept: Any, below: Any, equal: Any) -> None:
    table = grid[0]
    is_shared = table[1:] != table[:-1]
    counts = np.zeros(len(is_shared), dtype=np.int32)
    n_kept = _sift(scores, grid, is_shared.view(np.uint8), counts, kept)
    _add_unshared(counts, is_shared, t, grid, below)
    for i in range(n_kept):
        place = _interval(kept[i], t, grid)
        below[place] += 1
        equal[place] += t[place] == kept[i]


@numba.njit(cache=True)
def _take_out(scores: Any, t: Any, grid: Any, below: Any, equal: Any) -> None:
    for i in range(len(scores)):
        place = _interval(scores[i], t, grid)
        below[place] -= 1
        equal[place] -= t[place] == scores[i]


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
    t, grid = _ascending(scores[positives])
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
