"""What evaluations share: a table read once with its fields known, and what their runs record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from intramodal.evaluation.resampling import UNITS
from intramodal.evaluation.retrieval import RetrievalResult
from intramodal.runs.ledger import RunLedger
from intramodal.runs.run import Run
from intramodal.runs.scores import QueryScores
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin

CLASSES = "per-class results"
"""Name of the run's artefact with the figures of every class."""


def stated(request: Any) -> dict[str, str]:
    """Return the options of a request that were given, as a run records them."""
    return {key: str(value) for key, value in asdict(request).items() if value}


def log_origins(run: Run, ledger: RunLedger, collection: ImageCollection) -> None:
    """Record which encoder and projection made the vectors of a collection."""
    for name, origin in collection.manifest.vectors.items():
        facts = ledger.facts(origin.projection or origin.encoder_fingerprint)
        log_origin(run, name, origin, facts)


def log_origin(
    run: Run, vector: str, origin: VectorOrigin, facts: Mapping[str, Any] | None = None
) -> None:
    """Record which encoder or projection made one vector."""
    run.log_fingerprint(
        "projection" if origin.projection else "encoder",
        str(origin),
        origin.projection or origin.encoder_fingerprint,
        {**(facts or {}), "vector": vector},
    )


def scores_of(results: Iterable[RetrievalResult]) -> list[QueryScores]:
    """Return what every query scored, as a run keeps it."""
    return [
        QueryScores(
            result.field,
            result.vector,
            result.query_ids,
            {"n_relevant": result.n_relevant, "ap": result.ap, **result.metrics},
        )
        for result in results
    ]


def cluster_fields(cluster: str | None) -> list[str]:
    """Return the payload fields that ``--cluster`` needs."""
    return [] if cluster is None or cluster in UNITS else [cluster]


def log_map(run: Run, result: RetrievalResult, name: str = "mAP") -> None:
    """Record a mean average precision with its interval."""
    found = result.interval
    run.log_metric(
        name,
        result.map,
        vector=result.vector,
        field=result.field,
        interval=(found.low, found.high) if found else None,
        n=len(result.query_ids),
    )


def log_figures(
    run: Run, figures: Mapping[str, Any], *, vector: str, field: str | None, n: int | None = None
) -> None:
    """Record several figures of one vector and field; None where there is none."""
    for name, value in figures.items():
        run.log_metric(name, value, vector=vector, field=field, n=n)
