"""Points of one collection: what writes and reads mean, not how they travel."""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from qdrant_client import models
from qdrant_client.local.json_path_parser import parse_json_path

from intramodal.types import Payload, PointId
from tests.faults.wire.errors import WireError
from tests.faults.wire.usage import Usage
from tests.faults.wire.vectors import UNNAMED, Definition, Kept, kept, told
from tests.faults.wire.versions import VERSION, adds_vectors

ShardKey = str | int

Place = PointId | tuple[ShardKey, PointId]
"""What is one point: its id, and in a collection of custom shards the key of its shard before."""


class Given(NamedTuple):
    """One point of a write, as it came."""

    id: Any
    vectors: Mapping[str, Any]
    payload: Payload


@dataclass
class Point:
    """One stored point; dense cosine vectors are normalised."""

    vectors: dict[str, Any]
    payload: Payload
    shard_key: str | int | None = None
    lacks: dict[int, set[str]] = field(default_factory=dict)
    """By peer, the vectors that its replica has missed."""
    stale: dict[int, set[str]] = field(default_factory=dict)
    """By peer, the vectors whose last change its replica has missed."""

    def on(self, peer: int) -> Point:
        """Return the point as a replica has it."""
        missed = self.lacks.get(peer)
        if not missed:
            return self
        kept = {name: vector for name, vector in self.vectors.items() if name not in missed}
        return Point(kept, self.payload, self.shard_key)


@dataclass
class Collection:
    """Definitions and points; `indexes` are payload fields.

    `is_map` and `has_sparse` say how the description shows the vectors: by what there once was.
    """

    config: models.CreateCollection
    vectors: dict[str, Definition]
    metadata: dict[str, Any]
    indexes: dict[str, models.PayloadSchemaType] = field(default_factory=dict)
    index_params: dict[str, dict[str, Any]] = field(default_factory=dict)
    has_sparse: bool = False
    points: dict[Place, Point] = field(default_factory=dict)
    shard_keys: list[ShardKey] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    version: str = VERSION
    is_map: bool = True
    dead: set[int] = field(default_factory=set)
    """Whether vectors are described by name: an unnamed one alone is not, until one is added."""
    status: str = "green"
    problem: str = ""
    """What has stopped the optimizer."""
    n_indexed: int = 0
    optimizations: dict[str, Any] | WireError | None = None
    """What the optimizer does, or why that is not told; None for nothing."""

    @property
    def n_shards(self) -> int:
        """Return over how many shards the points are spread."""
        return len(self.shard_keys) if self.is_custom else self.config.shard_number or 1

    @property
    def is_custom(self) -> bool:
        """Return whether every shard has a key, which is a part of a point's identity."""
        return self.config.sharding_method == models.ShardingMethod.CUSTOM

    def add_key(self, key: ShardKey, name: str) -> None:
        """Make a shard of that key; refused where it is."""
        if not self.is_custom:
            raise WireError(
                400, "Bad request: Shard Key cannot be created with Auto sharding method"
            )
        if key in self.shard_keys:
            text = f"Sharding key {quoted(key)} already exists for collection {name}"
            raise WireError(400, f"Bad request: {text}")
        self.shard_keys.append(key)

    def place(self, point: Any, key: Any) -> Place:
        """Return where a write finds a point; raises unless it says so, if it has to."""
        if not self.is_custom:
            return known_id(point)
        if key is None:
            raise WireError(400, "Wrong input: Shard key not specified")
        if key not in self.shard_keys:
            raise WireError(400, f"Wrong input: Shard key {quoted(key)} not found")
        return key, known_id(point)

    def upsert(self, points: Sequence[Given], key: Any = None) -> None:
        """Replace whole points."""
        places = [self.place(given.id, key) for given in points]
        stored = self._kept(points, names_it=adds_vectors(self.version))
        for place, given, vectors in zip(places, points, stored, strict=True):
            self.points[place] = Point(vectors, given.payload, key if self.is_custom else None)

    def update_vectors(self, points: Sequence[Given], key: Any = None) -> None:
        """Set the given named vectors of existing points; a missing one stops halfway."""
        for given, vectors in zip(points, self._kept(points), strict=True):
            existing = self.existing(given.id, key)
            existing.vectors.update(vectors)
            for missed in (*existing.lacks.values(), *existing.stale.values()):
                missed -= set(vectors)

    def set_payload(self, ids: Iterable[Any], payload: Payload, key: Any = None) -> None:
        """Merge payload keys into existing points; null removes one."""
        removed = {name for name, value in payload.items() if value is None}
        for point in ids:
            existing = self.existing(point, key)
            merged = existing.payload | payload
            existing.payload = {n: value for n, value in merged.items() if n not in removed}

    def delete(self, ids: Iterable[Any], key: Any = None) -> None:
        """Delete points; absent ones are ignored."""
        for point in ids:
            self.points.pop(self.place(point, key), None)

    def drop_vector(self, name: str) -> None:
        """Remove a vector from the definition and all points; repeating it does nothing."""
        self.vectors.pop(name, None)
        for point in self.points.values():
            point.vectors.pop(name, None)

    def select(self, matches: Callable[[PointId, Point], bool], keys: Any = None) -> list[Place]:
        """Return matching points of some shards, numbers by value before UUIDs by text.

        Of several with the same id one is left, any of them.
        """
        found: Iterable[Place] = self._among(matches, keys)
        if self.is_custom:
            found = _without_duplicates(found)
        return sorted(found, key=lambda place: id_order(bare(place)))

    def find(self, ids: Iterable[Any], keys: Any = None) -> list[Place]:
        """Return the points of some ids, as `select` does."""
        shards = self.keys_read(keys) or self.shard_keys
        places: list[Place] = list(map(known_id, ids))
        if self.is_custom:
            places = [(key, bare(place)) for place in places for key in shards]
        return _without_duplicates(place for place in places if place in self.points)

    def count(self, matches: Callable[[PointId, Point], bool], keys: Any = None) -> int:
        """Return the number of matching points; those with the same id are several."""
        return sum(1 for _ in self._among(matches, keys))

    def _among(self, matches: Callable[[PointId, Point], bool], keys: Any) -> Iterator[Place]:
        wanted = self.keys_read(keys)
        for place, point in self.points.items():
            is_there = wanted is None or point.shard_key in wanted
            if is_there and matches(bare(place), point):
                yield place

    def keys_read(self, keys: Any) -> list[ShardKey] | None:
        """Return the keys of the shards that a read is for, None for all; raises for an unknown.

        A collection without keys has none to name, and one is ignored there.
        """
        if keys is None or not self.is_custom:
            return None
        wanted = keys if isinstance(keys, list) else [keys]
        for key in wanted:
            if key not in self.shard_keys:
                raise WireError(400, f"Bad request: Shard key {quoted(key)} not found")
        return wanted

    def record(
        self, place: Place, with_payload: Any, with_vector: Any, peer: int = 0
    ) -> dict[str, Any]:
        """Return a point of a peer's replica as JSON."""
        stored = self.points[place].on(peer)
        answer: dict[str, Any] = {"id": bare(place)}
        if with_payload:
            answer["payload"] = _selected(stored.payload, with_payload)
        if with_vector:
            answer["vector"] = _vectors(stored.vectors, with_vector)
        if stored.shard_key is not None:
            answer["shard_key"] = stored.shard_key
        return answer

    def params(self, name: str) -> Definition:
        """Return the definition of a vector, in the words of the server if there is none."""
        if name not in self.vectors:
            raise WireError(400, f"Wrong input: Not existing vector name error: {name}")
        return self.vectors[name]

    def check_vectors(self, wanted: Any) -> None:
        """Raise for a vector that a read wants and that is not there."""
        for name in wanted if isinstance(wanted, list) else ():
            self.params(name)

    def _kept(self, points: Sequence[Given], *, names_it: bool = False) -> list[dict[str, Kept]]:
        """Return the vectors of points as they are stored; those of one name together.

        `names_it` says whether a wrong dimension is told with the vector's name.
        """
        vectors: list[dict[str, Kept]] = [{} for _ in points]
        for name in {name: None for point in points for name in point.vectors}:
            rows = [n for n, point in enumerate(points) if name in point.vectors]
            of = f" for vector '{name}'" if names_it and name else ""
            column = kept(self.params(name), [points[n].vectors[name] for n in rows], of)
            for n, vector in zip(rows, column, strict=True):
                vectors[n][name] = vector
        return vectors

    def existing(self, point: Any, key: Any) -> Point:
        """Return a point, or raise what a write gets where it is not."""
        place = self.place(point, key)
        if place not in self.points:
            raise WireError(404, f"Not found: No point with id {bare(place)} found")
        return self.points[place]


