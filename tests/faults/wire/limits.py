"""Strict mode: what exceeds a limit is refused, in the words of the server.

Read in its source (lib/collection/src/operations/verification) and held against recordings.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from qdrant_client import models

from tests.faults.wire.errors import WireError
from tests.faults.wire.points import Collection, Given
from tests.faults.wire.usage import REFRESHED_EVERY, Sizes
from tests.faults.wire.vectors import UNNAMED
from tests.faults.wire.versions import knows

Schema = models.PayloadSchemaType

_ANSWERS = {
    "integer": {"integer", "integer range"},
    "keyword": {"keyword"},
    "uuid": {"uuid"},
    "bool": {"bool"},
    "float": {"float range"},
    "datetime": {"datetime range"},
    "text": {"text"},
    "geo": {"geo"},
}
"""Kind of an index -> what it can answer."""


def check_upsert(collection: Collection, points: Sequence[Given]) -> None:
    """Raise where an upsert holds more than is allowed, or comes too soon."""
    _check_write(collection, points, "upsert limit")


def check_update(collection: Collection, points: Sequence[Given]) -> None:
    """Raise where an update of vectors holds more than is allowed, or comes too soon."""
    _check_write(collection, points, "update limit")


def _check_write(collection: Collection, points: Sequence[Given], what: str) -> None:
    strict = _strict(collection)
    _check_memory(collection, strict)
    _check(what, len(points), strict.upsert_max_batchsize)
    _check_sizes(collection, strict)
    _check_parts(strict, points)
    take_write(collection, len(points))


def take_write(collection: Collection, n: int) -> None:
    """Raise where the rate of writes does not allow `n` points more."""
    if collection.usage.writes is not None:
        collection.usage.writes.take(n)


def check_selection(collection: Collection, condition: models.Filter | None) -> None:
    """Raise where a change by a filter needs an index that is not there."""
    strict = _strict(collection)
    _check_filter(collection, condition, strict, strict.unindexed_filtering_update)


def check_retrieve(collection: Collection, n: int) -> None:
    """Raise where ids are asked for too soon: each costs one."""
    _take_read(collection, n)


def check_scroll(collection: Collection, limit: int, condition: models.Filter | None) -> None:
    """Raise where a page is too long, its filter is forbidden, or it comes too soon."""
    strict = _strict(collection)
    _check("limit", limit, strict.max_query_limit)
    _check_filter(collection, condition, strict, strict.unindexed_filtering_retrieve)
    _take_read(collection, 1 + n_conditions(condition))


def check_count(
    collection: Collection, condition: models.Filter | None, *, is_exact: bool
) -> None:
    """Raise where a count is exact, its filter is forbidden, or it comes too soon."""
    strict = _strict(collection)
    _check_filter(collection, condition, strict, strict.unindexed_filtering_retrieve)
    _check_exact(strict, is_exact=is_exact)
    _take_read(collection, 1 + n_conditions(condition))


def check_queries(collection: Collection, requests: Sequence[models.QueryRequest]) -> None:
    """Raise where a batch of searches is too long, or one of them asks for what is forbidden."""
    strict = _strict(collection)
    if knows(collection.version, "search_max_batchsize"):
        _check("search batch size", len(requests), strict.search_max_batchsize)
    for request in requests:
        _check_query(collection, strict, request)
    _take_read(collection, sum(_query_cost(request) for request in requests))


def _check_query(collection: Collection, strict: models.StrictModeConfig, query: Any) -> None:
    stages = _listed(query.prefetch)
    for stage in stages:
        _check_query(collection, strict, stage)
    if not stages or isinstance(query, models.Prefetch):
        _check_full_scan(collection, strict, query)
    _check("limit", query.limit or 10, strict.max_query_limit)
    _check_filter(collection, query.filter, strict, strict.unindexed_filtering_retrieve)
    if query.params is not None:
        _check_params(strict, query.params)


def _check_params(strict: models.StrictModeConfig, params: models.SearchParams) -> None:
    quantization = params.quantization
    oversampling = quantization.oversampling if quantization is not None else None
    if oversampling is not None:
        _check("oversampling", oversampling, strict.search_max_oversampling)
    if params.hnsw_ef is not None:
        _check("hnsw_ef", params.hnsw_ef, strict.search_max_hnsw_ef)
    _check_exact(strict, is_exact=bool(params.exact))


def _check_full_scan(collection: Collection, strict: models.StrictModeConfig, query: Any) -> None:
    """Raise for a search that no graph can answer, where exact ones are forbidden."""
    name = query.using or UNNAMED
    params = collection.vectors.get(name)
    is_search = query.query is not None and not isinstance(
        query.query, models.FusionQuery | models.RrfQuery
    )
    if strict.search_allow_exact is not False or not is_search:
        return
    if not isinstance(params, models.VectorParams) or _links(collection, params):
        return
    on = f" on '{name}'" if name else ""
    raise _refusal(
        f"Request is forbidden{on} because global vector indexing is disabled (hnsw_config.m = 0)",
        "Use tenant-specific filter, enable global vector indexing or enable strict mode "
        "`search_allow_exact` option",
    )


def _links(collection: Collection, params: models.VectorParams) -> int:
    """Return m of the graph of a vector."""
    for config in (params.hnsw_config, collection.config.hnsw_config):
        if config is not None and config.m is not None:
            return config.m
    return 16


def check_timeout(collection: Collection, seconds: int | None) -> None:
    """Raise where a request may take longer than is allowed."""
    if seconds is not None:
        _check("timeout", seconds, _strict(collection).max_timeout)


def check_index(collection: Collection, name: str) -> None:
    """Raise where there are as many indexes as there may be."""
    most = _strict(collection).max_payload_index_count
    if most is not None and name not in collection.indexes and len(collection.indexes) >= most:
        raise _refusal(
            f"Collection already has the maximum number of payload indices ({most})",
            "Please delete an existing index before creating a new one.",
        )


def n_conditions(condition: models.Filter | None) -> int:
    """Return how many conditions a filter has, those of filters within included."""
    return sum(1 for _ in leaves(condition))


def _query_cost(query: Any) -> int:
    stages = sum(_query_cost(stage) for stage in _listed(query.prefetch))
    return 1 + n_conditions(query.filter) + stages


def _take_read(collection: Collection, n: int) -> None:
    if collection.usage.reads is not None:
        collection.usage.reads.take(n)


def _strict(collection: Collection) -> models.StrictModeConfig:
    given = collection.config.strict_mode_config
    return given if given is not None and given.enabled else models.StrictModeConfig()


def _check(what: str, n: float, most: float | None) -> None:
    if most is not None and n > most:
        raise _refusal(
            f'Limit exceeded {n:g} > {most:g} for "{what}"',
            f'Reduce the "{what}" parameter to or below {most:g}.',
        )


def _check_exact(strict: models.StrictModeConfig, *, is_exact: bool) -> None:
    if is_exact and strict.search_allow_exact is False:
        raise _refusal("Exact search disabled!", "Set exact=false.")


def _refusal(text: str, help_: str) -> WireError:
    return WireError(400, f"Bad request: {text}. Help: {help_}")


def _check_memory(collection: Collection, strict: models.StrictModeConfig) -> None:
    """Raise where the process has more of the memory than a write may find (from 1.18 on)."""
    used, most = collection.usage.memory_percent, strict.max_resident_memory_percent
    if most is not None and used >= most:
        raise _refusal(
            f"Resident memory usage is at {used}% of total memory, exceeding the configured limit "
            f"of {most}%",
            "Reduce memory usage (e.g. delete points or drop collections), or raise "
            "`max_resident_memory_percent` in the strict mode config of this collection.",
        )


# Sizes


def _check_sizes(collection: Collection, strict: models.StrictModeConfig) -> None:
    """Raise where the collection was full when it was last looked at."""
    most = (
        strict.max_collection_vector_size_bytes,
        strict.max_collection_payload_size_bytes,
        strict.max_points_count,
    )
    if most == (None, None, None):
        return
    usage = collection.usage
    if usage.n_looks % REFRESHED_EVERY == 0:
        usage.sizes = sizes_of(collection)
    usage.n_looks += 1
    for what, n, limit in (
        ("vector", usage.sizes.vector_bytes, most[0]),
        ("payload", usage.sizes.payload_bytes, most[1]),
    ):
        if limit is not None and n >= limit:
            said = f"Max {what} storage size limit of {limit / 1024**2:g}MB reached!"
            raise WireError(400, f"Bad request: {said}")
    if most[2] is not None and usage.sizes.points >= most[2]:
        raise WireError(400, f"Bad request: Max points count limit of {most[2]} reached!")


def sizes_of(collection: Collection) -> Sizes:
    """Return what a server that starts finds."""
    points = collection.points.values()
    vectors = [v for point in points for v in point.vectors.values()]
    return Sizes(
        points=len(points),
        vector_bytes=sum(v.nbytes for v in vectors if isinstance(v, np.ndarray)),
        payload_bytes=sum(len(json.dumps(point.payload)) for point in points),
    )


def _check_parts(strict: models.StrictModeConfig, points: Sequence[Given]) -> None:
    """Raise where a multivector or a sparse vector of a write is longer than allowed."""
    rows = strict.multivector_config or {}
    indices = strict.sparse_config or {}
    for name, vector in (pair for point in points for pair in point.vectors.items()):
        most = rows[name].max_vectors if name in rows else None
        if most is not None and isinstance(vector, list) and len(vector) > most:
            said = f"Multivector '{name}' has a limit of {most} vectors"
            raise WireError(400, f"Bad request: {said}, but {len(vector)} were provided!")
        length = indices[name].max_length if name in indices else None
        if length is not None and len(vector.indices) > length:
            said = f"Sparse vector '{name}' has a limit of {length} indices"
            raise WireError(400, f"Bad request: {said}, but {len(vector.indices)} were provided!")


# Filters


def _check_filter(
    collection: Collection,
    condition: models.Filter | None,
    strict: models.StrictModeConfig,
    allows_unindexed: bool | None,
) -> None:
    n, most = n_conditions(condition), strict.filter_max_conditions
    if most is not None and n > most:
        raise _refusal(
            f"Filter condition limit reached ({n} > {most})",
            "Reduce the amount of conditions of your filter.",
        )
    longest = max(map(_length, leaves(condition)), default=0)
    if strict.condition_max_size is not None and longest > strict.condition_max_size:
        raise _refusal(
            f"Condition size limit reached ({longest} > {strict.condition_max_size})",
            "Reduce the size of your condition.",
        )
    if allows_unindexed is False:
        for leaf in leaves(condition):
            _check_indexed(collection, leaf)


def leaves(condition: models.Filter | None) -> Iterator[Any]:
    """Yield the conditions of a filter and of the filters within."""
    if condition is None:
        return
    least = condition.min_should
    for part in (condition.must, condition.should, condition.must_not, least and least.conditions):
        for one in _listed(part):
            if isinstance(one, models.Filter):
                yield from leaves(one)
            else:
                yield one


def _listed(conditions: Any) -> list[Any]:
    if conditions is None:
        return []
    return conditions if isinstance(conditions, list) else [conditions]


def _length(condition: Any) -> int:
    """Return how many ids or values a condition lists."""
    if isinstance(condition, models.HasIdCondition):
        return len(condition.has_id)
    match = getattr(condition, "match", None)
    if isinstance(match, models.MatchAny):
        return len(match.any)
    return len(match.except_) if isinstance(match, models.MatchExcept) else 0


def _check_indexed(collection: Collection, condition: Any) -> None:
    """Raise unless an index of the field can answer the condition."""
    if isinstance(condition, models.IsEmptyCondition):
        key, needed = condition.is_empty.key, set(_ANY_INDEX)
    elif isinstance(condition, models.IsNullCondition):
        key, needed = condition.is_null.key, set(_ANY_INDEX)
    elif isinstance(condition, models.FieldCondition):
        key, needed = condition.key, _needed(condition)
    else:
        return
    kind = collection.indexes.get(key)
    if needed and (kind is None or not needed & _ANSWERS[kind.value]):
        types = ", ".join(
            sorted({one.removesuffix(" range") for one in needed if _is_known(collection, one)})
        )
        raise _refusal(
            f'Index required but not found for "{key}" of one of the following types: [{types}]',
            "Create an index for this key or use a different filter.",
        )


_ANY_INDEX = {one for some in _ANSWERS.values() for one in some} | {
    "keyword (with prefix: true)",
    "text (with phrase_matching: true)",
}


def _is_known(collection: Collection, kind: str) -> bool:
    return "prefix" not in kind or knows(collection.version, "keyword prefix")


def _needed(condition: models.FieldCondition) -> set[str]:
    """Return the kinds of index that answer a condition on a field."""
    needed = set()
    if condition.range is not None:
        is_number = isinstance(condition.range, models.Range)
        needed |= {"float range", "integer range"} if is_number else {"datetime range"}
    if condition.match is not None:
        needed |= _matched(condition.match)
    return needed


def _matched(match: Any) -> set[str]:
    if isinstance(match, models.MatchText):
        return {"text"}
    values = match.any if isinstance(match, models.MatchAny) else None
    values = match.except_ if isinstance(match, models.MatchExcept) else values
    values = [match.value] if values is None else values
    if not values:
        return set()
    if isinstance(values[0], str):
        return {"keyword"} | ({"uuid"} if all(map(_is_uuid, values)) else set())
    return {"bool"} if isinstance(values[0], bool) else {"integer"}


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
