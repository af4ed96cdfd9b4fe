"""The indicators of misalignment for several collections and vectors, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from intramodal.commands.target import Target, TextSource
from intramodal.errors import InputError
from intramodal.evaluation.misalignment import measure_misalignment
from intramodal.evaluation.resampling import (
    NO_INTERVAL,
    Population,
    Resampling,
    interval_population,
)
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.evaluation.tasks import RetrievalTask, encode_labels, read_labelled
from intramodal.progress import tracked
from intramodal.projection.anchors import TEMPLATE, AnchorSet
from intramodal.projection.projection import Projection
from intramodal.reports.page import check_place
from intramodal.reports.pages import MisalignmentPage
from intramodal.reports.report import render_report
from intramodal.runs.ledger import RunLedger
from intramodal.runs.run import Run
from intramodal.types import Floats, VectorTable
from intramodal.workflows.evaluate.views import View, require_used, views_of
from intramodal.workflows.evidence import log_origins, stated
from intramodal.workflows.workspace import figures_kept, open_workspace, recorded

ROWS = "misalignment"
"""Name of the run's artefact with figures and histograms."""

_FIGURES = ("auc", "overlap", "d_prime", "same_mean", "other_mean")
_MODALITY_FIGURES = ("gap", "overlap", "image_mean", "text_mean")
_NORMAL_975 = 1.959964


@dataclass(frozen=True)
class MisalignmentRequest:
    """What to measure; the options of ``intramodal evaluate misalignment``."""

    targets: list[str]
    store: str
    runs: str
    labels: list[str]
    texts: bool = False
    models: list[str] = field(default_factory=list)
    text_vectors: list[Path] = field(default_factory=list)
    template: str = TEMPLATE
    projections: list[Path] = field(default_factory=list)
    bins: int = 80
    max_pairs: int | None = None
    seed: int = 0
    with_map: bool = True
    device: str | None = None
    precision: str | None = None
    report: Path | None = None


def measure_collections(request: MisalignmentRequest) -> dict[str, Any]:
    """Measure every vector by every field; returns what ``--json`` prints."""
    check_place(request.report)
    projections = [(path, Projection.load(path)) for path in request.projections]
    with open_workspace(request.store, request.runs) as workspace:
        targets = [Target.open(workspace.store, text) for text in request.targets]
        sources = _sources(request, targets)
        require_used(projections, targets)
        names = list(dict.fromkeys(target.collection.name for target in targets))
        parameters = {**stated(request), "collection": ", ".join(names)}
        with recorded(workspace, "evaluate-misalignment", parameters, seed=request.seed) as run:
            rows: list[dict[str, Any]] = []
            for target, source in tracked(
                list(zip(targets, sources, strict=True)), "measure", total=len(targets)
            ):
                has_texts = source is not None
                shown = views_of(target, projections, targets, has_texts=has_texts)
                rows += list(_measured(request, target, source, shown))
            rows = _side_by_side(rows, request.labels, names)
            _log(run, workspace.ledger, targets, projections)
            _keep(run, rows, is_alone=len(names) == 1)
            about = {"max_pairs": request.max_pairs, "seed": request.seed}
            result = {**about, "rows": rows, "run_id": run.id}
            if request.report is not None:
                command = workspace.ledger.get(str(run.id)).command
                with figures_kept(run, "runs show"):
                    page = MisalignmentPage(result, " ".join(command))
                    render_report(page, request.report)
            return result


