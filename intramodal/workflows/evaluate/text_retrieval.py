"""Class names that ask for images, recorded as a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intramodal.commands.target import Target, TextSource
from intramodal.errors import InputError
from intramodal.evaluation.retrieval import RetrievalResult
from intramodal.evaluation.tasks import read_labelled
from intramodal.evaluation.text_retrieval import class_names, evaluate_text_retrieval
from intramodal.evaluation.views import project_texts
from intramodal.projection.anchors import TEMPLATE, AnchorSet
from intramodal.projection.projection import Projection
from intramodal.runs.scores import MEDIA_TYPE, SCORES, pack_scores
from intramodal.types import Floats
from intramodal.workflows.evidence import (
    CLASSES,
    cluster_fields,
    log_figures,
    log_map,
    log_origins,
    scores_of,
    stated,
)
from intramodal.workflows.workspace import open_workspace, recorded


@dataclass(frozen=True)
class TextRetrievalRequest:
    """What to evaluate; the options of ``intramodal evaluate text``."""

    target: str
    store: str
    runs: str
    labels: list[str]
    template: str = TEMPLATE
    model: str | None = None
    text_vectors: Path | None = None
    projection: Path | None = None
    min_class_size: int = 1
    cluster: str | None = None
    seed: int = 0
    device: str | None = None
    precision: str | None = None


def evaluate_texts(request: TextRetrievalRequest) -> dict[str, Any]:
    """Let the names of every field ask for their images; returns what ``--json`` prints."""
    with open_workspace(request.store, request.runs) as workspace:
        target = Target.open(workspace.store, request.target)
        source = TextSource(
            target, request.model, request.text_vectors, request.device, request.precision
        )
        with recorded(workspace, "evaluate-text", stated(request), seed=request.seed) as run:
            fields = [*request.labels, *cluster_fields(request.cluster)]
            table = read_labelled(target.collection, [target.vector], fields)
            results = []
            for field in request.labels:
                names = class_names(table, field, min_class_size=request.min_class_size)
                texts = _in_space(target, _embedded(source, names, request), request.projection)
                results.append(
                    evaluate_text_retrieval(
                        table,
                        texts,
                        vector=target.vector,
                        field=field,
                        min_class_size=request.min_class_size,
                        cluster=request.cluster,
                        seed=request.seed,
                    )
                )
            log_origins(run, workspace.ledger, target.collection)
            for result in results:
                log_map(run, result)
                figures = result.to_dict()["metrics"]
                log_figures(
                    run, figures, vector=result.vector, field=result.field, n=len(result.ap)
                )
            run.save_artefact(SCORES, pack_scores(scores_of(results)), MEDIA_TYPE)
            run.save_artefact(CLASSES, {"rows": [result.to_dict() for result in results]})
    return {
        "collection": target.collection.name,
        "vector": target.vector,
        "texts": source.name,
        "template": request.template,
        "n_points": len(table),
        "n_incomplete": table.n_incomplete,
        "fields": {result.field: _plain(result) for result in results},
        "run_id": run.id,
    }


def _embedded(source: TextSource, names: list[str], request: TextRetrievalRequest) -> Floats:
    texts = source.embed(AnchorSet(tuple(names), request.template).prompts())
    if texts is None:
        raise InputError(
            f"{source.name} has no text tower; give ready embeddings with --text-vectors"
        )
    return texts


def _in_space(target: Target, texts: Floats, file: Path | None) -> Floats:
    """Return the texts in the space of the target's vector."""
    if not target.is_projected:
        return texts
    if file is None:
        raise InputError(
            f"{target.vector!r} is projected and texts must be, too; give its file with "
            f"--projection, or ask on `raw`"
        )
    projection = target.projection_among([(file, Projection.load(file))])
    found = project_texts(texts, projection)
    if found is None:
        raise InputError(f"{target.vector!r} is centred and takes no texts; ask on `raw`")
    return found


def _plain(result: RetrievalResult) -> dict[str, Any]:
    row = result.to_dict()
    return {
        **{name: row[name] for name in ("map", "interval", "population")},
        **row["metrics"],
        "n_classes": row["n_queries"],
        "n_gallery": row["n_gallery"],
        "classes": {name: entry["ap"] for name, entry in row["classes"].items()},
    }
