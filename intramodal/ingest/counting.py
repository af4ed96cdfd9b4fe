"""How many pictures a source has, for the progress bar: counted while they are read."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from intramodal.errors import IntramodalError
from intramodal.ingest.sources.base import Source
from intramodal.types import ImageRecord


@contextmanager
def counted(source: Iterable[ImageRecord], bar: Any) -> Iterator[None]:
    """Give a bar its total, and so its time of arrival, once a thread has counted the source.

    Nothing is counted where no bar is drawn, or where counting would be as long as reading.

    Parameters
    ----------
    source : iterable of ImageRecord
    bar : tqdm
    """
    names = source.names() if isinstance(source, Source) and not bar.disable else None
    if names is None:
        yield
        return
    is_over = threading.Event()
    thread = threading.Thread(target=_count, args=(names, bar, is_over), name="count", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _count(names: Iterator[object], bar: Any, is_over: threading.Event) -> None:
    total = 0
    try:
        for _ in names:
            total += 1
            if is_over.is_set():
                return
    except (OSError, IntramodalError):
        return  # whoever reads the source says what is wrong
    bar.total = max(total, bar.n)
    bar.refresh()
