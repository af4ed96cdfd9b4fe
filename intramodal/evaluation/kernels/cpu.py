"""The compiled kernel: one pass over the scores of a query, no sort of the gallery.

Only the scores of the relevant items are sorted; they cut the line into intervals, and how many
gallery items lie in each is all that is needed. The range of the relevant scores is divided into
equal buckets. Most hold no relevant score, so counting a bucket is enough; the few items that
share one with a relevant score are compared with it.

All that builds on these counts is in this one file: what is left without a group, and precision by
recall. numba keeps compiled functions by the file that they stand in and does not see that one of
another file, which they call, has changed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from intramodal.evaluation.kernels.compilation import compiled
from intramodal.evaluation.kernels.threads import in_threads

# What one group of equally scored gallery items adds to each figure of its query.
#
# A group has `c` items above it, `p` of them relevant; it holds `n` items, `r` of them relevant
# (r >= 1). Where n > r the order inside is arbitrary, and each figure is its expected value over
# all orders (McSherry and Najork, ECIR 2008), in closed form: a relevant item stands at place j
# with probability r / n, with (j - 1)(r - 1)/(n - 1) relevant ones expected before it.

AP, AP_BEST, AP_WORST, AP_SKLEARN, AP_ID, AP_TRAPEZOID, AP_AT_R, R_PRECISION, MRR, NDCG = range(10)
N_FIXED = 10
N_AT_K = 3
"""After those come, for each k, the expected number of relevant items among the first k, the
probability that there is one, and the discounted gain of the first k."""


@compiled()
def add_single(row: Any, c: int, p: int, m: int) -> None:
    """Add a relevant item that shares its score with nobody; `m` items are relevant in all."""
    precision = (p + 1) / (c + 1)
    row[AP] += precision
    row[AP_BEST] += precision
    row[AP_WORST] += precision
    row[AP_SKLEARN] += precision
    row[AP_ID] += precision
    row[AP_TRAPEZOID] += 0.5 * (precision + (p / c if c > 0 else 1.0))
    if c < m:
        row[AP_AT_R] += precision
        row[R_PRECISION] += 1.0
    if p == 0:
        row[MRR] = 1.0 / (c + 1)
    row[NDCG] += 1.0 / math.log2(c + 2)


@compiled()
def add_tied(row: Any, c: int, n: int, p: int, r: int, m: int) -> None:
    """Add a group of `n` tied items, `r` of them relevant."""
    share = r / n
    slope = (r - 1) / (n - 1) if n > 1 else 0.0
    first = share  # probability that the first relevant item of the group stands at place j
    for j in range(1, n + 1):
        rank = c + j
        before = p + (j - 1) * slope
        precision = (before + 1) / rank
        row[AP] += share * precision
        row[AP_TRAPEZOID] += share * 0.5 * (precision + (before / (rank - 1) if rank > 1 else 1.0))
        if rank <= m:
            row[AP_AT_R] += share * precision
            row[R_PRECISION] += share
        row[NDCG] += share / math.log2(rank + 1)
        if p == 0 and first > 0.0:
            row[MRR] += first / rank
            first = first * (n - r - j + 1) / (n - j) if j < n else 0.0
    for j in range(1, r + 1):
        row[AP_BEST] += (p + j) / (c + j)
        row[AP_WORST] += (p + j) / (c + n - r + j)
    row[AP_SKLEARN] += r * (p + r) / (c + n)


@compiled()
def add_top_k(row: Any, ks: Any, c: int, n: int, p: int, r: int) -> None:
    """Add the group to "how many of the first k are relevant", "is one of them" and their gain."""
    for i in range(len(ks)):
        inside = min(n, ks[i] - c)
        if inside <= 0:
            continue
        at = N_FIXED + N_AT_K * i
        row[at] += r * inside / n
        for j in range(inside):
            row[at + 2] += r / n / math.log2(c + j + 2)
        if p > 0 or row[at + 1] > 0.0:
            continue
        missed = 1.0  # probability that the `inside` first places hold none of the r
        for j in range(inside):
            missed *= max(0, n - r - j) / (n - j)
        row[at + 1] = 1.0 - missed


@compiled()
def precision_sum(c: int, n: int, p: int, r: int) -> float:
    """Return what a group adds to the sum of precisions: the expected value alone."""
    if n == 1:
        return (p + 1) / (c + 1)
    share = r / n
    slope = (r - 1) / (n - 1)
    total = 0.0
    for j in range(1, n + 1):
        total += share * (p + (j - 1) * slope + 1) / (c + j)
    return total


_LEAST_BUCKETS, _MOST_BUCKETS = 64, 4096  # their counters fill half a first-level cache
_BUCKETS_PER_ITEM = 16
_CROWDED_BUCKETS = 2**18
"""Where so many items are relevant that a bucket of the cache would hold several of them, looking
further away costs less than comparing them one by one."""
_CHUNK = 512
_CROWD = 16
"""Relevant items in one bucket from which on sorting them by insertion would cost too much."""
_LARGEST = 3e38
"""Nearly the largest float32: a scale that is infinite would make zero times it NaN."""


@compiled(inline="always")
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


@compiled()
def _scale(least: Any, most: Any, n_buckets: int) -> Any:
    """Return scale and top: what `_bucket` needs to divide a range."""
    spread = float(most) - float(least)
    scale = min(n_buckets / spread, _LARGEST) if spread > 0 else 0.0
    return np.float32(scale), np.float32(n_buckets - 1)


@compiled()
def _sort_within_buckets(t: Any, m: int, most: int) -> None:
    """Sort t[:m], whose buckets are in order already and hold at most `most` items each."""
    if most > _CROWD:
        t[:m].sort()
        return
    for i in range(1, m):
        value, j = t[i], i
        while j > 0 and t[j - 1] > value:
            t[j] = t[j - 1]
            j -= 1
        t[j] = value


@compiled()
def _grid(scores: Any, least: Any, most: Any, n_buckets: int) -> Any:
    """Return the grid of relevant scores, and how many of them the fullest bucket holds.

    The grid is table, least, scale, top; table[b] is the first relevant item from bucket b on.
    Unsigned: numba would check a signed index for being negative, at every look-up.
    """
    scale, top = _scale(least, most, n_buckets)
    table = np.zeros(n_buckets + 2, dtype=np.uint32)
    for score in scores:
        table[np.uint64(_bucket(score, least, scale, top)) + np.uint64(1)] += np.uint32(1)
    fullest = np.uint32(0)
    for n in table:
        fullest = max(fullest, n)
    for b in range(1, len(table)):
        table[b] += table[b - 1]
    return (table, least, scale, top), fullest


@compiled()
def _ascending(scores: Any) -> Any:
    """Return the scores in order with infinity behind them, and their grid.

    No search runs past an infinite end.
    """
    n_buckets = max(_LEAST_BUCKETS, min(_MOST_BUCKETS, _BUCKETS_PER_ITEM * len(scores)))
    n_buckets = max(n_buckets, min(_CROWDED_BUCKETS, COARSE * len(scores)))
    least, most = scores[0], scores[0]
    for score in scores:
        least, most = min(least, score), max(most, score)
    grid, fullest = _grid(scores, least, most, n_buckets)
    table, least, scale, top = grid
    t = np.empty(len(scores) + 1, dtype=scores.dtype)
    filled = table.copy()
    for score in scores:
        bucket = np.uint64(_bucket(score, least, scale, top))
        t[filled[bucket]] = score
        filled[bucket] += np.uint32(1)
    t[-1] = np.inf
    _sort_within_buckets(t, len(scores), fullest)
    return t, grid


@compiled(inline="always")
def _interval(score: Any, t: Any, grid: Any) -> Any:
    """Return how many relevant scores (ascending) are below `score`."""
    table, least, scale, top = grid
    place = np.uint64(table[np.uint64(_bucket(score, least, scale, top))])
    place += np.uint64(t[place] < score)  # mostly all: no jump that could be guessed wrong
    while t[place] < score:
        place += np.uint64(1)
    return place


@compiled()
def _find_buckets(scores: Any, start: int, grid: Any, spare: Any, buckets: Any) -> Any:
    """Write the buckets of the scores from `start` on into `buckets` (_CHUNK,); return the scores.

    Where fewer than `_CHUNK` are left, the other buckets are of what `spare` happens to hold.
    """
    _, least, scale, top = grid
    part = scores[start : min(start + _CHUNK, len(scores))]
    chunk = part
    if len(part) < _CHUNK:
        for i in range(len(part)):
            spare[i] = part[i]
        chunk = spare
    for i in range(_CHUNK):  # of known length: the compiler makes it sixteen at once
        buckets[i] = _bucket(chunk[i], least, scale, top)
    return part


@compiled()
def _sift(scores: Any, grid: Any, is_shared: Any, counts: Any, kept: Any) -> int:
    """Count the items of each bucket; keep those of shared ones, return how many.

    `kept` has room for one more than there are scores: each is written, and stays if counted.
    """
    buckets = np.empty(_CHUNK, dtype=np.int32)
    spare = np.empty(_CHUNK, dtype=scores.dtype)
    n = np.uint64(0)
    for start in range(0, len(scores), _CHUNK):
        part = _find_buckets(scores, start, grid, spare, buckets)
        for i in range(len(part)):
            bucket = np.uint64(buckets[i])
            counts[bucket] += 1
            kept[n] = part[i]
            n += np.uint64(is_shared[bucket])
    return int(n)


@compiled()
def _add_unshared(counts: Any, t: Any, grid: Any, below: Any) -> None:
    """Add the counts of the buckets without relevant items to the interval they lie in."""
    table, least, scale, top = grid
    is_shared = table[1:] != table[:-1]
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


@compiled()
def _count(scores: Any, t: Any, grid: Any, kept: Any, counts: Any, below: Any, equal: Any) -> None:
    """Count scores: in `counts` by bucket and, where a bucket is shared, by interval."""
    table = grid[0]
    is_shared = table[1:] != table[:-1]
    n_kept = _sift(scores, grid, is_shared.view(np.uint8), counts, kept)
    for i in range(n_kept):
        place = _interval(kept[i], t, grid)
        below[place] += 1
        equal[place] += t[place] == kept[i]


@compiled()
def _take_out(scores: Any, t: Any, grid: Any, below: Any, equal: Any) -> None:
    for i in range(len(scores)):
        place = _interval(scores[i], t, grid)
        below[place] -= 1
        equal[place] -= t[place] == scores[i]


@compiled()
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


@compiled()
def _add_all(t: Any, below: Any, equal: Any, ks: Any, gallery: Any, row: Any) -> None:
    """Add all relevant items, best first, by what has been counted in their intervals.

    `gallery` is scores, positives and ignored, for ties in the gallery's order.
    """
    scores, positives, ignored = gallery
    m = len(t) - 1
    c, p, high = np.int64(below[m]), np.int64(0), m
    most = np.int64(0)
    for k in ks:
        most = max(most, k)
    while high > 0:
        low = high - 1
        while low > 0 and t[low - 1] == t[low]:
            low -= 1
        n, r = np.int64(equal[low]), high - low
        if n == 1:
            add_single(row, c, p, m)
        else:
            add_tied(row, c, n, p, r, m)
            row[AP_ID] += _by_id(scores, t[low], positives, ignored, c, p)
        if c < most:  # behind all of the first places there is nothing to add
            add_top_k(row, ks, c, n, p, r)
        c += below[low]
        p += r
        high = low


@compiled()
def _rank_one(
    scores: Any, positives: Any, ignored: Any, ks: Any, kept: Any, by_id: bool, row: Any
) -> None:
    t, grid = _ascending(scores[positives])
    below = np.zeros(len(t), dtype=np.int32)
    equal = np.zeros(len(t), dtype=np.int32)
    counts = np.zeros(len(grid[0]) - 1, dtype=np.int32)
    _count(scores, t, grid, kept, counts, below, equal)
    _add_unshared(counts, t, grid, below)
    _take_out(scores[ignored], t, grid, below, equal)
    n = len(scores) if by_id else 0  # for each tie it is looked through from end to end
    _add_all(t, below, equal, ks, (scores[:n], positives[:n], ignored[:n]), row)


@compiled()
def rank_rows(
    part: Any, S: Any, positives: Any, ignored: Any, ks: Any, out: Any, by_id: bool
) -> None:
    """Do what `rank_block` does, for some of the rows; the lists are pairs."""
    pos_ptr, pos_idx = positives
    ign_ptr, ign_idx = ignored
    for q in range(part[0], part[1]):
        relevant = pos_idx[pos_ptr[q] : pos_ptr[q + 1]]
        if len(relevant) > 0:
            junk = ign_idx[ign_ptr[q] : ign_ptr[q + 1]]
            kept = np.empty(S.shape[1] + 1, dtype=S.dtype)
            _rank_one(S[q], relevant, junk, ks, kept, by_id, out[q])


def rank_block(  # noqa: PLR0913  a kernel has no objects
    S: Any,
    pos_ptr: Any,
    pos_idx: Any,
    ign_ptr: Any,
    ign_idx: Any,
    ks: Any,
    out: Any,
    by_id: bool,
) -> None:
    """Fill `out` (b, n_figures, zeros) with the figures' sums of each row of float32 `S` (b, n).

    `pos_ptr` (b + 1,) and `pos_idx` list the relevant columns of each row; `ign_ptr` and `ign_idx`
    those that are not there for it: the query itself, junk. None is in both; `S` holds no NaN.
    Without `by_id` the gallery's order of ties (`AP_ID`) is not looked for.
    """
    lists = (pos_ptr, pos_idx), (ign_ptr, ign_idx)
    in_threads(rank_rows, len(S), S, *lists, ks, out, by_id)


# The compiled kernel of leave-one-out: a tile of scores serves the queries of its rows and,
# transposed, those of its columns.
#
# A query so meets its gallery in pieces. What `_rank_one` holds while it looks at a query is held
# for all of them, therefore in fewer buckets; the grids are cheap enough to be made again for each
# piece. The queries stand in the order of their classes, and no class is cut between tiles: all
# that is relevant to a query is in the tile on the diagonal, which comes first.

FINE, COARSE = 8, 4
"""Buckets per relevant item: the fewer, the more scores are compared one by one."""
_COLUMNS = 32
"""Columns that are transposed at a time: more would not stay in the second-level cache."""


class Tallies(NamedTuple):
    """What has been counted for the n queries of a leave-one-out, in the order of their classes.

    What `_rank_one` calls t, below and equal is, for query q, at ``ptr[q] : ptr[q + 1]``, and its
    counts are at ``bucket_ptr[q] : bucket_ptr[q + 1]``.
    """

    first: Any
    """First query of each query's class, (n,)."""
    ptr: Any
    t: Any
    below: Any
    equal: Any
    bucket_ptr: Any
    counts: Any


