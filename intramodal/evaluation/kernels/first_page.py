"""The compiled kernels of the first page: what stands on it, also without each group, and copies.

Only groups with an answer on the page change it; where fewer items are relevant than the page has
places, those of a relevant item change its best possible gain.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from intramodal.evaluation.kernels.compilation import compiled
from intramodal.evaluation.kernels.cpu import N_CHUNKS
from intramodal.evaluation.kernels.threads import in_threads

PAGE_NDCG, PAGE_PRECISION, PAGE_FIRST = range(3)
N_PAGE = 3
"""Figures of a first page of k answers: nDCG@k, precision@k, precision@1."""
_CHUNK = 512
"""Scores that are compared at once."""


@compiled()
def _replace_least(heap: Any, value: Any) -> None:
    """Replace the root of a binary heap, its least value."""
    at, child = 0, 1
    while child < len(heap):
        if child + 1 < len(heap) and heap[child + 1] < heap[child]:
            child += 1
        if value <= heap[child]:
            break
        heap[at] = heap[child]
        at, child = child, 2 * child + 1
    heap[at] = value


@compiled()
def _nth_best(scores: Any, n: int) -> Any:
    """Return the n-th best score: the root of a heap of the n best ones so far."""
    heap = np.full(n, -np.inf, dtype=scores.dtype)
    for score in scores:
        if score > heap[0]:
            _replace_least(heap, score)
    return heap[0]


@compiled()
def _best(scores: Any, itself: int, n_wanted: int) -> Any:
    """Return the items, best first, that score no less than the n-th best; without the query."""
    least = _nth_best(scores, min(n_wanted + 1, len(scores)))  # the query may be among them
    found = np.flatnonzero(scores >= least)
    found = found[found != itself]
    return found[np.argsort(-scores[found], kind="mergesort")]


@compiled()
def _page(scores: Any, order: Any, relevant: Any, groups: Any, left_out: int, k: int) -> Any:
    """Return gain, relevant among the first k and first, in expectation over ties; and the end.

    Of the items in `order` that are not of the group `left_out`; the end is the place in `order`
    behind the last level that reaches the page.
    """
    gain, among, first = 0.0, 0.0, 0.0
    c, i = 0, 0
    while i < len(order) and c < k:
        n, r, value = 0, 0, scores[order[i]]
        while i < len(order) and scores[order[i]] == value:
            if groups[order[i]] != left_out or left_out < 0:
                n += 1
                r += relevant[order[i]]
            i += 1
        for j in range(min(n, k - c)):
            gain += r / n / math.log2(c + j + 2)
            among += r / n
            first += r / n * (c + j == 0)
        c += n
    return gain, among, first, i


@compiled()
def _groups_of(some: Any, others: Any, groups: Any, own: int, n_groups: int) -> Any:
    """Return the groups of some items and of others, in order; without `own`."""
    is_asked = np.zeros(n_groups, dtype=np.bool_)
    for items in (some, others):
        for item in items:
            if groups[item] >= 0:
                is_asked[groups[item]] = True
    if own >= 0:
        is_asked[own] = False
    return np.flatnonzero(is_asked)


@compiled()
def _page_of_one(
    scores: Any, positives: Any, own: int, itself: int, groups: Any, n_groups: int, limits: Any
) -> Any:
    """Return the figures (3,) of a page, the groups that change it, and by how much (n, 3).

    A group without which the query is lost takes all of it away. At most `most` items are left
    out together; `ideal` (k + 1,) are the best gains of a page by the number of relevant items.
    """
    most, ideal = limits
    k, m = len(ideal) - 1, len(positives)
    relevant = np.zeros(len(scores), dtype=np.uint8)
    relevant[positives] = 1
    order = _best(scores, itself, k + most)
    gain, among, first, end = _page(scores, order, relevant, groups, np.int64(-1), k)
    whole = np.array([gain / ideal[min(k, m)], among / k, first])
    is_few = m < k + most
    asked = _groups_of(order[:end], positives if is_few else positives[:0], groups, own, n_groups)
    changes = np.empty((len(asked), N_PAGE))
    for i, g in enumerate(asked):
        n_left = m
        if is_few:
            for item in positives:
                n_left -= groups[item] == g
        gain, among, first = 0.0, 0.0, 0.0
        if n_left > 0:
            gain, among, first, _ = _page(scores, order, relevant, groups, g, k)
        changes[i, PAGE_NDCG] = gain / ideal[min(k, n_left)] - whole[PAGE_NDCG]
        changes[i, PAGE_PRECISION] = among / k - whole[PAGE_PRECISION]
        changes[i, PAGE_FIRST] = first - whole[PAGE_FIRST]
    return whole, asked, changes


@compiled()
def _pages(
    chunks: Any, S: Any, positives: Any, groups: Any, limits: Any, out: Any, sums: Any
) -> None:
    pos_ptr, pos_idx = positives
    gallery, own, query = groups
    for part in range(chunks[0], chunks[1]):
        for q in range(part, len(S), len(sums)):
            relevant = pos_idx[pos_ptr[q] : pos_ptr[q + 1]]
            if len(relevant) > 0:
                whole, asked, changes = _page_of_one(
                    S[q], relevant, own[q], query[q], gallery, sums.shape[1], limits
                )
                for f in range(N_PAGE):
                    out[q, f] = whole[f]
                    for i in range(len(asked)):
                        sums[part, asked[i], f] += changes[i, f]
                    if own[q] >= 0:
                        sums[part, own[q], f] -= whole[f]


def first_page_block(
    S: Any, pos_ptr: Any, pos_idx: Any, groups: Any, query: Any, k: int, out: Any
) -> Any:
    """Fill `out` (b, 3) with each query's first page; return what groups change (n_groups, 3).

    Sums over the queries, of the figures without each group less those with it; a query that is
    in the group, or has nothing relevant left, takes all of its figures away. `groups` are those
    of the columns, those of the queries, and their number; other arguments as `leave_out_block`.
    """
    gallery, own, n_groups = groups
    sizes = np.bincount(gallery[gallery >= 0], minlength=1)
    ideal = np.concatenate([[1.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
    sums = np.zeros((N_CHUNKS, n_groups, N_PAGE))
    limits = int(sizes.max()), ideal
    lists, units = (pos_ptr, pos_idx), (gallery, own, query)
    in_threads(_pages, N_CHUNKS, S, lists, units, limits, out, sums)
    return sums.sum(axis=0)


# Near-copies are pairs whose centred cosine exceeds a threshold; they are joined.
#
# One thread: two pairs may join the same groups. A pair is rare, so that most of the row is a
# comparison that the compiler makes for many columns at once.


@compiled()
def _root(parents: Any, node: int) -> int:
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@compiled()
def _copies(scores: Any, shift: Any, slope: Any, base: Any, steepness: Any, found: Any) -> int:
    """Write the columns with a score above base + shift + steepness * slope; return how many."""
    n = 0
    for start in range(0, len(scores), _CHUNK):
        stop = min(start + _CHUNK, len(scores))
        n_here = np.int32(0)
        for j in range(start, stop):
            n_here += np.int32(scores[j] > base + shift[j] + steepness * slope[j])
        if n_here > 0:
            for j in range(start, stop):
                if scores[j] > base + shift[j] + steepness * slope[j]:
                    found[n] = j
                    n += 1
    return n


@compiled()
def join_copies(
    S: Any, rows: Any, columns: Any, itself: Any, nodes: Any, k: int, parents: Any
) -> int:
    """Join the nodes of near-copies in `parents`; return how many stand among the first k answers.

    A pair are copies if S[i, j] > base_i + shift_j + steepness_i * slope_j, all float32: `rows` is
    base and steepness, `columns` shift and slope. `nodes` are those of rows and of columns; the
    column `itself` (b,) of a row is the row's own image, -1 for none.
    """
    base, steepness = rows
    shift, slope = columns
    found = np.empty(S.shape[1], dtype=np.int64)
    n_on_page = 0
    for i in range(len(S)):
        n = _copies(S[i], shift, slope, base[i], steepness[i], found)
        copies = found[:n]
        copies = copies[copies != itself[i]]
        for j in copies:
            parents[_root(parents, nodes[1][j])] = _root(parents, nodes[0][i])
        if len(copies) > 0:
            page = _best(S[i], itself[i], k)[:k]
            if len(page) > 0:  # of copies that tie for the last place only some stand there
                n_best = 0
                for j in copies:
                    n_best += S[i, j] >= S[i, page[-1]]
                n_on_page += min(len(page), n_best)
    return n_on_page
