"""Collections and aliases of the stand-in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel
from qdrant_client import models

from tests.faults.wire.cluster import Cluster
from tests.faults.wire.conditions import value_at
from tests.faults.wire.errors import WireError
from tests.faults.wire.limits import sizes_of
from tests.faults.wire.points import Collection, Place, Point
from tests.faults.wire.usage import Bucket
from tests.faults.wire.vectors import UNNAMED, Definition
from tests.faults.wire.versions import VERSION, knows


class Storage:
    """All collections, by name or alias; `lock` is held by whoever answers a request.

    `clock` is what the rate limits go by, and `minute_s` the length of their minute; tests may
    replace both before they set a limit.
    """

    def __init__(self, version: str = VERSION) -> None:
        self.lock = threading.Lock()
        self.cluster = Cluster()
        self.version = version
        self.clock: Callable[[], float] = time.monotonic
        self.minute_s = 60.0
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}

    def find(self, name: str) -> Collection:
        """Return a collection by its name or an alias."""
        real = self.aliases.get(name, name)
        if real not in self.collections:
            raise WireError(404, f"Not found: Collection `{name}` doesn't exist!")
        return self.collections[real]

    def exists(self, name: str) -> bool:
        """Return whether there is a collection or an alias of that name."""
        return self.aliases.get(name, name) in self.collections

    def points(self, name: str) -> dict[Place, Point]:
        """Return what is stored, past every wire."""
        return self.find(name).points

    def create(self, name: str, config: models.CreateCollection) -> bool:
        """Create a collection; 409 if the name is taken, 400 if an alias has it."""
        if name in self.aliases:
            text = f"Can't create collection with name {name}. Alias with the same name"
            raise WireError(400, f"Wrong input: {text} already exists")
        if self.exists(name):
            raise WireError(409, f"Wrong input: Collection `{name}` already exists!")
        given = config.vectors or {}
        dense = given if isinstance(given, dict) else {UNNAMED: given}
        vectors: dict[str, Definition] = {**dense, **(config.sparse_vectors or {})}
        metadata = dict(config.metadata or {})
        self.collections[name] = Collection(
            config,
            vectors,
            metadata,
            is_map=isinstance(given, dict),
            has_sparse=bool(config.sparse_vectors),
            version=self.version,
        )
        self._start_rates(self.collections[name])
        return True

    def _start_rates(self, collection: Collection) -> None:
        """Fill the buckets of the rates anew, as each change of strict mode does."""
        strict, usage = collection.config.strict_mode_config, collection.usage
        if strict is None or not strict.enabled:
            usage.reads = usage.writes = None
            return
        reads, writes = strict.read_rate_limit, strict.write_rate_limit
        usage.reads = Bucket("Read", reads, self.clock, self.minute_s) if reads else None
        usage.writes = Bucket("Write", writes, self.clock, self.minute_s) if writes else None

    def update(self, name: str, change: models.UpdateCollection) -> bool:
        """Merge settings; a top-level key of the metadata is replaced whole, null removes it."""
        found = self.find(name)
        for vector, diff in (change.vectors or {}).items():
            _merge(found.params(vector), diff)
        for metadata_key, value in (change.metadata or {}).items():
            found.metadata[metadata_key] = value
            if value is None:
                del found.metadata[metadata_key]
        _merge(found.config, change.params)
        for part in _SETTINGS:
            found_part, changed = getattr(found.config, part), getattr(change, part)
            if found_part is None or changed is None:
                setattr(found.config, part, changed or found_part)
            else:
                setattr(found.config, part, _merged(found_part, changed))
        if change.strict_mode_config is not None:
            self._start_rates(found)
        return True

    def recover(self) -> None:
        """Bring dead replicas up to date, as a node that is back does after some seconds."""
        for collection in self.collections.values():
            collection.dead.clear()

    def restart(self) -> None:
        """Look at the sizes of the collections and fill the buckets, as a server that starts."""
        for collection in self.collections.values():
            collection.usage.sizes, collection.usage.n_looks = sizes_of(collection), 1
            self._start_rates(collection)

    def drop(self, name: str) -> bool:
        """Delete a collection and its aliases; an absent one is no error."""
        self.aliases = {a: c for a, c in self.aliases.items() if c != name}
        return self.collections.pop(name, None) is not None

    def add_vector(
        self,
        name: str,
        vector: str,
        config: models.DenseVectorConfig | models.SparseVectorConfig,
    ) -> None:
        """Add a named vector; the same definition again changes nothing."""
        found, params = self.find(name), _params(config)
        found.is_map = found.is_map or isinstance(params, models.VectorParams)
        if vector not in found.vectors:
            self.cluster.added(vector)
            found.has_sparse |= isinstance(params, models.SparseVectorParams)
        if _defined(found.vectors.setdefault(vector, params)) != _defined(params):
            raise WireError(
                400,
                f"Wrong input: Vector `{vector}` already exists with a different configuration",
            )

    def change_aliases(self, change: models.ChangeAliasesOperation) -> bool:
        """Delete and create aliases; deleting an absent one is no error."""
        for action in change.actions:
            if isinstance(action, models.DeleteAliasOperation):
                self.aliases.pop(action.delete_alias.alias_name, None)
            elif isinstance(action, models.CreateAliasOperation):
                self._alias(action.create_alias)
            else:
                raise WireError(501, f"the stand-in has no {type(action).__name__}")
        return True

    def _alias(self, create: models.CreateAlias) -> None:
        if create.collection_name not in self.collections:
            raise WireError(
                404, f"Not found: Collection `{create.collection_name}` doesn't exist!"
            )
        if create.alias_name in self.collections:
            raise WireError(409, f"Wrong input: Collection `{create.alias_name}` already exists!")
        self.aliases[create.alias_name] = create.collection_name

    def describe(self, name: str, peer: int = 0) -> dict[str, Any]:
        """Return a `CollectionInfo` as JSON, as far as a peer knows."""
        found = self.find(name)
        self.cluster.check_read(found)
        known = {n: p for n, p in found.vectors.items() if self.cluster.is_known(n, peer)}
        vectors = _dumped(known, models.VectorParams)
        sparse = _dumped(known, models.SparseVectorParams)
        shards = ("shard_number", "replication_factor", "write_consistency_factor")
        asked: dict[str, Any] = {name: getattr(found.config, name) or 1 for name in shards}
        asked["on_disk_payload"] = found.config.on_disk_payload is not False
        if found.config.sharding_method is not None:
            asked["sharding_method"] = found.config.sharding_method.value
        if found.has_sparse:
            asked["sparse_vectors"] = sparse
        optimizer = _OPTIMIZER | _given(found.config.optimizers_config)
        said: dict[str, Any] = {}
        if found.metadata:
            said["metadata"] = found.metadata
        if found.config.strict_mode_config is not None:
            said["strict_mode_config"] = _given(found.config.strict_mode_config)
        told: dict[str, Any] = {
            "status": found.status,
            "optimizer_status": {"error": found.problem} if found.problem else "ok",
            "indexed_vectors_count": found.n_indexed,
            "points_count": len(found.points),
            "segments_count": 1,
            "config": {
                "params": {
                    "vectors": vectors if found.is_map else vectors[UNNAMED],
                    **asked,
                },
                "hnsw_config": _HNSW | _given(found.config.hnsw_config),
                "optimizer_config": optimizer,
                "wal_config": _WAL | _given(found.config.wal_config),
                "quantization_config": found.config.quantization_config
                and _given(found.config.quantization_config),
                **said,
            },
            "payload_schema": {field: _index(found, field) for field in found.indexes},
        }
        if knows(self.version, "update queue"):
            optimizer.setdefault("prevent_unoptimized", None)
            told["update_queue"] = {"length": 0}
        return told


_SETTINGS = ("strict_mode_config", "hnsw_config", "optimizers_config", "quantization_config")
_HNSW = {
    "m": 16,
    "ef_construct": 100,
    "full_scan_threshold": 10000,
    "max_indexing_threads": 0,
    "on_disk": False,
}
_OPTIMIZER = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "max_segment_size": None,
    "memmap_threshold": None,
    "indexing_threshold": 10000,
    "flush_interval_sec": 5,
    "max_optimization_threads": None,
}
_WAL = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}


_HELD = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
}
"""Kind of an index -> whether it holds a value; those of all others hold texts."""


def _index(found: Collection, name: str) -> dict[str, Any]:
    """Return what the description says of an index."""
    kind, holds = found.indexes[name], _HELD.get(found.indexes[name].value, _is_text)
    values = [value_at(point.payload, name) for point in found.points.values()]
    n = sum(any(map(holds, v if isinstance(v, list) else [v])) for v in values)
    params = found.index_params.get(name)
    return {"data_type": kind.value, **({"params": params} if params else {}), "points": n}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _defined(params: Definition) -> Any:
    """Return what makes a vector that of another definition: not where and how it is kept."""
    if isinstance(params, models.SparseVectorParams):
        return params
    return params.size, params.distance, params.datatype, params.multivector_config


def _given(settings: BaseModel | None) -> dict[str, Any]:
    """Return what a part of the settings says, as JSON."""
    return {} if settings is None else settings.model_dump(mode="json", exclude_none=True)


def _merge(settings: BaseModel, change: BaseModel | None) -> None:
    """Take over what a change says."""
    for name in change.model_fields_set if change is not None else ():
        value, before = getattr(change, name), getattr(settings, name, None)
        if value is not None and name in type(settings).model_fields:
            setattr(settings, name, _merged(before, value))


def _merged(before: Any, change: Any) -> Any:
    """Return the graph or the limits with a change in it; anything else is replaced."""
    if not isinstance(before, models.HnswConfigDiff | models.StrictModeConfig):
        return change
    return type(before).model_validate(before.model_dump() | _given(change))


def _params(config: models.DenseVectorConfig | models.SparseVectorConfig) -> Definition:
    """Return how a vector that is added is defined."""
    datatype = models.Datatype(config.datatype.value) if config.datatype else None
    if isinstance(config, models.SparseVectorConfig):
        index = models.SparseIndexParams(datatype=datatype) if datatype else None
        return models.SparseVectorParams(index=index, modifier=config.modifier)
    return models.VectorParams(
        size=config.size,
        distance=config.distance,
        multivector_config=config.multivector_config,
        datatype=datatype,
    )


def _dumped(vectors: Mapping[str, Definition], kind: type[Definition]) -> dict[str, Any]:
    return {
        name: params.model_dump(exclude_none=True)
        for name, params in vectors.items()
        if isinstance(params, kind)
    }
