"""What a backfill would do and cost, changing nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from intramodal.errors import StoreError
from intramodal.ingest.backfill.copy import (
    Copy,
    check_copy_space,
    is_switched,
)
from intramodal.ingest.backfill.in_place import check_space, on_optimizer
from intramodal.ingest.backfill.new_vector import Storing, new_vector
from intramodal.ingest.backfill.points import in_points, on_time, require_matches, timed
from intramodal.progress import LongRead
from intramodal.projection.stored_map import StoredMap
from intramodal.store.base import Filter, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import source_and_projection
from intramodal.store.origins import check_in_place, check_made_by, look_again
from intramodal.types import short_repr

_BYTES = {"float32": 4, "float16": 2, "uint8": 1, "turbo4": 0.5, "turbo8": 1, "turbo16": 2}
_DEFAULT_M = 16
_LINK_BYTES = 4
# Bits a component beside the original (Qdrant's documentation; plus small metadata).
_BINARY_BITS = {"one_bit": 1.0, "one_and_half_bits": 1.5, "two_bits": 2.0}
_TURBO_BITS = {"bits1": 1.0, "bits1_5": 1.5, "bits2": 2.0, "bits4": 4.0, "bits8": 8.0}

REINDEX_S = (0.6e-3, 6.3e-3)
"""Seconds a point of 768 dimensions, measured on the embedded engine with two cores: the first
build of 100,000 clustered points took 60 s on a quiet machine; the build after a backfill of
20,000 random ones, of 1,024 dimensions, took 168 s beside four other jobs."""

_REINDEX_DIMS = 768


@dataclass(frozen=True)
class VectorCost:
    """One vector's size in bytes: `data` as stored, `memory` as an index in memory needs it."""

    data: int
    memory: int


def vector_cost(spec: VectorSpec, n: int, settings: Mapping[str, Any], name: str) -> VectorCost:
    """Return what `n` vectors cost."""
    own = settings.get("vectors", {}).get(name, {})
    data = n * spec.size * _BYTES.get(spec.datatype, 4)
    quantized = n * spec.size * _quantized_bits(settings, own) / 8
    is_on_disk = own.get("on_disk") or own.get("memory") == "cold"
    held = quantized + (0 if is_on_disk else data)
    links = n * links_a_point(settings, own) * _LINK_BYTES
    return VectorCost(int(data), int(held + links))


def links_a_point(settings: Mapping[str, Any], own: Mapping[str, Any]) -> int:
    """Return the links of a point in the lowest layer of an HNSW graph, nearly all there are."""
    if not settings.get("has_index", True):
        return 0
    merged = {**settings.get("hnsw_config", {}), **own.get("hnsw_config", {})}
    return 2 * int(merged.get("m", _DEFAULT_M))


def _quantized_bits(settings: Mapping[str, Any], own: Mapping[str, Any]) -> float:
    config = own.get("quantization_config") or settings.get("quantization_config") or {}
    if "scalar" in config:
        return 8.0
    if "binary" in config:
        return _BINARY_BITS.get(config["binary"].get("encoding") or "one_bit", 2.0)
    if "turbo" in config:
        return _TURBO_BITS.get(config["turbo"].get("bits") or "bits4", 8.0)
    if "product" in config:  # "x16" is the 16th of float32
        return 32.0 / int(str(config["product"]["compression"]).lstrip("x"))
    return 0.0


def collection_costs(
    collection: ImageCollection, settings: Mapping[str, Any]
) -> dict[str, VectorCost]:
    """Return what each vector of a collection costs now."""
    return {
        name: vector_cost(spec, _about(collection, name), settings, name)
        for name, spec in collection.vectors.items()
        if not spec.is_multivector
    }


def _about(collection: ImageCollection, vector: str) -> int:
    """Return about how many points have a vector."""
    return collection.count(Filter(has_vector=vector), exact=False)


