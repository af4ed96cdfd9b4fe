"""Messages made of bytes equal those that the client makes of Python's numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, grpc, models
from qdrant_client.conversions.conversion import RestToGrpc
from qdrant_client.qdrant_remote import QdrantRemote

from intramodal.store.server.convert import NO_POINT, point_vectors, upsert_request
from intramodal.types import Floats, Payload, point_id

Request = tuple[Sequence[Any], Mapping[str, Floats], Sequence[Payload]]

_FLOAT32 = np.finfo(np.float32)
_ODD_ROW = [0.0, -0.0, _FLOAT32.max, _FLOAT32.min, _FLOAT32.smallest_subnormal, 1 / 3]
_NOT_FINITE = [np.nan, np.inf, -np.inf]


def as_bytes(request: Any) -> bytes:
    """Return what is sent, whatever the order of maps; unlike `==`, it knows NaN."""
    assert isinstance(request, grpc.UpsertPoints)
    return bytes(request.SerializeToString(deterministic=True))


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """What the client itself sends over gRPC for an upsert."""
    sent: list[Any] = []

    def upsert(request: Any, timeout: int | None = None) -> Any:
        sent.append(request)
        done = grpc.UpdateResult(operation_id=1, status=grpc.UpdateStatus.Completed)
        return grpc.PointsOperationResponse(result=done)

    monkeypatch.setattr(QdrantRemote, "grpc_points", SimpleNamespace(Upsert=upsert))
    client = QdrantClient(prefer_grpc=True, check_compatibility=False)

    def message(
        name: str,
        ids: Sequence[Any],
        vectors: Mapping[str, Floats],
        payloads: Sequence[Payload],
        shard_key: str | int | None = None,
        replaced: models.Filter | None = None,
    ) -> bytes:
        batch = models.Batch(
            ids=list(ids), vectors=point_vectors(vectors), payloads=list(payloads)
        )
        client.upsert(name, batch, wait=True, shard_key_selector=shard_key, update_filter=replaced)
        return as_bytes(sent.pop())

    return message


def rows(*values: Sequence[float]) -> Floats:
    return np.array(values, dtype=np.float32)


ODD: dict[str, Request] = {
    "no points": ([], {"raw": np.empty((0, 3), np.float32)}, []),
    "no points without a name": ([], {"": np.empty((0, 3), np.float32)}, []),
    "one row of one number": ([0], {"raw": rows([2.5])}, [{}]),
    "one row without a name": ([1], {"": rows([1, 2, 3])}, [{"a": 1}]),
    "names that are no ASCII": ([1], {"bîld": rows([1, 2]), "向量": rows([3])}, [{"ü": "🦊\0"}]),
    "odd numbers": ([1, 2], {"raw": rows(_ODD_ROW, _ODD_ROW[::-1])}, [{}, {}]),
    "numbers that are none": ([1], {"raw": rows(_NOT_FINITE)}, [{}]),
    "odd payload": (
        [2**64 - 1],
        {"raw": rows([1, 2])},
        [{"": "", "big": 2**63 - 1, "small": -(2**63), "deep": [[{"a": [None, True, 1e-300]}]]}],
    ),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_request_equals_the_clients_own(
    odd: Request, clients: Callable[..., bytes]
) -> None:
    assert as_bytes(upsert_request("phøtos", *odd)) == clients("phøtos", *odd)


@pytest.mark.parametrize("shard_key", [None, 0, 7, "", "nord"])
@pytest.mark.parametrize("replaced", [None, NO_POINT])
def test_where_a_request_goes_and_what_it_replaces_equals_the_clients_own(
    shard_key: str | int | None, replaced: models.Filter | None, clients: Callable[..., bytes]
) -> None:
    of_what = ("photos", [1], {"raw": rows([1, 2])}, [{}], shard_key, replaced)
    assert as_bytes(upsert_request(*of_what)) == clients(*of_what)


@pytest.mark.parametrize("d", [1, 31, 32, 127, 128, 4095, 4096])
def test_a_row_of_any_length_has_the_clients_own_header(
    d: int, clients: Callable[..., bytes], rng: np.random.Generator
) -> None:
    request: Request = ([1], {"raw": rng.normal(size=(1, d)).astype(np.float32)}, [{}])
    assert as_bytes(upsert_request("photos", *request)) == clients("photos", *request)


@pytest.mark.parametrize("sizes", [{"": 3}, {"raw": 5}, {"raw": 130, "pca": 1}])
def test_a_request_equals_the_clients_own(sizes: dict[str, int], rng: np.random.Generator) -> None:
    ids = [7, point_id("a", "b"), 2**64 - 1]
    vectors = {name: rng.normal(size=(3, d)).astype(np.float32) for name, d in sizes.items()}
    payloads = [{"a": 1, "b": [None, 1.5, {"ü": True}]}, {}, {"text": "x" * 1000}]
    points = [
        models.PointStruct(
            id=i,
            payload=payload,
            vector=vectors[""][n].tolist()
            if "" in vectors
            else {name: X[n].tolist() for name, X in vectors.items()},
        )
        for n, (i, payload) in enumerate(zip(ids, payloads, strict=True))
    ]
    expected = grpc.UpsertPoints(
        collection_name="photos",
        wait=True,
        points=[RestToGrpc.convert_point_struct(point) for point in points],
    )
    assert upsert_request("photos", ids, vectors, payloads) == expected


def test_rows_that_are_not_contiguous_are_sent_as_they_read(rng: np.random.Generator) -> None:
    X = rng.normal(size=(6, 8)).astype(np.float32)[::2, ::-1]
    request = upsert_request("photos", [1, 2, 3], {"raw": X}, [{}] * 3)
    sent = [list(point.vectors.vectors.vectors["raw"].dense.data) for point in request.points]
    np.testing.assert_array_equal(np.array(sent, np.float32), X)
