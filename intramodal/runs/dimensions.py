"""What a recorded figure is of: collection, data set, model, method, shots, classifier."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from intramodal.runs.records import FingerprintRecord, MetricRecord, RunRecord

DIMENSIONS = ("collection", "dataset", "model", "method", "classifier", "shots")
"""Besides the metric, the vector and the field."""

_ACCURACY = re.compile(r"accuracy, (?P<classifier>.+), (?P<shots>\d+) shots")
_MADE_BY = re.compile(r"(?P<model>.+) \([0-9a-f]{1,12}\)")


def dimensions_of(
    run: RunRecord, metric: MetricRecord | None, fingerprints: Sequence[FingerprintRecord]
) -> dict[str, Any]:
    """Return the metric's plain name, and what it is of; None where a part does not apply.

    Parameters
    ----------
    run : RunRecord
    metric : MetricRecord or None
        One of its figures; None for a run without any.
    fingerprints : sequence of FingerprintRecord
        Of the run: they name the models that made its vectors.
    """
    collection, vector = _collection(run.parameters, metric)
    found = _ACCURACY.fullmatch(metric.name) if metric else None
    facts = _facts(collection, fingerprints)
    return {
        "metric": "accuracy" if found else metric.name if metric else None,
        "collection": collection,
        "dataset": _dataset(run.parameters) or facts.get("dataset") or collection,
        "model": _named(run.parameters) or _model(vector, facts, fingerprints),
        "method": run.parameters.get("method") or vector,
        "classifier": found["classifier"] if found else None,
        "shots": int(found["shots"]) if found else None,
    }


def _named(parameters: Mapping[str, Any]) -> str | None:
    """Return the model that was named with its method; alone it may be one of texts only."""
    return parameters.get("model") if parameters.get("method") else None


def _dataset(parameters: Mapping[str, Any]) -> str | None:
    """Return the data set that was named; a part of it is another one."""
    name, limit = parameters.get("dataset"), parameters.get("limit")
    return f"{name} (limit {limit})" if name and limit else name


def _collection(
    parameters: Mapping[str, Any], metric: MetricRecord | None
) -> tuple[str | None, str | None]:
    """Return the figure's collection and vector.

    The collection was named as ``COLLECTION`` or ``COLLECTION:VECTOR``; of several,
    ``FIRST, SECOND``, it is the one that the figure's vector names.
    """
    vector = metric.vector if metric else None
    if parameters.get("collection"):
        text = str(parameters["collection"])
        several = text.split(", ") if ", " in text else []
        for name in several:
            if vector is not None and vector.startswith(f"{name}:"):
                return name, vector.removeprefix(f"{name}:")
        return text, vector
    if parameters.get("target"):
        text = str(parameters["target"])
        return (text.removesuffix(f":{vector}") if vector else text), vector
    return None, vector


def _facts(collection: str | None, fingerprints: Sequence[FingerprintRecord]) -> Mapping[str, Any]:
    """Return what the run recorded of the figure's collection."""
    known = {one.name: one.facts for one in fingerprints if one.kind == "collection"}
    only = next(iter(known.values())) if len(known) == 1 else {}  # which an alias may name
    return known.get(collection or "", only)


def _model(
    vector: str | None, facts: Mapping[str, Any], fingerprints: Sequence[FingerprintRecord]
) -> str | None:
    """Return the model that made the figure's vectors, else all of them; None if several."""
    made: dict[str, set[str]] = {}
    for name, text in (facts.get("vectors") or {}).items() or _made(fingerprints):
        if found := _MADE_BY.match(text):
            made.setdefault(name, set()).add(found["model"])
    words = re.split(r" > | \+ |=", vector) if vector and vector not in made else [vector]
    chosen = [made[word] for word in words if word in made] or list(made.values())
    models = set().union(*chosen)
    return models.pop() if len(models) == 1 else None


def _made(fingerprints: Sequence[FingerprintRecord]) -> list[tuple[str, str]]:
    """Return vectors and what made them, as runs without a record of the collection have it."""
    return [(str(one.facts.get("vector") or ""), one.name) for one in fingerprints]
