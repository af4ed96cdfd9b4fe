"""Two vectors of a collection without labels: how far they agree, and what a person can judge."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intramodal.commands.target import Target, TextSource
from intramodal.errors import InputError
from intramodal.evaluation.agreement import Agreement, neighbour_overlap, pseudo_labels
from intramodal.evaluation.cost import vector_costs
from intramodal.evaluation.retrieval import run_task
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.projection.anchors import load_anchors
from intramodal.reports.page import check_place
from intramodal.reports.pages import Disagreement, DisagreementsPage, found, picture
from intramodal.reports.report import render_report
from intramodal.runs.run import Run
from intramodal.store.collection import ImageCollection
from intramodal.store.origins import refuse_texts
from intramodal.store.search import describe
from intramodal.types import VectorTable
from intramodal.workflows.evidence import log_origins, stated
from intramodal.workflows.workspace import figures_kept, open_workspace, recorded

N_DISAGREEMENTS = 12
LEAST_CONFIDENCE = 0.5
_PSEUDO = "pseudo-label"


@dataclass(frozen=True)
class UnlabelledRequest:
    """What to compare; the options of ``intramodal compare`` without ``--labels``."""

    collection: str
    store: str
    runs: str
    vectors: list[str] = field(default_factory=lambda: ["raw", "pca"])
    k: int = 10
    names: str | None = None
    template: str = "a photo of a {}"
    model: str | None = None
    text_vectors: Path | None = None
    min_class_size: int = 2
    seed: int = 0
    report: Path | None = None
    pictures: Path | None = None
    device: str | None = None
    precision: str | None = None


def compare_unlabelled(request: UnlabelledRequest) -> dict[str, Any]:
    """Return neighbour overlap, disagreements and pseudo-labels: what ``--json`` prints.

    Nothing here is a verdict; `fields` stays empty.
    """
    check_place(request.report)
    if request.names is None and (request.model or request.text_vectors):
        raise InputError(
            "--model and --text-vectors serve pseudo-labels; give their class names with --names"
        )
    with open_workspace(request.store, request.runs) as workspace:
        collection = ImageCollection.open(workspace.store, request.collection)
        with recorded(workspace, "compare-unlabelled", stated(request), seed=request.seed) as run:
            a, b = request.vectors
            refuse_texts(collection, [a, b])
            table = collection.table([a, b])
            agreement = neighbour_overlap(table, (a, b), k=request.k, seed=request.seed)
            disagreements = _disagreements(collection, agreement)
            labels = _pseudo_labelled(collection, table, request) if request.names else None
            result = {
                "collection": request.collection,
                "vectors": [a, b],
                "fields": {},
                "agreement": {
                    **agreement.to_dict(),
                    "disagreements": [_plain(row) for row in disagreements],
                },
                "pseudo_labels": labels,
                "sentences": _sentences(agreement, labels),
                "cost": vector_costs(collection, table, [a, b]),
                "run_id": run.id,
            }
            log_origins(run, workspace.ledger, collection)
            _log(run, agreement)
            if request.report is not None:
                with figures_kept(run, "runs show"):
                    _write_page(collection, disagreements, request, result)
    return result


def _pseudo_labelled(
    collection: ImageCollection, table: VectorTable, request: UnlabelledRequest
) -> dict[str, Any]:
    a, b = request.vectors
    anchors = load_anchors(str(request.names), request.template)
    texts = TextSource(
        Target(collection, a),
        request.model,
        request.text_vectors,
        device=request.device,
        precision=request.precision,
    )
    embedded = texts.embed(anchors.prompts())
    if embedded is None:
        raise InputError(f"{texts.name} has no text tower; pseudo-labels need one")
    labels = pseudo_labels(table.vectors[a], embedded, anchors.names)
    table.payload[_PSEUDO] = labels.confident(LEAST_CONFIDENCE)
    task = RetrievalTask.from_table(table, _PSEUDO, min_class_size=request.min_class_size)
    return {
        **labels.to_dict(LEAST_CONFIDENCE),
        "texts": texts.name,
        "map": {vector: run_task(task, table, vector, ks=()).map for vector in (a, b)},
    }


def _disagreements(collection: ImageCollection, agreement: Agreement) -> list[dict[str, Any]]:
    """Return the queries that have fewest neighbours in common, with all their answers."""
    overlap = dict(zip(agreement.ids, agreement.overlap.tolist(), strict=True))
    return [
        {
            "id": point,
            "overlap": overlap[point],
            "answers": {
                vector: describe(
                    collection, collection.neighbours([point], using=vector, k=agreement.k)
                )
                for vector in agreement.vectors
            },
        }
        for point in agreement.disagreements(N_DISAGREEMENTS)
    ]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    nearest = {vector: [hit["id"] for hit in hits] for vector, hits in row["answers"].items()}
    return {"id": row["id"], "overlap": row["overlap"], "nearest": nearest}


def _sentences(agreement: Agreement, labels: dict[str, Any] | None) -> list[str]:
    a, b = agreement.vectors
    told = [
        f"No labels, hence no verdict: of the {agreement.k} nearest pictures {a} and {b} share "
        f"{agreement.overlap.mean():.1%} ({_asked(agreement)}). That says how much "
        f"would change, not whether for the better; judge the pictures on which they disagree."
    ]
    if labels is not None:
        first, second = (labels["map"][vector] for vector in (a, b))
        told.append(
            f"By zero-shot pseudo-labels ({labels['n_confident']:,} of {labels['n_images']:,} "
            f"pictures with a confidence of at least {labels['least_confidence']}; mean "
            f"{labels['confidence']:.2f}) mAP is {first:.4f} with {a} and {second:.4f} with {b}. "
            f"These labels come from the texts themselves and favour what texts can tell apart: "
            f"a hint, not evidence."
        )
    return told


def _asked(agreement: Agreement) -> str:
    n, n_images = len(agreement.ids), agreement.n_images
    if n == n_images:
        return f"all {n:,} pictures asked"
    low, high = agreement.interval
    return f"95% interval [{low:.1%}, {high:.1%}], {n:,} of {n_images:,} pictures asked"


def _log(run: Run, agreement: Agreement) -> None:
    run.log_metric(
        f"neighbour overlap@{agreement.k}",
        float(agreement.overlap.mean()),
        interval=agreement.interval,
        n=len(agreement.ids),
    )


def _write_page(
    collection: ImageCollection,
    rows: list[dict[str, Any]],
    request: UnlabelledRequest,
    result: dict[str, Any],
) -> None:
    asked = collection.store.retrieve(collection.name, [row["id"] for row in rows], payload=True)
    shown = [
        Disagreement(
            picture(request.pictures, row["id"], payload),
            round(row["overlap"] * request.k),
            request.k,
            {name: found(request.pictures, hits) for name, hits in row["answers"].items()},
        )
        for row, payload in zip(rows, asked.payloads, strict=True)
    ]
    render_report(DisagreementsPage(shown, result), Path(str(request.report)))
