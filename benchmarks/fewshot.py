"""Claim: few-shot accuracy of the eleven sets in about a tenth of a scikit-learn loop's time.

Synthetic embeddings with the sets' numbers of classes, training and test images, d = 512, of
ImageNet's images a tenth; shots 1, 2, 4, 8, 16; ten seeds; nearest prototype and LDA, each set in
one call. CPU seconds of one thread, all in one run; a small set first, so that no side pays for
imports and compilation.

The bare product is that of the test images with every different classifier (at one shot both are
one): the floor of a method that computes all scores. ImageNet's tenth has all classes, but a tenth
of its images, on which a loop spends more time on fits; so the total is also shown without it.

The other side is the loop that one writes with scikit-learn: for every set, seed and number of
shots, fit on the shots, predict the test images. It is given the draws and the unit rows, and
these are counted on our side. Nearest prototype: `KNeighborsClassifier` with one neighbour on the
unit class means, in float32, a little faster than `NearestCentroid`. LDA: the fastest
solver that shrinks, `lsqr`, with the same shrinkage as its `covariance_estimator`; scikit-learn
applies it to every class and averages. At one shot the prototypes' result is taken for both.
"own shrinkage" has scikit-learn's Ledoit-Wolf (`shrinkage="auto"`) instead, which needs no code
but gives other accuracies.

scikit-learn runs the first seed only and its time is multiplied by the number of seeds, which is
said; `--full` runs every seed, `--quick` three small sets and two seeds.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from intramodal.evaluation.classifiers import FITS
from intramodal.evaluation.fewshot import FewshotResult, run_fewshot
from intramodal.evaluation.shots import SHOTS, FewshotTask
from intramodal.types import Floats, VectorTable, unit_rows

DIM = 512
SETS = {  # classes, training and test images
    "Caltech101": (100, 4128, 2465),
    "OxfordPets": (37, 2944, 3669),
    "StanfordCars": (196, 6509, 8041),
    "Flowers102": (102, 4093, 2463),
    "Food101": (101, 50500, 30300),
    "FGVCAircraft": (100, 3334, 3333),
    "SUN397": (397, 15880, 19850),
    "DTD": (47, 2820, 1692),
    "EuroSAT": (10, 13500, 8100),
    "UCF101": (101, 7639, 3783),
    "ImageNet / 10": (1000, 128100, 5000),
}
QUICK = ("OxfordPets", "DTD", "Flowers102")


class PooledShrinkage(BaseEstimator):
    """The same shrinkage, in the form that scikit-learn applies to each class and averages."""

    def __init__(self, n: int) -> None:
        self.n = n

    def fit(self, X: Floats) -> PooledShrinkage:
        """Set `covariance_` from the shots of one class."""
        scatter = self.n * np.cov(X, rowvar=False, bias=True)
        self.covariance_ = (scatter + np.trace(scatter) / (self.n - 1) * np.eye(DIM)) / DIM
        return self


@dataclass(frozen=True)
class Loop:
    """What scikit-learn found: CPU seconds of its episodes, and the accuracy of each.

    `own_lda` holds the seconds of its own shrinkage (Ledoit-Wolf a class, ``shrinkage="auto"``)
    in place of ours, whose accuracy is another.
    """

    prototype: float
    lda: float
    own_lda: float
    accuracy: dict[str, np.ndarray]


def synthetic(n_classes: int, n_train: int, n_test: int) -> tuple[VectorTable, list[str]]:
    rng = np.random.default_rng(n_classes)
    codes = np.concatenate([np.arange(n) % n_classes for n in (n_train, n_test)])
    centres = rng.normal(size=(n_classes, DIM)).astype(np.float32) * 0.5 + 2.0
    scale = np.linspace(0.5, 4.0, DIM, dtype=np.float32)
    X = centres[codes] + scale * rng.standard_normal((len(codes), DIM), dtype=np.float32)
    table = VectorTable(list(range(len(X))), {"raw": X}, {"label": codes.tolist()})
    return table, ["train"] * n_train + ["test"] * n_test


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def ours(
    table: VectorTable, split: list[str], n_seeds: int
) -> tuple[FewshotTask, dict[str, FewshotResult]]:
    task = FewshotTask.from_table(table, "label", n_episodes=n_seeds, split=split)
    return task, run_fewshot(task, table, "raw", list(FITS))


def scikit_learn(task: FewshotTask, table: VectorTable, n_seeds: int) -> Loop:
    X = unit_rows(table.vectors["raw"][task.rows])
    test, truth = X[task.is_test], task.codes[task.is_test]
    accuracy = {name: np.empty((len(SHOTS), n_seeds)) for name in FITS}
    seconds = np.zeros(3)
    for episode in range(n_seeds):
        for row, n_shots in enumerate(SHOTS):
            rows = task.draws[episode, :, :n_shots].ravel()
            shots, codes = X[rows], task.codes[rows]
            fits = [nearest] if n_shots == 1 else [nearest, same_lda, own_lda]
            spent, found = zip(
                *(
                    cpu(lambda fit=fit: fit(shots, codes).predict(test))  # noqa: B023
                    for fit in fits
                ),
                strict=True,
            )
            seconds[: len(fits)] += spent
            right = [(labels == truth).mean() for labels in found]
            accuracy["prototype"][row, episode] = right[0]
            accuracy["lda"][row, episode] = right[0] if n_shots == 1 else right[1]
    return Loop(*(float(value) for value in seconds), accuracy)


def nearest(shots: np.ndarray, codes: np.ndarray) -> Any:
    means = np.stack([shots[codes == code].mean(axis=0) for code in np.unique(codes)])
    prototypes = means / np.linalg.norm(means, axis=1, keepdims=True)
    return KNeighborsClassifier(1, algorithm="brute").fit(prototypes, np.unique(codes))


def same_lda(shots: np.ndarray, codes: np.ndarray) -> Any:
    estimator = PooledShrinkage(len(shots))
    return LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=estimator).fit(
        shots, codes
    )


def own_lda(shots: np.ndarray, codes: np.ndarray) -> Any:
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(shots, codes)


def bare_products(task: FewshotTask, table: VectorTable) -> None:
    """Score every test image against every different classifier: the floor of all methods."""
    X = unit_rows(table.vectors["raw"][task.rows])[task.is_test]
    n_episodes, n_classes, _ = task.draws.shape
    n_kinds = len(FITS) * len(SHOTS) - 1  # at one shot both classifiers are one
    W = np.ones((min(n_kinds * n_episodes * n_classes, 2000), DIM), dtype=np.float32)
    for first in range(0, n_kinds * n_episodes * n_classes, len(W)):
        part = W[: n_kinds * n_episodes * n_classes - first]
        for start in range(0, len(X), 1024):
            X[start : start + 1024] @ part.T


def memory(table: VectorTable, split: list[str], n_seeds: int) -> float:
    tracemalloc.start()
    ours(table, split, n_seeds)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def run(names: list[str], n_seeds: int, n_loop_seeds: int) -> None:
    ours(*synthetic(4, 80, 80), 2)  # imports and compilation
    print(f"{'':33} CPU seconds: bare  scikit-learn: same           own shrinkage")
    print(
        f"{'set':14} {'classes':>7} {'tested':>6} {'ours':>11} {'product':>9} {'estimator':>14} "
        f"{'ratio':>7} {'seconds':>9} {'ratio':>7}  hits that differ"
    )
    rows = {name: measured(name, n_seeds, n_loop_seeds) for name in names}
    whole = [row for name, row in rows.items() if "/" not in name]
    if len(whole) < len(rows):
        show(f"{'all but ImageNet':29}", np.sum(whole, axis=0), "")
    total = np.sum(list(rows.values()), axis=0)
    show(f"{'all':29}", total, "")
    print(f"ours is {total[0] / total[1]:.2f} times the bare product")
    if n_loop_seeds < n_seeds:
        print(f"scikit-learn: measured on {n_loop_seeds} of {n_seeds} seeds, EXTRAPOLATED")


def measured(name: str, n_seeds: int, n_loop_seeds: int) -> np.ndarray:
    table, split = synthetic(*SETS[name])
    seconds, (task, found) = cpu(lambda: ours(table, split, n_seeds))
    floor, _ = cpu(lambda: bare_products(task, table))
    loop = scikit_learn(task, table, n_loop_seeds)
    times = n_seeds / n_loop_seeds
    row = np.array(
        [
            seconds,
            floor,
            (loop.prototype + loop.lda) * times,
            (loop.prototype + loop.own_lda) * times,
        ]
    )
    n_classes, _, n_test = SETS[name]
    apart = [found[key].accuracy[:, :n_loop_seeds] - loop.accuracy[key] for key in FITS]
    n_apart, n_all = np.abs(apart).sum() * n_test, np.size(apart) * n_test
    show(f"{name:14} {n_classes:7} {n_test:6}", row, f"{n_apart:.0f} of {n_all:,}")
    return row


def show(head: str, row: np.ndarray, tail: str) -> None:
    ours, product, same, own = row
    print(
        f"{head} {ours:11.2f} {product:9.2f} {same:14.1f} {same / ours:7.1f} {own:9.1f} "
        f"{own / ours:7.1f}  {tail}",
        flush=True,
    )


def say_memory(name: str, n_seeds: int) -> None:
    table, split = synthetic(*SETS[name])
    vectors = table.vectors["raw"].nbytes / 2**20
    print(
        f"memory of {name}: {memory(table, split, n_seeds):.0f} MB at most, beside "
        f"{vectors:.0f} MB of stored vectors"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three small sets, two seeds")
    parser.add_argument("--full", action="store_true", help="every seed in scikit-learn, too")
    options = parser.parse_args()
    n_seeds = 2 if options.quick else 10
    names = list(QUICK if options.quick else SETS)
    # One neighbour a class is what nearest prototype means; scikit-learn suspects a regression.
    warnings.filterwarnings("ignore", message="The number of unique classes")
    with threadpool_limits(1):
        run(names, n_seeds, n_seeds if options.full else 1)
        say_memory(names[-1], n_seeds)


if __name__ == "__main__":
    main()
