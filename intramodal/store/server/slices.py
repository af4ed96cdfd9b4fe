"""A scan of all points in several slices at once, where much of its time is waiting.

A slice is a part of all ids by a hash of the id, from Qdrant 1.19 on. Each is read by a thread of
its own, one page ahead; what they give is put in order again.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from queue import Empty, Queue
from threading import Thread
from typing import Any

import numpy as np

from intramodal.errors import InputError, StoreError
from intramodal.store.base import Page, Slice
from intramodal.store.queries import id_order
from intramodal.store.server.shard_keys import key_order
from intramodal.types import KeyedId, PointId

log = logging.getLogger(__name__)

Read = Callable[[Slice | None, PointId | None], Iterator[Page]]
"""Yields the pages of a slice, or of everything, from the point of an id on, in order."""

N_SLICES = 4

WAITS_FOR_WORK = 0.5
"""Slices are read where waiting for a page takes so much of its work, or more. Threads share one
processor's worth of Python: with nothing to wait for they only hinder each other."""

_PATIENCE_S = 2.0


def scan(name: str, read: Read) -> Iterator[Page]:
    """Yield everything in order: in slices as soon as that is worth it, unless one is refused."""
    watch, following = _Watch(), None
    for page in read(None, None):
        is_waiting, following = watch.is_waiting(), page.next_offset
        yield page
        if is_waiting and following is not None:
            break
        watch.start()
    else:
        return
    last = None
    try:
        parts = [read(Slice(N_SLICES, index), following) for index in range(N_SLICES)]
        with closing(merged(parts)) as pages:
            for page in pages:
                last = page.ids[-1]
                yield page
        return
    except (StoreError, InputError) as error:  # a limit that is new, or met by many at once
        log.info("the rest of %r is read page by page: %s", name, error)
    for page in read(None, following if last is None else last):
        is_double = page.ids[0] == last
        yield rows_of(page, slice(1, None)) if is_double else page


class _Watch:
    """Tells where a page is waited for, beside what it takes to read the answer."""

    def __init__(self) -> None:
        self._n_pages = 0
        self.start()

    def start(self) -> None:
        """Begin with the next page."""
        self._started = time.perf_counter(), time.thread_time()

    def is_waiting(self) -> bool:
        """Return whether the page that has come was waited for; never for the first."""
        elapsed = time.perf_counter() - self._started[0]
        worked = time.thread_time() - self._started[1]
        self._n_pages += 1  # before the first one a store looks at the collection
        return self._n_pages > 1 and elapsed - worked > WAITS_FOR_WORK * worked


class _Ahead:
    """Pages that a thread reads, one further than was asked for."""

    def __init__(self, pages: Iterator[Page]) -> None:
        self._read: Queue[Page | BaseException | None] = Queue(1)
        self._pages = pages
        self._is_over = False
        self._thread = Thread(target=self._work, name="slice", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        end: BaseException | None = None
        try:
            for page in self._pages:
                self._read.put(page)
                if self._is_over:
                    return
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            end = error
        self._read.put(end)

    def page(self) -> Page | None:
        """Return the next page, None after the last one."""
        found = self._read.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def end(self) -> None:
        """Let the thread go, which may still wait for an answer."""
        self._is_over = True
        with suppress(Empty):
            self._read.get_nowait()

    def join(self, until: float) -> None:
        """Wait for the thread, but not for a server that does not answer."""
        self._thread.join(max(0.0, until - time.monotonic()))


def merged(slices: Sequence[Iterator[Page]]) -> Generator[Page, None, None]:
    """Yield the points of slices, each in the order of ids, all of them in that order."""
    readers = [_Ahead(pages) for pages in slices]
    try:
        held = {reader: reader.page() for reader in readers}
        while there := {reader: page for reader, page in held.items() if page is not None}:
            # Up to here no reader has anything to come.
            last = min(_place(page.ids[-1]) for page in there.values())
            parts = []
            for reader, page in there.items():
                n = bisect_right(page.ids, last, key=_place)
                parts.append(rows_of(page, slice(n)))
                is_used = n == len(page.ids)
                held[reader] = reader.page() if is_used else rows_of(page, slice(n, None))
            yield _joined(parts)
    finally:
        for reader in readers:
            reader.end()
        until = time.monotonic() + _PATIENCE_S
        for reader in readers:
            reader.join(until)


def _place(point: PointId) -> tuple[Any, Any]:
    """Return where a point stands in a scan: by shard key, then by id."""
    if isinstance(point, KeyedId):
        return key_order(point.shard_key), id_order(point.point)
    return (), id_order(point)


def rows_of(page: Page, part: slice) -> Page:
    """Return some rows of a page."""
    vectors = {vector: X[part] for vector, X in page.vectors.items()}
    return Page(page.ids[part], vectors, page.payloads[part])


def _joined(parts: Sequence[Page]) -> Page:
    """Return the rows of several pages as one, in the order of ids."""
    ids = [point for part in parts for point in part.ids]
    order = sorted(range(len(ids)), key=lambda row: _place(ids[row]))
    payloads = [payload for part in parts for payload in part.payloads]
    vectors = {
        vector: np.concatenate([part.vectors[vector] for part in parts])[order]
        for vector in parts[0].vectors
    }
    return Page([ids[row] for row in order], vectors, [payloads[row] for row in order])
