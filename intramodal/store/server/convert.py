"""The words of qdrant-client: definitions, options, conditions, queries, limits and messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError
from qdrant_client import models

from intramodal.errors import InputError, Unsupported
from intramodal.store.base import UNNAMED, VectorSpec, plain_id
from intramodal.store.filters import Dialect
from intramodal.store.queries import Answer, SearchPlan
from intramodal.types import Floats, PointId, ShardKey

CLIENT = Dialect(
    all_of=lambda must, must_not: models.Filter(must=must, must_not=must_not),
    any_of=lambda conditions: models.Filter(should=conditions),
    has_id=lambda ids: models.HasIdCondition(has_id=list(ids)),
    has_vector=lambda name: models.HasVectorCondition(has_vector=name),
    is_value=lambda key, value: models.FieldCondition(
        key=key, match=models.MatchValue(value=value)
    ),
    is_among=lambda key, values: models.FieldCondition(key=key, match=models.MatchAny(any=values)),
    is_float=lambda key, value: models.FieldCondition(
        key=key, range=models.Range(gte=value, lte=value)
    ),
    is_absent=lambda key: models.IsEmptyCondition(is_empty=models.PayloadField(key=key)),
    in_slice=lambda part: models.SliceCondition(
        slice=models.Slice(total=part.total, index=part.index)
    ),
)

NO_POINT = models.Filter(must=[models.HasIdCondition(has_id=[])])
"""Met by no point: an upsert with it as `update_filter` inserts absent points and leaves existing
ones alone, on servers from 1.16 on. The mode insert_only does the same from 1.17 on, and 1.16
ignores it in silence."""

_QUANTIZATION: Any = TypeAdapter(models.QuantizationConfig)
_OPTION_TYPES: dict[str, Any] = {
    "shard_number": None,
    "replication_factor": None,
    "write_consistency_factor": None,
    "on_disk_payload": None,
    "hnsw_config": TypeAdapter(models.HnswConfigDiff),
    "optimizers_config": TypeAdapter(models.OptimizersConfigDiff),
    "wal_config": TypeAdapter(models.WalConfigDiff),
    "strict_mode_config": TypeAdapter(models.StrictModeConfig),
    "quantization_config": _QUANTIZATION,
}
_PARAMS = (
    *("shard_number", "replication_factor", "write_consistency_factor", "on_disk_payload"),
    *("payload", "id_tracker", "sharding_method", "sparse_vectors"),
)
_DEFINITION = frozenset({"size", "distance", "datatype", "multivector_config"})
# Only newer clients know these options.
_OPTION_TYPES |= {
    option: TypeAdapter(getattr(models, kind))
    for option, kind in (("payload", "PayloadStorageParams"), ("id_tracker", "IdTrackerParams"))
    if hasattr(models, kind)
}


@dataclass(frozen=True)
class Limits:
    """What strict mode allows; None where it sets no limit."""

    points_a_write: int | None = None
    answers_a_query: int | None = None
    queries_a_batch: int | None = None
    allows_exact: bool = True
    reads_a_minute: int | None = None
    writes_a_minute: int | None = None
    """Of points that are written or read by id; of queries and their conditions. One request that
    needs more than a minute's worth is refused for ever."""
    allows_unindexed: bool = True
    """Whether a filter may be on a payload field without an index."""
    conditions_a_filter: int | None = None
    values_a_condition: int | None = None

    @property
    def restricts_filters(self) -> bool:
        """Return whether there are filters that are refused."""
        counts = (self.conditions_a_filter, self.values_a_condition)
        return not self.allows_unindexed or counts != (None, None)

    def points(self, most: int) -> int:
        """Return how many points may be written at once, at most `most`."""
        return _least(most, self.points_a_write, self.writes_a_minute)

    def changes(self, most: int) -> int:
        """Return how many points may be changed or deleted by id at once."""
        return _least(most, self.writes_a_minute)

    def ids(self, most: int) -> int:
        """Return how many points may be read by id at once."""
        return _least(most, self.reads_a_minute)

    def queries(self, most: int, cost: int) -> int:
        """Return how many searches may be sent at once, each of which counts as `cost` reads."""
        affordable = None if self.reads_a_minute is None else self.reads_a_minute // cost
        return _least(most, self.queries_a_batch, affordable)


def _least(most: int, *limits: int | None) -> int:
    return max(1, min([most, *(limit for limit in limits if limit is not None)]))


