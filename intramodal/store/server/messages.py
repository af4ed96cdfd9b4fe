"""Messages of gRPC, built and read without the client's models: three to eight times as fast.

The client (1.20) makes an object of pydantic of every point that it sends or gets, and of every
vector a list of Python's floats; protobuf keeps a vector as the bytes of its numbers. One page of
1,000 points of 512 dimensions took 39 ms to read and 50 ms to update with half of them, against 5
and 14 here (one core). Requests and records are equal to the client's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from intramodal.store.base import UNNAMED
from intramodal.store.server.client import Caller
from intramodal.store.server.convert import vector_selection
from intramodal.types import Floats, Payload, PointId, ShardKey


class Record(NamedTuple):
    """One point of an answer; as the client's record, but that vectors are arrays."""

    id: PointId
    payload: Payload
    vector: dict[str, Floats]
    """Of the dense vectors that were asked for, those that the point has, (d,)."""
    shard_key: Any = None


def scroll(  # noqa: PLR0913  as the call has
    server: Caller,
    name: str,
    where: models.Filter | None,
    limit: int,
    offset: PointId | None,
    payload: Any,
    vectors: Sequence[str],
    shard_key: ShardKey | None = None,
) -> tuple[Sequence[Any], Any]:
    """Ask for a page; returns its records, and where the next one begins or None."""
    selected = vector_selection(vectors)
    if not server.connection.uses_grpc:
        return server.client.scroll(
            name,
            scroll_filter=where,
            limit=limit,
            offset=offset,
            with_payload=payload,
            with_vectors=selected,
            shard_key_selector=shard_key,
        )
    request = grpc.ScrollPoints(
        collection_name=name,
        filter=None if where is None else RestToGrpc.convert_filter(where),
        limit=limit,
        offset=None if offset is None else RestToGrpc.convert_extended_point_id(offset),
        **_selectors(payload, selected, shard_key),
    )
    answer = server.client.grpc_points.Scroll(request, timeout=server.connection.access.timeout_s)
    following = answer.next_page_offset if answer.HasField("next_page_offset") else None
    records = records_of(answer.result, vectors)
    return records, None if following is None else GrpcToRest.convert_point_id(following)


def retrieve(
    server: Caller,
    name: str,
    ids: Sequence[Any],
    payload: Any,
    vectors: Sequence[str],
    shard_key: ShardKey | None = None,
) -> Sequence[Any]:
    """Ask for some points; returns the records of those that exist, in any order."""
    selected = vector_selection(vectors)
    if not server.connection.uses_grpc:
        return server.client.retrieve(
            name,
            ids,
            with_payload=payload,
            with_vectors=selected,
            shard_key_selector=shard_key,
        )
    request = grpc.GetPoints(
        collection_name=name,
        ids=list(map(RestToGrpc.convert_extended_point_id, ids)),
        **_selectors(payload, selected, shard_key),
    )
    answer = server.client.grpc_points.Get(request, timeout=server.connection.access.timeout_s)
    return records_of(answer.result, vectors)


def _selectors(payload: Any, vectors: Any, shard_key: ShardKey | None) -> dict[str, Any]:
    return {
        "with_payload": RestToGrpc.convert_with_payload_interface(payload),
        "with_vectors": RestToGrpc.convert_with_vectors(vectors),
        "shard_key_selector": _selector(shard_key),
    }


def _selector(shard_key: ShardKey | None) -> Any:
    return None if shard_key is None else RestToGrpc.convert_shard_key_selector(shard_key)


def records_of(points: Iterable[Any], names: Sequence[str]) -> list[Record]:
    """Return the points of an answer, with those of their dense vectors that are in `names`."""
    return [
        Record(
            cast(PointId, GrpcToRest.convert_point_id(point.id)),
            GrpcToRest.convert_payload(point.payload) if point.payload else {},
            _rows(point.vectors, names) if names else {},
            GrpcToRest.convert_shard_key(point.shard_key) if point.HasField("shard_key") else None,
        )
        for point in points
    ]


def _rows(vectors: Any, names: Sequence[str]) -> dict[str, Floats]:
    if vectors.WhichOneof("vectors_options") == "vector":
        named = {UNNAMED: vectors.vector}
    else:
        named = vectors.vectors.vectors
    return {name: _row(named[name]) for name in names if name in named}


def _row(vector: Any) -> Floats:
    if not vector.HasField("dense"):  # before 1.14 all came in `data`
        return np.array(vector.data, dtype=np.float32)
    packed = vector.dense.SerializeToString()
    # The packed floats come last; before them their length in a few bytes.
    start = len(packed) - 4 * len(vector.dense.data)
    return np.frombuffer(packed, dtype="<f4", offset=start).astype(np.float32, copy=False)


def update_request(  # noqa: PLR0913  as the call has
    name: str,
    vector: str,
    ids: Sequence[Any],
    X: Floats,
    shard_key: ShardKey | None = None,
    replaced: models.Filter | None = None,
    ordering: models.WriteOrdering | None = None,
    *,
    wait: bool = True,
) -> Any:
    """Return the request that sets one vector of points.

    Shapes: `X` (n, d).
    """
    points = [
        grpc.PointVectors(id=RestToGrpc.convert_extended_point_id(point), vectors=found)
        for point, found in zip(ids, _vectors({vector: X}), strict=True)
    ]
    return grpc.UpdatePointVectors(
        collection_name=name,
        points=points,
        wait=wait,
        shard_key_selector=_selector(shard_key),
        update_filter=None if replaced is None else RestToGrpc.convert_filter(replaced),
        ordering=None if ordering is None else RestToGrpc.convert_write_ordering(ordering),
    )


def upsert_request(
    name: str,
    ids: Sequence[Any],
    vectors: Mapping[str, Floats],
    payloads: Sequence[Payload],
    shard_key: ShardKey | None = None,
    replaced: models.Filter | None = None,
    ordering: models.WriteOrdering | None = None,
) -> Any:
    """Return the request that writes whole points, and answers when they are applied.

    Shapes: `vectors` (n, d).
    """
    rows = zip(ids, _vectors(vectors), payloads, strict=True)
    points = [
        grpc.PointStruct(
            id=RestToGrpc.convert_extended_point_id(point),
            vectors=found,
            payload=RestToGrpc.convert_payload(payload),
        )
        for point, found, payload in rows
    ]
    selector = None
    if shard_key is not None:
        selector = RestToGrpc.convert_shard_key_selector(shard_key)
    return grpc.UpsertPoints(
        collection_name=name,
        points=points,
        wait=True,
        shard_key_selector=selector,
        update_filter=None if replaced is None else RestToGrpc.convert_filter(replaced),
        ordering=None if ordering is None else RestToGrpc.convert_write_ordering(ordering),
    )


def _vectors(vectors: Mapping[str, Floats]) -> Iterator[Any]:
    columns = [_dense(X) for X in vectors.values()]
    if set(vectors) == {UNNAMED}:
        yield from (grpc.Vectors(vector=vector) for vector in columns[0])
        return
    for row in zip(*columns, strict=True):
        named = dict(zip(vectors, row, strict=True))
        yield grpc.Vectors(vectors=grpc.NamedVectors(vectors=named))


def _dense(X: Floats) -> Iterator[Any]:
    """Yield each row as a message; protobuf keeps packed floats as their little-endian bytes."""
    like = grpc.DenseVector(data=[0.0] * X.shape[1]).SerializeToString()
    header = like[: len(like) - 4 * X.shape[1]]
    for row in np.asarray(X, dtype="<f4"):
        vector = grpc.Vector()
        vector.dense.MergeFromString(header + row.tobytes())
        yield vector
