"""Parts of one kernel's work side by side.

Threads of Python, since a kernel holds no interpreter lock. numba's own ``parallel=True`` would
compile each kernel to twice the code, and its threads wait for each other in a loop.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numba
import numpy as np

_PARTS_PER_THREAD = 4
"""Rows do not cost the same: who is done first takes another part."""


def in_threads(kernel: Any, n: int, *arguments: Any) -> None:
    """Call ``kernel((start, stop), *arguments)`` for parts of ``range(n)``, several at once."""
    config: Any = numba.config
    n_threads = min(n, config.NUMBA_NUM_THREADS)
    if n_threads < 2:
        kernel((0, n), *arguments)
        return
    bounds = np.linspace(0, n, 1 + min(n, _PARTS_PER_THREAD * n_threads)).astype(int).tolist()
    with ThreadPoolExecutor(n_threads) as threads:
        # After an error, or an interruption, no further part is begun.
        list(threads.map(lambda part: kernel(part, *arguments), pairwise(bounds)))
