"""The one progress bar, silent where stderr is no terminal; and what a long read will take."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from intramodal.errors import IntramodalError
from intramodal.terminal import ungated, visible

log = logging.getLogger(__name__)

T = TypeVar("T")

LONG_S = 120.0
"""A read that is expected to take longer is foretold."""

MEASURED_S = 4.0
"""Of reading, before what it will take is estimated."""


@contextmanager
def progress(total: int | None, what: str, *, unit: str = "it") -> Iterator[Any]:
    """Yield a bar with an `update(n)` method; drawn only when stderr is a terminal."""
    # delay: anything under a second needs no bar.
    bar = _bar_type()(
        total=total,
        desc=what,
        unit=unit,
        delay=1.0,
        disable=sys.stderr is None or not sys.stderr.isatty(),
        leave=False,
        file=ungated(sys.stderr),  # the bar moves the cursor
    )
    try:
        yield bar
    finally:
        bar.close()


@cache
def _bar_type() -> Any:
    """Return tqdm's bar, every text of which is visible, wherever it comes from."""
    from tqdm.auto import tqdm  # costs 50 ms that --help must not pay

    class Bar(tqdm):  # type: ignore[misc]
        def __str__(self) -> str:
            return visible(super().__str__())

    return Bar


def tracked(items: Iterable[T], what: str, *, total: int | None = None) -> Iterator[T]:
    """Yield `items` while a progress bar follows."""
    with progress(total, what) as bar:
        for item in items:
            yield item
            bar.update(1)


@dataclass(frozen=True)
class LongRead:
    """What a read that has begun is expected to take.

    Parameters
    ----------
    n : int
        Points.
    seconds : float
        For all of them.
    """

    n: int
    seconds: float

    def seconds_for(self, n: int) -> float:
        """Return what n points would take at this rate."""
        return self.seconds * n / self.n


_listener: ContextVar[Callable[[LongRead], None] | None] = ContextVar("listener", default=None)


@contextmanager
def long_reads_told(listener: Callable[[LongRead], None]) -> Iterator[None]:
    """Call `listener` with every long read that begins in the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def foretold(
    pages: Iterable[T],
    n_of: Callable[[T], int],
    total: Callable[[], int],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """Yield pages; where all will take long by the rate of the first, say so once.

    `total` is called only then: it may be a request.
    """
    started, n_read, is_measured = clock(), 0, False
    for page in pages:
        n_read += n_of(page)
        took_s = clock() - started
        if not is_measured and took_s >= MEASURED_S and n_read:
            is_measured = True
            _foretell(n_read, took_s, total)
        yield page


def _foretell(n_read: int, took_s: float, total: Callable[[], int]) -> None:
    try:
        n = total()
    except IntramodalError as error:  # the read itself says what is wrong
        log.debug("what is left to read is not known: %s", error)
        return
    read = LongRead(n, took_s * n / n_read)
    listener = _listener.get()
    if n <= n_read or read.seconds <= LONG_S:
        return
    if listener is None:
        log.info("reading %s points takes about %.0f s", f"{n:,}", read.seconds)
    else:
        listener(read)