def reindex_seconds(n_points: int, dims: int) -> tuple[int, int]:
    """Return the least and the most that an index of `n_points` took on two cores, scaled."""
    low, high = (a_point * n_points * dims / _REINDEX_DIMS for a_point in REINDEX_S)
    return round(low), round(high)


_NO_INDEX = ("memory", "local")


@short_repr
@dataclass(frozen=True)
class BackfillPlan:
    """What a backfill would do.

    Parameters
    ----------
    collection, source, vector : str
    dim : int
        Of the new vector.
    new_collection : str or None
        Where to, for a copy.
    aliases : list of str
        Those that a copy would switch.
    n_points, n_missing, n_unprojectable : int
        Points of the collection, about; those that lack the vector and have a source vector; those
        that lack the source vector. Zeros and infinities are found when they are read.
    bytes_added : int
        Vectors to be written, without the index.
    vector_bytes, ram_bytes : (int, int)
        All vectors as stored; with their HNSW graphs, and the quantized ones, in memory: before
        and after. While both collections of a copy exist, after counts both.
    read_seconds : float
        What reading and projecting the points takes, by the first of them; writing comes on top.
    reindexed : int
        Points whose index is built again.
    reindex_seconds : (int, int)
        The least and the most that took on two cores, see `REINDEX_S`.
    notes : list of str
        What a person should know before.
    """

    collection: str
    source: str
    vector: str
    dim: int
    new_collection: str | None
    aliases: list[str]
    n_points: int
    n_missing: int
    n_unprojectable: int
    bytes_added: int
    vector_bytes: tuple[int, int]
    ram_bytes: tuple[int, int]
    read_seconds: float
    reindexed: int
    reindex_seconds: tuple[int, int]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        plain = asdict(self)
        pairs = ("vector_bytes", "ram_bytes", "reindex_seconds")
        return {**plain, **{key: list(plain[key]) for key in pairs}}


@short_repr
@dataclass(frozen=True)
class RecomputePlan:
    """What a recomputation would do: `n_matching` points would be projected anew.

    Reading and projecting them takes `read_seconds`, by the first of them. `notes` say what a
    person should know before.
    """

    collection: str
    source: str
    vector: str
    n_matching: int
    read_seconds: float
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def plan_backfill(  # noqa: PLR0913  as `backfill`
    collection: ImageCollection,
    projection: StoredMap,
    *,
    vector: str | None = None,
    source: str | None = None,
    on_disk: bool | None = None,
    quantize: str | None = None,
    datatype: str | None = None,
    yes: bool = False,
) -> BackfillPlan:
    """Return what `backfill` would do, with the same refusals, changing nothing."""
    source, vector = source_and_projection(collection, projection, source, vector)
    info = look_again(collection, source)
    check_in_place(collection, projection, source, vector, yes=yes)
    lacks = vector if vector in info.vectors else None
    missing = Filter(has_vector=source, lacks_vector=lacks)
    n_missing = collection.count(missing)
    read = timed(collection, projection, source, n_missing, where=missing)
    settings = _settings(collection)
    before = collection_costs(collection, settings)
    storing = Storing(on_disk, quantize, datatype)
    new = new_vector(collection, source, vector, projection, storing)
    added = vector_cost(new.spec, n_missing, with_own(settings, vector, new.settings), vector)
    n_reindexed = info.n_points if n_missing and info.n_indexed else 0
    dims = projection.dim_out + sum(s.size for v, s in info.vectors.items() if v != vector)
    return BackfillPlan(
        collection=collection.name,
        source=source,
        vector=vector,
        dim=projection.dim_out,
        new_collection=None,
        aliases=[],
        n_points=info.n_points,
        n_missing=n_missing,
        n_unprojectable=collection.count(Filter(lacks_vector=source)),
        notes=[
            *_rights(collection, vector),
            *_faults(collection, lacks),
            *_on_space(partial(check_space, collection, vector, new.spec)),
            *new.notes,
            *_notes_in_place(settings, n_missing, n_reindexed),
            *on_time(read),
        ],
        read_seconds=_seconds(read),
        **_costs(before, [added], n_reindexed, dims),
    )


