"""Whether the compiled kernels work on this machine: a ranking and a vote that are known."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numba
import numpy as np

from intramodal.evaluation.kernels import classification, cpu


@dataclass(frozen=True)
class Trial:
    """What came of it."""

    version: str
    """Of numba."""
    seconds: float
    """Compilation, or what it takes to load what is kept."""
    cache: str | None
    """Folder in which compiled kernels are kept; None: nowhere."""
    n_compiled: int
    """Kernels that were not kept yet, of the two that were tried."""
    wrong: tuple[str, ...]
    """Names of the kernels that gave another result than they must."""


def try_kernels() -> Trial:
    """Rank four images and judge two classifications with the kernels that evaluations use."""
    start = time.perf_counter()
    names = {"rank_block": _ranks(), "mark_hits": _marks()}
    kernels = (cpu.rank_rows, classification.mark_hits)
    return Trial(
        version=str(numba.__version__),
        seconds=time.perf_counter() - start,
        cache=cpu.rank_rows.stats.cache_path,
        n_compiled=sum(not kernel.stats.cache_hits for kernel in kernels),
        wrong=tuple(name for name, is_right in names.items() if not is_right),
    )


def _ranks() -> bool:
    """Return whether relevant items at ranks 1 and 3 add up to precisions 1 / 1 and 2 / 3."""
    scores = np.array([[0.9, 0.8, 0.7, 0.6]], dtype=np.float32)
    figures = np.zeros((1, cpu.N_FIXED + cpu.N_AT_K))
    relevant, ignored = (np.array([0, 2]), np.array([0, 2])), (np.array([0, 0]), np.arange(0))
    cpu.rank_block(scores, *relevant, *ignored, np.array([1]), figures, False)
    return bool(np.isclose(figures[0, cpu.AP], 1 / 1 + 2 / 3) and figures[0, cpu.MRR] == 1.0)


def _marks() -> bool:
    """Return whether the class with the highest score wins, and the other one does not."""
    scores = np.array([[0.1, 0.9], [0.1, 0.9]], dtype=np.float32)
    hits = np.zeros((2, 1), dtype=bool)
    bias = np.zeros(2, dtype=np.float32)
    classification.mark_hits(scores, bias, np.array([1, 0]), hits)
    return bool(hits[0, 0] and not hits[1, 0])
