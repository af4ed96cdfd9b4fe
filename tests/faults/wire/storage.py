"""Collections and aliases of the stand-in."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from qdrant_client import models

from tests.faults.wire.cluster import Cluster
from tests.faults.wire.errors import WireError
from tests.faults.wire.points import Collection, Place, Point
from tests.faults.wire.vectors import UNNAMED, Definition


class Storage:
    """All collections, by name or alias; `lock` is held by whoever answers a request."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cluster = Cluster()
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
        """Create a collection; 409 if the name is taken."""
        if self.exists(name):
            raise WireError(409, f"Wrong input: Collection `{name}` already exists!")
        given = config.vectors or {}
        dense = given if isinstance(given, dict) else {UNNAMED: given}
        vectors: dict[str, Definition] = {**dense, **(config.sparse_vectors or {})}
        self.collections[name] = Collection(config, vectors, dict(config.metadata or {}))
        return True

    def update(self, name: str, change: models.UpdateCollection) -> bool:
        """Merge metadata by top-level keys; null removes one. Other settings change nothing."""
        kept = self.find(name).metadata
        for key, value in (change.metadata or {}).items():
            if value is None:
                kept.pop(key, None)
            else:
                kept[key] = value
        return True

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
        vectors = self.find(name).vectors
        params = _params(config)
        if vector not in vectors:
            self.cluster.added(vector)
        if vectors.setdefault(vector, params) != params:
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
        known = {n: p for n, p in found.vectors.items() if self.cluster.is_known(n, peer)}
        vectors = _dumped(known, models.VectorParams)
        sparse = _dumped(known, models.SparseVectorParams)
        indexes = {f: {"data_type": kind, "points": 0} for f, kind in found.indexes.items()}
        strict = found.config.strict_mode_config
        shards = ("shard_number", "replication_factor", "write_consistency_factor")
        asked: dict[str, Any] = {name: getattr(found.config, name) or 1 for name in shards}
        if found.config.sharding_method is not None:
            asked["sharding_method"] = found.config.sharding_method.value
        if sparse:
            asked["sparse_vectors"] = sparse
        return {
            "status": "green",
            "optimizer_status": "ok",
            "points_count": len(found.points),
            "segments_count": 1,
            "config": {
                "params": {
                    "vectors": vectors[UNNAMED] if set(vectors) == {UNNAMED} else vectors,
                    **asked,
                },
                "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
                "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 5},
                "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
                "metadata": found.metadata or None,
                "strict_mode_config": strict and strict.model_dump(exclude_none=True),
            },
            "payload_schema": indexes,
        }


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
