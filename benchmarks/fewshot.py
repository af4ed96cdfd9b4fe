"""Few-shot accuracy of the paper's data sets without ImageNet: one vectorised run a set.

Synthetic embeddings with the sets' numbers of classes, training and test images, d = 512; shots
1, 2, 4, 8, 16; ten seeds; nearest prototype and LDA. Against scikit-learn in a loop over the same
episodes, and against the bare matrix product that any method needs. CPU seconds of one thread.

scikit-learn runs the first seed only and its time is multiplied by the number of seeds, which the
table says; `--full` runs every seed, `--quick` three small sets and two seeds.
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

from intramodal.evaluation.fewshot import FITS, SHOTS, FewshotTask, run_fewshot
from intramodal.evaluation.results import FewshotResult
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
            shots, codes = X[rows].astype(np.float64), task.codes[rows]
            spent, found = zip(
                *(
                    cpu(lambda fit=fit: fit(shots, codes).predict(test))  # noqa: B023
                    for fit in (nearest, same_lda, own_lda)
                ),
                strict=True,
            )
            seconds += spent
            for name, labels in zip(FITS, found[:2], strict=True):
                accuracy[name][row, episode] = (labels == truth).mean()
    return Loop(*(float(value) for value in seconds), accuracy)


def nearest(shots: np.ndarray, codes: np.ndarray) -> Any:
    means = np.stack([shots[codes == code].mean(axis=0) for code in np.unique(codes)])
    prototypes = means / np.linalg.norm(means, axis=1, keepdims=True)
    return KNeighborsClassifier(1, algorithm="brute").fit(
        prototypes.astype(np.float32), np.unique(codes)
    )


def same_lda(shots: np.ndarray, codes: np.ndarray) -> Any:
    if len(shots) == len(np.unique(codes)):
        return nearest(shots, codes)
    estimator = PooledShrinkage(len(shots))
    return LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=estimator).fit(
        shots, codes
    )


def own_lda(shots: np.ndarray, codes: np.ndarray) -> Any:
    if len(shots) == len(np.unique(codes)):
        return nearest(shots, codes)
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(shots, codes)


def bare_products(task: FewshotTask, table: VectorTable) -> None:
    """Score every test image against every different classifier: the floor of all methods."""
    X = unit_rows(table.vectors["raw"][task.rows])[task.is_test]
    n_episodes, n_classes, _ = task.draws.shape
    W = np.ones((n_episodes * n_classes, DIM), dtype=np.float32)
    for _ in range(len(FITS) * len(SHOTS) - 1):  # at one shot both classifiers are one
        for first in range(0, len(W), 4096):
            for start in range(0, len(X), 512):
                X[start : start + 512] @ W[first : first + 4096].T


def memory(table: VectorTable, split: list[str], n_seeds: int) -> float:
    tracemalloc.start()
    ours(table, split, n_seeds)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def run(names: list[str], n_seeds: int, n_loop_seeds: int) -> None:
    print(f"{'':29} CPU seconds: bare  scikit-learn: same           own shrinkage")
    print(
        f"{'set':14} {'classes':>7} {'test':>6} {'ours':>7} {'product':>9} {'estimator':>14} "
        f"{'ratio':>7} {'seconds':>9} {'ratio':>7}  accuracies differ by at most"
    )
    total = np.zeros(4)
    for name in names:
        table, split = synthetic(*SETS[name])
        seconds, (task, found) = cpu(lambda: ours(table, split, n_seeds))  # noqa: B023
        floor, _ = cpu(lambda: bare_products(task, table))  # noqa: B023
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
        total += row
        apart = (
            max(
                np.abs(found[key].accuracy[:, :n_loop_seeds] - loop.accuracy[key]).max()
                for key in FITS
            )
            * SETS[name][2]
        )
        show(
            f"{name:14} {SETS[name][0]:7} {SETS[name][2]:6}",
            row,
            f"{apart:.0f} of {SETS[name][2]} images",
        )
    show(f"{'all':29}", total, "")
    print(f"ours is {total[0] / total[1]:.2f} times the bare product")
    if n_loop_seeds < n_seeds:
        print(f"scikit-learn: measured on {n_loop_seeds} of {n_seeds} seeds, EXTRAPOLATED")
    vectors = table.vectors["raw"].nbytes / 2**20
    print(
        f"memory of {name}: {memory(table, split, n_seeds):.0f} MB at most, beside "
        f"{vectors:.0f} MB of stored vectors"
    )


def show(head: str, row: np.ndarray, tail: str) -> None:
    ours, product, same, own = row
    print(
        f"{head} {ours:7.2f} {product:9.2f} {same:14.1f} {same / ours:7.1f} {own:9.1f} "
        f"{own / ours:7.1f}  {tail}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three small sets, two seeds")
    parser.add_argument("--full", action="store_true", help="every seed in scikit-learn, too")
    options = parser.parse_args()
    n_seeds = 2 if options.quick else 10
    # One neighbour a class is what nearest prototype means; scikit-learn suspects a regression.
    warnings.filterwarnings("ignore", message="The number of unique classes")
    with threadpool_limits(1):
        run(list(QUICK if options.quick else SETS), n_seeds, n_seeds if options.full else 1)


if __name__ == "__main__":
    main()