def limits_of(info: models.CollectionInfo) -> Limits:
    """Return the limits of a collection's strict mode."""
    strict = info.config.strict_mode_config
    if strict is None or not strict.enabled:
        return Limits()
    return Limits(
        points_a_write=strict.upsert_max_batchsize,
        answers_a_query=strict.max_query_limit,
        queries_a_batch=strict.search_max_batchsize,
        allows_exact=strict.search_allow_exact is not False,
        reads_a_minute=strict.read_rate_limit,
        writes_a_minute=strict.write_rate_limit,
        allows_unindexed=strict.unindexed_filtering_retrieve is not False,
        conditions_a_filter=strict.filter_max_conditions,
        values_a_condition=strict.condition_max_size,
    )


def problem_of(info: models.CollectionInfo) -> str:
    """Return what has stopped the optimizer; "" where nothing has."""
    text = getattr(info.optimizer_status, "error", "")
    return " ".join(str(text).split())


def specs_of(info: models.CollectionInfo) -> dict[str, VectorSpec]:
    """Return the dense vectors of a collection, the unnamed one under `UNNAMED`."""
    vectors = info.config.params.vectors
    if vectors is None:
        return {}
    named = vectors if isinstance(vectors, dict) else {UNNAMED: vectors}
    return {name: _spec(params) for name, params in named.items()}


def _spec(params: models.VectorParams) -> VectorSpec:
    return VectorSpec(
        size=params.size,
        distance=models.Distance(params.distance).value,
        datatype=models.Datatype(params.datatype).value if params.datatype else "float32",
        is_multivector=params.multivector_config is not None,
    )


def vectors_config(
    vectors: Mapping[str, VectorSpec], settings: Mapping[str, Mapping[str, Any]] | None = None
) -> models.VectorParams | dict[str, models.VectorParams]:
    """Return the client's definitions of all vectors of a new collection.

    `settings` holds further parameters of single vectors, in the server's spelling.
    """
    params = {
        name: _vector_params(name, spec, (settings or {}).get(name, {}))
        for name, spec in vectors.items()
    }
    return params[UNNAMED] if set(params) == {UNNAMED} else params


def _vector_params(
    name: str, spec: VectorSpec, settings: Mapping[str, Any]
) -> models.VectorParams:
    try:
        return models.VectorParams(
            size=spec.size,
            distance=models.Distance(spec.distance),
            datatype=datatype(name, spec),
            **settings,
        )
    except (ValidationError, TypeError) as error:
        raise InputError(f"vector {name!r} cannot be set up by {dict(settings)}") from error


def vector_diff(vector: str, settings: Mapping[str, Any]) -> models.VectorParamsDiff:
    """Return the client's change that gives a vector settings in the server's spelling."""
    try:
        return models.VectorParamsDiff(**settings)
    except (ValidationError, TypeError) as error:
        raise InputError(f"vector {vector!r} cannot be set up by {dict(settings)}") from error


def settings_of(info: models.CollectionInfo) -> dict[str, Any]:
    """Return the options that would create such a collection, in the server's spelling.

    ``sparse_vectors`` and ``sharding_method`` are told, too, though no option makes them.
    """
    config, params = info.config, info.config.params
    vectors = params.vectors or {}
    named = vectors if isinstance(vectors, dict) else {UNNAMED: vectors}
    by_vector = {name: _plain(p, leave_out=_DEFINITION) for name, p in named.items()}
    found = {
        **{key: getattr(params, key, None) for key in _PARAMS},
        "hnsw_config": config.hnsw_config,
        "optimizers_config": config.optimizer_config,
        "wal_config": config.wal_config,
        "strict_mode_config": config.strict_mode_config,
        "quantization_config": config.quantization_config,
        "vectors": {name: settings for name, settings in by_vector.items() if settings},
    }
    return {key: _plain(value) for key, value in found.items() if value or value is False}


def _plain(value: Any, *, leave_out: frozenset[str] = frozenset()) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True, exclude=set(leave_out))
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return value.value if isinstance(value, Enum) else value


def vector_name_config(vector: str, spec: VectorSpec) -> models.DenseVectorNameConfig:
    """Return the client's definition of a vector that is added to a collection."""
    kind = datatype(vector, spec)
    return models.DenseVectorNameConfig(
        dense=models.DenseVectorConfig(
            size=spec.size,
            distance=models.Distance(spec.distance),
            datatype=models.VectorStorageDatatype(kind.value) if kind else None,
        )
    )


def datatype(name: str, spec: VectorSpec) -> models.Datatype | None:
    """Return the client's word for the datatype, None for the default."""
    if spec.datatype == "float32":
        return None
    try:
        return models.Datatype(spec.datatype)
    except ValueError:
        known = ", ".join(d.value for d in models.Datatype)
        raise Unsupported(
            f"vector {name!r} cannot be stored as {spec.datatype!r}; Qdrant knows {known}"
        ) from None


