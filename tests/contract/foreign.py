"""What our store API never writes: vectors of other kinds, and the bytes of whole points.

Everything here goes past `Store`: by the engine on an open shard, by the client elsewhere. The
client's local mode keeps uint8 vectors as float32: only whole numbers from 0 to 255 are given.
"""

from __future__ import annotations

import hashlib
import json
import uuid
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from qdrant_client import models

from intramodal.store.base import Store
from intramodal.store.server.store import ServerStore
from intramodal.types import Payload, PointId

FOREIGN = ("words", "patches", "bits", "caption")
"""Sparse; 3 rows of 4, Dot; 6 of uint8, Dot; 8 of float32, Cosine."""

_BATCH = 500


def payload_of(i: int) -> Payload:
    """Return a payload with everything that JSON has."""
    return {
        "label": "abc"[i % 3],
        "n": i,
        "weight": i / 7 - 1e-9,
        "is_even": i % 2 == 0,
        "nothing": None,
        "large": 2**53 + 1 + i,
        "ключ 😀": 'ü€\n"quoted" \\ मूल्य',
        "nested": {
            "b": {"deep": [1, 2.5, None, {"n": i, "empty": {}, "none": None}], "a.b": True},
            "a": [[], [i, -i], ["", "ß", False]],
            "tiny": 5e-324,
            "third": 1 / 3,
        },
    }


def foreign_of(point: PointId) -> dict[str, Any]:
    """Return a point's vectors of other kinds, the same ones each time."""
    rng = np.random.default_rng(zlib.crc32(str(point).encode()))
    indices = sorted(int(i) for i in rng.choice(100_000, size=5, replace=False))
    return {
        "words": models.SparseVector(indices=indices, values=_floats(rng.random(5) + 0.01)),
        "patches": [_floats(row) for row in rng.normal(size=(3, 4))],
        "bits": _floats(rng.integers(0, 256, size=6)),
        "caption": _floats(rng.normal(size=8)),
    }


def add_foreign(store: Store, name: str, ids: Sequence[PointId]) -> None:
    """Define the foreign vectors in a collection that has none, and give them to its points."""
    _define(store, name)
    for start in range(0, len(ids), _BATCH):
        write_vectors(store, name, {i: foreign_of(i) for i in ids[start : start + _BATCH]})


def write_vectors(store: Store, name: str, vectors: Mapping[PointId, Mapping[str, Any]]) -> None:
    """Set the given named vectors of existing points."""
    if isinstance(store, ServerStore):
        points = [models.PointVectors(id=i, vector=dict(v)) for i, v in vectors.items()]
        store._connection.client.update_vectors(name, points, wait=True)
        return
    import qdrant_edge as edge  # no wheel for every platform

    changes = [edge.PointVectors(i, _for_engine(v)) for i, v in vectors.items()]
    _update(store, name, edge.UpdateOperation.update_vectors(changes))


def write_point(
    store: Store, name: str, point: PointId, vectors: Mapping[str, Any], payload: Payload
) -> None:
    """Replace a whole point."""
    if isinstance(store, ServerStore):
        whole = models.PointStruct(id=point, vector=dict(vectors), payload=payload)
        store._connection.client.upsert(name, [whole], wait=True)
        return
    import qdrant_edge as edge

    points = [edge.Point(point, _for_engine(vectors), payload)]
    _update(store, name, edge.UpdateOperation.upsert_points(points))


def digests(
    store: Store,
    name: str,
    *,
    without_vectors: Collection[str] = (),
    without_keys: Collection[str] = (),
) -> dict[PointId, str]:
    """Return the sha256 of every point: all its named vectors, then its payload.

    Equal numbers give equal digests in every store: vectors are hashed as float32, which no
    wire cuts, and the payload as JSON with sorted keys.

    Parameters
    ----------
    store : Store
    name : str
        Of the collection.
    without_vectors, without_keys : collection of str
        Vectors, and keys at the top of the payload, that are left out.
    """
    return {
        point: _digest(
            {n: v for n, v in vectors.items() if n not in without_vectors},
            {k: value for k, value in payload.items() if k not in without_keys},
        )
        for point, vectors, payload in points_of(store, name)
    }


