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
    collection = _collection(run.parameters, metric)
    found = _ACCURACY.fullmatch(metric.name) if metric else None
    return {
        "metric": "accuracy" if found else metric.name if metric else None,
        "collection": collection,
        "dataset": _dataset(run.parameters) or collection,
        "model": _model(run.parameters, metric, fingerprints),
        "method": run.parameters.get("method") or (metric.vector if metric else None),
        "classifier": found["classifier"] if found else None,
        "shots": int(found["shots"]) if found else None,
    }


def _dataset(parameters: Mapping[str, Any]) -> str | None:
    """Return the data set that was named; a part of it is another one."""
    name, limit = parameters.get("dataset"), parameters.get("limit")
    return f"{name} (limit {limit})" if name and limit else name


def _collection(parameters: Mapping[str, Any], metric: MetricRecord | None) -> str | None:
    """Return the collection that was named, as ``COLLECTION`` or as ``COLLECTION:VECTOR``."""
    for name in ("collection", "target"):
        if parameters.get(name):
            text = str(parameters[name])
            vector = metric.vector if metric else None
            has_vector = name == "target" and vector is not None
            return text.removesuffix(f":{vector}") if has_vector else text
    return None


def _model(
    parameters: Mapping[str, Any],
    metric: MetricRecord | None,
    fingerprints: Sequence[FingerprintRecord],
) -> str | None:
    """Return the model named by the run; else the one that made the vector, or all vectors."""
    if parameters.get("model"):
        return str(parameters["model"])
    named = {
        str(one.facts.get("vector") or ""): found["model"]
        for one in fingerprints
        if (found := _MADE_BY.match(one.name))
    }
    vector = metric.vector if metric else None
    if vector in named:
        return named[vector]
    models = set(named.values())
    return models.pop() if len(models) == 1 else None
