"""The report document of a comparison: its figures, what the plots draw, and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from intramodal.evaluation.comparison import Comparison
from intramodal.evaluation.misalignment import measure_misalignment
from intramodal.reports.document import Answer, Neighbours, Picture, ReportDocument
from intramodal.reports.thumbnails import thumbnail
from intramodal.runs import RunLedger
from intramodal.store.base import Hits
from intramodal.store.collection import ImageCollection
from intramodal.types import PointId, VectorTable

DOCUMENT = "report document"
"""Name of the run's artefact that a report is rendered from."""

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
    """

    collection: ImageCollection
    table: VectorTable
    comparison: Comparison
    pictures: Path | None = None

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
        spectrum=_spectrum(evidence, ledger),
        neighbours=[
            row for field, found in details.items() for row in _changed(evidence, field, found)
        ],
        run=_reproduction(evidence, ledger, str(result["run_id"])),
    )


def _histograms(evidence: Evidence) -> list[dict[str, Any]]:
    """Return same- and other-class cosines of both vectors for every field."""
    fields, vectors = evidence.comparison.fields, evidence.comparison.vectors
    return [
        measure_misalignment(evidence.table, vector=vector, field=field).to_dict()
        for field in fields
        for vector in vectors
    ]


def _spectrum(evidence: Evidence, ledger: RunLedger) -> dict[str, Any]:
    """Return the anchors' spectrum, if the run that fitted the projection is on record."""
    origin = evidence.collection.manifest.vectors.get(evidence.comparison.vectors[1])
    facts = ledger.facts(origin.projection) if origin and origin.projection else {}
    if "spectrum" not in facts:
        return {}
    total = sum(facts["spectrum"])
    return {
        "explained_variance_ratio": [value / total for value in facts["spectrum"]],
        "n_kept": facts["n_components"],
        "n_anchors": facts["n_anchors"],
        "rank": facts["rank"],
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
