"""No job gives an interval that runs outside the range of its figure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from intramodal.evaluation.agreement import neighbour_overlap
from intramodal.evaluation.compare import Comparison, compare
from intramodal.evaluation.fewshot import evaluate_fewshot
from intramodal.evaluation.index import evaluate_index
from intramodal.evaluation.index_search import IndexSearch
from intramodal.evaluation.intervals import DIFFERENCE, FRACTION, NONNEGATIVE, Range
from intramodal.evaluation.misalignment import measure_misalignment, misalignment_of
from intramodal.evaluation.precision_recall import precision_recall
from intramodal.evaluation.recovery import recovery_curve
from intramodal.evaluation.resampling import Resampling, choose_population
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.evaluation.rivals.oti import Inversion, evaluate_inversion
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.evaluation.text_retrieval import evaluate_text_retrieval
from intramodal.runs.run import Recordable, Run
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store
from intramodal.types import VectorTable

N, DIM = 8, 4


class Kept(Run):
    """A run that remembers the figures that have an interval."""

    def __init__(self) -> None:
        self.figures: list[tuple[str, float, tuple[float, float]]] = []

    def keep(self, result: Recordable) -> None:
        """Let a result record its figures."""
        result.record(self)

    def log_metric(self, name: str, value: float | None, **about: Any) -> None:
        """Remember a figure."""
        if about.get("interval") is not None and value is not None:
            self.figures.append((name, value, about["interval"]))


def table(seed: int, *, noise: float = 0.6, n: int = N) -> VectorTable:
    """Return few pictures of two classes: by `pca` far easier than by `raw`."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(n) % 2
    easy = np.eye(2, DIM)[kinds] + noise * rng.normal(size=(n, DIM))
    vectors = {"raw": rng.normal(size=(n, DIM)), "pca": easy}
    found = {name: X.astype(np.float32) for name, X in vectors.items()}
    return VectorTable(list(range(n)), found, {"kind": [f"kind {k}" for k in kinds]})


def assert_within(figures: list[tuple[str, float, tuple[float, float]]], bounds: Range) -> None:
    """Assert that figures lie in intervals, these in the range, and one of them at its end."""
    least, most = bounds
    for name, value, (low, high) in figures:
        assert least <= low <= value + 1e-12, name
        assert value - 1e-12 <= high <= most, name
    ends = {end for _, _, interval in figures for end in interval if math.isfinite(end)}
    assert ends & set(bounds), f"nothing came near the end of its range: {sorted(ends)}"


def collection_of(found: VectorTable) -> ImageCollection:
    store, spec = open_store(":memory:"), (DIM, VectorOrigin("test", "0" * 64))
    made = ImageCollection.create(store, "few", dict.fromkeys(found.vectors, spec))
    payloads = [{"kind": kind} for kind in found.payload["kind"]]
    store.upsert("few", found.ids, found.vectors, payloads)
    return made


def recorded(job: Any, seeds: int = 12, **options: Any) -> list[tuple[str, float, Any]]:
    run = Kept()
    for seed in range(seeds):
        job(seed, run=run, **options)
    return run.figures


def compared(seed: int, **options: Any) -> Comparison:
    found = table(seed, noise=0.1, n=6)
    return compare(found, fields=["kind"], resampling=Resampling("image"), **options)


def test_differences_of_map_and_of_accuracy() -> None:
    assert_within(recorded(compared), DIFFERENCE)
    shots = [
        (classifier, row["delta"], tuple(row["interval"]))
        for seed in range(12)
        for classifier, rows in compared(seed).to_dict()["fields"]["kind"]["fewshot"].items()
        for row in rows.values()
    ]
    assert_within(shots, DIFFERENCE)


def test_differences_of_textual_inversion() -> None:
    def job(seed: int, run: Run) -> None:
        found = table(seed, noise=0.1, n=6)
        texts, ones = found.vectors["pca"], np.ones(6, dtype=np.float32)
        inversion = Inversion(found.ids, texts, texts, ones, ones, 0)
        found = VectorTable(found.ids, {"raw": found.vectors["raw"]}, found.payload)
        evaluate_inversion(found, inversion, fields=["kind"], run=run)

    figures = recorded(job)
    assert_within([row for row in figures if "minus" in row[0]], DIFFERENCE)


