"""From method, path and body to what the storage does."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from qdrant_client import models

from intramodal.types import PointId
from tests.faults.wire import limits, search
from tests.faults.wire.cluster import shard_of, unknown
from tests.faults.wire.conditions import matcher
from tests.faults.wire.errors import WireError
from tests.faults.wire.points import Collection, Given, bare, id_order, known_id
from tests.faults.wire.storage import Storage
from tests.faults.wire.vectors import UNNAMED, by_name
from tests.faults.wire.versions import adds_vectors, knows, seen_by

Answer = Callable[..., Any]
"""Takes the storage, the names in the path, and the body where there is one."""

_COMPLETED = {"operation_id": 0, "status": "completed"}
_ACKNOWLEDGED = {"operation_id": 0, "status": "acknowledged"}


class _Dense(models.DenseVectorConfig):
    """What a server takes of a new vector, with what it drops without a word."""

    on_disk: bool | None = None


class _DenseName(models.DenseVectorNameConfig):
    dense: _Dense


_VECTOR_CONFIG: Any = TypeAdapter(_DenseName | models.SparseVectorNameConfig)
_POINTS: Any = TypeAdapter(models.PointInsertOperations)
_SELECTOR: Any = TypeAdapter(models.PointsSelector)


def prepared(
    storage: Storage, method: str, target: str, body: bytes, *, peer: int, version: str
) -> Callable[[], Any]:
    """Return what one request does, read and checked; `WireError` for what is refused before.

    `peer` is the node that is asked, `version` what it is.
    """
    path, asked = urlsplit(target).path, parse_qs(urlsplit(target).query)
    if (method, path) == ("GET", "/cluster"):
        return lambda: storage.cluster.status(peer)
    if (method, path) == ("GET", "/profiler/slow_requests"):
        return lambda: {"requests": []}
    kind, act, names = _route(method, path, version)
    _check_names(names, act, version)
    how: dict[str, Any] = (
        {"reads_all": asked.get("consistency") == ["all"]} if act in (*_SEARCHES, scroll) else {}
    )
    how |= {"peer": peer} if act in _ASK_A_PEER else {}
    how |= {"waits": asked.get("wait") == ["true"]} if act in _NAMES_CHANGE else {}
    if act in (upsert, update_vectors, delete, set_payload):
        storage.cluster.orderings.append(asked.get("ordering", [None])[0])
    parsed = [seen_by(version, _parsed(kind, body))] if kind else []
    if parsed:
        _check_body(act, parsed[0], version)
    if "/points" in path and "timeout" in asked:
        check_timeout(storage, names[0], int(asked["timeout"][0]))
    return lambda: act(storage, *names, *parsed, **how)


def _route(method: str, path: str, version: str) -> tuple[Any, Answer, list[str]]:
    """Return kind of body, action and names in the path; 404 for what the server has not."""
    for verb, pattern, kind, act in _ROUTES:
        found = re.fullmatch(pattern, path)
        if verb == method and found:
            if (act in _NAMES_CHANGE and not adds_vectors(version)) or (
                act is optimizations and not knows(version, "optimizations")
            ):
                raise WireError(404, "")
            return kind, act, [unquote(name) for name in found.groups()]
    if path.endswith("/vectors/") or not path.startswith("/collections/"):
        raise WireError(404, "")
    raise WireError(501, f"the stand-in has no {method} {path}")


def _check_names(names: Sequence[str], act: Answer, version: str) -> None:
    """Raise for names that no collection and no vector may have."""
    said = "Validation error in path parameters"
    label = "collection_name" if adds_vectors(version) else "name"
    if act is Storage.create and "/" in names[0]:
        raise WireError(422, f'{said}: [{label}: collection name cannot contain "/" char]')
    if act is Storage.create and len(names[0]) > 255:
        text = f'value "{names[0]}" invalid, must be from 1 to 255 characters'
        raise WireError(422, f"{said}: [{label}: {text}]")
    if act is add_vector and "/" in names[1]:
        raise WireError(422, f'{said}: [vector_name: vector name cannot contain "/" char]')


def check_timeout(storage: Storage, name: str, seconds: int) -> None:
    """Raise where a request may take longer than its collection allows."""
    if storage.exists(name):
        limits.check_timeout(storage.find(name), seconds)


def _parsed(kind: Any, body: bytes) -> Any:
    if b"NaN" in body or b"Infinity" in body:
        _check_numbers(body)
    try:
        adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
        return adapter.validate_json(body)
    except ValidationError as error:
        raise WireError(400, f"Format error in JSON body: {error}") from error


def _check_body(act: Answer, request: Any, version: str) -> None:
    """Raise for what the models of the client take and the server does not."""
    said = "Validation error in JSON body"
    if act is update_vectors and not request.points:
        raise WireError(422, f"{said}: [points: must specify points to update]")
    if act is Storage.create:
        given = request.vectors if isinstance(request.vectors, dict) else {"": request.vectors}
        for size in (params.size for params in given.values() if params is not None):
            if size < 1:
                raise WireError(400, f"Format error in JSON body: vectors: size {size}")
            if size > 65_536:
                text = f"[vectors.?.size: value {size} invalid, must be from 1 to 65536]"
                raise WireError(422, f"{said}: {text}")
    condition = getattr(request, "filter", None)
    if not knows(version, "slice") and any(
        isinstance(leaf, models.SliceCondition) for leaf in limits.leaves(condition)
    ):
        raise WireError(400, "Format error in JSON body: Expected some form of condition")


def _check_numbers(body: bytes) -> None:
    """Raise for numbers that are none in JSON; `validate_json` would take them."""
    try:
        from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise WireError(400, f"Format error in JSON body: {error}") from error


def _check_depth(payload: Any) -> None:
    """Raise for a payload that is nested deeper than the server's parser goes: 128 in a body."""
    depth, level = 4, [payload]
    while level:
        if depth > 128:
            raise WireError(400, "Format error in JSON body: recursion limit exceeded")
        inner = [
            one
            for value in level
            for one in (value.values() if isinstance(value, dict) else value)
        ]
        level = [one for one in inner if isinstance(one, dict | list)]
        depth += 1


