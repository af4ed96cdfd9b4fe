"""Points of one collection: what writes and reads mean, not how they travel."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from qdrant_client import models
from qdrant_client.local.json_path_parser import parse_json_path

from intramodal.types import Floats, Payload, PointId

UNNAMED = ""


class WireError(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Point:
    """One stored point; cosine vectors are normalised."""

    vectors: dict[str, Floats]
    payload: Payload
    shard_key: str | int | None = None


@dataclass
class Collection:
    """Definitions and points; `indexes` are payload fields."""

    config: models.CreateCollection
    vectors: dict[str, models.VectorParams]
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

    def upsert(
        self,
        ids: Sequence[Any],
        columns: Mapping[str, Any],
        payloads: Sequence[Payload],
        key: Any = None,
    ) -> None:
        """Replace whole points."""
        self.check_key(key)
        rows = {name: self._rows(name, column, len(ids)) for name, column in columns.items()}
        for n, (point, payload) in enumerate(zip(map(known_id, ids), payloads, strict=True)):
            vectors = {name: X[n] for name, X in rows.items()}
            if point in self.points and self.points[point].shard_key != key:
                raise WireError(501, f"the stand-in has no second point {point} in another shard")
            self.points[point] = Point(vectors, payload, key)

    def update_vectors(self, ids: Sequence[Any], vectors: Sequence[Any], key: Any = None) -> None:
        """Set the given named vectors of existing points; a missing one stops halfway."""
        self.check_key(key)
        named = [v if isinstance(v, dict) else {UNNAMED: v} for v in vectors]
        for name in {name: None for some in named for name in some}:
            rows = [n for n, some in enumerate(named) if name in some]
            X = self._rows(name, [named[n][name] for n in rows], len(rows))
            for n, x in zip(rows, X, strict=True):
                self._existing(known_id(ids[n]), key).vectors[name] = x

    def set_payload(self, ids: Iterable[Any], payload: Payload, key: Any = None) -> None:
        """Merge payload keys into existing points."""
        self.check_key(key)
        for point in ids:
            self._existing(known_id(point), key).payload.update(payload)

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

    def params(self, name: str) -> models.VectorParams:
        """Return the definition of a vector, in the words of the server if there is none."""
        if name not in self.vectors:
            raise WireError(400, f"Wrong input: Not existing vector name error: {name}")
        return self.vectors[name]

    def _rows(self, name: str, column: Any, n: int) -> Floats:
        params = self.params(name)
        X = np.asarray(column, dtype=np.float32)
        if X.shape != (n, params.size):
            got = X.shape[-1] if X.ndim else 0
            raise WireError(
                400, f"Wrong input: Vector dimension error: expected dim: {params.size}, got {got}"
            )
        return normalized(X) if params.distance == models.Distance.COSINE else X

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


def normalized(X: Floats) -> Floats:
    """Return unit rows; rows that are zero or of unit length already keep their bits."""
    squares = np.einsum("ij,ij->i", X, X)
    keep = (squares < np.finfo(np.float32).eps) | (np.abs(squares - 1) <= 1e-6)
    lengths = np.where(keep, np.float32(1), np.sqrt(squares))
    return np.asarray(X / lengths[:, None], dtype=np.float32)


def _selected(payload: Payload, wanted: Any) -> Payload:
    if wanted is True:
        return payload
    first = {parse_json_path(path)[0].key for path in wanted}
    return {key: value for key, value in payload.items() if key in first}


def _vectors(vectors: Mapping[str, Floats], wanted: Any) -> Any:
    if set(vectors) == {UNNAMED}:
        return vectors[UNNAMED].tolist()
    names = vectors if wanted is True else [name for name in wanted if name in vectors]
    return {name: vectors[name].tolist() for name in names}