def points_of(store: Store, name: str) -> Iterator[tuple[PointId, dict[str, Any], Payload]]:
    """Yield id, all vectors by name, and whole payload of every point, as the engine has them."""
    read, offset = _by_client if isinstance(store, ServerStore) else _by_engine, None
    while True:
        records, offset = read(store, name, offset)
        for record in records:
            point = str(record.id) if isinstance(record.id, uuid.UUID) else record.id
            vectors = record.vector or {}
            named = vectors if isinstance(vectors, dict) else {"": vectors}
            yield point, named, record.payload or {}
        if offset is None:
            return


def _define(store: Store, name: str) -> None:
    if isinstance(store, ServerStore):
        for vector, config in _configurations().items():
            store._connection.client.create_vector_name(name, vector, config)
        return
    import qdrant_edge as edge

    add, dot = edge.UpdateOperation.create_dense_vector, edge.Distance.Dot
    rows = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
    _update(store, name, edge.UpdateOperation.create_sparse_vector("words"))
    _update(store, name, add("patches", 4, dot, rows))
    _update(store, name, add("bits", 6, dot, None, edge.VectorStorageDatatype.Uint8))
    _update(store, name, add("caption", 8, edge.Distance.Cosine))


def _configurations() -> dict[str, Any]:
    dot = models.Distance.DOT
    rows = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    dense = {
        "patches": models.DenseVectorConfig(size=4, distance=dot, multivector_config=rows),
        "bits": models.DenseVectorConfig(
            size=6, distance=dot, datatype=models.VectorStorageDatatype.UINT8
        ),
        "caption": models.DenseVectorConfig(size=8, distance=models.Distance.COSINE),
    }
    words = models.SparseVectorNameConfig(sparse=models.SparseVectorConfig())
    return {"words": words} | {
        name: models.DenseVectorNameConfig(dense=config) for name, config in dense.items()
    }


def _update(store: Any, name: str, operation: Any) -> None:
    with store._opened(name, "update") as (_, shard):
        shard.update(operation)


def _by_client(store: Any, name: str, offset: Any) -> tuple[Sequence[Any], Any]:
    records, following = store._connection.client.scroll(
        name, limit=_BATCH, offset=offset, with_payload=True, with_vectors=True
    )
    return records, following


def _by_engine(store: Any, name: str, offset: Any) -> tuple[Sequence[Any], Any]:
    import qdrant_edge as edge

    asked = edge.ScrollRequest(offset=offset, limit=_BATCH, with_payload=True, with_vector=True)
    with store._opened(name, "read") as (_, shard):
        records, following = shard.scroll(asked)
    return records, following


def _for_engine(vectors: Mapping[str, Any]) -> dict[str, Any]:
    import qdrant_edge as edge

    return {
        name: edge.SparseVector(v.indices, v.values) if isinstance(v, models.SparseVector) else v
        for name, v in vectors.items()
    }


def _digest(vectors: Mapping[str, Any], payload: Payload) -> str:
    hashed = hashlib.sha256()
    for name in sorted(vectors):
        for part in _parts(vectors[name]):
            # Name, dtype and shape go first: no two sets of vectors give the same bytes.
            hashed.update(json.dumps([name, part.dtype.str, part.shape]).encode())
            hashed.update(part.tobytes())
    text = json.dumps(payload, sort_keys=True, allow_nan=False, separators=(",", ":"))
    hashed.update(text.encode())
    return hashed.hexdigest()


def _parts(vector: Any) -> list[Any]:
    """Return (d,), (rows, d), or indices and values."""
    if hasattr(vector, "indices"):
        return [np.asarray(vector.indices, "<u4"), np.asarray(vector.values, "<f4")]
    return [np.asarray(vector, "<f4")]


def _floats(row: Any) -> list[float]:
    """Return Python's floats that float32 holds exactly."""
    return [float(x) for x in np.asarray(row, dtype=np.float32)]