def _bucket_pointers(sizes: Any, per_item: int) -> Any:
    """Return where the buckets of each query begin, and how many there are in all."""
    n_buckets = np.clip(per_item * (sizes - 1), _LEAST_BUCKETS, _MOST_BUCKETS)
    return np.concatenate([[0], np.cumsum(np.repeat(n_buckets + 1, sizes))])


def tally_bytes(sizes: Any, dtype: Any, per_item: int) -> int:
    """Return what `start_tallies` takes."""
    n, n_buckets = int(sizes.sum()), int(_bucket_pointers(sizes, per_item)[-1])
    per_relevant = np.dtype(dtype).itemsize + 8
    return int((sizes**2).sum() * per_relevant + n_buckets * _counter(n).itemsize + 24 * n + 16)


def start_tallies(sizes: Any, dtype: Any, per_item: int) -> Tallies:
    """Return empty counts for classes of `sizes` queries, whose scores are of that type."""
    ptr = np.concatenate([[0], np.cumsum(np.repeat(sizes, sizes))])
    bucket_ptr = _bucket_pointers(sizes, per_item)
    return Tallies(
        first=np.repeat(np.cumsum(sizes) - sizes, sizes),
        ptr=ptr,
        t=np.full(ptr[-1], np.inf, dtype=dtype),
        below=np.zeros(ptr[-1], dtype=np.int32),
        equal=np.zeros(ptr[-1], dtype=np.int32),
        bucket_ptr=bucket_ptr,
        counts=np.zeros(bucket_ptr[-1], dtype=_counter(int(sizes.sum()))),
    )


