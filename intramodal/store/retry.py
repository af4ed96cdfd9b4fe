"""Try again, a little later and later, but not for ever."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from intramodal.errors import StoreUnavailable

T = TypeVar("T")


class Overloaded(StoreUnavailable):
    """The server asks for a pause of `retry_after_s` seconds."""

    retry_after_s: float = 0.0


@dataclass(frozen=True)
class Retry:
    """Exponential backoff with jitter and a deadline.

    Only `StoreUnavailable` is worth another try; all our writes are idempotent by id.

    Parameters
    ----------
    deadline_s : float
        No attempt starts later than this many seconds after the first.
    first_s, longest_s : float
        Pause after the first failure, and the longest one; each is shortened by up to a half.
    clock, sleep, rng
        Replaced in tests.
    """

    deadline_s: float = 120.0
    first_s: float = 0.1
    longest_s: float = 10.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    # Jitter must differ between processes; nothing that is computed depends on it.
    rng: random.Random = field(default_factory=random.Random)

    def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, tried again while it raises `StoreUnavailable`."""
        start, n_attempts = self.clock(), 0
        while True:
            try:
                return call()
            except StoreUnavailable as error:
                n_attempts += 1
                pause = self._pause_s(n_attempts, error)
                elapsed = self.clock() - start
                if elapsed + pause > self.deadline_s:
                    raise StoreUnavailable(_given_up(error, n_attempts, elapsed)) from error
            self.sleep(pause)

    def _pause_s(self, n_attempts: int, error: StoreUnavailable) -> float:
        longest = min(self.longest_s, self.first_s * 2.0 ** min(n_attempts - 1, 30))
        asked = error.retry_after_s if isinstance(error, Overloaded) else 0.0
        return asked + longest * self.rng.uniform(0.5, 1.0)


def _given_up(error: StoreUnavailable, n_attempts: int, elapsed_s: float) -> str:
    times = "1 attempt" if n_attempts == 1 else f"{n_attempts} attempts"
    return f"{error} (gave up after {times} in {elapsed_s:.0f} s)"
