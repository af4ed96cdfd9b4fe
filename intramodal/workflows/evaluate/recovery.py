"""How well a collection's image-image similarities follow from image-text ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from intramodal.commands.target import Target, TextSource
from intramodal.errors import InputError, ModelError
from intramodal.evaluation.recovery import check_norms, recovery_curve
from intramodal.evaluation.views import project_texts
from intramodal.projection.anchors import TEMPLATE, load_anchors
from intramodal.projection.projection import Projection
from intramodal.reports.page import check_place
from intramodal.reports.pages import RecoveryPage
from intramodal.reports.report import render_report
from intramodal.runs.run import Run
from intramodal.types import Floats
from intramodal.workflows.evidence import log_origins, stated
from intramodal.workflows.workspace import figures_kept, open_workspace, recorded

CURVE = "recovery curve"
"""Name of the run's artefact."""


@dataclass(frozen=True)
class RecoveryRequest:
    """What to measure; the options of ``intramodal evaluate recovery``."""

    target: str
    store: str
    runs: str
    model: str | None = None
    text_vectors: Path | None = None
    anchors: str = "imagenet"
    template: str = TEMPLATE
    projection: Path | None = None
    sizes: list[int] = field(default_factory=list)
    subsets: int = 5
    pairs: int = 20_000
    seed: int = 0
    device: str | None = None
    precision: str | None = None
    report: Path | None = None


def measure_recovery(request: RecoveryRequest) -> dict[str, Any]:
    """Measure the curve over numbers of anchors; returns what ``--json`` prints."""
    check_place(request.report)
    with open_workspace(request.store, request.runs) as workspace:
        target = Target.open(workspace.store, request.target)
        with recorded(
            workspace, "evaluate-recovery", _parameters(request, target), seed=request.seed
        ) as run:
            source = TextSource(
                target, request.model, request.text_vectors, request.device, request.precision
            )
            texts = _texts(request, source, target)
            table = target.collection.table([target.vector])
            X = _with_length(target, table.vectors[target.vector])
            curve = recovery_curve(
                X,
                texts,
                sizes=request.sizes or None,
                n_subsets=request.subsets,
                n_pairs=request.pairs,
                seed=request.seed,
            )
            result = {
                "collection": target.collection.name,
                "vector": target.vector,
                "texts": source.name,
                "n_points": len(X),
                "n_zero": len(table) - len(X),
                **curve.to_dict(),
                "without_anchors": check_norms(X, texts, seed=request.seed).to_dict(),
                "run_id": run.id,
            }
            log_origins(run, workspace.ledger, target.collection)
            _keep(run, result)
            if request.report is not None:
                command = workspace.ledger.get(str(run.id)).command
                with figures_kept(run, "runs show"):
                    render_report(RecoveryPage(result, " ".join(command)), request.report)
            return result


def _with_length(target: Target, X: Floats) -> Floats:
    """Return the vectors that point somewhere; a failed encoder may have left zeros."""
    X = X[np.any(X, axis=1)]
    if len(X) < 2:
        raise InputError(
            f"collection {target.collection.name!r} has {len(X)} points with a vector "
            f"{target.vector!r} that is not zero; pairs need at least 2"
        )
    return X


def _parameters(request: RecoveryRequest, target: Target) -> dict[str, str]:
    return {**stated(request), "collection": target.collection.name}


def _texts(request: RecoveryRequest, source: TextSource, target: Target) -> Floats:
    """Return the anchors' embeddings in the space of the target."""
    texts = source.embed(load_anchors(request.anchors, request.template).prompts())
    if texts is None:
        raise ModelError(
            f"{source.name} has no text tower, so there are no image-text similarities; choose a "
            f"collection of a model with one"
        )
    if not target.is_projected:
        return texts
    files = (
        [(request.projection, Projection.load(request.projection))] if request.projection else []
    )
    projected = project_texts(texts, target.projection_among(files))
    if projected is None:
        raise InputError(
            f"vector {target.vector!r} was made with the pictures' mean taken off, in which texts "
            f"have no part; measure {target.collection.name}:raw"
        )
    return projected


def _keep(run: Run, result: Mapping[str, Any]) -> None:
    for row in result["curve"]:
        for name in ("rms", "pearson", "spearman"):
            run.log_metric(
                f"recovery {name}, {row['n_anchors']} anchors",
                row[name],
                vector=result["vector"],
                interval=_interval(row, name, result["n_subsets"]),
                n=result["n_pairs"],
            )
    run.save_artefact(CURVE, result)


def _interval(row: Mapping[str, Any], name: str, n_subsets: int) -> tuple[float, float] | None:
    """Return the 95% interval over the draw of the anchors, by Student's t."""
    from scipy.stats import t as student

    error = row[f"{name}_error"]
    if error is None or row[name] is None:
        return None
    half = float(student.ppf(0.975, n_subsets - 1)) * error
    return row[name] - half, row[name] + half
