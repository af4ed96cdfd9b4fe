"""One write in several requests at the same time: a stream for each shard.

Qdrant takes points fastest from two to four streams of 64 to 256 points, one for each shard
(https://qdrant.tech/documentation/manage-data/bulk-upload/). A call returns when all its parts are
written, so that whoever writes batch after batch keeps his order and his place.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from intramodal.store.calls import in_batches

MOST_BY_DEFAULT = 4
_FEWEST_POINTS = 64


class Streams:
    """Threads that send parts of writes; at most as many requests are under way at once.

    Parameters
    ----------
    n : int
        How many. With one, parts are sent in the caller's thread, one after another.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._pool = ThreadPoolExecutor(n, thread_name_prefix="upload") if n > 1 else None

    def send(self, send: Callable[[slice], Any], n_points: int, most: int) -> None:
        """Send `n_points` points, at most `most` a request; return when all are written.

        Every part is repeated by itself, and halved where it proves too large. If one fails for
        good, those that have not begun are not sent, those that have are waited for, and the
        error of the first of them is raised.
        """
        size = min(most, max(_FEWEST_POINTS, -(-n_points // self.n)))
        if self._pool is None or n_points <= size:
            return in_batches(send, n_points, size)
        jobs = [
            self._pool.submit(in_batches, _shifted(send, start), min(size, n_points - start), size)
            for start in range(0, n_points, size)
        ]
        wait(jobs, return_when=FIRST_EXCEPTION)
        for job in jobs:
            job.cancel()
        wait(jobs)
        for job in jobs:
            if not job.cancelled():
                job.result()
        return None

    def close(self) -> None:
        """Wait for what is under way; send nothing more."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _shifted(send: Callable[[slice], Any], start: int) -> Callable[[slice], Any]:
    return lambda part: send(slice(start + part.start, start + part.stop))
