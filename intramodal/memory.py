"""Memory: how much is free, and batches that are halved until they fit into a device's."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from intramodal.errors import ModelError

log = logging.getLogger(__name__)

T = TypeVar("T")


class FittingBatches:
    """Works through rows in batches; one that does not fit is halved until it does.

    The smaller size is kept for the batches that follow: `largest`, at first all rows at once.
    """

    def __init__(self, device: str, largest: int = sys.maxsize) -> None:
        self.largest = largest
        self._device = device

    def over(self, n_rows: int, work: Callable[[slice], T]) -> Iterator[T]:
        """Yield what `work` makes of one batch of rows after the other, in order."""
        start = 0
        while start < n_rows:
            rows = slice(start, min(start + self.largest, n_rows))
            done = self._attempt(rows, work)
            if done is None:
                self._shrink(rows.stop - start)
            else:
                yield done[0]
                start = rows.stop

    def _attempt(self, rows: slice, work: Callable[[slice], T]) -> tuple[T] | None:
        try:
            return (work(rows),)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            log.debug("out of memory with rows %d to %d: %s", rows.start, rows.stop, error)
        return None  # outside of the handler: the traceback held the tensors

    def _shrink(self, size: int) -> None:
        import torch

        if size == 1:
            raise ModelError(
                f"memory of {self._device} ran out with a batch of one; use another device "
                "or a smaller model"
            )
        self.largest = (size + 1) // 2
        log.warning("out of memory: batches are now at most %d", self.largest)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error of torch, on any device, says that memory ran out."""
    import torch

    text = str(error).lower()
    known = "out of memory" in text or "can't allocate memory" in text
    return known or isinstance(error, torch.cuda.OutOfMemoryError)


_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def free_bytes() -> int | None:
    """Return how much memory this process may still take; None where the system does not say.

    Inside a container, that is the container's.
    """
    found = [n for n in (_free_of_machine(), _free_of_container()) if n is not None]
    return min(found, default=None)


def _free_of_machine() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return kilobytes[0] * 1024 if kilobytes else None


def _free_of_container() -> int | None:
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        return max(limit - int((_CGROUP / "memory.current").read_text()), 0)
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return None
