"""The compiled kernel that ranks once and gives what each query scores without each group.

A gallery item stands above the relevant scores that are lower and, rarely, on one of them; the
items of a group, best first, cut the relevant scores into runs. Within a run the group takes the
same number of items from above, ``n`` in all and ``g`` relevant, and the sum of the precisions
(p + 1 - g)/(c + 1 - n) is linear in g: the difference of two running sums, one pair for each n.
Groups of up to n items so cost n passes over the relevant scores, however many they are. Large
groups walk over the scores one by one instead.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from intramodal.evaluation.kernels import figures
from intramodal.evaluation.kernels.compiled import _ascending, _interval

_precision_sum = numba.njit(cache=True)(figures.precision_sum)


@numba.njit(cache=True)
def _levels_of(t: Any) -> Any:
    """Return the level of each place of `t`, and p and r of each level.

    Level 0 is the best score; the last place is above all of them.
    """
    m = len(t) - 1
    level = np.full(m + 1, -1, dtype=np.int64)
    for j in range(m - 1, -1, -1):
        level[j] = level[j + 1] + (t[j] != t[j + 1])
    r = np.zeros(level[0] + 1, dtype=np.int64)
    for j in range(m):
        r[level[j]] += 1
    return level, np.cumsum(r) - r, r


@numba.njit(cache=True)
def _keys(scores: Any, itself: int, t: Any, grid: Any, level: Any) -> Any:
    """Return where each item stands, 2 l above level l and 2 l + 1 on it, and counts of that."""
    keys = np.empty(len(scores), dtype=np.int32)
    counts = np.zeros(2 * level[0] + 3, dtype=np.int64)
    for i in range(len(scores)):
        place = _interval(scores[i], t, grid)
        keys[i] = 2 * level[place] + 2 - (t[place] == scores[i])
        counts[keys[i]] += 1
    if itself >= 0:
        counts[keys[itself]] -= 1
        keys[itself] = len(counts) - 1  # below all that is relevant: as if it were not there
    return keys, counts


@numba.njit(cache=True)
def _by_key(keys: Any, counts: Any) -> Any:
    """Return the items that stand above or on a relevant one, best first."""
    ends = np.cumsum(counts) - counts
    order = np.empty(ends[-1], dtype=np.int32)
    for i in range(len(keys)):
        if keys[i] < len(counts) - 1:
            order[ends[keys[i]]] = i
            ends[keys[i]] += 1
    return order


@numba.njit(cache=True)
def _members(order: Any, keys: Any, positives: Any, groups: Any, starts: Any) -> Any:
    """Return the items of each group, best first, in one array with room for each group.

    Group g has ``sizes[g]`` of them from ``starts[g]`` on: their keys, and if they are relevant.
    """
    relevant = np.zeros(len(keys), dtype=np.uint8)
    relevant[positives] = 1
    sizes = np.zeros(len(starts) - 1, dtype=np.int32)
    own_keys = np.empty(starts[-1], dtype=np.int32)
    own_relevant = np.empty(starts[-1], dtype=np.uint8)
    for i in order:
        g = groups[i]
        if g >= 0:
            slot = starts[g] + sizes[g]
            own_keys[slot], own_relevant[slot] = keys[i], relevant[i]
            sizes[g] += 1
    return sizes, own_keys, own_relevant


@numba.njit(cache=True)
def _on_level(levels: Any, at: Any, above: Any, gone: Any, n: Any, r: Any) -> float:
    """Return the sum of precisions of a level without some items.

    Without `above` items above it, `gone` of them relevant, and `n` on it, `r` of them relevant.
    """
    c, n_tied, p, r_tied = levels
    if r == r_tied[at]:
        return 0.0
    return float(_precision_sum(c[at] - above, n_tied[at] - n, p[at] - gone, r_tied[at] - r))


@numba.njit(cache=True, inline="always")
def _tied(keys: Any, relevant: Any, first: Any, end: Any, key: Any) -> Any:
    """Return how many of the items first .. end have a key, and how many of those are relevant."""
    n, r = 0, 0
    while first + n < end and keys[first + n] == key:
        r += relevant[first + n]
        n += 1
    return n, r


@numba.njit(cache=True)
def _walked(levels: Any, keys: Any, relevant: Any, first: Any, end: Any) -> float:
    """Return the sum of precisions without the items from `first` to `end`, level by level."""
    i, gone, total = first, 0, 0.0
    for at in range(len(levels[0])):
        while i < end and keys[i] <= 2 * at:
            i += 1
        n, r = _tied(keys, relevant, i, end, 2 * at + 1)
        total += _on_level(levels, at, i - first, gone, n, r)
        i += n
        gone += r
    return total


@numba.njit(cache=True)
def _run_sums(levels: Any, above: int, sums: Any) -> None:
    """Fill `sums` (n_levels + 1, 2) with running sums without `above` items above each level.

    Of the precisions, and of what each loses for every relevant one among those items.
    """
    c, n, p, r = levels
    for at in range(len(c)):
        precision, loss = 0.0, 0.0
        if c[at] >= above and n[at] == 1:
            loss = 1 / (c[at] - above + 1)
            precision = (p[at] + 1) * loss
        elif c[at] >= above:
            precision = _precision_sum(c[at] - above, n[at], p[at], r[at])
            loss = _precision_sum(c[at] - above, n[at], p[at] + 1, r[at]) - precision
        sums[at + 1, 0] = sums[at, 0] + precision
        sums[at + 1, 1] = sums[at, 1] + loss


@numba.njit(cache=True)
def _in_runs(levels: Any, members: Any, starts: Any, active: Any, totals: Any) -> None:
    """Fill `totals` of the active groups with the sum of precisions without their items.

    Round n ends the runs that have n items of their group above them.
    """
    sizes, keys, relevant = members
    taken, gone, start = np.zeros_like(sizes), np.zeros_like(sizes), np.zeros_like(sizes)
    sums = np.zeros((len(levels[0]) + 1, 2))
    n_active, above = len(active), 0
    while n_active > 0:
        _run_sums(levels, above, sums)
        n_left = 0
        for g in active[:n_active]:
            first, end = starts[g] + above, starts[g] + sizes[g]
            key = keys[first] if first < end else 2 * len(levels[0])
            if taken[g] == above:  # else its last items were tied: more of them than one
                stop = key >> 1
                totals[g] += sums[stop, 0] - sums[start[g], 0]
                totals[g] -= gone[g] * (sums[stop, 1] - sums[start[g], 1])
                start[g] = stop
                taken[g] += 1
                if key & 1:
                    n, r = _tied(keys, relevant, first, end, key)
                    totals[g] += _on_level(levels, stop, above, gone[g], n, r)
                    start[g] = stop + 1
                    taken[g] += n - 1
                    gone[g] += r
            active[n_left] = g
            n_left += taken[g] <= sizes[g]
        n_active = n_left
        above += 1


@numba.njit(cache=True)
def _leave_out_one(
    scores: Any, positives: Any, itself: int, groups: Any, starts: Any, most: int, row: Any
) -> None:
    t, grid = _ascending(scores[positives])
    level, p, r = _levels_of(t)
    keys, counts = _keys(scores, itself, t, grid, level)
    c = np.cumsum(counts)[:-1:2]  # above level l stand the keys up to 2 l
    levels = (c, counts[1::2], p, r)
    members = _members(_by_key(keys, counts), keys, positives, groups, starts)
    sizes, own_keys, own_relevant = members
    totals = np.zeros(len(sizes))
    is_large = starts[1:] - starts[:-1] > most
    _in_runs(levels, members, starts, np.flatnonzero(~is_large), totals)
    for g in range(len(sizes)):
        first, end = starts[g], starts[g] + sizes[g]
        if is_large[g]:
            totals[g] = _walked(levels, own_keys, own_relevant, first, end)
        n_left = len(positives) - own_relevant[first:end].sum()
        if n_left > 0:
            row[g] = totals[g] / n_left


@numba.njit(cache=True, parallel=True)
def _leave_out(S: Any, positives: Any, groups: Any, query: Any, most: Any, out: Any) -> None:
    pos_ptr, pos_idx = positives
    gallery, own, starts = groups
    for q in numba.prange(len(S)):
        relevant = pos_idx[pos_ptr[q] : pos_ptr[q + 1]]
        if len(relevant) > 0:
            _leave_out_one(S[q], relevant, query[q], gallery, starts, most, out[q])
            if own[q] >= 0:
                out[q, own[q]] = np.nan


def leave_out_block(
    S: Any, pos_ptr: Any, pos_idx: Any, groups: Any, own: Any, query: Any, out: Any
) -> None:
    """Fill `out` (b, n_groups, NaN) with each query's average precision without each group.

    Entries are NaN where the query itself is in the group, or nothing relevant is left. Takes
    O(n + n_levels * sqrt(n)) time and O(n) memory a query at most, however many groups there are.

    Parameters
    ----------
    S : ndarray of shape (b, n)
    pos_ptr, pos_idx : as in `rank_block`
    groups : ndarray of shape (n,)
        Group of each column; -1 for none.
    own : ndarray of shape (b,)
        Group of each query; -1 for none.
    query : ndarray of shape (b,)
        Column that is the query itself; -1 for none.
    """
    sizes = np.bincount(groups[groups >= 0], minlength=out.shape[1])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    most = _largest_in_runs(sizes)
    _leave_out(S, (pos_ptr, pos_idx), (groups, own, starts), query, most, out)


def _largest_in_runs(sizes: Any) -> int:
    """Return up to which size groups are taken in runs: what needs the fewest passes.

    Examples
    --------
    >>> _largest_in_runs(np.array([1] * 1000 + [2, 900]))
    2
    """
    most = np.arange(int(sizes.max(initial=0)) + 1)
    n_larger = len(sizes) - np.searchsorted(np.sort(sizes), most, side="right")
    return int(np.argmin(most + n_larger))