@pytest.mark.parametrize("ties", ["expected", "best"])
def test_mean_average_precisions(ties: Any) -> None:
    def exact(seed: int, run: Run) -> None:
        evaluate_retrieval(table(seed, noise=0.2), fields=["kind"], ties=ties, run=run)

    def stored(seed: int, run: Run) -> None:
        made = collection_of(table(seed, noise=0.2))
        evaluate_index(made, searches=[IndexSearch("pca")], fields=["kind"], k=3, run=run)

    def asked(seed: int, run: Run) -> None:
        found = table(seed, noise=0.2)
        texts = np.eye(2, DIM, dtype=np.float32)
        about: Any = {"vector": "pca", "fields": ["kind"], "resampling": Resampling("image")}
        evaluate_text_retrieval(found, texts=texts, run=run, **about)

    for job in (exact, stored, asked):
        assert_within(recorded(job), FRACTION)


def test_few_shot_accuracy() -> None:
    """Case F17: 0.9907 had the interval [0.8731, 1.1084]."""

    def job(seed: int, run: Run) -> None:
        about: Any = {"fields": ["kind"], "shots": [1, 2], "episodes": 2}
        evaluate_fewshot(table(seed, noise=0.3), run=run, **about)

    assert_within(recorded(job), FRACTION)


def test_indicators_of_misalignment() -> None:
    def job(seed: int, run: Run) -> None:
        texts = np.eye(2, DIM, dtype=np.float32)
        about: Any = {"vectors": ["pca"], "texts": texts, "max_pairs": 12, "with_map": False}
        found = table(seed, noise=0.1)
        measure_misalignment(found, fields=["kind"], run=run, seed=seed, **about)

    figures = recorded(job)
    fractions = ("auc", "overlap", "modality overlap")
    assert_within([row for row in figures if row[0] in fractions], FRACTION)
    means = [row for row in figures if row[0].endswith("mean")]
    assert all(-1 <= low <= high <= 1 for _, _, (low, high) in means)
    # d' has no range: one of a clear separation lies far above 1.
    assert max(high for name, _, (_, high) in figures if name == "d_prime") > 3


def test_correlations_and_errors_of_recovery() -> None:
    def job(seed: int, run: Run) -> None:
        rng = np.random.default_rng(seed)
        texts = rng.normal(size=(9, DIM)).astype(np.float32)
        recovery_curve(table(seed, n=40), texts=texts, sizes=[2, 3], subsets=2, run=run)

    figures = recorded(job)
    rms = [row for row in figures if "rms" in row[0]]
    assert_within(rms, NONNEGATIVE)
    assert_within([row for row in figures if row not in rms], DIFFERENCE)


def test_overlap_of_neighbours() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, DIM)).astype(np.float32)
    near = X + 0.02 * rng.normal(size=X.shape).astype(np.float32)
    found = VectorTable(list(range(300)), {"raw": X, "pca": near})
    samples = [
        neighbour_overlap(found, ("raw", "pca"), k=2, n_queries=12, seed=seed)
        for seed in range(12)
    ]
    assert_within([("overlap", float(s.overlap.mean()), s.interval) for s in samples], FRACTION)


def test_curves_and_histograms() -> None:
    found = table(0, noise=0.4, n=12)
    task = RetrievalTask.from_table(found, "kind")
    population = choose_population(found, task, "image", seed=0)
    curve = precision_recall(found, task, vectors=["pca"], population=population)
    points = zip(curve.precision["pca"], *curve.interval["pca"], strict=True)
    assert_within([("precision", p, (low, high)) for p, low, high in points], FRACTION)
    about: Any = {"vector": "pca", "field": "kind", "n_bins": 3}
    whole = misalignment_of(found, population=population, **about)
    assert whole.bands is not None
    widths = np.diff(whole.edges)
    shares = zip(whole.same_density * widths, *(whole.bands.a * widths), strict=True)
    assert_within([("share", p, (low, high)) for p, low, high in shares], FRACTION)
