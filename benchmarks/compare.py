"""Claim: a bounded comparison costs little more than the rankings it rests on.

CPU time of `compare` with one field and `--max-queries`, as a multiple of that of the two
rankings, reading not counted; by retrieval alone, and with few-shot accuracy. Set OMP_NUM_THREADS
and NUMBA_NUM_THREADS to 1 to compare work, not threads.

    python benchmarks/compare.py            50,000 images
    python benchmarks/compare.py --full     200,000 images
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from intramodal.evaluation.compare import compare
from intramodal.evaluation.retrieval import run_task
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.types import VectorTable, unit_rows

DIM, N_QUERIES = 128, 2_000
VECTORS = ("raw", "pca")


def images(n: int, n_classes: int) -> VectorTable:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, n)
    centres = rng.normal(size=(n_classes, DIM)).astype(np.float32)
    vectors = {}
    for name in VECTORS:
        noise = rng.normal(size=(n, DIM)).astype(np.float32)
        vectors[name] = unit_rows(centres[labels] + 2 * noise)
    return VectorTable(list(range(n)), vectors, {"label": [f"c{c}" for c in labels]})


def cpu(work: Callable[[VectorTable], object], table: VectorTable) -> float:
    """Return seconds of CPU time on a table that remembers nothing yet."""
    fresh = VectorTable(table.ids, dict(table.vectors), table.payload)
    started = time.process_time()
    work(fresh)
    return time.process_time() - started


def rankings(table: VectorTable) -> None:
    task = RetrievalTask.of_all(table, "label", max_queries=N_QUERIES)
    for vector in VECTORS:
        run_task(task, table, vector)


def compared(*tasks: str) -> Callable[[VectorTable], object]:
    def work(table: VectorTable) -> object:
        settings = {"max_queries": N_QUERIES, "controls": False}
        return compare(table, fields=["label"], tasks=tasks, **settings)

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="200,000 images")
    n = 200_000 if parser.parse_args().full else 50_000
    compared("retrieval", "fewshot")(images(3_000, 10))  # compiles
    print(f"{n:,} images, {N_QUERIES:,} ask; CPU time as a multiple of the two rankings")
    for n_classes, how in ((100, "classes resampled"), (10, "images resampled")):
        table = images(n, n_classes)
        base = cpu(rankings, table)
        alone = cpu(compared("retrieval"), table) / base
        both = cpu(compared("retrieval", "fewshot"), table) / base
        print(f"{n_classes:4d} classes ({how}): rankings {base:.1f} s, ", end="")
        print(f"retrieval {alone:.2f}, with few-shot {both:.2f}", flush=True)


if __name__ == "__main__":
    main()
