"""Exact retrieval figures of a collection's vectors, by any payload field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from intramodal.evaluation.ranking import DEFAULT_KS, Ties
from intramodal.evaluation.retrieval import RetrievalResult, run_task, with_interval
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.progress import tracked
from intramodal.runs.run import Run
from intramodal.runs.scores import MEDIA_TYPE, SCORES, pack_scores
from intramodal.store.collection import ImageCollection
from intramodal.types import VectorTable
from intramodal.workflows.evaluate.subsets import Sides
from intramodal.workflows.evidence import (
    CLASSES,
    cluster_fields,
    log_figures,
    log_map,
    log_origins,
    read_labelled,
    sample_of,
    scores_of,
    stated,
)
from intramodal.workflows.workspace import open_workspace, recorded


@dataclass(frozen=True)
class RetrievalRequest:
    """What to evaluate; the options of ``intramodal evaluate retrieval``."""

    collection: str
    store: str
    runs: str
    labels: list[str]
    vectors: list[str] = field(default_factory=lambda: ["raw", "pca"])
    queries: str | None = None
    gallery: str | None = None
    split: str | None = None
    min_class_size: int = 2
    ties: Ties = "expected"
    ks: list[int] = field(default_factory=lambda: list(DEFAULT_KS))
    classes: bool = False
    device: str | None = None
    cluster: str | None = None
    seed: int = 0
    sample: int | None = None
    max_queries: int | None = None


def evaluate_collection(request: RetrievalRequest) -> dict[str, Any]:
    """Evaluate every vector by every field; returns what ``--json`` prints."""
    sides = Sides.parse(request.queries, request.gallery, request.split)
    with open_workspace(request.store, request.runs) as workspace:
        collection = ImageCollection.open(workspace.store, request.collection)
        with recorded(workspace, "evaluate-retrieval", stated(request), seed=request.seed) as run:
            fields = [*request.labels, *sides.fields, *cluster_fields(request.cluster)]
            table = read_labelled(
                collection, request.vectors, fields, sample=request.sample, seed=request.seed
            )
            tasks, results = _evaluated(table, sides, request)
            log_origins(run, workspace.ledger, collection)
            keep_results(run, results)
            return {
                "collection": request.collection,
                "n_points": len(table),
                "n_incomplete": table.n_incomplete,
                "sample": sample_of(table, request.seed),
                "protocol": results[0].protocol,
                "ties": request.ties,
                "min_class_size": request.min_class_size,
                "fields": _by_field(tasks, results, with_classes=request.classes),
                "run_id": run.id,
            }


def _evaluated(
    table: VectorTable, sides: Sides, request: RetrievalRequest
) -> tuple[list[RetrievalTask], list[RetrievalResult]]:
    rows, tasks = sides.tasks(
        table,
        request.labels,
        min_class_size=request.min_class_size,
        max_queries=request.max_queries,
        seed=request.seed,
    )
    pairs = [(task, vector) for task in tasks for vector in request.vectors]
    results = [
        _ranked(task, rows, vector, request)
        for task, vector in tracked(pairs, "rank", total=len(pairs))
    ]
    return tasks, results


def _ranked(
    task: RetrievalTask, table: VectorTable, vector: str, request: RetrievalRequest
) -> RetrievalResult:
    result = run_task(task, table, vector, ks=request.ks, ties=request.ties, device=request.device)
    return with_interval(result, task, table, cluster=request.cluster, seed=request.seed)


def _by_field(
    tasks: list[RetrievalTask], results: list[RetrievalResult], *, with_classes: bool
) -> dict[str, Any]:
    found: dict[str, Any] = {task.field: counts_of(task) | {"vectors": {}} for task in tasks}
    for result in results:
        row = result.to_dict()
        figures = {name: row[name] for name in ("map", "interval", "population")}
        figures |= {**row["metrics"], "tie_width": row["tie_width"]}
        if with_classes:
            figures["classes"] = row["classes"]
        found[result.field]["vectors"][result.vector] = figures
    return found


def counts_of(task: RetrievalTask) -> dict[str, int]:
    """Return who takes part, and who is left out and why."""
    return {
        "n_queries": len(task.query_rows),
        "n_gallery": len(task.gallery_rows),
        "n_without_positives": task.n_without_positives,
        "n_classes": len(task.codes.names),
        "n_missing": task.codes.n_missing,
        "n_dropped": task.codes.n_dropped,
    }


def keep_results(run: Run, results: list[RetrievalResult]) -> None:
    """Record the figures, and the scores of every query and class."""
    for result in results:
        row = result.to_dict()
        log_map(run, result)
        figures = {**row["metrics"], "tie width": row["tie_width"]}
        log_figures(
            run, figures, vector=result.vector, field=result.field, n=len(result.query_ids)
        )
        run.log_metric(
            "queries without positives",
            result.n_without_positives,
            vector=result.vector,
            field=result.field,
        )
    run.save_artefact(SCORES, pack_scores(scores_of(results)), MEDIA_TYPE)
    run.save_artefact(CLASSES, {"rows": [result.to_dict() for result in results]})
