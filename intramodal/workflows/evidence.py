"""What evaluations share: a table read once with its fields known, and what their runs record."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from intramodal.errors import InputError
from intramodal.evaluation.resampling import UNITS
from intramodal.evaluation.retrieval import RetrievalResult
from intramodal.evaluation.rivals.oti import InversionMap
from intramodal.runs.ledger import RunLedger
from intramodal.runs.run import Run
from intramodal.runs.scores import QueryScores
from intramodal.store.collection import ImageCollection
from intramodal.store.fields import fields_of
from intramodal.store.manifest import VectorOrigin
from intramodal.types import VectorTable

CLASSES = "per-class results"
"""Name of the run's artefact with the figures of every class."""

_N_LOOKED_AT = 200
"""Points whose payload says which fields there are."""
_MOST_NAMED = 5


def read_labelled(
    collection: ImageCollection,
    vectors: Sequence[str],
    fields: Sequence[str],
    *,
    optional: Sequence[str] = (),
    sample: int | None = None,
    seed: int = 0,
) -> VectorTable:
    """Read vectors and label fields of all points, or of a random sample, once.

    Parameters
    ----------
    collection : ImageCollection
    vectors, fields : sequence of str
        Repeated names are read once.
    optional : sequence of str
        Further payload fields that no point need have.
    sample, seed : int, optional
        Where there are more points, so many are drawn.

    Raises
    ------
    NotFound
        If the collection has no such vector.
    InputError
        If no point has a value in one of the fields, the closest of which are named, or a vector
        holds texts.
    """
    refuse_texts(collection, vectors)
    names = list(dict.fromkeys([*fields, *optional]))
    table = collection.table(list(dict.fromkeys(vectors)), payload=names, sample=sample, seed=seed)
    for field in fields:
        if all(value is None for value in table.payload[field]):
            raise InputError(_absent(collection, field, len(table)))
    return table


def sample_of(table: VectorTable, seed: int) -> dict[str, int] | None:
    """Return how many points were drawn of how many, as JSON; None where all were read."""
    if table.drawn_from is None or table.drawn_from <= len(table) + table.n_incomplete:
        return None
    return {"n_points": len(table), "of": table.drawn_from, "seed": seed}


def refuse_texts(collection: ImageCollection, vectors: Sequence[str]) -> None:
    """Raise `InputError` for a vector of texts that stand for pictures.

    They ask for pictures; texts ranked among texts would be taken for the figures of OTI.
    """
    origins = collection.manifest.vectors
    for name in vectors:
        if name in origins and origins[name].method == InversionMap.method:
            raise InputError(
                f"{name!r} of {collection.name!r} holds texts that ask for pictures by "
                f"{origins[name].source!r}, and is judged by `intramodal evaluate oti`; name a "
                f"vector of the pictures"
            )


def _absent(collection: ImageCollection, field: str, n_points: int) -> str:
    if n_points == 0:
        return f"collection {collection.name!r} has no point with these vectors; ingest some first"
    page = next(iter(collection.scroll(payload=True, batch_size=_N_LOOKED_AT)))
    there = sorted({name for payload in page.payloads for name in fields_of(payload)})
    close = difflib.get_close_matches(field, there, n=3) or there[:_MOST_NAMED]
    hint = " or ".join(repr(name) for name in close) or "nothing: its points carry no payload"
    return f"no point has a value in field {field!r}; {collection.name!r} has {hint}"


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
