"""`ServerStore`: qdrant-client, for a server, a cluster, or ``:memory:``.

Long, as it is one method after the other of the contract, and a class is not cut in halves.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import Any

from qdrant_client import models
from qdrant_client.http.exceptions import ResponseHandlingException

from intramodal.errors import AccessDenied, Conflict, InputError, NotFound, Unsupported
from intramodal.progress import waiting
from intramodal.store.base import (
    Cluster,
    CollectionInfo,
    Filter,
    Hits,
    IndexKind,
    Page,
    SearchLimits,
    Slice,
    Store,
    VectorSpec,
    page_of,
)
from intramodal.store.checks import (
    LARGEST_SIGNED,
    LARGEST_UNSIGNED,
    check_aliases,
    check_index_kind,
    check_name,
    check_points,
    check_spec,
    check_specs,
    check_vector,
    checked_payload,
    require_vectors,
    says,
)
from intramodal.store.fields import paths, selection
from intramodal.store.filters import spell
from intramodal.store.pages import PageSize
from intramodal.store.queries import Answer, SearchPlan, plan_search, rank, without
from intramodal.store.server import conditions, convert, messages, slices
from intramodal.store.server.client import (
    STREAMS_BY_DEFAULT,
    Caller,
    Connection,
    Known,
    Retry,
    Streams,
    batch_size,
    in_batches,
)
from intramodal.store.server.cluster import (
    ids_everywhere,
    inactive_replicas,
    is_alone,
    lacking_by_node,
    unreachable_nodes,
    wait_until_known,
)
from intramodal.store.server.conditions import Parted
from intramodal.store.server.optimizing import Remainder
from intramodal.store.server.outdated import (
    OutdatedError,
    check_order,
    check_plain,
    looks_again,
    looks_again_before_the_first,
)
from intramodal.store.server.shard_keys import (
    KeyedShards,
    OneShard,
    Shards,
    Span,
    keys_of,
    meant_key,
    merged,
)
from intramodal.store.server.tokens import is_token, lacking_right, only_reads
from intramodal.types import Floats, KeyedId, Payload, PointId, ShardKey

log = logging.getLogger(__name__)

_REST_BATCH, _GRPC_BATCH, _UPDATE_BATCH, _QUERY_BATCH = 256, 1000, 500, 100
_READ_BATCH, _ID_BATCH = 1000, 10_000
_ADDS_VECTORS_SINCE = (1, 18)
_ADDS_VECTORS_WELL_SINCE, _REMOVES_VECTORS_WELL_SINCE = (1, 18, 2), (1, 19)
_SLICES_SINCE = (1, 19)
_INSERTS_SINCE = (1, 16)
"""Older servers ignore the update filter in silence."""
_WEIGHS_SINCE = (1, 17)
_ALL = Shards()
"""Of a collection without shard keys."""


class ServerStore(Store):
    """Collections of a Qdrant server, or of the client's local mode.

    Use `intramodal.store.open.open_store`. Requests that fail for a passing reason are repeated,
    with growing pauses, until a deadline.

    What a collection is (sizes, strict mode, indexes, whether it has shard keys) is remembered
    from one look. Others may change it meanwhile: after a refusal, or an answer that contradicts
    what is remembered, the store looks again and repeats the request once if anything differs. The
    shard keys of a collection that has some are read at every search, scroll and count, and where
    a point is named without its key. Changes that nothing contradicts are not noticed: another
    collection of the same name whose vectors have the same sizes is used as if it were the old
    one, and requests stay as small as a strict mode wanted them. Where a collection is made anew
    while a scroll is under way, the scroll ends with `Conflict`, or with what it has.

    Parameters
    ----------
    connection : Connection
        From `intramodal.store.server.client`; closed with the store.
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
        self.shard_key = self._cluster.shard_key
        self.silent_nodes: list[str] = []
        self._is_local = connection.kind != "server"
        self.is_remote = not self._is_local
        self._server = Caller(connection, retry or Retry())
        self._streams: dict[int, Streams] = {}
        self._keys: dict[str, tuple[ShardKey, ...]] = {}
        self._has_warned = False
        self._told: set[str] = set()
        # Local mode takes payload indexes and forgets them.
        self._local_indexes: dict[str, dict[str, str]] = {}

    def __repr__(self) -> str:
        """Return the address, without secrets."""
        return f"ServerStore({self.location!r})"

    def describe(self) -> dict[str, Any]:
        """Return backend, version, location without secrets, and limits."""
        connection = self._connection
        rest_limit = {"request_bytes": 32 * 1024 * 1024}
        return {
            "backend": connection.kind,
            "location": self.location,
            "version": connection.version,
            "protocol": "none" if self._is_local else "grpc" if connection.uses_grpc else "rest",
            "why_rest": connection.why_rest,
            "adds_vectors": self._adds_vectors,
            "limits": {} if self._is_local or connection.uses_grpc else rest_limit,
        }

    def close(self) -> None:
        """Release the connection; calling it twice is fine."""
        for streams in self._streams.values():
            streams.close()
        self._server.close()

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
        self._require_whole(f"{name!r} cannot be made with shard keys")
        check_name(name)
        check_specs(vectors)
        settings = convert.collection_options(options or {})
        config = convert.vectors_config(vectors, (options or {}).get("vectors"))
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

    def _require_whole(self, what: str) -> None:
        """Raise `InputError` where the store is limited to one shard key."""
        if self.shard_key is not None:
            raise InputError(
                f"{what} by a store that is limited to the shard key {self.shard_key!r}: that "
                f"concerns whole collections; open it without a shard key"
            )

    def _is_defined(
        self, name: str, vectors: Mapping[str, VectorSpec], metadata: Mapping[str, Any]
    ) -> bool:
        info = self.info(name)
        return info.vectors == dict(vectors) and info.metadata == dict(metadata)

    def info(self, name: str) -> CollectionInfo:
        """Return counts, vector definitions, metadata and status; `NotFound` if absent."""
        info = self._server.look(name)
        indexes = {field: i.data_type.value for field, i in info.payload_schema.items()}
        return CollectionInfo(
            name=name,
            n_points=self._n_points(name, info),
            vectors=self._server.know(name).specs,
            metadata=info.config.metadata or {},
            status=models.CollectionStatus(info.status).value,
            indexes=indexes or self._local_indexes.get(name, {}),
            n_indexed=info.indexed_vectors_count or 0,
            settings=self._settings_of(info),
            problem=convert.problem_of(info),
        )

    def _n_points(self, name: str, info: models.CollectionInfo) -> int:
        if self.shard_key is None:
            return info.points_count or 0
        return self.count(name, exact=False)

    def settings(self, name: str) -> dict[str, Any]:
        """Return how a collection is set up, as far as the server tells, as `create`'s options."""
        return self._settings_of(self._server.look(name))

    def _settings_of(self, info: models.CollectionInfo) -> dict[str, Any]:
        found = convert.settings_of(info)
        if not self._is_local:
            return found
        # Local mode tells defaults of an index that it does not have.
        return {key: found[key] for key in ("vectors", "sparse_vectors") if key in found}

    def set_metadata(self, name: str, metadata: Mapping[str, Any]) -> None:
        """Merge top-level keys into the collection's metadata; None removes one."""
        if self._is_local:  # which takes the change of an absent collection
            self._server.look(name)
        change = dict(metadata)
        self._server.call(
            f"describe {name!r}",
            lambda: self._server.client.update_collection(name, metadata=change),
        )

    def drop(self, name: str) -> None:
        """Delete the collection and its aliases; `NotFound` if absent."""
        self._require_whole(f"{name!r} cannot be deleted")
        if name not in self.collections():
            raise NotFound(f"there is no collection {name!r} at {self.location}")
        self._server.call(f"delete {name!r}", lambda: self._server.client.delete_collection(name))
        self._server.forget()
        self._local_indexes.pop(name, None)

    indexes_by_itself = True

    def optimize(self, name: str, *, deadline_s: float = 3600.0) -> str:
        """Wait until the collection is green; returns why it is not where that takes longer.

        What is left is told meanwhile, from Qdrant 1.17 on.
        """
        start, pause = self._server.retry.clock(), 0.05
        is_woken = False
        with waiting(f"wait for the index of {name}") as bar:
            remainder = Remainder(self._server, name, bar)
            while True:
                found = self.info(name)
                is_over = self._server.retry.clock() - start > deadline_s
                if found.status == "grey" and not is_woken:
                    self._wake(name)
                    is_woken = True
                elif found.status != "yellow" or is_over:
                    return _unbuilt(found)
                remainder.tell()
                self._server.retry.sleep(pause)
                pause = min(2.0, pause * 1.5)

    def _wake(self, name: str) -> None:
        """Let a server that was started again optimize: it waits for any change before it does."""
        try:
            self._server.call(
                f"wake the optimizer of {name!r}",
                lambda: self._server.client.update_collection(
                    name, optimizers_config=models.OptimizersConfigDiff()
                ),
            )
        except AccessDenied:
            log.info("%r waits for the next write before it is optimized", name)

    def lacking_right(self, name: str, *, to_write: bool = False, asks: bool = False) -> str:
        """Return why the key may not change a collection, as its token or the server says."""
        key = self._connection.access.api_key
        if not asks or key is None or is_token(key) or self._is_local:
            return lacking_right(key, name, to_write=to_write)
        # One of a server's own keys is for everything, or for reading alone.
        return "the key in QDRANT_API_KEY may only read" if self._only_reads else ""

    @cached_property
    def _only_reads(self) -> bool:
        return only_reads(self._server)

    @looks_again
    def add_vector(
        self,
        name: str,
        vector: str,
        spec: VectorSpec,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a named vector to a collection that holds points; repeating it does nothing."""
        is_new = self._add_vector(name, vector, spec)
        if not settings or self._is_local:
            return
        told = {} if is_new else self.settings(name).get("vectors", {}).get(vector, {})
        if not says(told, settings):
            self._set_up(name, vector, settings)

    def check_storable(self, vector: str, spec: VectorSpec) -> None:
        """Raise `InputError` or `Unsupported` where no server could add such a vector."""
        check_spec(vector, spec)
        convert.datatype(vector, spec)

    def _set_up(self, name: str, vector: str, settings: Mapping[str, Any]) -> None:
        """Give a vector settings: a server takes none when a name is added, without a word."""
        diff = convert.vector_diff(vector, settings)
        try:
            self._server.call(
                f"set up the vector {vector!r} of {name!r}",
                lambda: self._server.client.update_collection(name, vectors_config={vector: diff}),
            )
        except AccessDenied as error:
            log.warning(
                "%s; the vector is filled all the same, stored as the server does by default: let "
                "somebody who may change the collection set %s for it",
                error,
                dict(settings),
            )

    def _add_vector(self, name: str, vector: str, spec: VectorSpec) -> bool:
        """Add a vector's name unless it is there; returns whether it was not."""
        check_spec(vector, spec)
        known = self._server.know(name)
        if known.specs.get(vector) == spec:
            self._wait_until_known(name, vector, spec)
            return False
        if vector in known.specs:
            raise Conflict(
                f"{name!r} has a vector {vector!r} already, defined as {known.specs[vector]}; "
                f"choose another name, or delete that vector"
            )
        self.check_adds_vectors()
        config = convert.vector_name_config(vector, spec)
        self._server.call(
            f"add the vector {vector!r} to {name!r}",
            lambda: self._server.client.create_vector_name(name, vector, config, wait=True),
        )
        self._wait_until_known(name, vector, spec)
        return True

    def _wait_until_known(self, name: str, vector: str, spec: VectorSpec) -> None:
        if not self._is_local:
            asked = [url for url in self._cluster.nodes if url not in self.silent_nodes]
            self.silent_nodes += wait_until_known(self._server, name, vector, spec, asked)
        self._server.learn(name, vector, spec)

    def delete_vector(self, name: str, vector: str) -> None:
        """Remove a named vector from the collection and all its points; `NotFound` if absent."""
        self._require_whole(f"a vector of {name!r} cannot be deleted")
        require_vectors(self._server.know(name, [vector]).specs, [vector])
        self.check_adds_vectors()
        self._server.call(
            f"delete the vector {vector!r} of {name!r}",
            lambda: self._server.client.delete_vector_name(name, vector, wait=True),
        )
        self._server.forget()

    def check_adds_vectors(self) -> None:
        """Raise `Unsupported` below server 1.18."""
        if not self._adds_vectors:
            raise Unsupported(
                f"Qdrant {self._connection.version} at {self.location} cannot add or delete a "
                f"vector of an existing collection; upgrade it to 1.18.2 or later, or copy into a "
                f"new collection (`new_collection`)"
            )

    def risk_of_adding_vectors(self) -> str:
        """Return which faults adding a vector's name meets below server 1.18.2."""
        if self._is_at_least(_ADDS_VECTORS_WELL_SINCE):
            return ""
        return (
            f"Qdrant {self._connection.version} at {self.location} has known faults in adding "
            f"vectors (qdrant#8776, #8848, #9058, #9110), fixed in 1.18.2; upgrade it first"
        )

    def risk_of_removing_vectors(self) -> str:
        """Return which harm removing a vector's name can do below server 1.19."""
        if self._is_at_least(_REMOVES_VECTORS_WELL_SINCE):
            return ""
        return (
            f"where Qdrant {self._connection.version} at {self.location} removes a vector, its "
            f"optimizer can stop for good (qdrant#9641), a restart soon afterwards can lose the "
            f"points that were written last (qdrant#9105), and the name made again can bring old "
            f"vectors back (qdrant#9317); all three are fixed in 1.19.0"
        )

    def _is_at_least(self, version: tuple[int, ...]) -> bool:
        return self._is_local or self._connection.version_numbers >= version

    @property
    def _adds_vectors(self) -> bool:
        return self._is_at_least(_ADDS_VECTORS_SINCE)

    def ensure_index(self, name: str, field: str, kind: IndexKind) -> None:
        """Create a payload index unless it is there."""
        check_index_kind(kind)
        there = self.info(name).indexes
        for path in [path for path in paths(field) if there.get(path) != kind]:
            if self._is_local:
                self._local_indexes.setdefault(name, {})[path] = kind
            else:
                self._create_index(name, path, models.PayloadSchemaType(kind))
                self._server.look(name)

    def index_for(self, name: str, where: Filter | None) -> None:
        """Create the payload indexes without which a filter is forbidden, as far as that works.

        None is made that would find only some of its points.
        """
        known = self._server.know(name)
        if where is None or not known.limits.restricts_filters:
            return
        for one in where.conditions:
            lacking = known.allowed.lacks_index(one)
            if lacking is not None:
                self._index_for(name, *lacking)

    def _index_for(self, name: str, field: str, kind: IndexKind) -> None:
        try:
            self.ensure_index(name, field, kind)
        except (AccessDenied, Unsupported) as error:
            log.info("filters on %r go without an index: %s", field, error)
            return
        log.warning(
            "made a payload index on %r (%s) of %r: its strict mode allows no such filter without",
            *(field, kind, name),
        )

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

    def _create_index(self, name: str, field: str, schema: Any) -> None:
        self._server.call(
            f"index {field!r} of {name!r}",
            lambda: self._server.client.create_payload_index(name, field, schema, wait=True),
        )

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

    def _change_aliases(self, actions: list[Any]) -> None:
        self._server.call(
            "change aliases",
            lambda: self._server.client.update_collection_aliases(
                change_aliases_operations=actions
            ),
        )

    @looks_again
    def _write(
        self,
        name: str,
        ids: Sequence[PointId],
        vectors: Mapping[str, Floats],
        payloads: Sequence[Payload],
        *,
        only_absent: bool,
    ) -> None:
        if only_absent:
            self._warn_of_replacing()
        known = self._server.know(name, list(vectors))
        shards = self._shards(name, known, ids=ids)
        points = shards.names(ids, unique=True)
        checked = check_points(known.specs, points, vectors, payloads)
        largest = self._largest_number
        pairs = zip(payloads, points, strict=True)
        payloads = [checked_payload(payload, point, largest=largest) for payload, point in pairs]
        width = sum(X.shape[1] for X in checked.values())

        def send(part: slice) -> None:
            for key, rows, which in shards.groups(points, part, absent="new"):
                some = {vector: X[rows] for vector, X in checked.items()}
                told = [payloads[row] for row in rows]
                self._write_points(name, which, some, told, key, only_absent=only_absent)

        most = _GRPC_BATCH if self._connection.uses_grpc else _REST_BATCH
        size = batch_size(self._server, known.limits.points(most), width, payloads)
        self._streams_of(known).send(send, len(points), size)

    def _warn_of_replacing(self) -> None:
        is_new_enough = self._connection.version_numbers >= _INSERTS_SINCE
        if self._is_local or is_new_enough or self._has_warned:
            return
        self._has_warned = True
        log.warning(
            "Qdrant %s at %s replaces what others write meanwhile instead of leaving it alone: "
            "no other program may write to the collection; Qdrant 1.16 and later can tell",
            self._connection.version,
            self.location,
        )

    def _write_points(
        self,
        name: str,
        ids: list[Any],
        vectors: Mapping[str, Floats],
        payloads: Sequence[Payload],
        key: ShardKey | None,
        *,
        only_absent: bool,
    ) -> None:
        replaced = convert.NO_POINT if only_absent else None
        ordering = self._ordering(name)

        def upload() -> None:
            request = messages.upsert_request(
                name, ids, vectors, payloads, key, replaced, ordering
            )
            timeout = self._connection.access.timeout_s
            self._server.client.grpc_points.Upsert(request, timeout=timeout)

        def upsert() -> None:
            batch = models.Batch(
                ids=ids, vectors=convert.point_vectors(vectors), payloads=list(payloads)
            )
            self._server.client.upsert(
                name,
                batch,
                wait=True,
                shard_key_selector=key,
                update_filter=replaced,
                ordering=ordering,
            )

        send = upload if self._connection.uses_grpc else upsert
        what = f"write points to {name!r}"
        self._server.call_spreading(what, name, vectors, send, n=len(ids))

    @looks_again
    def update_vectors(
        self,
        name: str,
        vector: str,
        ids: Sequence[PointId],
        X: Floats,
        *,
        wait: bool = True,
        only_lacking: bool = False,
    ) -> None:
        """Set one named vector of existing points; everything else stays untouched."""
        if only_lacking:
            self._warn_of_replacing()
        replaced = spell(convert.CLIENT, Filter(lacks_vector=vector)) if only_lacking else None
        known = self._server.know(name, [vector])
        shards = self._shards(name, known, ids=ids)
        points = shards.names(ids, unique=True)
        X = check_vector(known.specs, vector, X, len(points))

        def send(part: slice) -> None:
            for key, rows, which in shards.groups(points, part):
                self._update_points(name, vector, which, X[rows], key, replaced, wait=wait)

        most = known.limits.points(_UPDATE_BATCH)
        size = batch_size(self._server, most, X.shape[1])
        self._streams_of(known).send(send, len(points), size)

    def _update_points(
        self,
        name: str,
        vector: str,
        ids: list[Any],
        X: Floats,
        key: ShardKey | None,
        replaced: models.Filter | None,
        *,
        wait: bool,
    ) -> None:
        ordering = self._ordering(name)

        def upload() -> None:
            request = messages.update_request(
                name, vector, ids, X, key, replaced, ordering, wait=wait
            )
            self._server.client.grpc_points.UpdateVectors(
                request, timeout=self._connection.access.timeout_s
            )

        def update() -> None:
            changes = convert.vector_updates(vector, ids, X)
            result = self._server.client.update_vectors(
                name,
                changes,
                wait=wait,
                shard_key_selector=key,
                update_filter=replaced,
                ordering=ordering,
            )
            # The one write whose missing result the client does not notice over REST (1.20).
            if result is None:
                raise ResponseHandlingException(ValueError("no result"))

        send = upload if self._connection.uses_grpc else update
        what = f"update {vector!r} in {name!r}"
        self._server.call_spreading(what, name, [vector], send, n=len(ids))

    def _ordering(self, name: str) -> models.WriteOrdering | None:
        """Return that writes go through one leader, where replicas could see two in other orders.

        A deletion and an update of another writer are in one order then if it asks for it, too.
        """
        return models.WriteOrdering.MEDIUM if self.n_replicas(name) > 1 else None

    def n_replicas(self, name: str) -> int:
        """Return how many replicas each shard of a collection has."""
        asked = self._server.know(name).n_replicas
        return 1 if asked == 1 or self._is_alone else asked

    @looks_again
    def with_vector_everywhere(
        self,
        name: str,
        vector: str,
        ids: Sequence[PointId],
        *,
        alike: bool = False,
        is_page: bool = False,
    ) -> list[PointId]:
        """Return those of `ids` that have a vector on every replica, and if `alike` the same."""
        known = self._server.know(name, [vector])
        shards = self._shards(name, known, ids=ids)
        points = shards.names(ids)
        found: set[PointId] = set()
        # Each replica answers with all that it has among these ids, never with a part of them.
        limits = (known.limits.answers_a_query, known.limits.values_a_condition)
        size = min(_READ_BATCH, *(limit or _READ_BATCH for limit in limits))
        if is_page and not alike and len(points) > size:
            found = self._page_everywhere(name, vector, shards, points)
        left = [point for point in points if point not in found]
        for start in range(0, len(left), size):
            part = slice(start, min(start + size, len(left)))
            for key, rows, which in shards.groups(left, part, absent="skip"):
                where = spell(convert.CLIENT, Filter(ids=which, has_vector=vector))
                compared = [vector] if alike else []
                there = ids_everywhere(self._server, name, where, len(which), key, compared)
                pairs = zip(rows, which, strict=True)
                found.update(left[row] for row, point in pairs if point in there)
        return [point for point in points if point in found]

    def _page_everywhere(
        self, name: str, vector: str, shards: Shards, points: Sequence[PointId]
    ) -> set[PointId]:
        """Return points of a page that have a vector on every replica, by one request.

        Each replica gives as many points from the first one on that have it. A page that others
        lengthen or that a replica has more of is not given whole: what is absent is asked for by
        id.
        """
        where = spell(convert.CLIENT, Filter(has_vector=vector))
        found: set[PointId] = set()
        for key, rows, which in shards.groups(points, slice(0, len(points)), absent="skip"):
            there = ids_everywhere(self._server, name, where, len(which), key, start=which[0])
            pairs = zip(rows, which, strict=True)
            found.update(points[row] for row, point in pairs if point in there)
        return found

    def lacking_by_node(self, name: str, vector: str) -> dict[str, int]:
        """Return how many points lack a vector by each node that answers."""
        where = spell(convert.CLIENT, Filter(lacks_vector=vector))
        asked = [url for url in self._cluster.nodes if url not in self.silent_nodes]
        return lacking_by_node(self._server, name, where, asked)

    def inactive_replicas(self, name: str) -> list[str]:
        """Return a phrase for each replica of a collection that takes no part in reads."""
        return [] if self._is_alone else inactive_replicas(self._server, name)

    def unreachable_nodes(self) -> dict[str, str]:
        """Return which nodes of a cluster the one that is asked cannot reach, and why."""
        return {} if self._is_local else unreachable_nodes(self._server)

    @cached_property
    def _is_alone(self) -> bool:
        return self._is_local or is_alone(self._server)

    @looks_again
    def set_payload(self, name: str, ids: Sequence[PointId], payload: Payload) -> None:
        """Merge the same payload keys into the given points."""
        payload = checked_payload(payload, largest=self._largest_number)
        known = self._server.know(name)
        shards = self._shards(name, known, ids=ids)
        points = shards.names(ids)

        def send(part: slice) -> None:
            for key, _, which in shards.groups(points, part):
                self._set_payload_of(name, which, payload, key)

        in_batches(send, len(points), known.limits.changes(_ID_BATCH))

    def _set_payload_of(
        self, name: str, ids: list[Any], payload: Payload, key: ShardKey | None
    ) -> None:
        self._server.call(
            f"set payload in {name!r}",
            lambda: self._server.client.set_payload(
                name,
                payload,
                points=ids,
                wait=True,
                shard_key_selector=key,
                ordering=self._ordering(name),
            ),
            n=len(ids),
        )

    @looks_again
    def delete(self, name: str, ids: Sequence[PointId]) -> None:
        """Delete points; absent ids are ignored."""
        self._server.look(name)
        known = self._server.know(name)
        shards = self._shards(name, known, ids=ids)
        points = shards.names(ids)

        def send(part: slice) -> None:
            for key, _, which in shards.groups(points, part, absent="skip"):
                self._delete_points(name, which, key)

        in_batches(send, len(points), known.limits.changes(_ID_BATCH))

    def _delete_points(self, name: str, ids: list[Any], key: ShardKey | None) -> None:
        self._server.call(
            f"delete points of {name!r}",
            lambda: self._server.client.delete(
                name,
                points_selector=ids,
                wait=True,
                shard_key_selector=key,
                ordering=self._ordering(name),
            ),
            n=len(ids),
        )

    def upload_streams(self, name: str) -> int:
        """Return how many writes to a collection are best under way at once."""
        return self._streams_of(self._server.know(name)).n

    def _streams_of(self, known: Known) -> Streams:
        """Return as many streams as were asked for, or the default; local mode has one."""
        asked = self._cluster.upload_streams or STREAMS_BY_DEFAULT
        # Streams that wait for the same few points a minute only make each other wait longer.
        is_slowed = known.limits.writes_a_minute is not None
        n = 1 if self._is_local or is_slowed else asked
        if n not in self._streams:
            self._streams[n] = Streams(n)
        return self._streams[n]

    def _shards(
        self, name: str, known: Known, *, anew: bool = False, ids: Sequence[PointId] = ()
    ) -> Shards:
        """Return whose points a request is for.

        Which shard keys there are is asked `anew`, or if it decides what one of `ids` means.
        """
        bound = self.shard_key
        if not known.has_shard_keys:
            if bound is not None:
                raise InputError(
                    f"{name!r} has no shard keys, so none of its points is under {bound!r}; leave "
                    f"the shard key out"
                )
            return _ALL
        anew = anew or (bound is None and any(not isinstance(i, KeyedId) for i in ids))
        if anew or name not in self._keys:
            self._keys[name] = self._keys_now(name)
        keys = self._keys[name]
        if bound is None:
            return KeyedShards(self._server, name, keys)
        return OneShard(name, meant_key(name, bound, keys), keys)

    def _keys_now(self, name: str) -> tuple[ShardKey, ...]:
        """Return the shard keys of a collection; `OutdatedError` if it has lost them all."""
        keys = keys_of(self._server, name)
        if not keys:
            self._server.look(name)
            if not self._server.know(name).has_shard_keys:
                raise OutdatedError(name)
        return keys

    def _seen(self, name: str) -> tuple[Known, tuple[ShardKey, ...] | None] | None:
        """Return what is remembered of a collection, None if nothing is."""
        known = self._server.remembered(name)
        return None if known is None else (known, self._keys.get(name))

    def _look_again(self, name: str) -> Any:
        """Look at a collection and its shard keys; returns what is remembered then."""
        self._server.look(name)
        self._keys.pop(name, None)
        if self._server.know(name).has_shard_keys:
            self._keys[name] = keys_of(self._server, name)
        return self._seen(name)

    @property
    def _largest_number(self) -> int:
        return LARGEST_SIGNED if self._connection.uses_grpc else LARGEST_UNSIGNED

    @looks_again_before_the_first
    def scroll(
        self,
        name: str,
        *,
        vectors: Sequence[str] = (),
        payload: Sequence[str] | bool = False,
        where: Filter | None = None,
        batch_size: int = 1000,
        offset: PointId | None = None,
    ) -> Iterator[Page]:
        """Yield all (matching) points in id order; `payload=True` means every key."""
        return self._scrolled(name, vectors, payload, where, batch_size, offset)

    def _scrolled(
        self,
        name: str,
        vectors: Sequence[str],
        payload: Sequence[str] | bool,
        where: Filter | None,
        batch_size: int,
        offset: PointId | None,
        n_at_once: int = 1,
    ) -> Iterator[Page]:
        known = self._server.know(name, vectors)
        require_vectors(known.specs, vectors)
        shards = self._shards(name, known, anew=True)
        limit = min(batch_size, known.limits.answers_a_query or batch_size)
        for span in shards.spans(where, offset):
            size = self._page_size(known, limit, vectors, payload, n_at_once)
            for chunk in conditions.in_chunks(span.where, known.allowed):
                one = span._replace(where=chunk)
                for page in self._pages(name, known, one, vectors, payload, size):
                    yield shards.page(span, page)

    def _pages(
        self,
        name: str,
        known: Known,
        span: Span,
        vectors: Sequence[str],
        payload: Sequence[str] | bool,
        size: PageSize,
    ) -> Iterator[Page]:
        found = conditions.part(span.where, known.allowed)
        self._tell_once(conditions.cost_of(found, name))
        fields = payload if payload is True else [*(payload or ()), *found.fields]
        wanted = selection(fields or False, knows_quotes=not self._is_local)
        read = list(dict.fromkeys([*vectors, *found.vectors]))
        start = span.offset
        while True:
            records, following = self._server.call(
                f"read {name!r}",
                lambda: messages.scroll(
                    self._server,
                    name,
                    found.sent,
                    size(),
                    start,  # noqa: B023  called before the next round
                    wanted,
                    read,
                    span.key,
                ),
            )
            check_plain(name, span.key, records)
            records = found.admitted(records)
            told = payload or ([] if fields else False)
            page = page_of(records, known.specs, vectors, told, following)
            if payload:
                size.learn(page.payloads)
            if page.ids:
                yield page
            start = page.next_offset
            if start is None:
                return

    def _page_size(
        self,
        known: Known,
        most: int,
        vectors: Sequence[str],
        payload: Sequence[str] | bool,
        n_at_once: int = 1,
    ) -> PageSize:
        """Return how many points to read at once."""
        width = sum(known.specs[vector].size for vector in vectors)
        is_packed = self._connection.uses_grpc
        return PageSize(most, width, payload, is_packed=is_packed, n_at_once=n_at_once)

    def scan(
        self,
        name: str,
        *,
        vectors: Sequence[str] = (),
        payload: Sequence[str] | bool = False,
        where: Filter | None = None,
        batch_size: int = 1000,
    ) -> Iterator[Page]:
        """Yield the same as `scroll`, in several slices at once where much of it is waiting."""

        def read(part: Slice | None, offset: PointId | None) -> Iterator[Page]:
            if part is None:
                wanted: dict[str, Any] = {"vectors": vectors, "payload": payload, "where": where}
                return self.scroll(name, **wanted, batch_size=batch_size, offset=offset)
            some = (where or Filter()) & Filter(slice=part)
            return self._scrolled(name, vectors, payload, some, batch_size, offset, part.total)

        return slices.scan(name, read) if self._may_slice(name, where) else read(None, None)

    def _may_slice(self, name: str, where: Filter | None) -> bool:
        """Return whether slices can be read, and more requests at once break no limit."""
        named = (one for one in (where or Filter()).conditions if one.ids or one.slice)
        is_limited = self._server.know(name).limits.reads_a_minute is not None
        return not is_limited and self.can_slice(name, where) and not any(named)

    @looks_again
    def retrieve(
        self,
        name: str,
        ids: Sequence[PointId],
        *,
        vectors: Sequence[str] = (),
        payload: Sequence[str] | bool = False,
    ) -> Page:
        """Return the points that exist among `ids`, in the order of `ids`."""
        known = self._server.know(name, vectors)
        require_vectors(known.specs, vectors)
        shards = self._shards(name, known, ids=ids)
        points = shards.names(ids)
        wanted = selection(payload, knows_quotes=not self._is_local)
        found: dict[PointId, Any] = {}
        size = self._page_size(known, known.limits.ids(_READ_BATCH), vectors, payload)

        def read(part: slice) -> None:
            for key, rows, which in shards.groups(points, part, absent="skip"):
                records = self._server.call(
                    f"read {name!r}",
                    lambda: messages.retrieve(
                        self._server,
                        name,
                        which,  # noqa: B023  called before the next round
                        wanted,
                        vectors,
                        key,  # noqa: B023
                    ),
                    n=len(which),
                )
                check_plain(name, key, records)
                there = {record.id: record for record in records}
                if payload:
                    size.learn([record.payload or {} for record in records])
                known_rows = zip(rows, which, strict=True)
                found.update({points[row]: there[i] for row, i in known_rows if i in there})

        in_batches(read, len(points), size)
        there = [point for point in points if point in found]
        page = page_of([found[point] for point in there], known.specs, vectors, payload)
        return replace(page, ids=there)

    @looks_again
    def query_batch(
        self,
        name: str,
        Q: Floats,
        *,
        using: str,
        k: int,
        exact: bool = True,
        exclude: Sequence[PointId | None] | None = None,
        where: Filter | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Hits:
        """Return the k nearest points of every row of `Q` (n, d)."""
        known = self._server.know(name, [using])
        shards = self._shards(name, known, anew=True)
        plan = plan_search(
            known.specs, Q, using=using, k=k, exact=exact, exclude=exclude, params=params
        )
        _check_limits(name, known.limits, k, exact=exact)
        excluded = shards.located(plan.exclude)
        own = {
            key: [shards.own(key, point) for point in excluded] for key, _ in shards.reads(where)
        }
        filters = {
            key: [conditions.of_search(name, there, known.allowed, point) for point in own[key]]
            for key, there in shards.reads(where)
        }
        self._tell_once(*(text for found in chain(*filters.values()) for text in found.missed))
        _check_fusion(name, plan, list(filters))
        self._check_weights(plan)
        sent = (found.sent for found in chain(*filters.values()))
        cost = 1 + max(map(convert.n_conditions, sent), default=0)
        affordable = known.limits.queries(_QUERY_BATCH, cost * (1 + len(plan.stages())))
        size = batch_size(self._server, affordable, plan.width)

        distance = plan.distance(known.specs)

        def search(rows: Sequence[int], limit: int) -> list[Answer]:
            found: dict[ShardKey | None, list[Answer]] = {key: [] for key in filters}

            def send(part: slice) -> None:
                for key, some in filters.items():
                    answers = self._search(name, plan, rows[part], some, limit, key)
                    for row, answer in zip(rows[part], answers, strict=True):
                        check_order(name, answer, distance)
                        ids, scores = without(answer, own[key][row])
                        found[key].append((shards.named(key, ids), scores))

            in_batches(send, len(rows), size)
            return merged(list(found.values()), len(rows), limit, distance)

        most = plan.most(known.limits.answers_a_query)
        return rank(search, len(plan.Q), k, distance=distance, most=most)

    def _check_weights(self, plan: SearchPlan) -> None:
        if plan.weights is not None and not self._is_at_least(_WEIGHS_SINCE):
            raise Unsupported(
                f"Qdrant {self._connection.version} at {self.location} fuses rankings without "
                f"weights; upgrade it to 1.17 or later, or leave the weights out"
            )

    def _search(
        self,
        name: str,
        plan: SearchPlan,
        rows: Sequence[int],
        filters: Sequence[Parted],
        limit: int,
        key: ShardKey | None,
    ) -> list[Answer]:
        # One answer more where the query's own point may be among them.
        requests = [
            convert.query_request(
                plan,
                row,
                filters[row].sent,
                limit + (not filters[row].excludes),
                key,
                is_local=self._is_local,
            )
            for row in rows
        ]
        responses = self._server.call(
            f"search {name!r}",
            lambda: self._server.client.query_batch_points(name, requests),
            n=len(requests),
        )
        for response in responses:
            check_plain(name, key, response.points)
        return [convert.answer(response) for response in responses]

    def _tell_once(self, *sentences: str) -> None:
        for sentence in sentences:
            if sentence and sentence not in self._told:
                self._told.add(sentence)
                log.warning("%s", sentence)

    def search_limits(self, name: str) -> SearchLimits:
        """Return what the strict mode of a collection lets searches do."""
        known = self._server.know(name).limits
        return SearchLimits(known.allows_exact, known.answers_a_query, known.reads_a_minute)

    def can_slice(self, name: str, where: Filter | None = None) -> bool:
        """Return whether slices of the (matching) points can be read, and nothing else is."""
        if self._is_local or self._connection.version_numbers < _SLICES_SINCE:
            return False
        sliced = (where or Filter()) & Filter(slice=Slice(2, 0))
        return not self._server.know(name).allowed.cuts(sliced)

    @looks_again
    def count(self, name: str, where: Filter | None = None, *, exact: bool = True) -> int:
        """Return the number of (matching) points."""
        known = self._server.know(name)
        counts = list(self._shards(name, known, anew=True).counts(where))
        is_cut = any(known.allowed.cuts(there) for _, there in counts)
        if exact and (is_cut or not known.limits.allows_exact):
            return sum(
                len(page.ids) for page in self.scroll(name, where=where, batch_size=_ID_BATCH)
            )
        return sum(
            self._count(name, key, chunk, exact=exact)
            for key, there in counts
            for chunk in conditions.in_chunks(there, known.allowed)
        )

    def _count(self, name: str, key: ShardKey | None, where: Filter | None, *, exact: bool) -> int:
        condition = conditions.part(where, self._server.know(name).allowed).sent
        answer = self._server.call(
            f"count {name!r}",
            lambda: self._server.client.count(
                name, count_filter=condition, exact=exact, shard_key_selector=key
            ),
        )
        return int(answer.count)


def _unbuilt(found: CollectionInfo) -> str:
    """Return why the index of a collection is not built, and what that means; "" if it is."""
    name = found.name
    if found.status == "red":
        return (
            f"the optimizer of {name!r} has stopped: {found.problem or 'red, without a reason'}; "
            f"searches continue without a new index: remove the cause and start the server again"
        )
    if found.status == "grey":
        return f"{name!r} is optimized after the next write to it: until then nothing is indexed"
    if found.status == "yellow":
        return (
            f"the index of {name!r} is still being built: searches continue, slower until it is "
            f"green"
        )
    return ""


def _deletion(alias: str) -> models.DeleteAliasOperation:
    return models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))


def _creation(alias: str, name: str) -> models.CreateAliasOperation:
    return models.CreateAliasOperation(
        create_alias=models.CreateAlias(collection_name=name, alias_name=alias)
    )


def _check_fusion(name: str, plan: SearchPlan, keys: Sequence[Any]) -> None:
    if plan.is_fused and len(keys) > 1:
        raise Unsupported(
            f"{name!r} has {len(keys)} shard keys, and places in two of them cannot be fused: an "
            f"result's place counts within its key; open the store for one key (shard_key)"
        )


def _check_limits(name: str, limits: convert.Limits, k: int, *, exact: bool) -> None:
    if exact and not limits.allows_exact:
        raise Unsupported(
            f"the strict mode of {name!r} forbids exact search; set search_allow_exact for it, "
            f"or search with exact=False"
        )
    if limits.answers_a_query is not None and k > limits.answers_a_query:
        raise Unsupported(
            f"the strict mode of {name!r} gives at most {limits.answers_a_query} results per "
            f"query, and k is {k}; lower it or raise max_query_limit"
        )
