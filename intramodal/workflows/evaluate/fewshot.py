"""Few-shot accuracy of a collection's vectors, by any payload field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intramodal.evaluation.fewshot import SHOTS, FewshotResult, FewshotTask, run_fewshot
from intramodal.evaluation.tasks import Sides, read_labelled
from intramodal.progress import tracked
from intramodal.runs.frames import json_values
from intramodal.runs.run import Run
from intramodal.store.collection import ImageCollection
from intramodal.types import VectorTable
from intramodal.workflows.evidence import log_origins, stated
from intramodal.workflows.workspace import open_workspace, recorded

EPISODES = "per-episode results"
"""Name of the run's artefact with the accuracy of every episode and class."""

LEVEL = 0.95


@dataclass(frozen=True)
class FewshotRequest:
    """What to evaluate; the options of ``intramodal evaluate fewshot``."""

    collection: str
    store: str
    runs: str
    labels: list[str]
    vectors: list[str] = field(default_factory=lambda: ["raw", "pca"])
    classifiers: list[str] = field(default_factory=lambda: ["prototype", "lda"])
    shots: list[int] = field(default_factory=lambda: list(SHOTS))
    episodes: int = 50
    seed: int = 0
    min_class_size: int = 2
    split: str | None = None
    test_share: float | None = None
    classes: bool = False


def evaluate_shots(request: FewshotRequest) -> dict[str, Any]:
    """Evaluate every vector by every field; returns what ``--json`` prints."""
    with open_workspace(request.store, request.runs) as workspace:
        collection = ImageCollection.open(workspace.store, request.collection)
        with recorded(workspace, "evaluate-fewshot", stated(request), seed=request.seed) as run:
            fields = [*request.labels, *([request.split] if request.split else [])]
            table = read_labelled(collection, request.vectors, fields)
            results = _evaluated(table, request)
            log_origins(run, workspace.ledger, collection)
            keep_results(run, results)
            return {
                "collection": request.collection,
                "n_points": len(table),
                "n_incomplete": table.n_incomplete,
                "split": request.split,
                "test_share": request.test_share,
                "seed": request.seed,
                "n_episodes": request.episodes,
                "fields": by_field(results, with_classes=request.classes),
                "run_id": run.id,
            }


def sides_of(table: VectorTable, field: str | None) -> tuple[VectorTable, list[str] | None]:
    """Return the rows that a split field names, and the side of each; all rows without one."""
    rows, masks = Sides.parse(None, None, field).apply(table)
    return rows, None if masks is None else np.where(masks[0], "test", "train").tolist()


def _evaluated(table: VectorTable, request: FewshotRequest) -> list[FewshotResult]:
    rows, split = sides_of(table, request.split)
    tasks = [
        FewshotTask.from_table(
            rows,
            name,
            shots=request.shots,
            n_episodes=request.episodes,
            seed=request.seed,
            min_class_size=request.min_class_size,
            split=split,
            test_share=request.test_share,
        )
        for name in request.labels
    ]
    asked = [(task, vector) for task in tasks for vector in request.vectors]
    found: list[FewshotResult] = []
    for task, vector in tracked(asked, "episodes", total=len(asked)):
        found += run_fewshot(task, rows, vector, request.classifiers).values()
    return found


def interval(result: FewshotResult, at: int) -> tuple[float, float] | None:
    """Return the 95% interval of the mean accuracy at one number of shots (an index).

    Student's t over the episodes: how well their number pins the mean down on these pictures,
    not what other pictures would give. None for a single episode, or where nothing was tested.
    """
    from scipy.stats import t as student

    mean, error = result.mean[at], result.standard_error[at]
    if not np.isfinite(error):
        return None
    half = float(student.ppf((1 + LEVEL) / 2, result.accuracy.shape[1] - 1) * error)
    return float(mean - half), float(mean + half)


def by_field(results: list[FewshotResult], *, with_classes: bool) -> dict[str, Any]:
    """Return the figures as ``--json`` prints them: by field, vector, classifier and shots."""
    found: dict[str, Any] = {}
    for result in results:
        extra = {k: result.extra[k] for k in ("n_missing", "n_dropped", "n_outside_split")}
        entry = found.setdefault(
            result.field,
            {"n_images": len(result.ids), "n_classes": len(result.class_names)}
            | {**extra, "vectors": {}},
        )
        by_classifier = entry["vectors"].setdefault(result.vector, {})
        by_classifier[result.classifier] = _by_shots(result, with_classes=with_classes)
    return found


def _by_shots(result: FewshotResult, *, with_classes: bool) -> dict[str, Any]:
    rows = {}
    for at, shots in enumerate(result.shots):
        row = {
            "accuracy": result.mean[at],
            "interval": interval(result, at),
            "standard_error": result.standard_error[at],
            "n_test": result.n_test[at],
            "n_classes": result.extra["n_classes"][at],
        }
        if with_classes:
            names = zip(result.class_names, result.class_accuracy[at], strict=True)
            row["classes"] = dict(names)
        rows[str(shots)] = row
    values: dict[str, Any] = json_values(rows)
    return values


def keep_results(run: Run, results: list[FewshotResult]) -> None:
    """Record the figures, and the accuracy of every episode and class."""
    for result in results:
        for at, shots in enumerate(result.shots):
            run.log_metric(
                f"accuracy, {result.classifier}, {shots} shots",
                float(result.mean[at]),
                vector=result.vector,
                field=result.field,
                interval=interval(result, at),
                n=result.accuracy.shape[1],
            )
    rows = [{**r.to_dict(), "episodes": json_values(r.accuracy)} for r in results]
    run.save_artefact(EPISODES, {"rows": rows})
