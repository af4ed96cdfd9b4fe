"""Claim: exact full-ranking figures of a leave-one-out cost about what the bare product does.

CPU time of one thread against the blocked product of the same similarities in the same run: at
most 1.10 times that for 10,000 images of 100 classes and .97 for 50,000 of 1,000, since half of
the product is enough. "whole rows" is the same without that; the other methods answer a share of
the queries and are scaled up, which is said.

    python benchmarks/ranking.py            10,000 images, 100 classes
    python benchmarks/ranking.py --full     also 50,000 images, 1,000 classes
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numba
import numpy as np
from threadpoolctl import threadpool_limits

from intramodal.evaluation.ranking import BLOCK_BYTES, rank, score_blocks
from intramodal.evaluation.retrieval import run_task
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.types import Floats, VectorTable, unit_rows

DIM = 512
N_SLOW_QUERIES = 100


def labelled(n: int, n_classes: int) -> VectorTable:
    """Return images around class centres, hard enough for an mAP well below 1."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, n)
    centres = rng.normal(size=(n_classes, DIM))
    X = unit_rows(centres[labels] + 4 * rng.normal(size=(n, DIM)))
    return VectorTable(list(range(n)), {"raw": X}, {"label": labels.tolist()})


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def bare(X: Floats) -> None:
    for _, _, S in score_blocks(X, X):
        assert S.shape[1] == len(X)  # noqa: S101


def ours(table: VectorTable) -> float:
    return run_task(RetrievalTask.from_table(table, "label"), table, "raw").map


def by_whole_rows(table: VectorTable) -> None:
    X = table.unit("raw")
    rank(X, X.view(), RetrievalTask.from_table(table, "label").relevance)


def by_argsort(X: Floats, labels: np.ndarray, queries: np.ndarray) -> None:
    for q in queries:
        order = np.argsort(-(X @ X[q]))
        relevant = (labels[order] == labels[q])[order != q]
        places = np.flatnonzero(relevant)
        ((np.arange(len(places)) + 1) / (places + 1)).mean()


def by_sklearn(X: Floats, labels: np.ndarray, queries: np.ndarray) -> None:
    from sklearn.metrics import average_precision_score

    for q in queries:
        keep = np.arange(len(X)) != q
        average_precision_score((labels == labels[q])[keep], (X @ X[q])[keep])


def by_pytrec(X: Floats, labels: np.ndarray, queries: np.ndarray) -> None:
    import pytrec_eval

    names = [str(i) for i in range(len(X))]
    for q in queries:
        run = dict(zip(names, (X @ X[q]).tolist(), strict=True))
        del run[names[q]]
        relevant = {names[i]: 1 for i in np.flatnonzero(labels == labels[q]) if i != q}
        pytrec_eval.RelevanceEvaluator({"q": relevant}, {"map"}).evaluate({"q": run})


def peak_mb() -> float:
    import resource  # Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(n: int, n_classes: int, *, n_runs: int) -> None:
    """Print the ratios for one size."""
    table = labelled(n, n_classes)
    X, labels = table.vectors["raw"], np.array(table.payload["label"])
    ours(labelled(5000, 50))  # compiles
    by_whole_rows(labelled(2000, 10))
    bare(X)  # touches the block's memory
    before = peak_mb()
    works = (lambda: bare(X), lambda: ours(table), lambda: by_whole_rows(table))
    seconds = np.array([[cpu_seconds(work) for work in works] for _ in range(n_runs)])
    grown = peak_mb() - before
    product = float(np.median(seconds[:, 0]))
    print(
        f"\n{n:,} images, {n_classes:,} classes, d = {DIM}, one thread, CPU time of {n_runs} runs"
    )
    print(f"  bare product           1.00   ({product:.1f} s)")
    for name, ratios in zip(
        ("ours", "whole rows"), (seconds[:, 1:] / seconds[:, :1]).T, strict=True
    ):
        low, middle, high = ratios.min(), np.median(ratios), ratios.max()
        print(f"  {name:<20s}   {middle:.2f}   [{low:.2f}, {high:.2f}]")
    print(f"  memory growth          {grown:.0f} MB, one block {BLOCK_BYTES / 2**20:.0f} MB")
    queries = np.random.default_rng(1).choice(n, N_SLOW_QUERIES, replace=False)
    for name, method in (
        ("argsort", by_argsort),
        ("sklearn", by_sklearn),
        ("pytrec_eval", by_pytrec),
    ):
        seconds = cpu_seconds(lambda method=method: method(X, labels, queries))  # type: ignore[misc]
        scaled = seconds * n / N_SLOW_QUERIES / product
        print(f"  {name:<20s} {scaled:6.1f}   scaled up from {N_SLOW_QUERIES} queries")


def main() -> None:
    """Run the sizes asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="also 50,000 images, 1,000 classes")
    asked = parser.parse_args()
    numba.config.NUMBA_NUM_THREADS = 1
    with threadpool_limits(1):
        measure(10_000, 100, n_runs=5)
        if asked.full:
            measure(50_000, 1000, n_runs=2)


if __name__ == "__main__":
    main()
