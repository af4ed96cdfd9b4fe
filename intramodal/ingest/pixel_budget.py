"""How many bytes of pixels all decoding threads may hold at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from intramodal.memory import free_bytes

_PART_OF_FREE = 4
_LEAST, _MOST = 256 * 2**20, 2 * 2**30

_BLOCK_BYTES = 64 * 2**20
"""Of Pillow's memory. glibc gives blocks above 32 MiB back as soon as they are free; those of
Pillow's 16 MiB stay with the thread that had them: 300 MB in each of eight threads were seen."""


def default_budget() -> int:
    """Return a quarter of the memory that is free, between 256 MB and 2 GB."""
    free = free_bytes()
    return _LEAST if free is None else min(max(free // _PART_OF_FREE, _LEAST), _MOST)


class PixelBudget:
    """Lets threads decode while their images together need no more than `most` bytes.

    First come, first served: a large image is not overtaken for ever by small ones. One that
    needs more than all is decoded alone. A thread waits only while it holds nothing, so that
    those which do decode always come to their end.
    """

    def __init__(self, most: int) -> None:
        from PIL import Image

        pillow = Image.core  # type: ignore[attr-defined]  # the only way but its variable
        pillow.set_block_size(max(_BLOCK_BYTES, pillow.get_block_size()))
        self.most = most
        self._n_taken = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Give a thread its share for one image; whatever it has taken is given back."""
        share = Share(self)
        try:
            yield share
        finally:
            share.give_back()

    def take(self, n_bytes: int) -> int:
        """Wait for this many bytes, or for all of them; returns how many were taken."""
        n = min(n_bytes, self.most)
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            self._changed.wait_for(
                lambda: self._waiting[0] is turn and self._n_taken + n <= self.most
            )
            self._waiting.popleft()
            self._n_taken += n
            self._changed.notify_all()  # the next one may fit beside
        return n

    def give_back(self, n_bytes: int) -> None:
        """Let others have them."""
        with self._changed:
            self._n_taken -= n_bytes
            self._changed.notify_all()


class Share:
    """What one thread has of a budget."""

    def __init__(self, budget: PixelBudget) -> None:
        self._budget = budget
        self._n_bytes = 0

    def take(self, n_bytes: int) -> None:
        """Hold this many bytes instead of what was held."""
        self.give_back()
        self._n_bytes = self._budget.take(n_bytes)

    def give_back(self) -> None:
        """Hold nothing."""
        if self._n_bytes:
            self._budget.give_back(self._n_bytes)
            self._n_bytes = 0