def collection_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return creation options as the client's objects; mappings are in the server's spelling."""
    options = {key: value for key, value in options.items() if key != "vectors"}
    unknown = sorted(set(options) - set(_OPTION_TYPES))
    if unknown:
        raise Unsupported(
            f"there is no collection option {unknown[0]!r}; "
            f"choose among {', '.join(_OPTION_TYPES)}"
        )
    return {key: _option(key, value) for key, value in options.items() if value is not None}


def _option(key: str, value: Any) -> Any:
    adapter = _OPTION_TYPES[key]
    try:
        return value if adapter is None else adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"the collection option {key} cannot be {value!r}: {first['msg']}"
        ) from error


def point_vectors(vectors: Mapping[str, Floats]) -> Any:
    """Return the columns of a `models.Batch`."""
    if set(vectors) == {UNNAMED}:
        return vectors[UNNAMED].tolist()
    return {name: X.tolist() for name, X in vectors.items()}


def vector_updates(vector: str, ids: Sequence[PointId], X: Floats) -> list[models.PointVectors]:
    """Return one new vector a point."""
    rows = X.tolist()
    if vector == UNNAMED:
        return [models.PointVectors(id=i, vector=row) for i, row in zip(ids, rows, strict=True)]
    return [
        models.PointVectors(id=i, vector={vector: row}) for i, row in zip(ids, rows, strict=True)
    ]


def query_request(
    plan: SearchPlan,
    row: int,
    condition: Any,
    limit: int,
    shard_key: ShardKey | None = None,
    *,
    is_local: bool,
) -> models.QueryRequest:
    """Return one search; local mode is always exact and warns of parameters."""
    params = None if is_local else _search_params(plan)
    prefetch = [
        models.Prefetch(
            query=stage.Q[row].tolist(),
            using=stage.using or None,
            limit=stage.limit,
            filter=condition,
            params=params,
        )
        for stage in plan.stages()
    ]
    return models.QueryRequest(
        query=_fusion(plan) if plan.is_fused else plan.Q[row].tolist(),
        using=None if plan.is_fused else plan.using or None,
        limit=limit,
        filter=condition,
        params=params,
        prefetch=prefetch or None,
        shard_key=shard_key,
        with_payload=False,
        with_vector=False,
    )


def _fusion(plan: SearchPlan) -> models.FusionQuery | models.RrfQuery:
    """Return how the lists are fused; without weights as every version of the server knows it."""
    if plan.weights is None:
        return models.FusionQuery(fusion=models.Fusion.RRF)
    return models.RrfQuery(rrf=models.Rrf(weights=list(plan.weights)))


def _search_params(plan: SearchPlan) -> models.SearchParams:
    try:
        return models.SearchParams(exact=plan.exact, **plan.params)
    except ValidationError as error:
        raise InputError(f"{plan.params} are not search parameters: {error}") from error


def n_conditions(condition: Any) -> int:
    """Return the single conditions of a filter: a rate limit counts each of them."""
    if not isinstance(condition, models.Filter):
        return int(condition is not None)
    groups = (condition.must, condition.should, condition.must_not)
    listed = [g if isinstance(g, list) else [g] for g in groups if g is not None]
    return sum(n_conditions(one) for group in listed for one in group)


def longest_condition(condition: Any) -> int:
    """Return how many ids or values the longest single condition of a filter lists."""
    if isinstance(condition, models.Filter):
        groups = (condition.must, condition.should, condition.must_not)
        listed = [g if isinstance(g, list) else [g] for g in groups if g is not None]
        return max((longest_condition(one) for group in listed for one in group), default=0)
    if isinstance(condition, models.HasIdCondition):
        return len(condition.has_id)
    match = getattr(condition, "match", None)
    return len(match.any) if isinstance(match, models.MatchAny) else 0


def all_of(filters: Sequence[models.Filter]) -> models.Filter | None:
    """Return the filter of the points that match all of some; None where there is none."""
    if len(filters) < 2:
        return filters[0] if filters else None
    return models.Filter(must=list(filters))


def answer(response: models.QueryResponse) -> Answer:
    """Return ids and scores of one query."""
    scores = np.array([point.score for point in response.points], dtype=np.float32)
    return [plain_id(point.id) for point in response.points], scores


def vector_selection(names: Sequence[str]) -> list[str] | bool:
    """Return which vectors to send; the unnamed one has no name to ask for."""
    return True if UNNAMED in names else list(names) or False
