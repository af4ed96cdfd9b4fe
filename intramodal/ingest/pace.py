"""How many threads decode: as many as keep up with the encoder, measured."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from intramodal.ingest.prepare import Encodable
from intramodal.ingest.threads import Threads

MOST_WORKERS = 16

# The first forward pass allocates, and on a GPU compiles: it says nothing about the others.
_MEASURED_BATCH = 2


def workers_for(decode_s: float, forward_s: float) -> int:
    """Return how many threads keep up with the encoder.

    Parameters
    ----------
    decode_s, forward_s : float
        Seconds that reading and decoding a batch takes in one thread, and encoding it.

    Returns
    -------
    int
        One for every forward pass that decoding would fill; at most one a core and
        `MOST_WORKERS`. At least one: what decoding costs is hidden, and a file that never comes
        is given up after a while.
    """
    most = min(MOST_WORKERS, os.cpu_count() or 1)
    return most if decode_s >= most * forward_s else max(1, math.ceil(decode_s / forward_s))


class Pace:
    """Measures the second batch, and sets the number of threads by it.

    Parameters
    ----------
    decoding : Threads
    is_fixed : bool
        Whether the number of threads is the caller's, and stays.
    """

    def __init__(self, decoding: Threads, *, is_fixed: bool) -> None:
        self._decoding = decoding
        self._n_left = 0 if is_fixed else _MEASURED_BATCH

    def encoded(self, batch: Sequence[Encodable], forward_s: float) -> None:
        """Take note of a batch and of what its forward pass took."""
        self._n_left -= 1
        if self._n_left == 0:
            self._decoding.grow(workers_for(sum(one.seconds for one in batch), forward_s))
