"""Claim: the verdict errs as rarely as it says, settles what it should, and costs little.

The tables of docs/method.md, from the product's own rule. Estimates are drawn with the standard
errors and correlations of real fields at 1,000 queries; class effects from three distributions,
with class sizes that differ tenfold and more; embeddings of two vectors of equal quality, with and
without near-copies. Rates in per cent, with the 95% Monte-Carlo interval (Clopper-Pearson);
nothing is adjusted to them.

    python benchmarks/verdict.py                 2,000 drawn estimates, 100 drawn collections a row
    python benchmarks/verdict.py --full          10,000 and 1,000
    python benchmarks/verdict.py --only rule     one table: rule, fields, classes, copies, images
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from scipy import stats

from intramodal.evaluation.compare import compare
from intramodal.evaluation.intervals import (
    Difference,
    Effect,
    Paired,
    bootstrap_t,
    sign_flip,
)
from intramodal.evaluation.verdict import PIECES, Piece, guard_of, judge
from intramodal.types import VectorTable, unit_rows

ERRORS = np.array([0.0025, 0.0055, 0.0050])
"""Standard errors of mAP, nDCG@10 and few-shot accuracy at 1,000 queries, as real fields have."""
CORRELATIONS = np.array([[1, 0.28, 0.5], [0.28, 1, 0.2], [0.5, 0.2, 1]])
TRUTHS = {
    "no difference": (0, 0, 0),
    "mAP +1": (1, 0, 0),
    "all +1": (1, 1, 1),
    "few-shot +2": (0, 0, 2),
    "first page +2": (0, 2, 0),
    "mAP +3, first -1": (3, -1, 0),
    "mAP +3, first -2 = the guard": (3, -2, 0),
    "mAP +3, first -4": (3, -4, 0),
    "mAP +3, few-shot -2 = the guard": (3, 0, -2),
    "few-shot +3, mAP -1 = the guard": (-1, 0, 3),
}
"""True differences in points (x 100)."""
N_FIELDS = 10


def shown(n_hits: int, n_trials: int) -> str:
    low, high = stats.binomtest(n_hits, n_trials).proportion_ci(0.95)
    return f"{100 * n_hits / n_trials:5.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def estimated(delta: float, error: float) -> Effect:
    def p_at(difference: float) -> float:
        return math.erfc(abs(delta - difference) / error / math.sqrt(2))

    half = 1.959964 * error
    return Effect(delta, (delta - half, delta + half), p_at(0.0), 1000, error, p_at)


def pieces(deltas: np.ndarray) -> list[Piece]:
    found = []
    for name, delta, error in zip(PIECES, deltas, ERRORS, strict=True):
        difference = Difference(0.6, 0.6 + delta, estimated(float(delta), float(error)))
        found.append(Piece(name, Paired(difference), guard_of(name, 0.02)))
    return found


def drawn(rng: np.random.Generator, truth: tuple[float, ...], n: int) -> np.ndarray:
    covariance = CORRELATIONS * np.outer(ERRORS, ERRORS)
    return rng.multivariate_normal(np.array(truth) / 100, covariance, n)


def rule(n_trials: int) -> None:
    """Print how often one field by itself comes to each outcome."""
    print(f"\none field, {n_trials:,} trials, 1,000 queries")
    names = ("better", "not_worse", "worse + mixed", "inconclusive")
    print(f"{'truth (points)':>34} " + " ".join(f"{name:>20}" for name in names))
    for title, truth in TRUTHS.items():
        rng = np.random.default_rng(1)
        found = Counter(
            judge({"x": pieces(row)})["x"].outcome for row in drawn(rng, truth, n_trials)
        )
        found["worse + mixed"] = found["worse"] + found["mixed"]
        print(f"{title:>34} " + " ".join(f"{shown(found[name], n_trials):>20}" for name in names))


def fields(n_trials: int) -> None:
    """Print how often at least one of ten fields is judged falsely, and the power of each."""
    print(f"\n{N_FIELDS} fields named together, {n_trials:,} trials")
    guarded = TRUTHS["mAP +3, first -2 = the guard"]
    wrong: dict[str, tuple[tuple[float, ...], tuple[str, ...]]] = {
        "false better": ((0, 0, 0), ("better",)),
        "false worse + mixed": ((0, 0, 0), ("worse", "mixed")),
        "false adoption at the guard": (guarded, ("better", "not_worse")),
    }
    for title, (truth, outcomes) in wrong.items():
        n = sum(any(o in outcomes for o in found) for found in judged_together(truth, n_trials))
        print(f"{title:>34} {shown(n, n_trials):>20}")
    for title in ("mAP +1", "all +1"):
        found = [o for row in judged_together(TRUTHS[title], n_trials // 5) for o in row]
        print(f"{'better per field, ' + title:>34} {shown(found.count('better'), len(found)):>20}")


def judged_together(truth: tuple[float, ...], n_trials: int) -> Iterator[list[str]]:
    rng = np.random.default_rng(2)
    for _ in range(n_trials):
        rows = drawn(rng, truth, N_FIELDS)
        found = judge({str(i): pieces(row) for i, row in enumerate(rows)})
        yield [judgement.outcome for judgement in found.values()]


EFFECTS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(0, 0.05, n),
    "exponential": lambda rng, n: 0.05 * (rng.exponential(1, n) - 1),
    "lognormal(1)": lambda rng, n: 0.03 * (rng.lognormal(0, 1, n) - math.exp(0.5)),
}


def class_trial(
    rng: np.random.Generator, n_classes: int, effects: str, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the class means and sizes of differences; sizes lognormal(1), 20 in the mean."""
    sizes = rng.lognormal(0, 1, n_classes)
    sizes = np.maximum(2, np.rint(20 * sizes / math.exp(0.5))).astype(int)
    noise = rng.normal(0, 0.15, n_classes) / np.sqrt(sizes)
    return EFFECTS[effects](rng, n_classes) + shift + noise, sizes


