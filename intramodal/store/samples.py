"""Random samples of points, by hashes of their ids: of all pages, or of a few slices.

Two hashes give one order of all points, of which a sample is the beginning, so that a larger
sample holds the smaller one and points that come later only displace some:

1. the eighth of the points whose keyed hash is lowest, those of it in the smallest slices first:
   slices of 2, 4, 8, ... parts that lie in each other, chosen by the seed;
2. all others, by the keyed hash.

The beginning of that order is in a slice that is little larger than eight times the sample. Within
a slice alone most samples of two seeds would be equal: a store has the same slices for everyone.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

from intramodal.store.base import Page, Slice
from intramodal.types import PointId

_PART = 8
"""The first part of the order is one of so many."""

_DEEPEST = 31
"""A server takes totals of 32 bits."""

_Row = tuple[bytes, str, PointId]


def draw_ids(pages: Iterable[Page], n: int, *, seed: int = 0) -> tuple[list[PointId], int]:
    """Draw n ids without replacement; return them, ascending by text, and how many there were.

    Points are taken by a keyed hash of their id: which ones does not depend on the order, and
    hardly on what else is there, so that a collection that grows keeps most of its sample. A
    larger sample holds the smaller one. Memory is the sample.

    Examples
    --------
    >>> page = Page(ids=[7, 8, 9], vectors={}, payloads=[])
    >>> draw_ids([page], 2)
    ([8, 9], 3)
    """
    rows, n_seen = _lowest(pages, n, seed)
    return _in_text_order(rows), n_seen


def draw_from_slices(
    read: Callable[[Slice], Iterable[Page]], n: int, *, n_about: int, seed: int = 0
) -> tuple[list[PointId], int, bool]:
    """Draw n ids without replacement, reading about 8 to 16 times as many instead of all.

    The sample is another one than that of `draw_ids`, unless it is more than about an eighth of
    all points: then it is the same.

    Parameters
    ----------
    read : callable
        Yields the points of a slice.
    n : int
    n_about : int
        How many points there are; where that is wrong more is read, and the sample is the same.
    seed : int

    Returns
    -------
    ids : list of int or str
        Ascending by text.
    n_there : int
        How many points there are.
    is_about : bool
        Whether that is an estimate, the number in the slices that were read multiplied: about
        1 / √(8 n) of it is its standard error.
    """
    depth = min(_DEEPEST, max(0, math.ceil(math.log2(max(1, n_about) / (_PART * n)))))
    while True:
        rows, n_seen = _lowest(read(_slice(seed, depth)), n + 1, seed)
        drawn = _first_part(rows)
        if len(drawn) <= n or depth == _DEEPEST:
            break
        depth += 1
    while len(drawn) < n and depth:
        more, n_more = _lowest(read(_beside(_slice(seed, depth))), n + 1, seed)
        drawn += _first_part(more)
        rows, n_seen, depth = heapq.nsmallest(n, [*rows, *more]), n_seen + n_more, depth - 1
    found = rows if len(drawn) < n else drawn
    return _in_text_order(found[:n]), n_seen << depth, depth > 0


def _slice(seed: int, depth: int) -> Slice:
    """Return the slice that a sample begins in; it lies in those of lower depths."""
    key = blake2b(b"slice", key=_key(seed), digest_size=4).digest()
    return Slice(1 << depth, int.from_bytes(key, "big") % (1 << depth))


def _beside(part: Slice) -> Slice:
    """Return the other half of the slice of half the total."""
    return Slice(part.total, part.index ^ part.total >> 1)


def _first_part(rows: list[_Row]) -> list[_Row]:
    return [row for row in rows if row[0][0] < 256 // _PART]


def _lowest(pages: Iterable[Page], n: int, seed: int) -> tuple[list[_Row], int]:
    """Return the n points of the lowest hash, ascending, and how many there were."""
    n_seen = 0

    def ranked() -> Iterator[_Row]:
        nonlocal n_seen
        key = _key(seed)
        for page in pages:
            n_seen += len(page.ids)
            for point in page.ids:
                text = str(point)
                yield blake2b(text.encode(), key=key, digest_size=8).digest(), text, point

    return heapq.nsmallest(n, ranked()), n_seen


def _key(seed: int) -> bytes:
    return seed.to_bytes(8, "big", signed=True)


def _in_text_order(rows: Iterable[_Row]) -> list[PointId]:
    return [point for _, _, point in sorted(rows, key=lambda row: row[1])]