def _counter(n: int) -> Any:
    """Return a type that counts `n` items: two bytes for up to 65,535."""
    return np.promote_types(np.min_scalar_type(n), np.uint16)


@compiled()
def _of_query(tallies: Any, q: int) -> Any:
    """Return t, its grid, counts, below and equal of one query."""
    start, stop = tallies.ptr[q], tallies.ptr[q + 1]
    counts = tallies.counts[tallies.bucket_ptr[q] : tallies.bucket_ptr[q + 1]]
    t = tallies.t[start:stop]
    grid, _ = _grid(t[:-1], t[0], t[-2], len(counts) - 1)
    return t, grid, counts, tallies.below[start:stop], tallies.equal[start:stop]


@compiled()
def _tally(scores: Any, tallies: Any, q: int, kept: Any) -> None:
    """Count a piece of the scores of query `q`."""
    if tallies.ptr[q + 1] - tallies.ptr[q] > 1:  # else nothing is relevant
        t, grid, counts, below, equal = _of_query(tallies, q)
        _count(scores, t, grid, kept, counts, below, equal)


@compiled()
def _begin(scores: Any, start: int, tallies: Any, q: int) -> None:
    """Learn the relevant scores of query `q`, count all `scores`: of the queries from `start`."""
    m = tallies.ptr[q + 1] - tallies.ptr[q] - 1
    if m > 0:
        first, itself = tallies.first[q] - start, q - start
        relevant = np.concatenate((scores[first:itself], scores[itself + 1 : first + m + 1]))
        tallies.t[tallies.ptr[q] : tallies.ptr[q + 1]] = _ascending(relevant)[0]
        t, grid, counts, below, equal = _of_query(tallies, q)
        kept = np.empty(len(scores) + 1, dtype=scores.dtype)
        _count(scores, t, grid, kept, counts, below, equal)
        _take_out(scores[itself : itself + 1], t, grid, below, equal)


