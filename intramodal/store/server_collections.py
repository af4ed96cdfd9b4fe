"""The half of `ServerStore` that is about collections, not points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdrant_client import models

from intramodal.errors import Conflict, InputError, NotFound, Unsupported
from intramodal.store import words
from intramodal.store.base import (
    Cluster,
    CollectionInfo,
    IndexKind,
    Store,
    VectorSpec,
)
from intramodal.store.calls import Caller, Known
from intramodal.store.checks import (
    check_aliases,
    check_name,
    check_spec,
    check_specs,
    require_vectors,
)
from intramodal.store.connect import Connection
from intramodal.store.fields import paths
from intramodal.store.retry import Retry
from intramodal.store.spreading import wait_until_known
from intramodal.store.streams import MOST_BY_DEFAULT, Streams

_ADDS_VECTORS_SINCE = (1, 18)


class ServerCollections(Store):
    """Creates, describes, changes and drops collections through qdrant-client.

    Parameters
    ----------
    connection : Connection
        From `intramodal.store.connect`; closed with the store.
    retry : Retry, optional
        Also gives clock and sleep to everything that waits.
    cluster : Cluster, optional
        How a cluster is used.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        retry: Retry | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self.location = connection.location
        self._connection = connection
        self._cluster = cluster or Cluster()
        self._is_local = connection.kind != "server"
        self._server = Caller(connection, retry or Retry())
        self._streams: dict[int, Streams] = {}
        self._has_warned = False
        # Local mode takes payload indexes and forgets them.
        self._local_indexes: dict[str, dict[str, str]] = {}

    def collections(self) -> list[str]:
        """Return the names of all collections, sorted."""
        answer = self._server.call(
            "list collections", lambda: self._server.client.get_collections()
        )
        return sorted(c.name for c in answer.collections)

    def exists(self, name: str) -> bool:
        """Return whether the collection (or an alias of that name) exists."""
        return bool(
            self._server.call(
                f"look for {name!r}", lambda: self._server.client.collection_exists(name)
            )
        )

    def create(
        self,
        name: str,
        vectors: Mapping[str, VectorSpec],
        *,
        metadata: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Create a collection; `Conflict` if the name is taken."""
        check_name(name)
        check_specs(vectors)
        settings = words.collection_options(options or {})
        config = words.vectors_config(vectors, (options or {}).get("vectors"))
        if self.exists(name):
            raise Conflict(f"there is a collection or an alias {name!r} already")
        attempts: list[str] = []

        def create() -> None:
            attempts.append(name)
            self._server.client.create_collection(
                name,
                vectors_config=config,
                metadata=dict(metadata or {}),
                **settings,
            )

        try:
            self._server.call(f"create {name!r}", create)
        except Conflict:
            # An attempt whose answer was lost may have succeeded; or somebody else was faster.
            if len(attempts) == 1 or not self._is_defined(name, vectors, metadata or {}):
                raise

    def info(self, name: str) -> CollectionInfo:
        """Return counts, vector definitions, metadata and status; `NotFound` if absent."""
        info = self._server.look(name)
        indexes = {field: i.data_type.value for field, i in info.payload_schema.items()}
        return CollectionInfo(
            name=name,
            n_points=self.count(name),
            vectors=self._server.know(name).specs,
            metadata=info.config.metadata or {},
            status=models.CollectionStatus(info.status).value,
            indexes=indexes or self._local_indexes.get(name, {}),
            n_indexed=info.indexed_vectors_count or 0,
        )

    def settings(self, name: str) -> dict[str, Any]:
        """Return how a collection is set up, as far as the server tells, as `create`'s options."""
        found = words.settings_of(self._server.look(name))
        if not self._is_local:
            return found
        # Local mode tells defaults of an index that it does not have.
        return {key: found[key] for key in ("vectors", "sparse_vectors") if key in found}

    def set_metadata(self, name: str, metadata: Mapping[str, Any]) -> None:
        """Merge top-level keys into the collection's metadata."""
        self._server.look(name)
        change = dict(metadata)
        self._server.call(
            f"describe {name!r}",
            lambda: self._server.client.update_collection(name, metadata=change),
        )

    def drop(self, name: str) -> None:
        """Delete the collection and its aliases; `NotFound` if absent."""
        if name not in self.collections():
            raise NotFound(f"there is no collection {name!r} at {self.location}")
        self._server.call(f"delete {name!r}", lambda: self._server.client.delete_collection(name))
        self._server.forget()
        self._local_indexes.pop(name, None)

    def add_vector(self, name: str, vector: str, spec: VectorSpec) -> None:
        """Add a named vector to a collection that holds points; repeating it does nothing."""
        check_spec(vector, spec)
        known = self._server.know(name, [vector])
        if known.specs.get(vector) == spec:
            return self._wait_until_known(name, vector, spec)
        if vector in known.specs:
            raise Conflict(
                f"{name!r} has a vector {vector!r} already, defined as {known.specs[vector]}; "
                f"choose another name, or delete that vector"
            )
        self.check_adds_vectors()
        config = words.vector_name_config(vector, spec)
        self._server.call(
            f"add the vector {vector!r} to {name!r}",
            lambda: self._server.client.create_vector_name(name, vector, config, wait=True),
        )
        return self._wait_until_known(name, vector, spec)

    def check_adds_vectors(self) -> None:
        """Raise `Unsupported` below server 1.18."""
        if not self._adds_vectors:
            raise Unsupported(
                f"Qdrant {self._connection.version} at {self.location} cannot add or delete a "
                f"vector of an existing collection; upgrade it to 1.18.2 or later, or copy into a "
                f"new collection (--new-collection NAME)"
            )

    def delete_vector(self, name: str, vector: str) -> None:
        """Remove a named vector from the collection and all its points; `NotFound` if absent."""
        require_vectors(self._server.know(name, [vector]).specs, [vector])
        self.check_adds_vectors()
        self._server.call(
            f"delete the vector {vector!r} of {name!r}",
            lambda: self._server.client.delete_vector_name(name, vector, wait=True),
        )
        self._server.forget()

    def ensure_index(self, name: str, field: str, kind: IndexKind) -> None:
        """Create a payload index unless it is there."""
        if kind not in words.INDEX_KINDS:
            kinds = ", ".join(words.INDEX_KINDS)
            raise InputError(f"there is no index of kind {kind!r}; choose one of {kinds}")
        there = self.info(name).indexes
        for path in [path for path in paths(field) if there.get(path) != kind]:
            if self._is_local:
                self._local_indexes.setdefault(name, {})[path] = kind
            else:
                self._create_index(name, path, models.PayloadSchemaType(kind))

    def copy_indexes(self, source: str, target: str) -> None:
        """Create the payload indexes of one collection in another, those that are absent."""
        wanted = self._server.look(source).payload_schema
        there = self._server.look(target).payload_schema
        for field, index in wanted.items():
            if field not in there:
                self._create_index(target, field, index.params or index.data_type)
        mine = self._local_indexes.get(source, {})
        if mine:
            self._local_indexes[target] = {**mine, **self._local_indexes.get(target, {})}

    def aliases(self) -> dict[str, str]:
        """Return alias -> collection."""
        answer = self._server.call("list aliases", lambda: self._server.client.get_aliases())
        return {a.alias_name: a.collection_name for a in answer.aliases}

    def set_aliases(self, targets: Mapping[str, str]) -> None:
        """Point aliases at collections, all of them in one atomic step."""
        check_aliases(targets, self.collections())
        known = self.aliases()
        actions: list[Any] = [_deletion(alias) for alias in targets if alias in known]
        actions += [_creation(alias, name) for alias, name in targets.items()]
        self._change_aliases(actions)

    def delete_alias(self, alias: str) -> None:
        """Remove an alias; `NotFound` if absent."""
        if alias not in self.aliases():
            raise NotFound(f"there is no alias {alias!r} at {self.location}")
        self._change_aliases([_deletion(alias)])

    def optimize(self, name: str, *, deadline_s: float = 3600.0) -> None:
        """Wait until the collection is green; `StoreUnavailable` at the deadline."""
        if self._status(name) == "grey":  # restarted: waits for any change before it optimizes
            self._server.call(
                f"wake the optimizer of {name!r}",
                lambda: self._server.client.update_collection(
                    name, optimizers_config=models.OptimizersConfigDiff()
                ),
            )
        self._server.wait_until(
            lambda: self._status(name) == "green", lambda: f"{name!r} is optimized", deadline_s
        )

    def describe(self) -> dict[str, Any]:
        """Return backend, version, location without secrets, and limits."""
        connection = self._connection
        rest_limit = {"request_bytes": 32 * 1024 * 1024}
        return {
            "backend": connection.kind,
            "location": self.location,
            "version": connection.version,
            "protocol": "none" if self._is_local else "grpc" if connection.uses_grpc else "rest",
            "adds_vectors": self._adds_vectors,
            "limits": {} if self._is_local or connection.uses_grpc else rest_limit,
        }

    def close(self) -> None:
        """Release the connection; calling it twice is fine."""
        for streams in self._streams.values():
            streams.close()
        self._server.close()

    def __repr__(self) -> str:
        """Return the address, without secrets."""
        return f"ServerStore({self.location!r})"

    @property
    def _adds_vectors(self) -> bool:
        return self._is_local or self._connection.version_numbers >= _ADDS_VECTORS_SINCE

    def _is_defined(
        self, name: str, vectors: Mapping[str, VectorSpec], metadata: Mapping[str, Any]
    ) -> bool:
        info = self.info(name)
        return info.vectors == dict(vectors) and info.metadata == dict(metadata)

    def _wait_until_known(self, name: str, vector: str, spec: VectorSpec) -> None:
        if not self._is_local:
            wait_until_known(self._server, name, vector, spec, self._cluster.nodes)
        self._server.look(name)

    def _streams_of(self, known: Known) -> Streams:
        """Return one stream a shard, or as many as were asked for; local mode has one."""
        asked = self._cluster.upload_streams or min(MOST_BY_DEFAULT, known.n_shards)
        n = 1 if self._is_local else asked
        if n not in self._streams:
            self._streams[n] = Streams(n)
        return self._streams[n]

    def _status(self, name: str) -> str:
        return str(models.CollectionStatus(self._server.look(name).status).value)

    def _create_index(self, name: str, field: str, schema: Any) -> None:
        self._server.call(
            f"index {field!r} of {name!r}",
            lambda: self._server.client.create_payload_index(name, field, schema, wait=True),
        )

    def _change_aliases(self, actions: list[Any]) -> None:
        self._server.call(
            "change aliases",
            lambda: self._server.client.update_collection_aliases(
                change_aliases_operations=actions
            ),
        )


def _deletion(alias: str) -> models.DeleteAliasOperation:
    return models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))


def _creation(alias: str, name: str) -> models.CreateAliasOperation:
    return models.CreateAliasOperation(
        create_alias=models.CreateAlias(collection_name=name, alias_name=alias)
    )
