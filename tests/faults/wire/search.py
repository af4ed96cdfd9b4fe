"""Exact search; equal scores come in descending order of ids, as no engine promises an order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qdrant_client import models

from intramodal.types import Floats
from tests.faults.wire.conditions import matcher
from tests.faults.wire.errors import WireError
from tests.faults.wire.points import Collection, Place
from tests.faults.wire.vectors import UNNAMED, normalized


def answer(collection: Collection, request: models.QueryRequest) -> dict[str, Any]:
    """Return the scored points of one query."""
    stages = request.prefetch if isinstance(request.prefetch, list) else [request.prefetch]
    keys = request.shard_key
    lists = [_candidates(collection, stage, keys) for stage in stages if stage is not None]
    if request.with_vector or request.offset:
        raise WireError(501, "the stand-in answers ids, scores and payload")
    if isinstance(request.query, models.FusionQuery | models.RrfQuery):
        ranked = _fused(lists, request)
    elif len(lists) > 1:
        raise WireError(501, "the stand-in ranks the candidates of one stage")
    else:
        ranked = _ranked(collection, request, lists[0] if lists else None, keys)
    wanted = request.with_payload
    points = [_hit(collection, place, score, wanted) for place, score in ranked]
    return {"points": points}


def _hit(collection: Collection, place: Place, score: float, payload: Any) -> dict[str, Any]:
    return {"version": 0, "score": score, **collection.record(place, payload, False)}


def _candidates(collection: Collection, stage: models.Prefetch, keys: Any) -> list[Place]:
    if stage.prefetch:
        raise WireError(501, "the stand-in has no stages within stages")
    return [place for place, _ in _ranked(collection, stage, None, keys)]


def _fused(
    lists: Sequence[Sequence[Place]], request: models.QueryRequest
) -> list[tuple[Place, float]]:
    """Rank by reciprocal places: the server adds 1 / (2 + place), places from 0, in float32."""
    weights = _weights(request.query, len(lists))
    scores: dict[Place, np.float32] = {}
    for points, weight in zip(lists, weights, strict=True):
        for place, point in enumerate(points):
            part = np.float32(1 / ((place + 1) / weight + 1))
            scores[point] = scores.get(point, np.float32(0)) + part
    best = sorted(scores.items(), key=lambda found: -found[1])[: request.limit or 10]
    return [(point, float(score)) for point, score in best]


def _weights(query: Any, n: int) -> list[float]:
    """Return how much each of the fused lists counts."""
    if isinstance(query, models.RrfQuery) and query.rrf.k is None:
        return list(query.rrf.weights or [1.0] * n)
    if query != models.FusionQuery(fusion=models.Fusion.RRF):
        raise WireError(501, "the stand-in fuses by reciprocal places")
    return [1.0] * n


def _ranked(
    collection: Collection,
    request: models.QueryRequest | models.Prefetch,
    candidates: Sequence[Place] | None,
    keys: Any,
) -> list[tuple[Place, float]]:
    name = request.using or UNNAMED
    matches = matcher(request.filter)
    found = collection.select(lambda i, p: name in p.vectors and matches(i, p), keys)
    allowed = set(found if candidates is None else candidates)
    ids = [place for place in found if place in allowed][::-1]
    query, asks = _vector(collection, name, request.query)
    ids = [place for place in ids if place not in asks]
    scores, is_descending = _scores(collection, name, query, ids)
    first = np.where(
        np.isnan(scores), np.float32(np.inf), scores
    )  # above all, as its order has it
    order = np.argsort(-first if is_descending else scores, kind="stable")
    return [(ids[n], float(scores[n])) for n in order[: request.limit or 10]]


def _vector(collection: Collection, name: str, query: Any) -> tuple[list[float], list[Place]]:
    """Return the vector that is searched with, and the point that has it: it is no hit."""
    nearest: Any = query.nearest if isinstance(query, models.NearestQuery) else query
    if isinstance(nearest, list):
        return nearest, []
    if not isinstance(nearest, int | str):
        raise WireError(501, f"the stand-in searches by vector, not by {type(query).__name__}")
    asks = collection.find([nearest])
    if not asks:
        raise WireError(404, f"Not found: No point with id {nearest} found")
    return collection.points[asks[0]].vectors[name].tolist(), asks


def _scores(
    collection: Collection, name: str, query: list[float], ids: Sequence[Place]
) -> tuple[Floats, bool]:
    params = _searched(collection, name)
    if len(query) != params.size:
        raise WireError(
            400,
            f"Wrong input: Vector dimension error: expected dim: {params.size}, got {len(query)}",
        )
    q = np.array([query], dtype=np.float32)
    rows = [collection.points[i].vectors[name] for i in ids]
    X = np.array(rows, dtype=np.float32).reshape(len(ids), params.size)
    if params.distance == models.Distance.COSINE:
        return _products(X, normalized(q)), True
    if params.distance == models.Distance.DOT:
        return _products(X, q), True
    order = 1 if params.distance == models.Distance.MANHATTAN else 2
    return np.asarray(np.linalg.norm(X - q, ord=order, axis=1), dtype=np.float32), False


def _searched(collection: Collection, name: str) -> models.VectorParams:
    """Return the definition of a dense vector of floats."""
    params = collection.params(name)
    if (
        isinstance(params, models.SparseVectorParams)
        or params.multivector_config is not None
        or params.datatype == models.Datatype.UINT8
    ):
        raise WireError(501, f"the stand-in searches dense vectors of floats, not {name}")
    return params


def _products(X: Floats, q: Floats) -> Floats:
    # Row by row, as an engine does: BLAS gives equal rows products that differ in the last bit.
    return np.asarray((X * q).sum(axis=1), dtype=np.float32)
