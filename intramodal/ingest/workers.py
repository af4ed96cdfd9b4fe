"""Background threads whose errors reach the caller and which are never waited for idly."""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from intramodal.errors import IntramodalError
from intramodal.ingest.sources.base import Source
from intramodal.types import ImageRecord

log = logging.getLogger(__name__)

P = ParamSpec("P")

T = TypeVar("T")

DEADLINE_S = 900.0
"""Longest wait for one result; a store gives up sooner, after its own deadlines."""

_Job = Callable[[], None]


MOST_WORKERS = 16

# The first forward pass allocates, and on a GPU compiles: it says nothing about the others.
_MEASURED_BATCH = 2


class Threads:
    """Threads that run calls in the order of their submission; a context manager.

    Once a call has failed, those that have not begun fail with the same error: a store that gave
    up after its deadline is not asked, and waited for, again by what stood in the queue.

    On leaving, calls that have not begun are cancelled and those that have are waited for, at most
    `patience_s`. The threads are daemons: one that hangs does not keep the process.
    """

    def __init__(self, n: int, name: str, *, patience_s: float = DEADLINE_S) -> None:
        self.n = 0
        self._n_at_first = n
        self._patience_s = patience_s
        self.name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.is_closing = False
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Threads:
        """Start the threads."""
        self.grow(self._n_at_first)
        return self

    def __exit__(self, *raised: object) -> None:
        """Cancel what waits, and wait for what runs."""
        self.is_closing = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(self._patience_s)
            if thread.is_alive():
                log.warning("a thread (%s) hangs and is left behind", thread.name)

    def grow(self, n: int) -> None:
        """Bring the number of threads up to `n`."""
        for i in range(self.n, n):
            thread = threading.Thread(target=self._work, name=f"{self.name}-{i}", daemon=True)
            thread.start()
            self._threads.append(thread)
        self.n = len(self._threads)

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Return the future result of ``call(*args, **kwargs)``."""
        future: Future[T] = Future()

        def job() -> None:
            if self.is_closing or not future.set_running_or_notify_cancel():
                future.cancel()
                return
            if self._error is not None:
                future.set_exception(self._error)
                return
            try:
                result = call(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001  raised again where it is waited for
                self._error = error
                future.set_exception(error)
            else:
                future.set_result(result)

        if self.n:
            self._jobs.put(job)
        else:
            job()
        return future

    def result(self, future: Future[T]) -> T:
        """Return a call's result or raise its error; `IntramodalError` after the deadline."""
        try:
            return future.result(timeout=DEADLINE_S)
        except TimeoutError as error:
            if future.done():  # the call's own
                raise
            raise IntramodalError(
                f"waited {DEADLINE_S:.0f} s for one step ({self.name}) without a result; check "
                f"the disk and the store, then run the same command again to resume"
            ) from error

    def in_order(
        self, futures: Iterable[Future[T]], *, ahead: int, is_eager: bool = False
    ) -> Iterator[T]:
        """Yield the results of futures in order.

        In advance are taken `ahead` of them, and one for every thread; none without threads. An
        eager caller gets a result as soon as it is there: that keeps the threads less busy.
        """
        pending: deque[Future[T]] = deque()
        for future in futures:
            pending.append(future)
            while len(pending) > (ahead + self.n if self.n else 0) or (
                is_eager and pending and pending[0].done()
            ):
                yield self.result(pending.popleft())
        while pending:
            yield self.result(pending.popleft())

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def workers_for(decode_s: float, forward_s: float) -> int:
    """Return how many threads keep up with the encoder."""
    most = min(MOST_WORKERS, os.cpu_count() or 1)
    return most if decode_s >= most * forward_s else max(1, math.ceil(decode_s / forward_s))


class Pace:
    """Measures the second batch, and sets the number of threads by it."""

    def __init__(self, decoding: Threads, *, is_fixed: bool) -> None:
        self._decoding = decoding
        self._n_left = 0 if is_fixed else _MEASURED_BATCH

    def encoded(self, decode_s: float, forward_s: float) -> None:
        """Take note of what a batch took."""
        self._n_left -= 1
        if self._n_left == 0:
            self._decoding.grow(workers_for(decode_s, forward_s))


@contextmanager
def counted(source: Iterable[ImageRecord], bar: Any) -> Iterator[None]:
    """Give a bar its total, and so its time of arrival, once a thread has counted the source.

    Nothing is counted where no bar is drawn, or where counting would be as long as reading.
    """
    names = source.names() if isinstance(source, Source) and not bar.disable else None
    with Threads(0 if names is None else 1, "count") as counting:
        if names is not None:
            counting.submit(_count, names, bar, counting)
        yield


def _count(names: Iterator[object], bar: Any, counting: Threads) -> None:
    total = 0
    try:
        for _ in names:
            total += 1
            if counting.is_closing:
                return
    except (OSError, IntramodalError):
        return  # whoever reads the source says what is wrong
    bar.total = max(total, bar.n)
    bar.refresh()
