"""Claim: the verdict errs as rarely as it says, and costs little.

Class mode: per-query differences with class effects and unequal class sizes. Image mode and
few-shot: two vectors of equal quality by construction, the second an independent draw around
turned centres.
Rates with their 95% Monte-Carlo interval (Clopper-Pearson); nothing is adjusted to them.

    python benchmarks/verdict.py            400 trials a row
    python benchmarks/verdict.py --full     2,000 trials, and the image mode on 50,000 queries
"""

from __future__ import annotations

import argparse
import functools
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

from intramodal.evaluation.fewshot import FewshotTask, run_fewshot
from intramodal.evaluation.intervals import Effect, sign_flip
from intramodal.evaluation.resampling import choose_population
from intramodal.evaluation.retrieval import run_task
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.types import VectorTable, unit_rows

N_RESAMPLES = 1999
CLASS_EFFECT, QUERY_NOISE = 0.05, 0.15


def symmetric(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(0, CLASS_EFFECT, n)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    return CLASS_EFFECT * (rng.exponential(1, n) - 1)


def class_trial(
    rng: np.random.Generator, n_classes: int, effects: Callable[..., np.ndarray], n_queries: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the differences of all queries and their classes; sizes differ tenfold and more."""
    weights = rng.lognormal(0, 1, n_classes)
    sizes = np.maximum(2, (n_queries * weights / weights.sum()).astype(int))
    classes = np.repeat(np.arange(n_classes), sizes)
    noise = rng.normal(0, QUERY_NOISE, len(classes))
    return effects(rng, n_classes)[classes] + noise, classes


def by_class(differences: np.ndarray, classes: np.ndarray, seed: int) -> Effect:
    sums = np.bincount(classes, weights=differences)
    return sign_flip(sums, np.bincount(classes), seed=seed, n_resamples=N_RESAMPLES)


def shown(n_hits: int, n_trials: int) -> str:
    low, high = stats.binomtest(n_hits, n_trials).proportion_ci(0.95)
    return f"{n_hits / n_trials:6.1%} [{low:.1%}, {high:.1%}]"


def class_mode(n_trials: int) -> None:
    """Print false verdicts with no difference, then power and coverage with one."""
    print(f"\nclass mode, no true difference, {n_trials} trials: p < 0.05")
    print(f"{'classes':>8} {'effects':>10} {'by class':>24} {'i.i.d.':>24}")
    for effects in (symmetric, skewed):
        for n_classes in (10, 20, 100, 1000):
            rng = np.random.default_rng(n_classes)
            clustered = naive = 0
            for trial in range(n_trials):
                x, classes = class_trial(rng, n_classes, effects, 10 * n_classes)
                clustered += by_class(x, classes, trial).p_value < 0.05
                naive += stats.ttest_1samp(x, 0).pvalue < 0.05
            rates = shown(clustered, n_trials), shown(naive, n_trials)
            print(f"{n_classes:8d} {effects.__name__:>10} {rates[0]:>24} {rates[1]:>24}")
    rng = np.random.default_rng(0)
    found = [
        by_class(x + 0.02, classes, 0)
        for x, classes in (class_trial(rng, 100, symmetric, 1000) for _ in range(n_trials))
    ]
    power = sum(effect.p_value < 0.05 for effect in found)
    covered = sum(effect.interval[0] <= 0.02 <= effect.interval[1] for effect in found)
    print(f"true +2 mAP, 1,000 queries, 100 classes: power {shown(power, n_trials)}, ", end="")
    print(f"coverage {shown(covered, n_trials)}")


def pictures(rng: np.random.Generator, n: int, n_classes: int, dim: int = 32) -> VectorTable:
    """Return pictures of fixed classes under two vectors of equal quality."""
    centres = np.random.default_rng(7).normal(size=(n_classes, dim))
    turn, _ = np.linalg.qr(np.random.default_rng(8).normal(size=(dim, dim)))
    labels = rng.integers(0, n_classes, n)
    a, b = (
        unit_rows(c[labels] + 2 * rng.normal(size=(n, dim))) for c in (centres, centres @ turn)
    )
    return VectorTable(list(range(n)), {"a": a, "b": b}, {"label": labels.tolist()})


def by_image(table: VectorTable, seed: int, max_queries: int | None = None) -> Effect:
    task = RetrievalTask.from_table(table, "label", max_queries=max_queries, seed=seed)
    population = choose_population(table, task, "image", seed=seed)
    a, b = (run_task(task, table, vector) for vector in ("a", "b"))
    return population.retrieval_effects(table, task, a, [b])[0]


def image_mode(n_trials: int) -> None:
    """Print false verdicts on simulated embeddings without a true difference."""
    print(f"\nimage mode, embeddings of equal quality, {n_trials} trials: p < 0.05")
    for n, n_classes, asking in ((200, 5, 200), (400, 10, 400), (400, 19, 400), (400, 10, 100)):
        rng = np.random.default_rng(n_classes)
        found = [by_image(pictures(rng, n, n_classes), trial, asking) for trial in range(n_trials)]
        rate = shown(sum(effect.p_value < 0.05 for effect in found), n_trials)
        print(f"{n:6d} pictures, {n_classes:2d} classes, {asking} ask: {rate}")


def fewshot_trial(table: VectorTable, cluster: str, seed: int) -> dict[int, float]:
    """Return the p-value of the difference in prototype accuracy at every number of shots."""
    population = choose_population(
        table, RetrievalTask.from_table(table, "label"), cluster, seed=seed
    )
    task = FewshotTask.from_table(table, "label", n_episodes=50, seed=seed)
    a, b = (run_fewshot(task, table, v, ["prototype"])["prototype"] for v in ("a", "b"))
    return {
        shots: population.fewshot_effect(table, a, b, i).p_value
        for i, shots in enumerate(a.shots)
        if np.isfinite(a.accuracy[i]).all()
    }


def fewshot_mode(n_trials: int) -> None:
    """Print false verdicts of few-shot accuracy on the same kind of embeddings."""
    print(f"\nfew-shot, embeddings of equal quality, {n_trials} trials, by shots: p < 0.05")
    for n, n_classes, cluster in ((200, 5, "image"), (400, 10, "image"), (600, 40, "class")):
        rng, wrong = np.random.default_rng(n_classes), Counter[int]()
        for trial in range(n_trials):
            found = fewshot_trial(pictures(rng, n, n_classes), cluster, trial)
            wrong.update({shots: int(p < 0.05) for shots, p in found.items()})
        rates = ", ".join(f"{shots}: {k / n_trials:.1%}" for shots, k in sorted(wrong.items()))
        print(f"{n:6d} pictures, {n_classes:2d} classes, by {cluster}: {rates}")


def speed(*, is_full: bool) -> None:
    """Print what the verdict itself costs."""
    rng = np.random.default_rng(0)
    sums, sizes = rng.normal(size=1000), np.full(1000, 50.0)
    started = time.process_time()
    sign_flip(sums, sizes, seed=0)
    seconds = time.process_time() - started
    print(f"\n50,000 queries, 1,000 classes, 10,000 resamples: {seconds:.2f} s of CPU time")
    by_image(pictures(rng, 100, 5), 0)  # compiles
    asked = (12_500, 25_000, 50_000) if is_full else (2_500, 5_000)
    print("image mode, 10 classes, two vectors of 256 dimensions, ranking included:")
    for n in asked:
        table = pictures(rng, n, 10, dim=256)
        seconds, more = cost(functools.partial(by_image, table, 0))
        print(f"{n:8,d} queries: {seconds:6.0f} s of CPU time, {more:4.0f} MB beside the vectors")


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """Return seconds of CPU time and, on Linux, the peak of memory above what was held, in MB."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    started, before = time.process_time(), memory("VmRSS")
    work()
    return time.process_time() - started, memory("VmHWM") - before


def memory(name: str) -> float:
    """Return a figure of this process's memory in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="2,000 trials; 50,000 queries")
    asked = parser.parse_args()
    n_trials = 2000 if asked.full else 400
    class_mode(n_trials)
    image_mode(n_trials)
    fewshot_mode(n_trials)
    speed(is_full=asked.full)


if __name__ == "__main__":
    main()
