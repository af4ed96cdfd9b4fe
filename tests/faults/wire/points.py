"""Points of one collection: what writes and reads mean, not how they travel."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from qdrant_client import models
from qdrant_client.local.json_path_parser import parse_json_path

from intramodal.types import Payload, PointId
from tests.faults.wire.errors import WireError
from tests.faults.wire.vectors import UNNAMED, Definition, Kept, kept, told


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


@dataclass
class Collection:
    """Definitions and points; `indexes` are payload fields."""

    config: models.CreateCollection
    vectors: dict[str, Definition]
    metadata: dict[str, Any]
    indexes: dict[str, models.PayloadSchemaType] = field(default_factory=dict)
    points: dict[PointId, Point] = field(default_factory=dict)
    shard_keys: set[str | int] = field(default_factory=set)

    @property
    def n_shards(self) -> int:
        """Return over how many shards the points are spread."""
        return self.config.shard_number or 1

    def check_key(self, key: Any) -> None:
        """Raise unless a write says where its points are, if it has to."""
        if self.config.sharding_method != models.ShardingMethod.CUSTOM:
            return
        if key is None:
            raise WireError(400, "Wrong input: Shard key not specified")
        if key not in self.shard_keys:
            raise WireError(400, f"Wrong input: Shard key {key} not found")

    def upsert(self, points: Sequence[Given], key: Any = None) -> None:
        """Replace whole points."""
        self.check_key(key)
        for given, vectors in zip(points, self._kept(points), strict=True):
            point = known_id(given.id)
            if point in self.points and self.points[point].shard_key != key:
                raise WireError(501, f"the stand-in has no second point {point} in another shard")
            self.points[point] = Point(vectors, given.payload, key)

    def update_vectors(self, points: Sequence[Given], key: Any = None) -> None:
        """Set the given named vectors of existing points; a missing one stops halfway."""
        self.check_key(key)
        for given, vectors in zip(points, self._kept(points), strict=True):
            self._existing(known_id(given.id), key).vectors.update(vectors)

    def set_payload(self, ids: Iterable[Any], payload: Payload, key: Any = None) -> None:
        """Merge payload keys into existing points; null removes one."""
        self.check_key(key)
        removed = {name for name, value in payload.items() if value is None}
        for point in ids:
            existing = self._existing(known_id(point), key)
            merged = existing.payload | payload
            existing.payload = {n: value for n, value in merged.items() if n not in removed}

    def delete(self, ids: Iterable[Any], key: Any = None) -> None:
        """Delete points; absent ones are ignored."""
        self.check_key(key)
        for point in map(known_id, ids):
            if point in self.points and self.points[point].shard_key == key:
                del self.points[point]

    def drop_vector(self, name: str) -> None:
        """Remove a vector from the definition and all points; repeating it does nothing."""
        self.vectors.pop(name, None)
        for point in self.points.values():
            point.vectors.pop(name, None)

    def select(self, matches: Callable[[PointId, Point], bool]) -> list[PointId]:
        """Return matching ids, numbers by value before UUIDs by text."""
        found = [i for i, point in self.points.items() if matches(i, point)]
        return sorted(found, key=id_order)

    def count(self, matches: Callable[[PointId, Point], bool]) -> int:
        """Return the number of matching points."""
        return sum(matches(i, point) for i, point in self.points.items())

    def record(self, point: PointId, with_payload: Any, with_vector: Any) -> dict[str, Any]:
        """Return a point as JSON."""
        stored = self.points[point]
        answer: dict[str, Any] = {"id": point, "shard_key": stored.shard_key}
        if with_payload:
            answer["payload"] = _selected(stored.payload, with_payload)
        if with_vector:
            answer["vector"] = _vectors(stored.vectors, with_vector)
        return answer

    def params(self, name: str) -> Definition:
        """Return the definition of a vector, in the words of the server if there is none."""
        if name not in self.vectors:
            raise WireError(400, f"Wrong input: Not existing vector name error: {name}")
        return self.vectors[name]

    def _kept(self, points: Sequence[Given]) -> list[dict[str, Kept]]:
        """Return the vectors of points as they are stored; those of one name together."""
        vectors: list[dict[str, Kept]] = [{} for _ in points]
        for name in {name: None for point in points for name in point.vectors}:
            rows = [n for n, point in enumerate(points) if name in point.vectors]
            column = kept(self.params(name), [points[n].vectors[name] for n in rows])
            for n, vector in zip(rows, column, strict=True):
                vectors[n][name] = vector
        return vectors

    def _existing(self, point: PointId, key: Any) -> Point:
        if point not in self.points or self.points[point].shard_key != key:
            raise WireError(404, f"Not found: No point with id {point} found")
        return self.points[point]


def known_id(point: Any) -> PointId:
    """Return an id as the server stores it."""
    if isinstance(point, int):
        return point
    try:
        return str(uuid.UUID(str(point)))
    except ValueError:
        raise WireError(400, f"Format error in JSON body: {point} is not a point id") from None


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
