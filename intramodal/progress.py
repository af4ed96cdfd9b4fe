"""The one progress bar: rate and ETA on stderr, silent when that is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def progress(total: int | None, what: str, *, unit: str = "it") -> Iterator[Any]:
    """Yield a bar with an `update(n)` method; drawn only when stderr is a terminal."""
    from tqdm.auto import tqdm  # costs 50 ms that --help must not pay

    # delay: anything under a second needs no bar.
    bar = tqdm(
        total=total, desc=what, unit=unit, delay=1.0, disable=not sys.stderr.isatty(), leave=False
    )
    try:
        yield bar
    finally:
        bar.close()


def tracked(items: Iterable[T], what: str, *, total: int | None = None) -> Iterator[T]:
    """Yield `items` while a progress bar follows."""
    with progress(total, what) as bar:
        for item in items:
            yield item
            bar.update(1)