def classes(n_trials: int) -> None:
    """Print false verdicts of the mean over classes, those of flipped signs, and the power."""
    print(f"\nclasses mode, {n_trials:,} trials: false worse / false better")
    print(f"{'effects':>14} {'classes':>8} {'the rule':>40} {'flips on sums':>16} {'power':>8}")
    for effects in EFFECTS:
        for n_classes in (20, 30, 60, 100):
            rng = np.random.default_rng(n_classes)
            wrong, flips = np.zeros(2, int), np.zeros(2, int)
            for trial in range(n_trials):
                means, sizes = class_trial(rng, n_classes, effects)
                wrong += sides(bootstrap_t(means, seed=0))
                if trial < n_trials // 5:
                    flips += sides(sign_flip(means * sizes, sizes, seed=0, n_resamples=1999))
            shift = 2.8 * 0.06 / math.sqrt(n_classes)
            found = [
                bootstrap_t(class_trial(rng, n_classes, effects, shift)[0], seed=0)
                for _ in range(n_trials // 5)
            ]
            power = sum(sides(effect)[1] for effect in found) / len(found)
            rates = " / ".join(shown(n, n_trials) for n in wrong)
            old = " / ".join(f"{100 * n / (n_trials // 5):.1f}" for n in flips)
            print(f"{effects:>14} {n_classes:8d} {rates:>40} {old:>16} {100 * power:8.0f}")


def sides(effect: Effect) -> np.ndarray:
    """Return whether a loss and whether a gain is certain."""
    is_certain = effect.p_value < 0.05
    return np.array([is_certain and effect.delta < 0, is_certain and effect.delta > 0], int)


DIM = 32


def images(
    rng: np.random.Generator, n: int, n_classes: int, copies: int, cosine: float
) -> VectorTable:
    """Return images under two vectors of equal quality, in groups of so many near-copies.

    The second vector is an independent draw around turned centres; `cosine` is that of two copies
    after the mean is subtracted.
    """
    centres = np.random.default_rng(7).normal(size=(n_classes, DIM))
    turn, _ = np.linalg.qr(np.random.default_rng(8).normal(size=(DIM, DIM)))
    group = np.arange(n) // copies
    labels = rng.integers(0, n_classes, int(group.max()) + 1)
    vectors = {}
    for name, around in (("raw", centres), ("pca", centres @ turn)):
        X = around[labels] + 2 * rng.normal(size=(len(labels), DIM))
        spread = np.sqrt((X**2).sum(axis=1).mean() / DIM * (1 / cosine - 1))
        X = X[group] + spread * rng.normal(size=(n, DIM)) * (copies > 1)
        vectors[name] = unit_rows(X.astype(np.float32))
    return VectorTable(list(range(n)), vectors, {"label": [int(c) for c in labels[group]]})


def image_trial(seed: int, *, copies: int, cosine: float, threshold: float | None) -> list[str]:
    """Return which pieces differ for certain, and the outcome, of two vectors of equal quality."""
    table = images(np.random.default_rng(seed), 400, 8, copies, cosine)
    found = compare(
        table, fields=["label"], controls=False, duplicates=threshold, min_class_size=5, seed=seed
    )
    judgement = found.judgements["label"]
    wrong = [piece.name for piece in judgement.pieces if piece.effect.p_value < 0.05]
    return [*wrong, judgement.outcome]


def embeddings(n_trials: int, *, copied: bool) -> None:
    """Print false verdicts of two vectors of equal quality, copies as one or each by itself."""
    cases: list[tuple[int, float]] = [(1, 1.0)]
    if copied:
        cases = [(3, 0.9995), (6, 0.9995), (3, 0.95), (6, 0.95)]
    print(f"\n400 images of 8 classes, two vectors of equal quality, {n_trials:,} trials")
    names = (*PIECES, "better", "worse + mixed", "not_worse")
    print(f"{'copies (cosine)':>18} {'taken as':>10} " + " ".join(f"{n:>18}" for n in names))
    for copies, cosine in cases:
        for threshold in (None, 0.9) if copied else (0.9,):
            trial = partial(image_trial, copies=copies, cosine=cosine, threshold=threshold)
            started = time.time()
            with ProcessPoolExecutor(2) as pool:
                told = list(pool.map(trial, range(n_trials), chunksize=5))
            found = Counter(name for row in told for name in row)
            found["worse + mixed"] = found["worse"] + found["mixed"]
            title = f"{copies} each ({cosine:g})" if copied else "none"
            rates = " ".join(f"{shown(found[name], n_trials):>18}" for name in names)
            taken = "one" if threshold else "images"
            print(f"{title:>18} {taken:>10} {rates}  {time.time() - started:.0f} s", flush=True)


def speed() -> None:
    """Print what the tests of classes cost."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=1000)
    seconds = []
    for _ in range(2):
        started = time.process_time()
        bootstrap_t(values, seed=0)
        seconds.append(time.process_time() - started)
    print(f"\n1,000 classes, 10,000 resamples: {seconds[0]:.2f} s of CPU time, ", end="")
    print(f"{seconds[1]:.2f} s for every further piece")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="the trials that docs/method.md quotes"
    )
    parser.add_argument("--only", choices=["rule", "fields", "classes", "copies", "images"])
    options = parser.parse_args()
    many, few = (10_000, 1_000) if options.full else (2_000, 100)
    tables: dict[str, Callable[[], None]] = {
        "rule": partial(rule, many),
        "fields": partial(fields, many // 4),
        "classes": partial(classes, many // 2),
        "images": partial(embeddings, few, copied=False),
        "copies": partial(embeddings, few * 3 // 10 if options.full else few, copied=True),
    }
    for name, table in tables.items():
        if options.only in (None, name):
            table()
    if options.only is None:
        speed()


if __name__ == "__main__":
    main()
