"""What a collection has used of its limits: tokens of a rate, and sizes as last looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.wire.errors import WireError

REFRESHED_EVERY = 32
"""Writes after which the server looks anew at the size of a collection."""


@dataclass
class Bucket:
    """Tokens that come back evenly, a full bucket of them a minute (lib/collection: ratelimiter).

    Parameters
    ----------
    what : str
        ``"Read"`` or ``"Write"``, in the words of the refusal.
    capacity : int
        Tokens a minute.
    clock : callable
        Seconds of any origin.
    minute_s : float
        How long a minute is: tests have no time for a whole one.
    """

    what: str
    capacity: int
    clock: Callable[[], float]
    minute_s: float = 60.0
    _tokens: float = field(init=False)
    _seen_at: float = field(init=False)

    def __post_init__(self) -> None:
        """Start full."""
        self._tokens, self._seen_at = float(self.capacity), self.clock()

    def take(self, n: int) -> None:
        """Take tokens; 429 if there are too few, without a time if there can never be enough."""
        said = f"Rate limiting exceeded: {self.what} rate limit exceeded"
        if n > self.capacity:
            help_ = "request larger than rate limiter capacity, please try to split your request"
            raise WireError(429, f"{said}, {help_}")
        now, rate = self.clock(), self.capacity / self.minute_s
        self._tokens = min(self._tokens + (now - self._seen_at) * rate, float(self.capacity))
        self._seen_at = now
        if n > self._tokens:
            wait = math.ceil((n - self._tokens) / rate)
            few = f"Operation requires {n} tokens but only {self._tokens:.1f} were available"
            raise WireError(429, f"{said}: {few}. Retry after {wait}s", retry_after_s=wait)
        self._tokens -= n


@dataclass
class Sizes:
    """Points and bytes of a collection, as the server last looked at them."""

    points: int = 0
    vector_bytes: int = 0
    payload_bytes: int = 0


@dataclass
class Usage:
    """Buckets of the two rates, made anew when strict mode changes, the sizes, the memory."""

    reads: Bucket | None = None
    writes: Bucket | None = None
    sizes: Sizes = field(default_factory=Sizes)
    n_looks: int = 1
    memory_percent: int = 0
