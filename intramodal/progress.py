"""The one progress bar, silent where stderr is no terminal; and what a long read will take."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from intramodal.errors import IntramodalError
from intramodal.terminal import ungated, visible

log = logging.getLogger(__name__)

T = TypeVar("T")

QUICK_S = 1.0
"""Before that no bar is drawn; and how often one is drawn anew."""

BLINK_S = 0.3
"""A wait that is not announced."""

_LONGEST_NAME = 28
"""Of a step on a bar: of 80 columns some are left for the bar."""

LONG_S = 120.0
"""A read that is expected to take longer is foretold."""

MEASURED_S = 4.0
"""Of reading, before what it will take is estimated."""


@contextmanager
def progress(total: int | None, what: str, *, unit: str) -> Iterator[Any]:
    """Yield a bar with an `update(n)` method; drawn only when stderr is a terminal.

    Parameters
    ----------
    total : int or None
        How many there are, as far as that is known.
    what : str
        The job and what it works on: ``"ingest photos"``.
    unit : str
        What is counted, in the plural.
    """
    with _drawn(total, what, unit, _COUNTED) as bar:
        yield bar


def tracked(
    items: Sequence[T],
    what: str,
    *,
    unit: str,
    name: Callable[[T], str],
    part: Callable[[T], str] | None = None,
) -> Iterator[T]:
    """Yield `items` while a bar names the one at work: ``compare: field 3 of 8: gender``.

    Parameters
    ----------
    items : sequence
    what : str
        The job.
    unit : str
        What is counted, in the singular.
    name : callable
        Returns the name of an item; items of one name are one of what is counted.
    part : callable, optional
        Returns which part of it an item is.
    """
    names = list(dict.fromkeys(map(name, items)))
    with _drawn(len(items), what, unit, _NAMED) as bar:
        for item in items:
            position = names.index(name(item)) + 1
            shown = name(item) if part is None else f"{name(item)}, {part(item)}"
            text = f"{what}: {unit} {position} of {len(names)}: {_short(shown)}"
            bar.set_description_str(text, refresh=False)
            yield item
            bar.update(1)


@contextmanager
def waiting(what: str) -> Iterator[Any]:
    """Yield a bar that has nothing to count, only the time; drawn as `progress` is."""
    with _drawn(None, what, "", _TIMED) as bar:
        yield bar


@contextmanager
def announced(text: str) -> Iterator[None]:
    """Write a line to a terminal if the block takes longer than a blink."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    timer = threading.Timer(BLINK_S, _announce, [text])
    timer.daemon = True
    if is_terminal:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _announce(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{visible(text)}\n")
        sys.stderr.flush()


_TIMES = "[{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
_COUNTED = f"{{l_bar}}{{bar}}| {{n_fmt}}/{{total_fmt}}{{unit}} {_TIMES}"
_UNCOUNTED = "{desc}: {n_fmt}{unit} [{elapsed}, {rate_noinv_fmt}{postfix}]"
_NAMED = "{desc} {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]"
_TIMED = "{desc} [{elapsed}{postfix}]"


def _short(name: str) -> str:
    """Return a name cut to its beginning where it is long."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


@contextmanager
def _drawn(total: int | None, what: str, unit: str, layout: str) -> Iterator[Any]:
    bar = _bar_type()(
        total=total,
        desc=what,
        unit=f" {unit}",
        bar_format=layout,
        delay=QUICK_S,
        disable=sys.stderr is None or not sys.stderr.isatty(),
        leave=False,
        file=ungated(sys.stderr),  # the bar moves the cursor
    )
    try:
        with nullcontext() if bar.disable else _alive(bar):
            yield bar
    finally:
        bar.close()


@contextmanager
def _alive(bar: Any) -> Iterator[None]:
    """Draw a bar every second: one step may take minutes, in which the caller draws nothing."""
    is_over = threading.Event()

    def draw() -> None:
        while not is_over.wait(QUICK_S):
            bar.refresh()

    thread = threading.Thread(target=draw, name="bar", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@cache
def _bar_type() -> Any:
    """Return tqdm's bar, every text of which is visible, wherever it comes from."""
    from tqdm.auto import tqdm  # costs 50 ms that --help must not pay

    class Bar(tqdm):  # type: ignore[misc]
        @property
        def format_dict(self) -> dict[str, Any]:
            found: dict[str, Any] = super().format_dict
            is_uncounted = self.bar_format == _COUNTED and not self.total
            return {**found, "bar_format": _UNCOUNTED} if is_uncounted else found

        def __str__(self) -> str:
            return visible(super().__str__())

    return Bar


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


def about(seconds: float) -> str:
    """Return a long time in words.

    Examples
    --------
    >>> about(40), about(2400), about(9000)
    ('about 1 minute', 'about 40 minutes', 'about 2.5 hours')
    """
    minutes = max(1, round(seconds / 60))
    if minutes < 90:
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    return f"about {seconds / 3600:.1f} hours"


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

    The rate is that of reading them and of whatever is done with them. `total` is called only
    then: it may be a request.
    """
    started, n_read, is_measured = clock(), 0, False
    for page in pages:
        yield page
        n_read += n_of(page)
        took_s = clock() - started
        if not is_measured and took_s >= MEASURED_S and n_read:
            is_measured = True
            _foretell(n_read, took_s, total)


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