def known_id(point: Any) -> PointId:
    """Return an id as the server stores it."""
    if isinstance(point, int):
        if 0 <= point < 2**64:
            return point
        told = f"{point}" if point < 0 else f"{Decimal(repr(float(point))):.0f}"
        raise _no_id(told)
    try:
        return str(uuid.UUID(str(point)))
    except ValueError:
        raise _no_id(point) from None


def _no_id(given: Any) -> WireError:
    text = f"value {given} is not a valid point ID"
    allowed = "valid values are either an unsigned integer or a UUID"
    return WireError(400, f"Format error in JSON body: {text}, {allowed}")


def bare(place: Place) -> PointId:
    """Return the id of a point without the key of its shard."""
    return place[1] if isinstance(place, tuple) else place


def _without_duplicates(places: Iterable[Place]) -> list[Place]:
    found: dict[PointId, list[Place]] = {}
    for place in places:
        found.setdefault(bare(place), []).append(place)
    return [
        same[(zlib.crc32(str(point).encode()) >> 4) % len(same)] for point, same in found.items()
    ]


def quoted(key: Any) -> str:
    """Return a shard key as the server's messages show it."""
    return json.dumps(key)


def id_order(point: PointId) -> tuple[bool, PointId]:
    """Return the sort key of ids."""
    return isinstance(point, str), point


def _selected(payload: Payload, wanted: Any) -> Payload:
    if wanted is True:
        return payload
    first = {parse_json_path(path)[0].key for path in wanted}
    return {key: value for key, value in payload.items() if key in first}


def _vectors(vectors: Mapping[str, Kept], wanted: Any) -> Any:
    if set(vectors) == {UNNAMED}:
        return told(vectors[UNNAMED])
    names = vectors if wanted is True else [name for name in wanted if name in vectors]
    return {name: told(vectors[name]) for name in names}