@compiled()
def _begin_rows(part: Any, S: Any, start: int, tallies: Any) -> None:
    for i in range(part[0], part[1]):
        _begin(S[i], start, tallies, start + i)


def tally_diagonal(S: Any, start: int, tallies: Any) -> None:
    """Begin with the queries from `start` on, by their scores `S` (b, b) among themselves."""
    in_threads(_begin_rows, len(S), S, start, tallies)


@compiled()
def _transpose(S: Any, start: int, stop: int, out: Any) -> None:
    """Write the columns start..stop of `S` as rows of `out`: a cache line serves 8 x 8 scores."""
    n_rows, n_columns = len(S) - len(S) % 8, stop - start - (stop - start) % 8
    for i in range(0, n_rows, 8):
        for j in range(0, n_columns, 8):
            for column in range(8):
                for row in range(8):
                    out[j + column, i + row] = S[i + row, start + j + column]
    for i in range(len(S)):
        for j in range(n_columns if i < n_rows else 0, stop - start):
            out[j, i] = S[i, start + j]


@compiled()
def _tally_rows(part: Any, S: Any, row: int, tallies: Any) -> None:
    kept = np.empty(S.shape[1] + 1, dtype=S.dtype)
    for i in range(part[0], part[1]):
        _tally(S[i], tallies, row + i, kept)


@compiled()
def _tally_columns(part: Any, S: Any, column: int, tallies: Any) -> None:
    """Count columns: parts of `_COLUMNS` each, from the first part to before the last one."""
    n_rows, n_columns = S.shape
    columns = np.empty((_COLUMNS, n_rows), dtype=S.dtype)
    kept = np.empty(n_rows + 1, dtype=S.dtype)
    for start in range(part[0] * _COLUMNS, min(part[1] * _COLUMNS, n_columns), _COLUMNS):
        stop = min(start + _COLUMNS, n_columns)
        _transpose(S, start, stop, columns)
        for j in range(start, stop):
            _tally(columns[j - start], tallies, column + j, kept)


