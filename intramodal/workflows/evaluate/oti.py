"""Pictures said by the text tower ask for pictures (OTI); recorded as a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import numpy as np

from intramodal.commands.target import Target
from intramodal.errors import InputError
from intramodal.evaluation.intervals import holm
from intramodal.evaluation.retrieval import RetrievalResult, record_results
from intramodal.evaluation.rivals.oti import (
    TEXTS,
    Inversion,
    InversionEvidence,
    InversionMap,
    InvertibleEncoder,
    OtiSettings,
    compare_inversion,
    invert_images,
    text_rows,
)
from intramodal.evaluation.tasks import RetrievalTask, Sides, read_labelled
from intramodal.ingest.backfill.copy import under_own_name
from intramodal.ingest.backfill.in_place import backfill
from intramodal.progress import tracked
from intramodal.runs.run import Run
from intramodal.types import Floats, PointId, VectorTable, unit_rows
from intramodal.workflows.evidence import cluster_fields, log_origins, stated
from intramodal.workflows.workspace import open_workspace, recorded

FOLDER = Path(".intramodal")
"""Where texts are kept unless a file or a named vector is asked for."""

_READ_AT_ONCE = 1000


@dataclass(frozen=True)
class OtiRequest:
    """What to invert and to evaluate; the options of ``intramodal evaluate oti``."""

    target: str
    store: str
    runs: str
    labels: list[str]
    vectors: list[str] = field(default_factory=list)
    to: str | None = None
    out: Path | None = None
    model: str | None = None
    template: str = OtiSettings.template
    steps: int = OtiSettings.n_steps
    batch_size: int = OtiSettings.batch_size
    seed: int = OtiSettings.seed
    max_queries: int | None = None
    queries: str | None = None
    gallery: str | None = None
    split: str | None = None
    min_class_size: int = 2
    cluster: str | None = None
    device: str | None = None
    precision: str | None = None

    @property
    def settings(self) -> OtiSettings:
        """The settings of the inversion."""
        return OtiSettings(
            template=self.template,
            n_steps=self.steps,
            seed=self.seed,
            batch_size=self.batch_size,
        )


class _Kept(NamedTuple):
    """Texts (n, d), whose rows follow those of the table; how many are new; where all are."""

    texts: Floats
    n_new: int
    place: dict[str, str]


def evaluate_oti(request: OtiRequest) -> dict[str, Any]:
    """Invert the pictures that ask, and evaluate by every field; returns what ``--json`` prints.

    Stopped at any moment, the same call goes on: what is inverted is kept as a named vector
    (`to`) after every batch, or in a file.
    """
    sides = Sides.parse(request.queries, request.gallery, request.split)
    with open_workspace(request.store, request.runs) as workspace:
        target = Target.open(workspace.store, request.target)
        vectors = _vectors(target, request)
        made = InversionMap(_encoder(target, request), request.settings)
        with recorded(workspace, "evaluate-oti", stated(request), seed=request.seed) as run:
            run.log_fingerprint("projection", made.method, made.fingerprint, made.recipe)
            table, tasks = _asked(target, vectors, sides, request)
            asking = np.unique(np.concatenate([task.query_rows for task in tasks]))
            kept = _kept(target, made, table.take(asking), request, run)
            texts = text_rows(table.ids, [table.ids[row] for row in asking], kept.texts)
            cosines = _cosines(made, table.vectors[target.vector][asking], kept.texts)
            found = [
                _compared(task, table, texts, target, vectors, request)
                for task in tracked(tasks, "rank", total=len(tasks))
            ]
            log_origins(run, workspace.ledger, target.collection)
            fields = _by_field(tasks, found)
            _log(run, fields, cosines)
            record_results(run, [result for evidence in found for result in evidence.results])
    return {
        "collection": target.collection.name,
        "vector": target.vector,
        "model": made.encoder,
        "settings": asdict(request.settings),
        "texts": {**kept.place, "n_new": kept.n_new, "n": len(asking), **cosines},
        "n_points": len(table),
        "n_incomplete": table.n_incomplete,
        "protocol": "leave-one-out" if sides == Sides() else "query-gallery",
        "fields": fields,
        "run_id": run.id,
    }


def _vectors(target: Target, request: OtiRequest) -> list[str]:
    """Return the vectors to compare with: those named, or the target and its projections."""
    if request.to is not None and request.out is not None:
        raise InputError("the texts are kept as a named vector or in a file; leave out one")
    if target.is_projected:
        raise InputError(
            f"texts are in the encoder's own space and {target.vector!r} is made from another "
            f"vector; invert that one"
        )
    origins, there = target.collection.manifest.vectors, target.collection.info().vectors
    projected = [
        name
        for name, origin in origins.items()
        if origin.source == target.vector
        and origin.method != InversionMap.method
        and name in there
    ]
    found = request.vectors or [target.vector, *projected]
    if request.to in found:
        raise InputError(
            f"{request.to!r} is compared with the texts; keep them under another name"
        )
    return found


def _encoder(target: Target, request: OtiRequest) -> InvertibleEncoder:
    # `InversionMap` refuses a model that is not invertible.
    return cast(
        "InvertibleEncoder",
        target.load_encoder(request.model, device=request.device, precision=request.precision),
    )


def _asked(
    target: Target, vectors: Sequence[str], sides: Sides, request: OtiRequest
) -> tuple[VectorTable, list[RetrievalTask]]:
    """Return the pictures that take part, and who asks by which field."""
    fields = [*request.labels, *sides.fields, *cluster_fields(request.cluster)]
    table = read_labelled(target.collection, [target.vector, *vectors], fields)
    X = table.vectors[target.vector]
    usable = np.isfinite(X).all(axis=1) & X.any(axis=1)
    return sides.tasks(
        table.take(np.flatnonzero(usable)),
        request.labels,
        min_class_size=request.min_class_size,
        max_queries=request.max_queries,
        seed=request.seed,
    )


def _kept(
    target: Target, made: InversionMap, asking: VectorTable, request: OtiRequest, run: Run
) -> _Kept:
    if request.to is not None:
        return _in_collection(target, made, asking.ids, request.to, run)
    name = f"oti-{target.collection.name}-{target.vector}"
    path = request.out or FOLDER / f"{quote(name, safe=' ')}.safetensors"
    found: Inversion = invert_images(
        made.model, asking.vectors[target.vector], asking.ids, settings=made.settings, path=path
    )
    return _Kept(found.texts, found.n_new, {"file": str(path)})


def _in_collection(
    target: Target, made: InversionMap, ids: Sequence[PointId], vector: str, run: Run
) -> _Kept:
    """Fill the named vector of the points that lack it, and read that of all."""
    own = under_own_name(target.collection)
    # No index is waited for: what asks is never searched.
    done = backfill(
        own,
        made,
        vector=vector,
        source=target.vector,
        only=ids,
        batch_size=made.settings.batch_size,
        reindex=False,
        run=run,
    )
    parts = []
    for start in range(0, len(ids), _READ_AT_ONCE):
        part = ids[start : start + _READ_AT_ONCE]
        page = own.store.retrieve(own.name, part, vectors=[vector])
        parts.append(text_rows(part, page.ids, page.vectors[vector]))
    return _Kept(np.concatenate(parts), done.projected, {"vector": vector})


def _cosines(made: InversionMap, X: Floats, texts: Floats) -> dict[str, Any]:
    """Return the mean cosine of picture and text, before and after, and how many got nearer."""
    before = made.started(X)
    after = np.einsum("ij,ij->i", unit_rows(X), unit_rows(texts))
    return {
        "cosine_before": float(before.mean()),
        "cosine_after": float(after.mean()),
        "n_nearer": int((after > before).sum()),
    }


def _compared(
    task: RetrievalTask,
    table: VectorTable,
    texts: Floats,
    target: Target,
    vectors: Sequence[str],
    request: OtiRequest,
) -> InversionEvidence:
    return compare_inversion(
        task,
        table,
        texts,
        vector=target.vector,
        others=vectors,
        cluster=request.cluster,
        seed=request.seed,
    )


def _by_field(
    tasks: Sequence[RetrievalTask], found: Sequence[InversionEvidence]
) -> dict[str, Any]:
    """Return the figures as ``--json`` prints them; p-values are adjusted over all differences."""
    effects = [effect for evidence in found for effect in evidence.effects.values()]
    adjusted = iter(holm([effect.p_value for effect in effects]))
    return {
        task.field: {
            **task.counts(),
            "vectors": {result.vector: _figures(result) for result in evidence.results},
            "differences": {
                name: {
                    "delta": effect.delta,
                    "interval": list(effect.interval),
                    "p_value": effect.p_value,
                    "p_adjusted": next(adjusted),
                }
                for name, effect in evidence.effects.items()
            },
        }
        for task, evidence in zip(tasks, found, strict=True)
    }


def _figures(result: RetrievalResult) -> dict[str, Any]:
    row = result.to_dict()
    return {**{k: row[k] for k in ("map", "interval", "population")}, **row["metrics"]}


def _log(run: Run, fields: Mapping[str, Any], cosines: Mapping[str, Any]) -> None:
    for name, value in cosines.items():
        run.log_metric(name.replace("_", " "), value, vector=TEXTS)
    for name, entry in fields.items():
        for vector, row in entry["differences"].items():
            run.log_metric(
                f"mAP of {TEXTS} less this",
                row["delta"],
                vector=vector,
                field=name,
                interval=row["interval"],
                n=entry["n_queries"],
            )
