"""From method, path and body to what the storage does."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from pydantic import TypeAdapter, ValidationError
from qdrant_client import models

from tests.faults.wire import limits, search
from tests.faults.wire.conditions import matcher
from tests.faults.wire.points import UNNAMED, WireError, id_order, known_id
from tests.faults.wire.storage import Storage

Answer = Callable[..., Any]
"""Takes the storage, the names in the path, and the body where there is one."""

_COMPLETED = {"operation_id": 0, "status": "completed"}
_VECTOR_CONFIG: Any = TypeAdapter(models.VectorNameConfig)
_POINTS: Any = TypeAdapter(models.PointInsertOperations)
_SELECTOR: Any = TypeAdapter(models.PointsSelector)


def answered(storage: Storage, method: str, path: str, body: bytes) -> Any:
    """Return the result of one request; `WireError` for anything the server would refuse."""
    for verb, pattern, kind, act in _ROUTES:
        found = re.fullmatch(pattern, path)
        if verb == method and found:
            names = [unquote(name) for name in found.groups()]
            return act(storage, *names, *([_parsed(kind, body)] if kind else []))
    raise WireError(501, f"the stand-in has no {method} {path}")


def _parsed(kind: Any, body: bytes) -> Any:
    try:
        adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
        return adapter.validate_json(body)
    except ValidationError as error:
        raise WireError(400, f"Format error in JSON body: {error}") from error


# What REST and gRPC share: models in, JSON out.


def _listed(storage: Storage) -> Any:
    return {"collections": [{"name": name} for name in storage.collections]}


def _aliases(storage: Storage) -> Any:
    pairs = storage.aliases.items()
    return {"aliases": [{"alias_name": a, "collection_name": c} for a, c in pairs]}


def add_vector(storage: Storage, name: str, vector: str, config: Any) -> Any:
    if not isinstance(config, models.DenseVectorNameConfig):
        raise WireError(501, "the stand-in has dense vectors only")
    storage.add_vector(name, vector, config.dense)
    return _COMPLETED


def drop_vector(storage: Storage, name: str, vector: str) -> Any:
    storage.find(name).drop_vector(vector)
    return _COMPLETED


def index(storage: Storage, name: str, request: models.CreateFieldIndex) -> Any:
    if not isinstance(request.field_schema, models.PayloadSchemaType):
        raise WireError(501, "the stand-in has plain payload indexes only")
    storage.find(name).indexes[request.field_name] = request.field_schema
    return _COMPLETED


def upsert(storage: Storage, name: str, request: Any) -> Any:
    if not isinstance(request, models.PointsBatch):
        raise WireError(501, "the stand-in takes points as a batch")
    found, batch = storage.find(name), request.batch
    columns: Any = batch.vectors
    named: Mapping[str, Any] = columns if isinstance(columns, dict) else {UNNAMED: columns}
    limits.check_write(found, len(batch.ids))
    payloads: Any = batch.payloads or [None] * len(batch.ids)
    found.upsert(batch.ids, named, [payload or {} for payload in payloads])
    return _COMPLETED


def update_vectors(storage: Storage, name: str, request: models.UpdateVectors) -> Any:
    found, points = storage.find(name), request.points
    limits.check_write(found, len(points))
    found.update_vectors([p.id for p in points], [p.vector for p in points])
    return _COMPLETED


def set_payload(storage: Storage, name: str, request: models.SetPayload) -> Any:
    if request.points is None or request.filter is not None or request.key is not None:
        raise WireError(501, "the stand-in sets payload by ids")
    storage.find(name).set_payload(request.points, request.payload)
    return _COMPLETED


def delete(storage: Storage, name: str, request: Any) -> Any:
    if not isinstance(request, models.PointIdsList):
        raise WireError(501, "the stand-in deletes points by ids")
    storage.find(name).delete(request.points)
    return _COMPLETED


def retrieve(storage: Storage, name: str, request: models.PointRequest) -> Any:
    found = storage.find(name)
    ids = [i for i in map(known_id, request.ids) if i in found.points]
    return [found.record(i, request.with_payload, request.with_vector) for i in ids]


def scroll(storage: Storage, name: str, request: models.ScrollRequest) -> Any:
    if request.order_by is not None:
        raise WireError(501, "the stand-in scrolls by id")
    found, limit = storage.find(name), request.limit or 10
    limits.check_read(found, limit)
    ids = found.select(matcher(request.filter))
    if request.offset is not None:
        ids = ids[bisect_left(ids, id_order(known_id(request.offset)), key=id_order) :]
    page = [found.record(i, request.with_payload, request.with_vector) for i in ids[:limit]]
    return {"points": page, "next_page_offset": ids[limit] if len(ids) > limit else None}


def count(storage: Storage, name: str, request: models.CountRequest) -> Any:
    return {"count": storage.find(name).count(matcher(request.filter))}


def query(storage: Storage, name: str, request: models.QueryRequestBatch) -> Any:
    found = storage.find(name)
    limits.check_queries(found, request.searches)
    return [search.answer(found, one) for one in request.searches]


_NAME = r"/collections/([^/]+)"
_ROUTES: list[tuple[str, str, Any, Answer]] = [
    ("GET", r"/collections", None, _listed),
    ("GET", r"/aliases", None, _aliases),
    ("POST", r"/collections/aliases", models.ChangeAliasesOperation, Storage.change_aliases),
    ("GET", _NAME + "/exists", None, lambda s, name: {"exists": s.exists(name)}),
    ("GET", _NAME, None, Storage.describe),
    ("PUT", _NAME, models.CreateCollection, Storage.create),
    ("PATCH", _NAME, models.UpdateCollection, Storage.update),
    ("DELETE", _NAME, None, Storage.drop),
    ("PUT", _NAME + "/vectors/([^/]+)", _VECTOR_CONFIG, add_vector),
    ("DELETE", _NAME + "/vectors/([^/]+)", None, drop_vector),
    ("PUT", _NAME + "/index", models.CreateFieldIndex, index),
    ("PUT", _NAME + "/points", _POINTS, upsert),
    ("POST", _NAME + "/points", models.PointRequest, retrieve),
    ("PUT", _NAME + "/points/vectors", models.UpdateVectors, update_vectors),
    ("POST", _NAME + "/points/payload", models.SetPayload, set_payload),
    ("POST", _NAME + "/points/delete", _SELECTOR, delete),
    ("POST", _NAME + "/points/scroll", models.ScrollRequest, scroll),
    ("POST", _NAME + "/points/count", models.CountRequest, count),
    ("POST", _NAME + "/points/query/batch", models.QueryRequestBatch, query),
]
