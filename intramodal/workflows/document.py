"""The report document of a comparison: its figures, what the plots draw, and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from intramodal.evaluation.compare import Comparison
from intramodal.evaluation.misalignment import measure_misalignment
from intramodal.evaluation.precision_recall import precision_recall
from intramodal.progress import tracked
from intramodal.projection.projection import Projection
from intramodal.reports.report import Answer, Neighbours, ReportDocument
from intramodal.reports.thumbnails import Picture, thumbnail
from intramodal.runs.ledger import RunLedger
from intramodal.store.base import Hits
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, PointId, VectorTable

N_ANSWERS = 8
N_QUERIES = 2
"""Queries shown per field that gain most, and as many that lose most."""


@dataclass(frozen=True)
class Evidence:
    """What a comparison rests on.

    Parameters
    ----------
    collection : ImageCollection
    table : VectorTable
        Both vectors, the label fields and the paths.
    comparison : Comparison
    pictures : Path or None
        Folder that the paths are relative to; without it the report has captions only.
    projection : Projection or None
        What vector B was made with: its spectrum, and texts in the space of B.
    texts : ndarray of shape (n_texts, d) or None
        Text embeddings in the space of vector A.
    min_class_size : int
        Classes with fewer images were left out.
    """

    collection: ImageCollection
    table: VectorTable
    comparison: Comparison
    pictures: Path | None = None
    projection: Projection | None = None
    texts: Floats | None = None
    min_class_size: int = 2

    @cached_property
    def rows(self) -> dict[PointId, int]:
        """Row of each point in the table."""
        return {point: row for row, point in enumerate(self.table.ids)}


def build_document(
    evidence: Evidence,
    result: Mapping[str, Any],
    *,
    title: str,
    about: str,
    ledger: RunLedger,
) -> ReportDocument:
    """Return the document of a comparison whose `result` is what ``--json`` prints."""
    details = evidence.comparison.details()
    return ReportDocument(
        title=title or f"{' or '.join(result['vectors'])} in {result['collection']}",
        about=about,
        comparison=result,
        details=details,
        misalignment=_histograms(evidence),
        precision_recall=_curves(evidence),
        spectrum=_spectrum(evidence, ledger),
        neighbours=[
            row for field, found in details.items() for row in _changed(evidence, field, found)
        ],
        run=_reproduction(evidence, ledger, str(result["run_id"])),
    )


def _histograms(evidence: Evidence) -> list[dict[str, Any]]:
    """Return same- and other-class cosines of both vectors for every field.

    Images against texts come with the first field only: they do not depend on the labels.
    """
    fields, vectors = list(evidence.comparison.fields), evidence.comparison.vectors
    pairs = [(field, vector) for field in fields for vector in vectors]
    return [
        measure_misalignment(
            evidence.table,
            vector=vector,
            field=field,
            texts=_texts_for(evidence, vector) if field == fields[0] else None,
            population=evidence.comparison.fields[field].population,
        ).to_dict()
        | {"vector": vector}
        for field, vector in tracked(pairs, "histograms", total=len(pairs))
    ]


def _texts_for(evidence: Evidence, vector: str) -> Floats | None:
    """Return the texts in the space of a vector; None where they cannot be brought there."""
    texts, projection = evidence.texts, evidence.projection
    if texts is None or vector == evidence.comparison.vectors[0]:
        return texts
    return None if projection is None else projection.apply(texts)


def _curves(evidence: Evidence) -> list[dict[str, Any]]:
    fields = evidence.comparison.fields
    return [
        precision_recall(
            evidence.table,
            vectors=list(evidence.comparison.vectors),
            field=field,
            min_class_size=evidence.min_class_size,
            population=row.population,
        ).to_dict()
        for field, row in tracked(fields.items(), "curves", total=len(fields))
    ]


def _spectrum(evidence: Evidence, ledger: RunLedger) -> dict[str, Any]:
    """Return the anchors' spectrum, from the projection's file or the run that fitted it."""
    origin = evidence.collection.manifest.vectors.get(evidence.comparison.vectors[1])
    if evidence.projection is not None:
        recipe = evidence.projection.recipe
    else:
        recipe = ledger.facts(origin.projection) if origin and origin.projection else {}
    total = sum(recipe.get("spectrum", ()))
    if not total:
        return {}
    return {
        "explained_variance_ratio": [value / total for value in recipe["spectrum"]],
        "n_kept": recipe["n_components"],
        "n_anchors": recipe["n_anchors"],
        "rank": recipe["rank"],
    }


def _changed(evidence: Evidence, field: str, details: Mapping[str, Any]) -> list[Neighbours]:
    gain, lose = details["queries_gain"], details["queries_lose"]
    return [_neighbours(evidence, field, query) for query in gain[:N_QUERIES] + lose[:N_QUERIES]]


def _neighbours(evidence: Evidence, field: str, query: Mapping[str, Any]) -> Neighbours:
    label = _fact(evidence, query["id"], field)
    answers = {}
    for vector in evidence.comparison.vectors:
        hits = evidence.collection.neighbours([query["id"]], using=vector, k=N_ANSWERS)
        answers[vector] = _answers(evidence, hits, field, label)
    return Neighbours(field, _picture(evidence, query["id"], field), query["ap"], answers)


def _answers(evidence: Evidence, hits: Hits, field: str, label: Any) -> list[Answer]:
    return [
        Answer(
            _picture(evidence, hit, field),
            float(score),
            _share(label, _fact(evidence, hit, field)),
        )
        for hit, score in zip(hits.ids[0], hits.scores[0], strict=True)
    ]


def _share(a: Any, b: Any) -> bool:
    """Return whether two labels, or lists of labels, share a value."""
    first, second = (set(v if isinstance(v, list) else [v]) - {None} for v in (a, b))
    return bool(first & second)


def _picture(evidence: Evidence, point: PointId, field: str) -> Picture:
    path = _fact(evidence, point, "path")
    caption = f"{_fact(evidence, point, field)} · {path or point}"
    return Picture(str(point), caption, thumbnail(evidence.pictures, path))


def _fact(evidence: Evidence, point: PointId, name: str) -> Any:
    """Return a payload value; None for a point that came after the table was read."""
    row = evidence.rows.get(point)
    return None if row is None else evidence.table.payload[name][row]


def _reproduction(evidence: Evidence, ledger: RunLedger, run_id: str) -> dict[str, Any]:
    run = ledger.get(run_id)
    made_by = {
        name or "unnamed": str(origin)
        for name, origin in evidence.collection.manifest.vectors.items()
    }
    return {
        "run": run.id,
        "command": " ".join(run.command),
        "started": run.started.isoformat(timespec="seconds"),
        "seed": run.seed,
        "vectors made by": made_by,
        "packages": dict(run.packages),
    }
