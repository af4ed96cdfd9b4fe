"""The store contract: arrays in, arrays out, errors of ours."""

from __future__ import annotations

import json
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import (
    AccessDenied,
    IntramodalError,
    Locked,
    StoreError,
    StoreUnavailable,
    Unsupported,
)
from intramodal.store.fields import picked
from intramodal.types import Distance, Floats, Payload, PointId, ShardKey, listed, short_repr

IndexKind = Literal["keyword", "integer", "float", "bool", "datetime"]

UNNAMED = ""
"""Name under which the single unnamed vector of a foreign collection appears."""


@dataclass(frozen=True)
class VectorSpec:
    """Definition of one named vector."""

    size: int
    distance: Distance = "Cosine"
    datatype: str = "float32"
    is_multivector: bool = False


@dataclass(frozen=True)
class Cluster:
    """How a cluster is used; of no meaning to other stores.

    Parameters
    ----------
    upload_streams : int or None
        Requests that write at the same time; None: four.
    nodes : tuple of str
        REST addresses of further nodes, which are asked whether they know a new vector.
    shard_key : str, int or None
        The only shards that are read and written, of a collection whose shards have keys; a text
        may spell a number.
    """

    upload_streams: int | None = None
    nodes: tuple[str, ...] = ()
    shard_key: ShardKey | None = None


@dataclass(frozen=True)
class CollectionInfo:
    """What a store says about a collection.

    `n_points` is approximate on a server (its `points_count`, which costs nothing and is off while
    points are moved between segments), and exact elsewhere; `Store.count` counts. `n_indexed`
    counts vectors that are in an approximate index, as far as the store knows; `indexes` names
    payload fields as Qdrant's JSON paths; `settings` are as `Store.settings` gives them. `problem`
    is what has stopped the optimizer, in the server's words, where its `status` is red.
    """

    name: str
    n_points: int
    vectors: Mapping[str, VectorSpec]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    status: str = "green"
    indexes: Mapping[str, str] = field(default_factory=dict)
    n_indexed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Slice:
    """One of `total` disjoint parts of all ids, by a hash of the id; together they are everything.

    A part of twice the total is in the one whose index is its own modulo the smaller total.
    """

    total: int
    index: int


@short_repr
@dataclass(frozen=True)
class Filter:
    """Which points: all given conditions hold.

    Parameters
    ----------
    equals : dict of str to value or list of values
        Payload field has (one of) the value(s); names as in `intramodal.store.fields`.
    ids : sequence or None
        Point id is one of these.
    has_vector, lacks_vector : str or None
        The named vector is present, absent.
    slice : Slice or None
        Point id is in this part of all; where `Store.can_slice`.
    also : Filter or None
        Further conditions, which may be on the same field; ``a & b`` makes it.

    Examples
    --------
    >>> shop = Filter({"tenant": ["acme", "globex"], "year": 2024})
    >>> str(shop & Filter(ids=[7]))
    'tenant=acme,globex and year=2024 and id=7'
    """

    equals: Mapping[str, Any] = field(default_factory=dict)
    ids: Sequence[PointId] | None = None
    has_vector: str | None = None
    lacks_vector: str | None = None
    slice: Slice | None = None
    also: Filter | None = None

    @property
    def conditions(self) -> list[Filter]:
        """The single conditions, a filter each."""
        found = [Filter({name: wanted}) for name, wanted in self.equals.items()]
        found += [] if self.ids is None else [Filter(ids=self.ids)]
        found += [] if self.has_vector is None else [Filter(has_vector=self.has_vector)]
        found += [] if self.lacks_vector is None else [Filter(lacks_vector=self.lacks_vector)]
        found += [] if self.slice is None else [Filter(slice=self.slice)]
        return found + ([] if self.also is None else self.also.conditions)

    def __and__(self, other: Filter) -> Filter:
        """Return the filter of the points that match both."""
        return replace(self, also=other if self.also is None else self.also & other)

    def __str__(self) -> str:
        """Return the filter as a person writes it; ``all`` without a condition."""
        return " and ".join(map(_condition, self.conditions)) or "all"


def _condition(one: Filter) -> str:
    """Return a single condition as a person writes it."""
    if one.ids is not None:
        return f"id={spelled(one.ids)}"
    for verb, vector in (("has", one.has_vector), ("lacks", one.lacks_vector)):
        if vector is not None:
            return f"{verb} vector {vector}"
    if one.slice is not None:
        return f"slice {one.slice.index} of {one.slice.total}"
    ((name, wanted),) = one.equals.items()
    field = json.dumps(name, ensure_ascii=False) if "=" in name else name
    return f"{field}={spelled(values_of(wanted))}"


