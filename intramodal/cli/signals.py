"""SIGTERM and SIGHUP stop a command as Ctrl-C does; a second signal ends the process at once."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What stops a command; Windows has no SIGHUP."""

_UNHANDLED = (signal.SIG_DFL, signal.default_int_handler)

_MOMENT_S = 0.5
"""After the first signal, before a second one counts."""


class Stopped(KeyboardInterrupt):
    """Raised in the main thread by the first signal.

    Parameters
    ----------
    number : int
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        by = "the user" if number == signal.SIGINT else signal.Signals(number).name
        super().__init__(f"stopped by {by}")
        self.exit_code = _exit_code(number)


class StopSignals:
    """Handlers from `install` to the end of the block; then the former ones are back."""

    def __init__(self) -> None:
        self._former: dict[int, Any] = {}
        self._first_at: float | None = None
        self._is_over = False

    def __enter__(self) -> StopSignals:
        """Change nothing yet, so that `install` can stand where `Stopped` is caught."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Restore the handlers."""
        self._is_over = True
        while self._former:
            signal.signal(*self._former.popitem())

    def install(self) -> None:
        """Handle the signals that nothing else handles, if this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python allows it there only
        for number in SIGNALS:
            former = signal.getsignal(number)
            if former in _UNHANDLED:  # not SIG_IGN: that is how nohup and "&" protect a command
                self._former[number] = former
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._first_at is None:
            self._first_at = time.monotonic()
            raise Stopped(number)
        # One stop can be two signals: when a terminal closes, its shell sends SIGHUP, and so does
        # the kernel. A command gets a moment to end by itself.
        left_s = self._first_at + _MOMENT_S - time.monotonic()
        if left_s <= 0:
            os._exit(_exit_code(number))
        # threading's locks may be held by what was interrupted here.
        _thread.start_new_thread(self._end, (number, left_s))

    def _end(self, number: int, after_s: float) -> None:
        time.sleep(after_s)
        if not self._is_over:
            os._exit(_exit_code(number))


def _exit_code(number: int) -> int:
    """Return what a shell makes of the end by a signal."""
    return 128 + number