# What REST and gRPC share: models in, JSON out.


def _listed(storage: Storage) -> Any:
    return {"collections": [{"name": name} for name in sorted(storage.collections)]}


def _aliases(storage: Storage, name: str | None = None) -> Any:
    """Return all aliases, or those of one collection."""
    pairs = [(a, c) for a, c in storage.aliases.items() if name in (None, c)]
    return {"aliases": [{"alias_name": a, "collection_name": c} for a, c in pairs]}


def add_vector(
    storage: Storage, name: str, vector: str, config: Any, *, waits: bool = False
) -> Any:
    is_dense = isinstance(config, models.DenseVectorNameConfig)
    storage.add_vector(name, vector, config.dense if is_dense else config.sparse)
    found = storage.find(name)
    storage.cluster.after_write(found, range(found.n_shards))
    return _COMPLETED if waits else _ACKNOWLEDGED


def drop_vector(storage: Storage, name: str, vector: str, *, waits: bool = False) -> Any:
    found = storage.find(name)
    found.drop_vector(vector)
    storage.cluster.after_write(found, range(found.n_shards))
    return _COMPLETED if waits else _ACKNOWLEDGED


def index(storage: Storage, name: str, request: models.CreateFieldIndex) -> Any:
    found, schema = storage.find(name), request.field_schema
    if schema is None:
        raise WireError(501, "the stand-in guesses no type of an index")
    limits.check_index(found, request.field_name)
    found.index_params.pop(request.field_name, None)
    if not isinstance(schema, models.PayloadSchemaType):
        found.index_params[request.field_name] = schema.model_dump(mode="json", exclude_none=True)
        schema = models.PayloadSchemaType(schema.type)
    found.indexes[request.field_name] = schema
    return _COMPLETED


