"""Claim: a projection costs what its matrix product costs, and holds no copy of the input.

CPU time of one thread against the bare product into a ready array, in the same run; memory of a
memory-mapped file that is larger than what is allowed to be held.

    python benchmarks/projection.py
"""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from intramodal.projection.projection import Projection
from intramodal.types import Floats

N, DIM, KEPT = 100_000, 512, 256
N_RUNS = 5


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def measure_speed(X: Floats, projections: dict[str, Projection]) -> None:
    """Print the ratio to the bare product, for one array and for pages of a backfill."""
    Z = np.empty((N, KEPT), np.float32)
    for size, what in ((N, "one array"), (1000, "pages of 1,000")):
        pages = [slice(start, start + size) for start in range(0, N, size)]
        for name, projection in projections.items():
            ratios = []
            for _ in range(N_RUNS):
                bare = cpu_seconds(
                    lambda: [np.matmul(X[p], projection.matrix, out=Z[p]) for p in pages]  # noqa: B023
                )
                ours = cpu_seconds(lambda: [projection.apply(X[p]) for p in pages])  # noqa: B023
                ratios.append(ours / bare)
            middle, low, high = np.median(ratios), min(ratios), max(ratios)
            print(f"  {what:15s} {name:14s} {middle:.2f}   [{low:.2f}, {high:.2f}]")


def measure_memory(X: Floats, projection: Projection) -> None:
    """Print what is allocated beside the answer for a memory-mapped file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "X.npy"
        np.save(file, X)
        mapped = np.load(file, mmap_mode="r")
        tracemalloc.start()
        Z = projection.apply(mapped)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    beside, whole = (peak - Z.nbytes) / 2**20, X.nbytes / 2**20
    print(f"  allocated beside the answer: {beside:.0f} MB of a file of {whole:.0f} MB")


def main() -> None:
    """Print ratios and memory."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, DIM)).astype(np.float32)
    Q = np.linalg.qr(rng.normal(size=(DIM, KEPT)))[0].astype(np.float32)
    projections = {
        "linear": Projection(Q, "pca", "m", "f"),
        "with an offset": Projection(Q, "pca_centered", "m", "f", offset=np.full(DIM, 0.01)),
    }
    print(f"{N:,} x {DIM} to {KEPT}, one thread, CPU time over the bare product, {N_RUNS} runs")
    with threadpool_limits(1):
        measure_speed(X, projections)
        measure_memory(X, projections["linear"])


if __name__ == "__main__":
    main()