def _side_by_side(
    rows: Sequence[dict[str, Any]], fields: Sequence[str], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the rows of a field together, of each collection what is adjusted last."""
    return sorted(
        rows,
        key=lambda row: (
            *(fields.index(row["field"]), names.index(row["collection"])),
            row["view"] == "mean adjusted",
        ),
    )


def _sources(request: MisalignmentRequest, targets: Sequence[Target]) -> list[TextSource | None]:
    """Return where the texts of every target come from; None where none are asked for."""
    if not (request.texts or request.models or request.text_vectors):
        return [None] * len(targets)
    models = _spread(request.models, len(targets), "--model")
    files = _spread(request.text_vectors, len(targets), "--text-vectors")
    return [
        TextSource(target, model, file, request.device, request.precision)
        for target, model, file in zip(targets, models, files, strict=True)
    ]


def _spread(given: Sequence[Any], n: int, option: str) -> list[Any]:
    """Return one value a target: the single one for all, or as many as there are."""
    if len(given) > 1 and len(given) != n:
        raise InputError(
            f"{option} is given {len(given)} times for {n} collections; give it once, or once "
            f"for each in the same order"
        )
    return list(given) * n if len(given) == 1 else list(given) or [None] * n


def _measured(
    request: MisalignmentRequest, target: Target, source: TextSource | None, shown: list[View]
) -> Iterator[dict[str, Any]]:
    table = read_labelled(target.collection, [target.vector], request.labels)
    for name in request.labels:
        texts = _texts(request, source, table, name)
        for view in shown:
            yield {
                "collection": target.collection.name,
                "vector": view.vector,
                "view": view.kind,
                "model": target.origin.encoder if target.origin else None,
                "texts": source.name if source else None,
                "field": name,
                "n_points": len(table),
                **_figures(request, view, table.vectors[target.vector], texts, table, name),
            }


def _texts(
    request: MisalignmentRequest, source: TextSource | None, table: VectorTable, name: str
) -> Floats | None:
    """Return the embeddings of the class names, in the encoder's own space."""
    if source is None:
        return None
    names = encode_labels(table.payload[name], field=name).names
    return source.embed(AnchorSet(tuple(names), request.template).prompts())


def _figures(
    request: MisalignmentRequest,
    view: View,
    X: Floats,
    texts: Floats | None,
    table: VectorTable,
    name: str,
) -> dict[str, Any]:
    images, beside = view.make(X, texts)
    shown = replace(table, vectors={view.vector: images})
    result = measure_misalignment(
        shown,
        vector=view.vector,
        field=name,
        texts=beside,
        n_bins=request.bins,
        max_pairs=request.max_pairs,
        seed=request.seed,
        population=_population(request, shown, name),
    )
    return {**_retrieval(request, shown, view.vector, name), **result.to_dict()}


def _population(request: MisalignmentRequest, table: VectorTable, name: str) -> Population | None:
    """Return whom the bands of the plots speak of; None where nothing is drawn."""
    if request.report is None or request.max_pairs is not None:
        return None
    task = RetrievalTask.from_table(table, name)
    return interval_population(table, task, None, seed=request.seed)


def _retrieval(
    request: MisalignmentRequest, table: VectorTable, vector: str, name: str
) -> dict[str, Any]:
    """Return the figure that decides, beside the indicators that do not."""
    if not request.with_map:
        return {"map": None, "n_queries": None}
    found = evaluate_retrieval(
        table, vectors=[vector], fields=[name], ks=(), resampling=Resampling(NO_INTERVAL)
    )[name, vector]
    return {"map": found.map, "n_queries": len(found.query_ids)}


def _log(
    run: Run,
    ledger: RunLedger,
    targets: Sequence[Target],
    projections: Sequence[tuple[Path, Projection]],
) -> None:
    for target in targets:
        log_origins(run, ledger, target.collection)
    for path, projection in projections:
        run.log_fingerprint("projection", str(path), projection.fingerprint, projection.recipe)


def _keep(run: Run, rows: Sequence[dict[str, Any]], *, is_alone: bool) -> None:
    """Record the figures; a vector of one collection among several is called by both names."""
    for row in rows:
        vector = row["vector"] if is_alone else f"{row['collection']}:{row['vector']}"
        about = {"vector": vector, "field": row["field"]}
        n_pairs = row["n_same"] + row["n_other"]
        run.log_metric("mAP", row["map"], n=row["n_queries"], **about)
        for name in _FIGURES:
            run.log_metric(name, row[name], interval=_interval(row, name), n=n_pairs, **about)
        beside = row["modality"]
        for name in _MODALITY_FIGURES if beside else ():
            interval = _interval(beside, name)
            run.log_metric(
                f"modality {name}", beside[name], interval=interval, n=beside["n_text"], **about
            )
    run.save_artefact(ROWS, {"rows": list(rows)})


def _interval(row: dict[str, Any], name: str) -> tuple[float, float] | None:
    """Return the normal 95% interval of a sampled figure; None where all pairs were taken."""
    error = row["standard_errors"].get(name)
    if error is None or row[name] is None:
        return None
    return row[name] - _NORMAL_975 * error, row[name] + _NORMAL_975 * error
