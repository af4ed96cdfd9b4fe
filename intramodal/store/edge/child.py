"""Opens or optimizes one embedded collection; run as a script in a process of its own.

The engine holds the interpreter while it optimizes (half a minute at 20,000 points), so that in
the caller's process neither progress nor heartbeat nor Ctrl-C would live on; and a full disk ends
the process that writes. This file imports nothing but the engine: it must start fast and work
wherever the caller could import it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys


def die_with_parent(parent: int) -> None:
    """Ask Linux to end this process with its parent, or it would hold the directory's lock."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended before we could ask
            sys.exit(1)


def main(task: str, path: str, parent: str) -> None:
    """Load the shard at `path`, optimize it if that is the task, and close it."""
    die_with_parent(int(parent))
    import qdrant_edge  # after the line above: a parent killed during this import counts too

    shard = qdrant_edge.EdgeShard.load(path)
    try:
        if task == "optimize":
            shard.optimize()
    finally:
        shard.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
