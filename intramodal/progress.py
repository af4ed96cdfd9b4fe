"""The one progress bar: rate and ETA on stderr, silent when that is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from intramodal.terminal import ungated, visible

T = TypeVar("T")


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
