"""Child processes that no test waits for in vain."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def guarded(
    command: Sequence[str], deadline_s: float, **how: Any
) -> Iterator[subprocess.Popen[str]]:
    """Start a child, which is killed at the end of the block, or of the time it has."""
    with subprocess.Popen(command, text=True, **how) as child:
        guard = threading.Timer(deadline_s, child.kill)
        guard.start()
        try:
            yield child
        finally:
            guard.cancel()
            child.kill()