def values_of(wanted: Any) -> list[Any]:
    """Return the values, one or several, that a filter looks for in a field."""
    is_list = isinstance(wanted, (list, tuple, set, frozenset, np.ndarray))
    values = list(wanted) if is_list else [wanted]
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def spelled(values: Sequence[Any]) -> str:
    """Return values as a person writes them in a filter: each text once, comma-separated."""
    texts = (listed(value) if type(value) is str else value_text(value) for value in values)
    return ",".join(dict.fromkeys(texts))


def value_text(value: Any) -> str:
    """Return a payload value as a filter writes it; whole floats as integers, like labels.

    Examples
    --------
    >>> value_text(True), value_text(2012.0), value_text("cat")
    ('true', '2012', 'cat')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


@short_repr
@dataclass(frozen=True)
class Page:
    """One page of a scroll or the answer of a retrieve.

    Parameters
    ----------
    ids : list of str or int
    vectors : dict of str to ndarray of shape (n, d)
        float32; rows of points that lack the vector are NaN.
    payloads : list of dict
        Only the requested keys, whole objects or parts of them where a name is a path (as in
        `intramodal.store.fields`); empty dicts when none were requested.
    next_offset : str, int or None
        Pass it to `Store.scroll` to go on after this page; None after the last page.
    """

    ids: list[PointId]
    vectors: dict[str, Floats]
    payloads: list[Payload]
    next_offset: PointId | None = None


@short_repr
@dataclass(frozen=True)
class Hits:
    """Answers of `Store.query_batch`: one row a query, best first.

    Rows with fewer than k answers are shorter.
    """

    ids: list[list[PointId]]
    scores: list[NDArray[np.float32]]


@dataclass(frozen=True)
class SearchLimits:
    """What a store lets searches of a collection do; None where it sets no limit.

    Parameters
    ----------
    allows_exact : bool
        Whether a search may compare with every point.
    answers : int or None
        Most answers, or candidates of a stage, of one search.
    reads_a_minute : int or None
        Searches and their conditions, and points that are read by id.
    """

    allows_exact: bool = True
    answers: int | None = None
    reads_a_minute: int | None = None


class Store(ABC):
    """A place for collections. Use as a context manager, or call `close`.

    All methods raise `StoreError` or its subclasses `StoreUnavailable`, `AccessDenied`,
    `NotFound`, `Conflict`, `Unsupported`, `Locked`, and `InputError` for arguments that cannot be
    used. Ids are ints or canonical UUID strings. Writes check ids, shape and finiteness before
    anything is sent. Cosine vectors come back normalised.
    """

    location: str
    shard_key: ShardKey | None = None
    """The one shard key of each collection that is read and written, None for whole collections.

    Where a collection has shard keys, the same id in two shards is two points: without one of
    them points are named by `KeyedId`, or by a bare id that is in one shard only.
    """

    is_remote: bool = False
    """Whether another process does the work, so that two calls at a time save time; elsewhere one
    waits for the other."""

    is_embedded: bool = False
    """Whether this process writes its files, on a disk that may be full: see `check_space`."""

    silent_nodes: Sequence[str] = ()
    """Further nodes of a cluster that were to be asked and did not answer."""

    @abstractmethod
    def collections(self) -> list[str]:
        """Return the names of all collections, sorted."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Return whether the collection (or an alias of that name) exists."""

    @abstractmethod
    def create(
        self,
        name: str,
        vectors: Mapping[str, VectorSpec],
        *,
        metadata: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Create a collection; `Conflict` if the name is taken.

        `options` are backend settings such as ``shard_number`` and ``replication_factor``;
        ``vectors`` among them holds settings of single vectors by name, such as ``on_disk``.
        """

    def take_shard(self, name: str, folder: Path, *, moves: bool = False) -> int:
        """Make a collection of a shard of Qdrant Edge; returns how many points it has.

        The shard's folder is copied, and never opened where it is; with `moves` it is renamed.
        Nothing is left half-made, by an error or a kill.

        Raises
        ------
        Unsupported
            If this is no embedded store.
        Conflict
            If there is a collection of that name.
        Locked
            If somebody has the shard open.
        InputError, StoreError
            If it is damaged, of a newer format, or holds anything but files; or there is not the
            space.
        """
        raise Unsupported(
            f"{self.location} is no embedded store and cannot take the files of a shard; give a "
            f"directory as the store"
        )

    @abstractmethod
    def settings(self, name: str) -> dict[str, Any]:
        """Return how a collection is set up, as far as the store tells, as `create`'s options.

        ``sparse_vectors`` and ``sharding_method`` say what `create` cannot make.
        """

    @abstractmethod
    def info(self, name: str) -> CollectionInfo:
        """Return counts, vector definitions, metadata and status; `NotFound` if absent."""

    @abstractmethod
    def set_metadata(self, name: str, metadata: Mapping[str, Any]) -> None:
        """Merge top-level keys into the collection's metadata.

        Each key is replaced whole, and one that is None is removed; keys that are not given stay,
        also those that others write at the same time.
        """

    @abstractmethod
    def drop(self, name: str) -> None:
        """Delete the collection and its aliases; `NotFound` if absent, also for an alias."""

    def upsert(
        self,
        name: str,
        ids: Sequence[PointId],
        vectors: Mapping[str, Floats],
        payloads: Sequence[Payload],
    ) -> None:
        """Write whole points durably, vectors and payload; replaces points with these ids.

        Vectors and payload of a replaced point that are not given are lost. Use `insert`,
        `update_vectors` and `set_payload` where others write to the same points.
        """
        self._write(name, ids, vectors, payloads, only_absent=False)

    def insert(
        self,
        name: str,
        ids: Sequence[PointId],
        vectors: Mapping[str, Floats],
        payloads: Sequence[Payload],
    ) -> None:
        """Write the points that are absent, whole and durably; those that exist stay untouched.

        The store decides for each point at the moment of the write, so that no point of another
        writer is ever replaced (servers from 1.16 on; older ones replace it, like `upsert`).
        """
        self._write(name, ids, vectors, payloads, only_absent=True)

    @abstractmethod
    def _write(
        self,
        name: str,
        ids: Sequence[PointId],
        vectors: Mapping[str, Floats],
        payloads: Sequence[Payload],
        *,
        only_absent: bool,
    ) -> None:
        """Write whole points durably: all of them, or those that are absent."""

    def n_replicas(self, name: str) -> int:
        """Return how many replicas each shard of a collection has."""
        return 1

    def with_vector_everywhere(
        self,
        name: str,
        vector: str,
        ids: Sequence[PointId],
        *,
        alike: bool = False,
        is_page: bool = False,
    ) -> list[PointId]:
        """Return those of `ids` that have a vector on every replica, and if `alike` the same.

        A whole page of a scroll of all points (`is_page`) is asked for at once.
        `StoreUnavailable` soon, where a replica is down and cannot be asked.
        """
        where = Filter(ids=ids, has_vector=vector)
        return [point for page in self.scroll(name, where=where) for point in page.ids]

    def lacking_by_node(self, name: str, vector: str) -> dict[str, int]:
        """Return how many points lack a vector by each node of a cluster that answers."""
        return {}

    def inactive_replicas(self, name: str) -> list[str]:
        """Return a phrase for each replica of a collection that takes no part in reads."""
        return []

    def unreachable_nodes(self) -> dict[str, str]:
        """Return which nodes of a cluster the one that is asked cannot reach, and why."""
        return {}

    def upload_streams(self, name: str) -> int:
        """Return how many writes to a collection are best under way at once."""
        return 1

    @abstractmethod
    def delete(self, name: str, ids: Sequence[PointId]) -> None:
        """Delete points; absent ids are ignored."""

    @abstractmethod
    def add_vector(
        self,
        name: str,
        vector: str,
        spec: VectorSpec,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a named vector to a collection that holds points, and set it up.

        Same definition again: only settings that lack are set, as after a kill between the two
        steps; another definition: `Conflict`. `Unsupported` below server 1.18.

        `settings` are those of a single vector in `create`'s options: ``on_disk`` or ``memory``,
        ``hnsw_config``, ``quantization_config``. A key that may not set them leaves them out with
        a warning. The client's local mode has nothing to set up.
        """

    @abstractmethod
    def check_storable(self, vector: str, spec: VectorSpec) -> None:
        """Raise `InputError` or `Unsupported` where `add_vector` refuses a name or type."""

    def check_space(  # noqa: B027  servers say so themselves
        self,
        name: str,
        vectors: Mapping[str, VectorSpec],
        n_points: int,
        *,
        is_whole: bool = True,
        reindexes: bool = False,
    ) -> None:
        """Raise `StoreError` where the disk has no room for what a job writes, as far as is known.

        Parameters
        ----------
        name : str
            The collection, or one that is copied.
        vectors : mapping of str to VectorSpec
            Those that are written.
        n_points : int
            Points that get them.
        is_whole : bool
            Whether these points are new; else they are there, and get these vectors alone.
        reindexes : bool
            Whether the index is built after that.
        """

    def check_adds_vectors(self) -> None:  # noqa: B027  most stores can
        """Raise `Unsupported` where `add_vector` and `delete_vector` would."""

    def risk_of_adding_vectors(self) -> str:
        """Return which faults adding a vector's name meets in this version; "" if none."""
        return ""

    def risk_of_removing_vectors(self) -> str:
        """Return which harm removing a vector's name can do in this version; "" if it cannot."""
        return ""

    @abstractmethod
    def delete_vector(self, name: str, vector: str) -> None:
        """Remove a named vector from the collection and all its points; `NotFound` if absent."""

    @abstractmethod
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
        """Set one named vector of existing points; everything else stays untouched.

        `NotFound` if a point is absent; the others may have been written. Without `wait` a server
        acknowledges before it has applied the change. With `only_lacking` points that have the
        vector keep it: the store decides for each point at the moment of the write, so that what
        another writer has just written is never replaced (servers from 1.16 on; older ones
        replace it).
        """

    @abstractmethod
    def set_payload(self, name: str, ids: Sequence[PointId], payload: Payload) -> None:
        """Merge the same payload keys into the given points; `NotFound` if one is absent."""

    @abstractmethod
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

    def scan(
        self,
        name: str,
        *,
        vectors: Sequence[str] = (),
        payload: Sequence[str] | bool = False,
        where: Filter | None = None,
        batch_size: int = 1000,
    ) -> Iterator[Page]:
        """Yield the same as `scroll`, to its end: faster where a store can read ahead.

        Pages may have more points than `batch_size`, and do not say where the next one begins.
        """
        return self.scroll(
            name, vectors=vectors, payload=payload, where=where, batch_size=batch_size
        )

    @abstractmethod
    def retrieve(
        self,
        name: str,
        ids: Sequence[PointId],
        *,
        vectors: Sequence[str] = (),
        payload: Sequence[str] | bool = False,
    ) -> Page:
        """Return the points that exist among `ids`, in the order of `ids`."""

    @abstractmethod
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
        """Return the k nearest points of every row of `Q` (n, d).

        Sorted by (score descending, id ascending), numbers by value before UUIDs by text; under
        Euclid and Manhattan the lowest score is best. An exact answer does not depend on the
        order of insertion, also where equal scores straddle the k-th place.

        `exclude` gives one id a query that must not be among its answers (the query itself), or
        None. `params` are search parameters such as ``hnsw_ef``; with ``prefetch`` (a mapping
        with "using", "limit" and optionally "Q") the search has two stages: the `limit` candidates
        of the first are ranked by the second. With ``fuse`` (the same) the `limit` best by both
        are fused by their places, Σ 1 / (2 + place), places from 0 (reciprocal rank fusion);
        with its "weights", one of `using` and one of the other vector, Σ w / (1 + w + place).
        """

    def search_limits(self, name: str) -> SearchLimits:
        """Return what searches of a collection may do: everything, unless a server says less."""
        return SearchLimits()

    def can_slice(self, name: str, where: Filter | None = None) -> bool:
        """Return whether slices of the (matching) points can be read, and nothing else is."""
        return False

    @abstractmethod
    def count(self, name: str, where: Filter | None = None, *, exact: bool = True) -> int:
        """Return the number of (matching) points.

        Counted exactly, a server builds a set of all their ids: 0.3 s for 400,000 points. With
        ``exact=False`` it estimates, at no cost; other stores count all the same. A server that
        forbids exact counts is asked for the ids, page by page.
        """

    @abstractmethod
    def ensure_index(self, name: str, field: str, kind: IndexKind) -> None:
        """Create a payload index unless it is there."""

    def index_for(self, name: str, where: Filter | None) -> None:  # noqa: B027  most need none
        """Create the payload indexes without which a filter is forbidden.

        Only a server's strict mode does so, for fields without an index or for more than a few
        conditions. Where an index cannot be made, filters are checked on what is read instead, and
        a search with one is `Unsupported`.
        """

    @abstractmethod
    def copy_indexes(self, source: str, target: str) -> None:
        """Create the payload indexes of one collection in another, those that are absent."""

    @abstractmethod
    def aliases(self) -> dict[str, str]:
        """Return alias -> collection."""

    @abstractmethod
    def set_aliases(self, targets: Mapping[str, str]) -> None:
        """Point aliases at collections, all of them in one atomic step.

        `Conflict` if a collection has the name of an alias; `NotFound` if a target is absent.
        """

    def set_alias(self, alias: str, name: str) -> None:
        """Point one alias at a collection; as `set_aliases`."""
        self.set_aliases({alias: name})

    @abstractmethod
    def delete_alias(self, alias: str) -> None:
        """Remove an alias; `NotFound` if absent."""

    indexes_by_itself: bool = False
    """Whether the store builds indexes without being asked, as servers do."""

    @abstractmethod
    def optimize(self, name: str, *, deadline_s: float = 3600.0) -> str:
        """Build indexes (embedded), or wait for a while until the collection is green (server).

        Returns what a person should know where the indexes are not built in the end; ``""`` where
        they are.
        """

    def lacking_right(self, name: str, *, to_write: bool = False, asks: bool = False) -> str:
        """Return why the key may not change a collection's description, as far as that is known.

        ``""`` where it may, or where only the store itself knows. `to_write` asks for less: to
        change its points. With `asks` the store is asked, by a request that changes nothing.
        """
        return ""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return backend, version, location without secrets, and limits, for `doctor` and runs."""

    def problems(self) -> dict[str, str]:
        """Open every collection; return why those that cannot be opened cannot, by name.

        One that another process has open is not looked at.
        """
        found = {}
        for name in self.collections():
            try:
                self.settings(name)
            except Locked:
                continue
            except (StoreUnavailable, AccessDenied):
                raise
            except IntramodalError as error:
                found[name] = str(error)
        return found

    def repair(self) -> dict[str, bool]:
        """Repair what cannot be opened, and remove leftovers.

        Returns a sentence for each thing that was looked into, and whether all is well with it
        now. `Unsupported` where that is not ours to do.
        """
        raise Unsupported(
            f"{self.location} is no embedded store: a server repairs its collections itself when "
            f"it starts; see its log"
        )

    @abstractmethod
    def close(self) -> None:
        """Release files and connections; calling it twice is fine."""

    def __enter__(self) -> Store:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()


def page_of(
    records: Sequence[Any],
    specs: Mapping[str, VectorSpec],
    names: Sequence[str],
    payload: Sequence[str] | bool = True,
    next_offset: Any = None,
) -> Page:
    """Return records (with `id`, `vector` and `payload`) as arrays, NaN where a vector lacks.

    Parameters
    ----------
    records : sequence
        Of qdrant_client or qdrant_edge.
    specs : dict of str to VectorSpec
    names : sequence of str
        The vectors that were asked for.
    payload : sequence of str or bool
        The fields that were asked for.
    next_offset : id, optional
    """
    return Page(
        ids=[plain_id(record.id) for record in records],
        vectors=_columns(records, specs, names),
        payloads=picked([record.payload or {} for record in records], payload),
        next_offset=None if next_offset is None else plain_id(next_offset),
    )


def plain_id(point_id: Any) -> PointId:
    """Return an id as int or str; the embedded engine answers `uuid.UUID`."""
    return point_id if isinstance(point_id, (int, str)) else str(point_id)


def _columns(
    records: Sequence[Any], specs: Mapping[str, VectorSpec], names: Sequence[str]
) -> dict[str, Floats]:
    columns = {
        name: np.full((len(records), specs[name].size), np.nan, dtype=np.float32) for name in names
    }
    # Lists packed one by one take less than half the time of `numpy.array` over all of them.
    packers = [(name, struct.Struct(f"{X.shape[1]}f"), X) for name, X in columns.items()]
    for row, record in enumerate(records if names else ()):
        # The embedded engine builds `vector` anew on every access: read it once.
        found = record.vector
        # The unnamed vector comes bare where it is the only one of its point.
        named = found if isinstance(found, dict) else {UNNAMED: found}
        for name, packer, X in packers:
            values = named.get(name)
            if values is not None:
                _pack(packer, X, row, values)
    return columns


def _pack(packer: struct.Struct, X: Floats, row: int, values: Sequence[float] | Floats) -> None:
    if len(values) != X.shape[1]:
        raise StoreError(
            f"a vector has {len(values)} dimensions instead of {X.shape[1]}: the collection was "
            f"made anew while it was in use; repeat what you did"
        )
    if isinstance(values, np.ndarray):
        X[row] = values
    else:
        packer.pack_into(X.data, row * packer.size, *values)