def plan_copy(  # noqa: PLR0913  as `copy_collection`
    collection: ImageCollection,
    projection: StoredMap,
    *,
    new_collection: str,
    vector: str | None = None,
    source: str | None = None,
    on_disk: bool | None = None,
    quantize: str | None = None,
    datatype: str | None = None,
) -> BackfillPlan:
    """Return what `copy_collection` would do, with the same refusals, changing nothing."""
    storing = Storing(on_disk, quantize, datatype)
    copy = Copy.of(
        collection, projection, new_collection, source=source, vector=vector, storing=storing
    )
    collection, source, vector = copy.collection, copy.source, copy.vector
    info = collection.info()
    settings = _settings(collection)
    before = collection_costs(collection, settings)
    n_source = collection.count(Filter(has_vector=source))
    new = copy.new_vector
    projected = vector_cost(new.spec, n_source, with_own(settings, vector, new.settings), vector)
    added = [projected, *(before[old] for old in copy.renamed)]
    read = timed(collection, projection, source, info.n_points, vectors=list(copy.renamed))
    n_reindexed = info.n_points if info.n_indexed else 0
    dims = projection.dim_out + sum(info.vectors[old].size for old in copy.renamed)
    aliases = copy.aliases()
    return BackfillPlan(
        collection=collection.name,
        source=source,
        vector=vector,
        dim=projection.dim_out,
        new_collection=new_collection,
        aliases=aliases,
        n_points=info.n_points,
        n_missing=n_source,
        n_unprojectable=collection.count(Filter(lacks_vector=source)),
        notes=[
            *_on_space(partial(check_copy_space, copy)),
            *_notes_copy(copy, settings, aliases),
            *on_time(read),
        ],
        read_seconds=_seconds(read),
        **_costs(before, added, n_reindexed, dims),
    )


def plan_recompute(
    collection: ImageCollection,
    projection: StoredMap,
    *,
    where: Filter,
    vector: str | None = None,
    source: str | None = None,
) -> RecomputePlan:
    """Return what `recompute` would do, with the same refusals, changing nothing."""
    source, vector = source_and_projection(collection, projection, source, vector)
    check_made_by(collection, projection, source, vector)
    n_matching, notes = require_matches(collection, where), _cannot_write(collection, vector)
    written = {vector: collection.vectors[vector]}
    check = collection.store.check_space
    notes += _on_space(partial(check, collection.name, written, n_matching, is_whole=False))
    read = timed(collection, projection, source, n_matching, where=where)
    notes += on_time(read)
    return RecomputePlan(collection.name, source, vector, n_matching, _seconds(read), notes)


def _seconds(read: LongRead | None) -> float:
    return 0.0 if read is None else round(read.seconds, 3)


def _settings(collection: ImageCollection) -> dict[str, Any]:
    backend = collection.store.describe()["backend"]
    found = collection.described.settings
    return {**found, "has_index": backend not in _NO_INDEX, "backend": backend}


def _costs(
    before: dict[str, VectorCost], added: list[VectorCost], n_reindexed: int, dims: int
) -> dict[str, Any]:
    """Return the fields of a plan that say what it costs."""
    return {
        "bytes_added": sum(cost.data for cost in added),
        "vector_bytes": _before_after(before, added, "data"),
        "ram_bytes": _before_after(before, added, "memory"),
        "reindexed": n_reindexed,
        "reindex_seconds": reindex_seconds(n_reindexed, dims),
    }


def _before_after(
    before: dict[str, VectorCost], added: list[VectorCost], which: str
) -> tuple[int, int]:
    held = sum(getattr(cost, which) for cost in before.values())
    return held, held + sum(getattr(cost, which) for cost in added)


def _faults(collection: ImageCollection, there: str | None) -> list[str]:
    """Return what is wrong with adding a vector, unless it is there."""
    risk = collection.store.risk_of_adding_vectors()
    return [*on_optimizer(collection), *([risk] if risk and there is None else [])]


