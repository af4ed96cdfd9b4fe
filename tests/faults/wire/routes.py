"""From method, path and body to what the storage does."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import TypeAdapter, ValidationError
from qdrant_client import models

from intramodal.types import PointId
from tests.faults.wire import limits, search
from tests.faults.wire.cluster import shard_of, unknown
from tests.faults.wire.conditions import matcher
from tests.faults.wire.errors import WireError
from tests.faults.wire.points import Collection, Given, bare, id_order, known_id
from tests.faults.wire.storage import Storage
from tests.faults.wire.vectors import UNNAMED, by_name
from tests.faults.wire.versions import seen_by

Answer = Callable[..., Any]
"""Takes the storage, the names in the path, and the body where there is one."""

_COMPLETED = {"operation_id": 0, "status": "completed"}
_VECTOR_CONFIG: Any = TypeAdapter(models.VectorNameConfig)
_POINTS: Any = TypeAdapter(models.PointInsertOperations)
_SELECTOR: Any = TypeAdapter(models.PointsSelector)


def answered(
    storage: Storage, method: str, target: str, body: bytes, *, peer: int, version: str
) -> Any:
    """Return the result of one request; `WireError` for anything the server would refuse.

    `peer` is the node that is asked, `version` what it is.
    """
    path, asked = urlsplit(target).path, parse_qs(urlsplit(target).query)
    if path == "/cluster":
        return storage.cluster.status(peer)
    for verb, pattern, kind, act in _ROUTES:
        found = re.fullmatch(pattern, path)
        if verb == method and found:
            names = [unquote(name) for name in found.groups()]
            how = {"reads_all": asked.get("consistency") == ["all"]} if act is query else {}
            how |= {"peer": peer} if act in (Storage.describe, shards) else {}
            if "/points" in path and "timeout" in asked:
                check_timeout(storage, names[0], int(asked["timeout"][0]))
            parsed = [seen_by(version, _parsed(kind, body))] if kind else []
            return act(storage, *names, *parsed, **how)
    raise WireError(501, f"the stand-in has no {method} {path}")


def check_timeout(storage: Storage, name: str, seconds: int) -> None:
    """Raise where a request may take longer than its collection allows."""
    if storage.exists(name):
        limits.check_timeout(storage.find(name), seconds)


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
    is_dense = isinstance(config, models.DenseVectorNameConfig)
    storage.add_vector(name, vector, config.dense if is_dense else config.sparse)
    return _COMPLETED


def drop_vector(storage: Storage, name: str, vector: str) -> Any:
    storage.find(name).drop_vector(vector)
    return _COMPLETED


def index(storage: Storage, name: str, request: models.CreateFieldIndex) -> Any:
    if not isinstance(request.field_schema, models.PayloadSchemaType):
        raise WireError(501, "the stand-in has plain payload indexes only")
    found = storage.find(name)
    limits.check_index(found, request.field_name)
    found.indexes[request.field_name] = request.field_schema
    return _COMPLETED


def upsert(storage: Storage, name: str, request: Any) -> Any:
    found = storage.find(name)
    points = _rows(request) if isinstance(request, models.PointsBatch) else _listed_points(request)
    limits.check_upsert(found, points)
    written, refused = _parted(storage, found, points, request)
    found.upsert(written, request.shard_key)
    return _unless(refused)


def _listed_points(request: models.PointsList | models.UpdateVectors) -> list[Given]:
    points: Any = request.points
    return [Given(p.id, by_name(p.vector), getattr(p, "payload", None) or {}) for p in points]


def _rows(request: models.PointsBatch) -> list[Given]:
    batch = request.batch
    columns = by_name(batch.vectors)
    payloads: Sequence[Any] = batch.payloads or [None] * len(batch.ids)
    if {len(column) for column in (payloads, *columns.values())} != {len(batch.ids)}:
        raise WireError(422, "Validation error: number of ids, vectors and payloads must be equal")
    return [
        Given(point, {name: column[n] for name, column in columns.items()}, payloads[n] or {})
        for n, point in enumerate(batch.ids)
    ]


def update_vectors(storage: Storage, name: str, request: models.UpdateVectors) -> Any:
    found, points = storage.find(name), _listed_points(request)
    limits.check_update(found, points)
    written, refused = _parted(storage, found, points, request)
    found.update_vectors(written, request.shard_key)
    return _unless(refused)


def _parted(
    storage: Storage, found: Collection, points: Sequence[Given], request: Any
) -> tuple[list[Given], list[str]]:
    """Return which points are written, and the vectors that nodes of others do not know."""
    touches = _touches(found, request)
    written, refused = [], []
    for point in filter(lambda p: touches(known_id(p.id)), points):
        shard = shard_of(known_id(point.id), request.shard_key, found)
        unknown_ones = [v for v in point.vectors if storage.cluster.refuses(v, shard)]
        refused += unknown_ones
        if not unknown_ones:
            written.append(point)
    return written, refused


def _touches(found: Collection, request: Any) -> Callable[[PointId], bool]:
    """Return which ids a write is for, as it finds the collection; absent ones meet any filter."""
    matches, mode = matcher(request.update_filter), getattr(request, "update_mode", None)

    def touches(point: PointId) -> bool:
        stored = found.points.get(found.place(point, request.shard_key))
        if stored is None:
            return mode != models.UpdateMode.UPDATE_ONLY
        return mode != models.UpdateMode.INSERT_ONLY and matches(point, stored)

    return touches


def _unless(refused: Sequence[str]) -> Any:
    if refused:
        error = unknown(refused[0])
        raise WireError(
            error.status,
            f"Wrong input: 1 out of 2 shards failed to apply operation. "
            f"First error captured: {error}",
        )
    return _COMPLETED


def set_payload(storage: Storage, name: str, request: models.SetPayload) -> Any:
    if request.points is None or request.filter is not None or request.key is not None:
        raise WireError(501, "the stand-in sets payload by ids")
    found = storage.find(name)
    limits.take_write(found, len(request.points))
    found.set_payload(request.points, request.payload, request.shard_key)
    return _COMPLETED


def delete(storage: Storage, name: str, request: Any) -> Any:
    if not isinstance(request, models.PointIdsList):
        raise WireError(501, "the stand-in deletes points by ids")
    found = storage.find(name)
    limits.take_write(found, len(request.points))
    found.delete(request.points, request.shard_key)
    return _COMPLETED


def add_key(storage: Storage, name: str, request: models.CreateShardingKey) -> Any:
    storage.find(name).add_key(request.shard_key, name)
    return True


def shards(storage: Storage, name: str, *, peer: int) -> Any:
    return storage.cluster.shards(storage.find(name), peer)


def retrieve(storage: Storage, name: str, request: models.PointRequest) -> Any:
    found = storage.find(name)
    limits.check_retrieve(found, len(request.ids))
    places = found.find(request.ids, request.shard_key)
    return [found.record(place, request.with_payload, request.with_vector) for place in places]


def scroll(storage: Storage, name: str, request: models.ScrollRequest) -> Any:
    if request.order_by is not None:
        raise WireError(501, "the stand-in scrolls by id")
    found, limit = storage.find(name), request.limit or 10
    limits.check_scroll(found, limit, request.filter)
    places = found.select(matcher(request.filter), request.shard_key)
    if request.offset is not None:
        start = id_order(known_id(request.offset))
        places = places[bisect_left(places, start, key=lambda place: id_order(bare(place))) :]
    with_what = request.with_payload, request.with_vector
    page = [found.record(place, *with_what) for place in places[:limit]]
    following = bare(places[limit]) if len(places) > limit else None
    return {"points": page, "next_page_offset": following}


def count(storage: Storage, name: str, request: models.CountRequest) -> Any:
    found = storage.find(name)
    limits.check_count(found, request.filter, is_exact=request.exact is not False)
    return {"count": found.count(matcher(request.filter), request.shard_key)}


def query(
    storage: Storage, name: str, request: models.QueryRequestBatch, *, reads_all: bool = False
) -> Any:
    found = storage.find(name)
    limits.check_queries(found, request.searches)
    for one in request.searches:
        vector = one.using or UNNAMED
        storage.cluster.check_search(vector, found.n_shards, reads_all=reads_all)
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
    ("GET", _NAME + "/cluster", None, shards),
    ("PUT", _NAME + "/shards", models.CreateShardingKey, add_key),
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