def tally_tile(S: Any, row: int, column: int, tallies: Any) -> None:
    """Count the scores `S` of the queries from `row` on with those from `column` on, for both."""
    in_threads(_tally_rows, len(S), S, row, tallies)
    in_threads(_tally_columns, -(-S.shape[1] // _COLUMNS), S, column, tallies)


@compiled()
def _rank_counted(part: Any, tallies: Any, ks: Any, out: Any) -> None:
    for q in range(part[0], part[1]):
        if tallies.ptr[q + 1] - tallies.ptr[q] > 1:
            t, grid, counts, below, equal = _of_query(tallies, q)
            _add_unshared(counts.astype(np.int32), t, grid, below)
            nothing = (t[:0], tallies.ptr[:0], tallies.ptr[:0])
            _add_all(t, below, equal, ks, nothing, out[q])


def rank_tallied(tallies: Any, ks: Any, out: Any) -> None:
    """Fill `out` (n, n_figures, zeros) with the figures' sums of each query, once all is counted.

    As `rank_block`, but for `AP_ID` of tied items: tallies do not know the gallery's order.
    """
    in_threads(_rank_counted, len(out), tallies, ks, out)


# The compiled kernel that ranks once and gives what each query scores without each group.
#
# A gallery item stands above the relevant scores that are lower and, rarely, on one of them; the
# items of a group, best first, cut the relevant scores into runs. Within a run the group takes the
# same number of items from above, ``n`` in all and ``g`` relevant, and the sum of the precisions
# (p + 1 - g)/(c + 1 - n) is linear in g: the difference of two running sums, one pair for each n.
# Groups of up to n items so cost n passes over the relevant scores, however many they are. Large
# groups walk over the scores one by one instead. A group of one item has a way of its own: what is
# left without it hangs on where it stands alone, so that one look-up an item is all.
#
# Where every item stands is also all that the ranking itself needs: `rank_without_block` gives its
# figures by the way.


@compiled()
def _stand(scores: Any, positives: Any, ignored: Any, keys: Any) -> Any:
    """Write where each item stands; return the relevant scores `t`, ascending, and counts of that.

    The key 2 j is below t[j] and above t[j - 1], 2 j + 1 is on t[j], the first of those equal to
    it, and 2 len(t) + j is relevant itself. Ignored items are not counted and stand below all.
    """
    t, grid = _ascending(scores[positives])
    table = grid[0]
    counts = np.zeros(2 * len(t), dtype=np.int32)
    buckets = np.empty(_CHUNK, dtype=np.int32)
    spare = np.empty(_CHUNK, dtype=scores.dtype)
    for start in range(0, len(scores), _CHUNK):
        part = _find_buckets(scores, start, grid, spare, buckets)
        for i in range(len(part)):
            place = np.uint64(table[np.uint64(buckets[i])])
            place += np.uint64(t[place] < part[i])
            while t[place] < part[i]:
                place += np.uint64(1)
            key = np.uint64(2) * place + np.uint64(t[place] == part[i])
            keys[start + i] = key
            counts[key] += np.int32(1)
    for i in ignored:
        counts[keys[i]] -= np.int32(1)
        keys[i] = 0
    for i in positives:
        keys[i] = 2 * len(t) + (keys[i] >> 1)
    return t, counts


@compiled()
def _levels_of(t: Any, counts: Any) -> Any:
    """Return the level of each place of `t`, and c, n, p and r of each level.

    Level 0 is the best score; the last place is above all of them.
    """
    m = len(t) - 1
    level = np.full(m + 1, -1, dtype=np.int64)
    c, n, p, r = np.zeros((4, m), dtype=np.int64)
    above, at, high = np.int64(counts[2 * m]), 0, m
    while high > 0:
        low = high - 1
        while low > 0 and t[low - 1] == t[low]:
            low -= 1
        level[low:high] = at
        c[at], n[at], p[at], r[at] = above, counts[2 * low + 1], m - high, high - low
        above += counts[2 * low] + counts[2 * low + 1]
        high = low
        at += 1
    return level, (c[:at], n[:at], p[:at], r[:at])


@compiled()
def _by_key(keys: Any, n_keys: int) -> Any:
    """Return the items that stand above or on a relevant one, best first."""
    counts = np.zeros(n_keys, dtype=np.int64)
    for key in keys:
        counts[key] += 1
    n = 0
    for key in range(n_keys - 1):
        counts[key], n = n, n + counts[key]
    order = np.empty(n, dtype=np.int32)
    for i in range(len(keys)):
        if keys[i] < n_keys - 1:
            order[counts[keys[i]]] = i
            counts[keys[i]] += 1
    return order


@compiled()
def _members(order: Any, keys: Any, relevant: Any, groups: Any, starts: Any) -> Any:
    """Return the items of each group, best first, in one array with room for each group.

    Group g has ``sizes[g]`` of them from ``starts[g]`` on: their keys, and if they are relevant.
    """
    sizes = np.zeros(len(starts) - 1, dtype=np.int32)
    own_keys = np.empty(starts[-1], dtype=np.int32)
    own_relevant = np.empty(starts[-1], dtype=np.uint8)
    for i in order:
        g = groups[i]
        slot = starts[g] + sizes[g]
        own_keys[slot], own_relevant[slot] = keys[i], relevant[i]
        sizes[g] += 1
    return sizes, own_keys, own_relevant


@compiled()
def _on_level(levels: Any, at: Any, above: Any, gone: Any, n: Any, r: Any) -> float:
    """Return the sum of precisions of a level without some items.

    Without `above` items above it, `gone` of them relevant, and `n` on it, `r` of them relevant.
    """
    c, n_tied, p, r_tied = levels
    if r == r_tied[at]:
        return 0.0
    return float(precision_sum(c[at] - above, n_tied[at] - n, p[at] - gone, r_tied[at] - r))


@compiled(inline="always")
def _tied(keys: Any, relevant: Any, first: Any, end: Any, key: Any) -> Any:
    """Return how many of the items first .. end have a key, and how many of those are relevant."""
    n, r = 0, 0
    while first + n < end and keys[first + n] == key:
        r += relevant[first + n]
        n += 1
    return n, r


@compiled()
def _walked(levels: Any, keys: Any, relevant: Any, first: Any, end: Any) -> float:
    """Return the sum of precisions without the items from `first` to `end`, level by level."""
    i, gone, total = first, np.int64(0), 0.0
    for at in range(len(levels[0])):
        while i < end and keys[i] <= 2 * at:
            i += 1
        n, r = _tied(keys, relevant, i, end, 2 * at + 1)
        total += _on_level(levels, at, i - first, gone, n, r)
        i += n
        gone += r
    return total


@compiled()
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
            precision = precision_sum(c[at] - above, n[at], p[at], r[at])
            loss = precision_sum(c[at] - above, n[at], p[at] + 1, r[at]) - precision
        sums[at + 1, 0] = sums[at, 0] + precision
        sums[at + 1, 1] = sums[at, 1] + loss


@compiled()
def _in_runs(levels: Any, members: Any, starts: Any, active: Any, totals: Any) -> None:
    """Fill `totals` of the active groups with the sum of precisions without their items.

    Round n ends the runs that have n items of their group above them.
    """
    sizes, keys, relevant = members
    taken, gone, start = np.zeros_like(sizes), np.zeros_like(sizes), np.zeros_like(sizes)
    sums = np.zeros((len(levels[0]) + 1, 2))
    n_active, above = len(active), np.int64(0)
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
                    totals[g] += _on_level(levels, stop, above, np.int64(gone[g]), n, r)
                    start[g] = stop + 1
                    taken[g] += n - 1
                    gone[g] += r
            active[n_left] = g
            n_left += taken[g] <= sizes[g]
        n_active = n_left
        above += 1


@compiled()
def _without_singles(level: Any, levels: Any) -> Any:
    """Return the average precision without an item that is a group of its own, by its key.

    The last value is 0: what a query counts that is not there. Above the item nothing changes,
    below it one item is gone: two running sums serve all.
    """
    n_levels, m = len(levels[0]), len(level) - 1
    per_relevant = 1 / m, (1 / (m - 1) if m > 1 else np.nan)
    whole, less = np.zeros((n_levels + 1, 2)), np.zeros((n_levels + 1, 2))
    none, one = np.int64(0), np.int64(1)
    _run_sums(levels, none, whole)
    _run_sums(levels, one, less)
    below = less[n_levels] - less
    values = np.zeros(3 * len(level) + 1)
    for j in range(len(level)):
        at = level[j] + 1
        values[2 * j] = (whole[at, 0] + below[at, 0]) * per_relevant[0]
        if at == 0:  # on no level: nothing stands on the infinite end
            continue
        tied, kept = levels[1][at - 1] - 1, whole[at - 1, 0]
        other, own = kept + below[at, 0], kept + below[at, 0]
        if tied > 0:
            other = kept + _on_level(levels, at - 1, none, none, one, none) + below[at, 0]
            own = kept + _on_level(levels, at - 1, none, none, one, one) + below[at, 0]
        values[2 * j + 1] = other * per_relevant[0]
        values[2 * len(level) + j] = (own - below[at, 1]) * per_relevant[1]
    return values


@compiled()
def _without_shared(level: Any, levels: Any, keys: Any, units: Any, row: Any) -> None:
    """Write the average precision without each group of other than one item.

    Into `row` (n_groups,); NaN where nothing relevant is left. Keys are of levels from here on:
    2 l above level l and 2 l + 1 on it.
    """
    starts, items, groups, small, large = units
    if len(small) + len(large) == 0:
        return
    own = np.empty(len(items), dtype=np.int32)
    relevant = np.empty(len(items), dtype=np.uint8)
    for i in range(len(items)):
        key = keys[items[i]]
        relevant[i] = key >= 2 * len(level)
        place = key - 2 * len(level) if relevant[i] else key >> 1
        own[i] = 2 * level[place] + 2 - (relevant[i] | (key & 1))
    order = _by_key(own, 2 * len(levels[0]) + 1)
    members = _members(order, own, relevant, groups, starts)
    sizes, own_keys, own_relevant = members
    totals, m = np.zeros(len(sizes)), len(level) - 1
    _in_runs(levels, members, starts, small.copy(), totals)
    for g in large:
        totals[g] = _walked(levels, own_keys, own_relevant, starts[g], starts[g] + sizes[g])
    for some in (small, large):
        for g in some:
            n_left = m
            for i in range(starts[g], starts[g] + sizes[g]):
                n_left -= own_relevant[i]
            row[g] = totals[g] / n_left if n_left > 0 else np.nan


@compiled()
def _leave_out(
    part: Any, S: Any, positives: Any, units: Any, order: Any, query: Any, out: Any
) -> None:
    pos_ptr, pos_idx = positives
    alone, shared = units
    for q in range(part[0], part[1]):
        relevant = pos_idx[pos_ptr[q] : pos_ptr[q + 1]]
        if len(relevant) > 0:
            keys = np.empty(S.shape[1], dtype=np.int32)
            itself = query[q : q + 1] if query[q] >= 0 else query[:0]
            t, counts = _stand(S[q], relevant, itself, keys)
            level, levels = _levels_of(t, counts)
            row = np.empty(out.shape[1])
            values = _without_singles(level, levels)
            for k in range(len(alone)):
                row[k] = values[keys[alone[k]]]
            _without_shared(level, levels, keys, shared, row[len(alone) :])
            out[q][order] = row


def leave_out_block(
    S: Any, pos_ptr: Any, pos_idx: Any, groups: Any, own: Any, query: Any, out: Any
) -> None:
    """Fill `out` (b, n_groups, NaN) with each query's average precision without each group.

    Entries stay NaN where the query itself is in the group, or nothing relevant is left. `groups`
    (n,) are those of the columns, `own` (b,) those of the queries, and `query` (b,) the column
    that is the query itself; -1 is none. Takes O(n + n_levels * sqrt(n)) time and O(n) memory a
    query at most, however many groups there are.
    """
    units, order = _units(groups, out.shape[1])
    in_threads(_leave_out, len(S), S, (pos_ptr, pos_idx), units, order, query, out)
    out[own >= 0, own[own >= 0]] = np.nan


def _units(groups: Any, n_groups: int) -> Any:
    """Return the items that are alone in their group, the other groups, and all groups in order.

    That of each item that is alone, then the others. These are numbered anew: where each starts,
    the items, the group of each, and which groups are small and which large.
    """
    sizes = np.bincount(groups[groups >= 0], minlength=n_groups)
    of_items = np.where(groups >= 0, sizes[groups], 0)
    alone, shared = (np.flatnonzero(found) for found in (of_items == 1, of_items > 1))
    others = np.flatnonzero(sizes != 1)
    number = np.zeros(n_groups, dtype=np.int64)
    number[others] = np.arange(len(others))
    starts = np.concatenate([[0], np.cumsum(sizes[others])])
    is_small = sizes[others] <= _largest_in_runs(sizes)
    small, large = np.flatnonzero(is_small), np.flatnonzero(~is_small)
    units = alone, (starts, shared, number[groups[shared]], small, large)
    return units, np.concatenate([groups[alone], others])


N_CHUNKS = 16
"""Parts of the queries that are summed up apart, however many threads there are: sums depend on
their order."""


@compiled()
def _add_alone(values: Any, keys: Any, alone: Any, sums: Any) -> None:
    """Add what a query scores without each item that is alone in its group."""
    if len(alone) == len(keys):
        for i in range(len(keys)):
            sums[i] += values[np.uint32(keys[i])]  # unsigned: see `_grid`
    else:
        for k in range(len(alone)):
            sums[k] += values[np.uint32(keys[alone[k]])]


@compiled()
def _add_shared(row: Any, own: int, sums: Any, counts: Any) -> None:
    """Add what a query scores without each group of other than one item; NaN is not there."""
    for g in range(len(row)):
        is_there = g != own and row[g] == row[g]
        sums[g] += row[g] if is_there else 0.0
        counts[g] += is_there


@compiled()
def _lose(keys: Any, relevant: Any, own: int, units: Any, no_key: int, counts: Any) -> None:
    """Let a query count for nothing without its own item, and without all that is relevant.

    Those of them that are alone in their groups get the key of zero.
    """
    alone, place = units
    if 0 <= own < len(alone):
        keys[alone[own]] = no_key
        counts[own] -= 1
    last = place[relevant[0]] if len(relevant) == 1 else -1
    if last >= 0 and last != own:
        keys[relevant[0]] = no_key
        counts[last] -= 1


@compiled()
def _rank_placed(t: Any, counts: Any, ks: Any, row: Any) -> None:
    """Do what `_rank_one` does by what `_stand` has found, but for the gallery's order of ties."""
    equal = counts[1::2].copy()
    below = counts[::2] + equal
    nothing = np.empty(0, dtype=np.int64)
    _add_all(t, below, equal, ks, (t[:0], nothing, nothing), row)


@compiled()
def _rank_without(
    chunks: Any, S: Any, positives: Any, ignored: Any, groups: Any, ks: Any, results: Any
) -> None:
    pos_ptr, pos_idx = positives
    ign_ptr, ign_idx = ignored
    own, place, (alone, shared) = groups
    out, sums, counts = results
    n_alone = len(alone)
    for part in range(chunks[0], chunks[1]):
        keys = np.empty(S.shape[1], dtype=np.int32)
        row = np.empty(sums.shape[1] - n_alone)
        for q in range(part, len(S), len(sums)):
            relevant = pos_idx[pos_ptr[q] : pos_ptr[q + 1]]
            if len(relevant) > 0:
                junk = ign_idx[ign_ptr[q] : ign_ptr[q + 1]]
                t, n_placed = _stand(S[q], relevant, junk, keys)
                _rank_placed(t, n_placed, ks, out[q])
                level, levels = _levels_of(t, n_placed)
                _without_shared(level, levels, keys, shared, row)
                _add_shared(row, own[q] - n_alone, sums[part, n_alone:], counts[part, n_alone:])
                values = _without_singles(level, levels)
                _lose(keys, relevant, own[q], (alone, place), len(values) - 1, counts[part])
                _add_alone(values, keys, alone, sums[part])


def rank_without_block(
    S: Any, positives: Any, ignored: Any, groups: Any, ks: Any, out: Any
) -> tuple[Any, Any]:
    """Rank as `rank_block` does; return what is left of the average precisions without each group.

    Sum and number (n_groups,) over the queries of what `leave_out_block` gives, the query itself
    being what is ignored. `positives` and `ignored` are lists as in `rank_block`; `groups` those
    of the columns, those of the queries, and their number. `AP_ID` of ties is not filled.
    """
    gallery, own, n_groups = groups
    (alone, shared), order = _units(gallery, n_groups)
    at = np.empty(n_groups, dtype=np.int64)
    at[order] = np.arange(n_groups)
    place = np.full(len(gallery), -1)
    place[alone] = np.arange(len(alone))
    sums = np.zeros((N_CHUNKS, n_groups))
    counts = np.zeros((N_CHUNKS, n_groups), dtype=np.int64)
    split = np.where(own >= 0, at[own], -1), place, (alone, shared)
    results = out, sums, counts
    in_threads(_rank_without, N_CHUNKS, S, positives, ignored, split, ks, results)
    n_asked = (np.diff(positives[0]) > 0).sum()
    counts[0, : len(alone)] += n_asked
    return sums.sum(axis=0)[at], counts.sum(axis=0)[at]


def _largest_in_runs(sizes: Any) -> int:
    """Return up to which size groups are taken in runs: what needs the fewest passes."""
    most = np.arange(int(sizes.max(initial=0)) + 1)
    n_larger = len(sizes) - np.searchsorted(np.sort(sizes), most, side="right")
    return int(np.argmin(most + n_larger))


# The compiled kernel of precision by recall, over all of a ranking and without each group.
#
# The relevant scores are the thresholds. How many items of each group reach each of them is
# counted in one pass over the scores; without a group, those counts are taken off.

_ROUNDING = 1e-9
"""By how much a level of recall may be missed."""


@compiled()
def _run_ends(t: Any) -> Any:
    """Return for each place of `t` (ascending) the place behind the last value equal to it."""
    ends = np.empty(len(t), dtype=np.int64)
    end = len(t)
    for j in range(len(t) - 1, -1, -1):
        if j + 1 < len(t) and t[j] != t[j + 1]:
            end = j + 1
        ends[j] = end
    return ends


@compiled()
def _reaching(scores: Any, positives: Any, ignored: Any, groups: Any, n_groups: int) -> Any:
    """Return how many items of each group reach each relevant score, the lowest first.

    Relevant and other ones, (2, n_groups + 1, m); the last row is of all items.
    """
    t, grid = _ascending(scores[positives])
    ends = _run_ends(t)
    kind = np.ones(len(scores), dtype=np.uint8)
    kind[positives] = 0
    kind[ignored] = 2
    found = np.zeros((2, n_groups + 1, len(positives)), dtype=np.int32)
    for i in range(len(scores)):
        place = _interval(scores[i], t, grid)
        reached = ends[place] if t[place] == scores[i] else np.int64(place)
        if kind[i] < 2 and reached > 0:
            found[kind[i], n_groups, reached - 1] += 1
            if groups[i] >= 0:
                found[kind[i], groups[i], reached - 1] += 1
    for which in range(2):
        for row in found[which]:
            for j in range(len(row) - 1, 0, -1):
                row[j - 1] += row[j]
    return found


@compiled()
def _interpolate(right: Any, wrong: Any, levels: Any, curve: Any) -> None:
    """Fill `curve` with the best precision at each level of recall or more.

    By how many relevant and other items reach each threshold, the lowest first. The threshold of
    a relevant item that is left out does no harm: the next one has as many right ones and no more
    wrong ones.
    """
    best, level = 0.0, len(levels) - 1
    for j in range(len(right)):
        while level >= 0 and math.ceil(levels[level] * right[0] - _ROUNDING) > right[j]:
            curve[level] = best
            level -= 1
        if right[j] > 0:
            best = max(best, right[j] / (right[j] + wrong[j]))
    curve[: level + 1] = best


@compiled()
def _add_curves(found: Any, own: int, levels: Any, sums: Any, counts: Any) -> None:
    """Add a query's curves, without each group but its own, by what `_reaching` counted."""
    curve = np.empty(len(levels))
    n_groups = found.shape[1] - 1
    for g in range(n_groups + 1):
        right, wrong = found[0, n_groups], found[1, n_groups]
        if g < n_groups:
            right, wrong = right - found[0, g], wrong - found[1, g]
        if g != own and right[0] > 0:
            _interpolate(right, wrong, levels, curve)
            for at in range(len(levels)):
                sums[g, at] += curve[at]
            counts[g] += 1


@compiled()
def _curves(
    chunks: Any, S: Any, positives: Any, ignored: Any, groups: Any, levels: Any, totals: Any
) -> None:
    sums, counts = totals
    gallery, own = groups
    pos_ptr, pos_idx = positives
    ign_ptr, ign_idx = ignored
    for part in range(chunks[0], chunks[1]):
        for q in range(part, len(S), len(sums)):
            relevant = pos_idx[pos_ptr[q] : pos_ptr[q + 1]]
            if len(relevant) > 0:
                junk = ign_idx[ign_ptr[q] : ign_ptr[q + 1]]
                found = _reaching(S[q], relevant, junk, gallery, sums.shape[1] - 1)
                _add_curves(found, own[q], levels, sums[part], counts[part])


def curves_block(S: Any, positives: Any, ignored: Any, groups: Any, levels: Any) -> Any:
    """Return the queries' summed interpolated precision without each group, and their number.

    Sums (n_groups + 1, n_levels) at ascending levels of recall in [0, 1] and counts
    (n_groups + 1,); the last row is with all. A query is not counted without its own group, nor
    without all that is relevant to it. `positives` and `ignored` are lists as in `rank_block`;
    `groups` those of the columns (n,) and of the queries (b,), -1 for none, and their number.
    Equal scores are one threshold.
    """
    gallery, own, n_groups = groups
    sums = np.zeros((N_CHUNKS, n_groups + 1, len(levels)))
    counts = np.zeros((N_CHUNKS, n_groups + 1), dtype=np.int64)
    units, totals = (gallery, own), (sums, counts)
    in_threads(_curves, N_CHUNKS, S, positives, ignored, units, levels, totals)
    return sums.sum(axis=0), counts.sum(axis=0)