def _on_space(check: Callable[[], None]) -> list[str]:
    """Return why the disk has no room for it, if it has none."""
    try:
        check()
    except StoreError as error:
        return [str(error)]
    return []


def _rights(collection: ImageCollection, vector: str) -> list[str]:
    """Return what the key may not do, and who must do it, as far as key or server tell."""
    lacks = collection.store.lacking_right(collection.name, asks=True)
    if not lacks:
        return []
    if not collection.is_prepared_for(vector):
        return [f"this key cannot add {vector!r}: {collection.who_may(lacks, asks=True)}"]
    cannot_write = _cannot_write(collection, vector)
    if not cannot_write and not collection.origin(vector).is_complete:
        return [f"this key cannot mark {vector!r} as complete in the end: {lacks}"]
    return cannot_write


def _cannot_write(collection: ImageCollection, vector: str) -> list[str]:
    """Return why the key may not change points, and who must."""
    lacks = collection.store.lacking_right(collection.name, to_write=True, asks=True)
    who = "it has to be done with a key that may write"
    return [f"this key cannot write {vector!r}: {lacks}; {who}"] if lacks else []


def _notes_in_place(settings: dict[str, Any], n_missing: int, n_reindexed: int) -> list[str]:
    if not n_missing:
        return ["nothing to do: no point with a source vector lacks the new one"]
    held = "while this runs, no other process can open the directory"
    searches = held if settings["backend"] == "edge" else "searches continue"
    notes = [f"{searches}; other vectors and payload stay as they are", *_on_memory(settings)]
    if n_reindexed:
        notes.append(
            "each updated point leaves the index, which is built again: expect slower searches "
            "and 2 to 3.5 times the disk meanwhile"
        )
    return notes


def with_own(settings: Mapping[str, Any], vector: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a collection's settings with those of a vector that is added."""
    by_vector = settings.get("vectors", {})
    merged = {**by_vector.get(vector, {}), **own}
    return {**settings, "vectors": {**by_vector, vector: merged}}


def _notes_copy(copy: Copy, settings: dict[str, Any], aliases: list[str]) -> list[str]:
    old, new = copy.collection.name, copy.new_name
    store = copy.collection.store
    there = store.info(new).n_points if store.exists(new) else None
    if there is not None and is_switched(copy):
        return [f"nothing is copied: clients use {new!r} already; what they deleted stays deleted"]
    lacks = store.lacking_right(new, asks=True)
    who = "a copy takes a key for the whole server"
    denied = [f"this key cannot make {new!r}: {lacks}; {who}"] if lacks else []
    notes = denied + (
        [] if there is None else [f"{new!r} holds about {in_points(there)} already, which stay"]
    )
    notes += [
        f"pause the writers of {old!r}, or let them write to both collections, from the start of "
        f"the copy until clients use {new!r}: what changes in {old!r} after it was copied is not "
        f"copied again",
        f"both collections exist until you drop {old!r}",
        *copy.new_vector.notes,
        *_on_memory(settings),
    ]
    if aliases:
        moved = ", ".join(repr(alias) for alias in aliases)
        return [*notes, f"{moved} will mean {new!r} instead of {old!r}, in one step"]
    return [
        *notes,
        f"no alias means {old!r}: clients must be given the new name {new!r}, as an alias cannot "
        f"take the name of a collection",
    ]


def _on_memory(settings: dict[str, Any]) -> list[str]:
    if not settings["has_index"]:
        return ["this store has no index and no quantization: memory is that of the vectors"]
    notes = ["memory: the vectors, and 2 m links of 4 bytes per point and vector for their graphs"]
    own = settings.get("vectors", {}).values()
    if settings.get("quantization_config") or any(v.get("quantization_config") for v in own):
        notes.append(
            "quantized vectors are kept in addition to the originals and are counted, too"
        )
    return notes
