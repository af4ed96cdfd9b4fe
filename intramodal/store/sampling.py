"""A random sample of a collection's points, for figures of collections too large to read whole."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from intramodal.store.base import Page
from intramodal.types import PointId


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
    n_seen = 0

    def ranked() -> Iterator[tuple[bytes, str, PointId]]:
        nonlocal n_seen
        key = seed.to_bytes(8, "big", signed=True)
        for page in pages:
            n_seen += len(page.ids)
            for point in page.ids:
                text = str(point)
                yield blake2b(text.encode(), key=key, digest_size=8).digest(), text, point

    drawn = heapq.nsmallest(n, ranked())
    return [point for _, _, point in sorted(drawn, key=lambda row: row[1])], n_seen
