"""Should vector B replace vector A? Evidence from the collection, recorded as a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from intramodal.errors import InputError
from intramodal.evaluation.compare import CompareSettings, Comparison, compare_vectors
from intramodal.evaluation.cost import vector_costs
from intramodal.evaluation.tasks import read_labelled, sample_of
from intramodal.ingest.vectors.matrices import read_matrix
from intramodal.projection.projection import Projection
from intramodal.reports.page import check_place
from intramodal.reports.report import render_report
from intramodal.runs.run import Run
from intramodal.runs.scores import MEDIA_TYPE, SCORES, pack_scores
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, VectorTable
from intramodal.workflows.controls import load_for, sweeps, with_controls, with_rivals
from intramodal.workflows.document import Evidence, build_document
from intramodal.workflows.evidence import log_origins, scores_of, stated
from intramodal.workflows.model_check import warn_of_wrong_model
from intramodal.workflows.workspace import Workspace, figures_kept, open_workspace, recorded


@dataclass(frozen=True)
class CompareRequest:
    """What to compare, by which labels; the options of ``intramodal compare``."""

    collection: str
    store: str
    runs: str
    labels: list[str]
    vectors: list[str] = field(default_factory=lambda: ["raw", "pca"])
    tasks: list[str] = field(default_factory=lambda: ["retrieval", "fewshot"])
    cluster: str | None = None
    margin: float = 0.005
    min_class_size: int = 2
    seed: int = 0
    projection: Path | None = None
    text_vectors: Path | None = None
    beside: Sequence[Path] = ()
    controls: bool = True
    sample: int | None = None
    max_queries: int | None = None
    report: Path | None = None
    pictures: Path | None = None
    title: str = ""
    about: str = ""


def compare_collection(request: CompareRequest) -> dict[str, Any]:
    """Compare two vectors per label field; returns what ``--json`` prints."""
    with open_workspace(request.store, request.runs) as workspace:
        return compare_in(workspace, request)


def compare_in(workspace: Workspace, request: CompareRequest) -> dict[str, Any]:
    """Compare in an open workspace."""
    check_place(request.report)
    collection = ImageCollection.open(workspace.store, request.collection)
    projection = _projection(collection, request)
    with recorded(workspace, "compare", stated(request), seed=request.seed) as run:
        table = read_table(collection, request)
        comparison = _compared(collection, table, projection, request)
        drawn = sample_of(table, request.seed)
        result = {
            "collection": request.collection,
            **_said_of_sample(comparison.to_dict(), drawn),
            "cost": vector_costs(collection, table, request.vectors),
            "model_check": _model_check(collection, projection, request.vectors[0]),
            "sample": drawn,
            "run_id": run.id,
        }
        log_origins(run, workspace.ledger, collection)
        _log(run, result)
        results = [result for row in comparison.fields.values() for result in row.results]
        run.save_artefact(SCORES, pack_scores(scores_of(results)), MEDIA_TYPE)
        evidence = _evidence(collection, table, comparison, projection, request)
        document = build_document(
            evidence,
            result,
            title=request.title,
            about=request.about,
            ledger=workspace.ledger,
        )
        document = replace(document, sweep=_swept(evidence, request))
        run.keep(document)
    if request.report is not None:
        with figures_kept(run, "report"):
            render_report([document], request.report)
    return result


def _projection(collection: ImageCollection, request: CompareRequest) -> Projection | None:
    if request.projection is None:
        return None
    return load_for(collection, request.vectors[1], request.projection)


def _model_check(
    collection: ImageCollection, projection: Projection | None, source: str
) -> dict[str, Any] | None:
    if projection is None:
        return None
    return warn_of_wrong_model(collection, projection, source).to_dict()


def _evidence(
    collection: ImageCollection,
    table: VectorTable,
    comparison: Comparison,
    projection: Projection | None,
    request: CompareRequest,
) -> Evidence:
    return Evidence(
        collection,
        table,
        comparison,
        pictures=request.pictures,
        projection=projection,
        texts=_texts(table, request),
        min_class_size=request.min_class_size,
    )


def _texts(table: VectorTable, request: CompareRequest) -> Floats | None:
    """Read the text embeddings, which must fit vector A."""
    if request.text_vectors is None:
        return None
    texts, dim = read_matrix(request.text_vectors), table.vectors[request.vectors[0]].shape[1]
    if texts.shape[1] != dim:
        raise InputError(
            f"{request.text_vectors} holds texts of {texts.shape[1]} dimensions, but "
            f"{request.vectors[0]!r} has {dim}; embed them with the model of that vector"
        )
    return texts


def _swept(evidence: Evidence, request: CompareRequest) -> list[dict[str, Any]]:
    return sweeps(
        evidence.table,
        request.vectors[0],
        request.labels,
        evidence.projection,
        texts=evidence.texts,
        margin=request.margin,
        min_class_size=request.min_class_size,
    )


def read_table(collection: ImageCollection, request: CompareRequest) -> VectorTable:
    """Read both vectors, the label fields, the cluster field and the paths, once."""
    fields = list(request.labels)
    if request.cluster not in (None, "class", "image", "iid"):
        fields.append(str(request.cluster))
    return read_labelled(
        collection,
        request.vectors,
        fields,
        optional=["path"],
        sample=request.sample,
        seed=request.seed,
    )


def _said_of_sample(result: dict[str, Any], drawn: dict[str, int] | None) -> dict[str, Any]:
    """Let every sentence say if its figures are those of a random part of the points."""
    if drawn:
        for row in result["fields"].values():
            among = f"{drawn['n_points']:,} of {drawn['of']:,} points"
            row["sentence"] += f" Measured among {among}, drawn at random."
    return result


def _compared(
    collection: ImageCollection,
    table: VectorTable,
    projection: Projection | None,
    request: CompareRequest,
) -> Comparison:
    a, b = request.vectors
    others: tuple[str, ...] = ()
    if request.controls:
        table, others = with_controls(collection, table, request.vectors, projection)
    table, rivals = with_rivals(collection, table, a, request.beside)
    settings = CompareSettings(
        cluster=request.cluster,
        tasks=tuple(request.tasks),
        margin=request.margin,
        min_class_size=request.min_class_size,
        seed=request.seed,
        others=(*rivals, *others),
        max_queries=request.max_queries,
    )
    return compare_vectors(table, a, b, fields=request.labels, settings=settings)


def _log(run: Run, result: dict[str, Any]) -> None:
    for name, row in result["fields"].items():
        for vector, value in row["map"].items():
            run.log_metric("mAP", value, vector=vector, field=name, n=row["n_queries"])
        run.log_metric(
            "mAP delta", row["delta"], field=name, interval=row["interval"], n=row["n_queries"]
        )
