"""A sign of life at regular intervals, so that others can tell a run from its remains."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from intramodal.errors import LedgerError

log = logging.getLogger(__name__)

INTERVAL_S = 10.0
GRACE = 3
"""A run is given up when its last beat is this many intervals old."""


class Heartbeat:
    """Calls `beat` every `interval_s` seconds in a thread, while the block lasts.

    Parameters
    ----------
    beat : callable
        Writes the sign of life; a `LedgerError` is logged once and the next beat tries again.
    interval_s : float
    """

    def __init__(self, beat: Callable[[], None], interval_s: float) -> None:
        self._beat = beat
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="run heartbeat", daemon=True)

    def __enter__(self) -> None:
        """Start beating."""
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop; a beat that hangs in the database is not waited for longer than an interval."""
        self._stop.set()
        self._thread.join(timeout=self._interval_s)

    def _run(self) -> None:
        level = logging.WARNING
        while not self._stop.wait(self._interval_s):
            try:
                self._beat()
            except LedgerError as error:
                log.log(level, "no heartbeat: %s", error)
                level = logging.DEBUG


class NullHeartbeat:
    """No heartbeat: whether the run lives can only be told on its own host."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do nothing."""


def heartbeat(beat: Callable[[], None], interval_s: float | None) -> Heartbeat | NullHeartbeat:
    """Return a heartbeat, or its null twin where `interval_s` is None."""
    return NullHeartbeat() if interval_s is None else Heartbeat(beat, interval_s)