def drop_index(storage: Storage, name: str, field: str) -> Any:
    found = storage.find(name)
    found.indexes.pop(field, None)
    found.index_params.pop(field, None)
    return _COMPLETED


def upsert(storage: Storage, name: str, request: Any) -> Any:
    found = storage.find(name)
    points = _rows(request) if isinstance(request, models.PointsBatch) else _listed_points(request)
    if not points:
        raise WireError(400, "Bad request: Empty update request")
    for point in points:
        _check_depth(point.payload)
    limits.check_upsert(found, points)
    written, refused = _parted(storage, found, points, request)
    found.upsert(written, request.shard_key)
    _reach(storage, found, (given.id for given in points), request.shard_key)
    storage.cluster.after_update(found, written, request.shard_key, [set() for _ in written])
    return _unless(refused)


def _reach(storage: Storage, found: Collection, ids: Iterable[Any], key: Any) -> None:
    """Raise what a write gets where not enough replicas took it."""
    storage.cluster.after_write(found, (shard_of(known_id(i), key, found) for i in ids))


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


def update_vectors(
    storage: Storage, name: str, request: models.UpdateVectors, *, peer: int = 0
) -> Any:
    found, points = storage.find(name), _listed_points(request)
    limits.check_update(found, points)
    try:
        if request.update_filter is not None:  # names are looked at in those that it selects
            for given in points:
                found.existing(given.id, request.shard_key)
        written, refused = _parted(storage, found, points, request)
        had = [storage.cluster.last_has(found, given.id, request.shard_key) for given in written]
        found.update_vectors(written, request.shard_key)
    except WireError as error:
        storage.cluster.n_deaf = storage.cluster.deaf_after_404
        missing = _missing(found, (given.id for given in points), request.shard_key)
        raise storage.cluster.not_found(found, missing, peer, error) from error
    _reach(storage, found, (given.id for given in points), request.shard_key)
    storage.cluster.after_update(found, written, request.shard_key, had)
    return _unless(refused)


def _missing(found: Collection, ids: Iterable[Any], key: Any) -> int | None:
    """Return the shard in which the first absent point would be."""
    for point in ids:
        if found.place(point, key) not in found.points:
            return shard_of(known_id(point), key, found)
    return None


def _parted(
    storage: Storage, found: Collection, points: Sequence[Given], request: Any
) -> tuple[list[Given], list[str]]:
    """Return which points are written, and the vectors that nodes of others do not know."""
    touches = _touches(storage, found, request)
    written, refused = [], []
    for point in filter(lambda p: touches(known_id(p.id)), points):
        shard = shard_of(known_id(point.id), request.shard_key, found)
        unknown_ones = [v for v in point.vectors if storage.cluster.refuses(v, shard)]
        refused += unknown_ones
        if not unknown_ones and storage.cluster.reaches(found, shard):
            written.append(point)
    return written, refused


def _touches(storage: Storage, found: Collection, request: Any) -> Callable[[PointId], bool]:
    """Return which ids a write is for, as it finds the collection; absent ones meet any filter."""
    matches, mode = matcher(request.update_filter), getattr(request, "update_mode", None)

    def touches(point: PointId) -> bool:
        stored = found.points.get(found.place(point, request.shard_key))
        if stored is None:
            return mode != models.UpdateMode.UPDATE_ONLY
        # Each replica decides by itself.
        shard = shard_of(known_id(point), request.shard_key, found)
        seen = [stored.on(peer) for peer in storage.cluster.holders(shard)]
        is_met = any(matches(point, one) for one in seen)
        return mode != models.UpdateMode.INSERT_ONLY and is_met

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


def drop_vectors(storage: Storage, name: str, request: models.DeleteVectors) -> Any:
    if request.points is None:
        raise WireError(501, "the stand-in deletes vectors by ids")
    found = storage.find(name)
    for vector in request.vector:
        found.params(vector)
    for place in found.find(request.points, request.shard_key):
        for vector in request.vector:
            found.points[place].vectors.pop(vector, None)
    return _COMPLETED


def set_payload(storage: Storage, name: str, request: models.SetPayload) -> Any:
    if request.points is None or request.filter is not None or request.key is not None:
        raise WireError(501, "the stand-in sets payload by ids")
    found = storage.find(name)
    limits.take_write(found, len(request.points))
    found.set_payload(request.points, request.payload, request.shard_key)
    _reach(storage, found, request.points, request.shard_key)
    return _COMPLETED


def delete(storage: Storage, name: str, request: Any) -> Any:
    found = storage.find(name)
    if isinstance(request, models.PointIdsList):
        limits.take_write(found, len(request.points))
        found.delete(request.points, request.shard_key)
        _reach(storage, found, request.points, request.shard_key)
        return _COMPLETED
    limits.check_selection(found, request.filter)
    limits.take_write(found, len(found.points) // 2)  # as it guesses where there is no index
    for place in found.select(matcher(request.filter), request.shard_key):
        del found.points[place]
    return _COMPLETED


def add_key(storage: Storage, name: str, request: models.CreateShardingKey) -> Any:
    if not storage.cluster.takes_keys:
        if knows(storage.version, "standalone"):
            raise WireError(405, "Qdrant is running in standalone mode")
        raise WireError(400, "Bad request: Distributed mode disabled")
    storage.find(name).add_key(request.shard_key, name)
    return True


def shards(storage: Storage, name: str, *, peer: int) -> Any:
    return storage.cluster.shards(storage.find(name), peer)


def list_keys(storage: Storage, name: str) -> Any:
    return {"shard_keys": [{"key": key} for key in storage.find(name).shard_keys]}


def optimizations(storage: Storage, name: str) -> Any:
    told = storage.find(name).optimizations
    if isinstance(told, WireError):
        raise told
    if told is not None:
        return told
    counts = ("queued_optimizations", "queued_segments", "queued_points")
    return {"summary": {**dict.fromkeys(counts, 0), "idle_segments": 1}, "running": []}


def point(storage: Storage, name: str, given: str) -> Any:
    found = storage.find(name)
    places = found.find([int(given) if given.isdigit() else given])
    if not places:
        raise WireError(404, f"Not found: Point with id {given} does not exists!")
    return found.record(places[0], True, True)


def retrieve(storage: Storage, name: str, request: models.PointRequest, *, peer: int = 0) -> Any:
    found = storage.find(name)
    limits.check_retrieve(found, len(request.ids))
    storage.cluster.check_read(found)
    found.check_vectors(request.with_vector)
    places = found.find(request.ids, request.shard_key)
    with_what = request.with_payload, request.with_vector
    return [found.record(place, *with_what, peer) for place in places]


def scroll(
    storage: Storage,
    name: str,
    request: models.ScrollRequest,
    *,
    peer: int = 0,
    reads_all: bool = False,
) -> Any:
    if request.limit == 0:
        text = "[scroll_request.limit: value 0 invalid, must be 1 or larger]"
        raise WireError(422, f"Validation error in JSON body: {text}")
    found, limit = storage.find(name), request.limit or 10
    if request.order_by is not None:
        raise _unordered(found, request.order_by)
    found.check_vectors(request.with_vector)
    limits.check_scroll(found, limit, request.filter)
    if reads_all:
        storage.cluster.check_all()
    storage.cluster.check_read(found, reads_all=reads_all)
    cluster, matches = storage.cluster, matcher(request.filter)
    seen = (lambda *_: True) if reads_all else cluster.seen(matches, found, peer)
    places = found.select(seen, request.shard_key)
    if request.offset is not None:
        start = id_order(known_id(request.offset))
        places = places[bisect_left(places, start, key=lambda place: id_order(bare(place))) :]
    with_what = request.with_payload is None or request.with_payload, request.with_vector
    if reads_all:  # each replica answers, and what they do not agree on is left out
        places = list(cluster.given_by_all(found, places, matches, limit))
        places = [p for p in places if cluster.are_alike(found.points[p], request.with_vector)]
    page = [found.record(place, *with_what, peer) for place in places[:limit]]
    following = bare(places[limit]) if len(places) > limit else None
    return {"points": page, "next_page_offset": following}


def _unordered(found: Collection, order: Any) -> WireError:
    key = order if isinstance(order, str) else order.key
    if key in found.indexes:
        return WireError(501, "the stand-in scrolls by id")
    return WireError(
        400,
        f"Wrong input: No range index for `order_by` key: `{key}`. Please create one to use "
        "`order_by`. Check https://qdrant.tech/documentation/concepts/indexing/#payload-index to "
        "see which payload schemas support Range conditions",
    )


def count(storage: Storage, name: str, request: models.CountRequest, *, peer: int = 0) -> Any:
    found = storage.find(name)
    limits.check_count(found, request.filter, is_exact=request.exact is not False)
    storage.cluster.check_read(found)
    matches = storage.cluster.seen(matcher(request.filter), found, peer)
    return {"count": found.count(matches, request.shard_key)}


def query(
    storage: Storage, name: str, request: models.QueryRequestBatch, *, reads_all: bool = False
) -> Any:
    found = storage.find(name)
    for n, one in enumerate(request.searches):
        if one.limit == 0:
            text = f"[searches[{n}].internal.limit: value 0 invalid, must be 1 or larger]"
            raise WireError(422, f"Validation error in JSON body: {text}")
    limits.check_queries(found, request.searches)
    storage.cluster.check_read(found, reads_all=reads_all)
    for one in request.searches:
        vector = one.using or UNNAMED
        storage.cluster.check_search(vector, found.n_shards, reads_all=reads_all)
    return [search.answer(found, one) for one in request.searches]


def query_one(
    storage: Storage, name: str, request: models.QueryRequest, *, reads_all: bool = False
) -> Any:
    batch = models.QueryRequestBatch(searches=[request])
    return query(storage, name, batch, reads_all=reads_all)[0]


_ASK_A_PEER = (Storage.describe, shards, scroll, count, retrieve, update_vectors)
_NAMES_CHANGE = (add_vector, drop_vector)
_SEARCHES = (query, query_one)
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
    ("GET", _NAME + "/aliases", None, _aliases),
    ("GET", _NAME + "/optimizations", None, optimizations),
    ("GET", _NAME + "/cluster", None, shards),
    ("GET", _NAME + "/shards", None, list_keys),
    ("PUT", _NAME + "/shards", models.CreateShardingKey, add_key),
    ("PUT", _NAME + "/index", models.CreateFieldIndex, index),
    ("DELETE", _NAME + "/index/([^/]+)", None, drop_index),
    ("PUT", _NAME + "/points", _POINTS, upsert),
    ("GET", _NAME + "/points/([^/]+)", None, point),
    ("POST", _NAME + "/points", models.PointRequest, retrieve),
    ("PUT", _NAME + "/points/vectors", models.UpdateVectors, update_vectors),
    ("POST", _NAME + "/points/vectors/delete", models.DeleteVectors, drop_vectors),
    ("POST", _NAME + "/points/payload", models.SetPayload, set_payload),
    ("POST", _NAME + "/points/delete", _SELECTOR, delete),
    ("POST", _NAME + "/points/scroll", models.ScrollRequest, scroll),
    ("POST", _NAME + "/points/count", models.CountRequest, count),
    ("POST", _NAME + "/points/query", models.QueryRequest, query_one),
    ("POST", _NAME + "/points/query/batch", models.QueryRequestBatch, query),
]
