"""Messages made of bytes equal those that the client makes of Python's numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, grpc, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.qdrant_remote import QdrantRemote

from intramodal.errors import StoreError
from intramodal.store.base import VectorSpec, page_of
from intramodal.store.server.convert import NO_POINT, point_vectors
from intramodal.store.server.messages import records_of, update_request, upsert_request
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


@pytest.mark.parametrize("vector", ["", "raw", "bîld"])
@pytest.mark.parametrize("shard_key", [None, 7, "nord"])
@pytest.mark.parametrize("replaced", [None, NO_POINT])
@pytest.mark.parametrize("wait", [False, True])
def test_an_update_equals_the_clients_own(
    vector: str,
    shard_key: str | int | None,
    replaced: models.Filter | None,
    wait: bool,
    rng: np.random.Generator,
) -> None:
    ids = [7, point_id("a", "b"), 2**64 - 1]
    X = rng.normal(size=(3, 5)).astype(np.float32)
    of_points = zip(ids, X.tolist(), strict=True)
    points = [models.PointVectors(id=i, vector={vector: x} if vector else x) for i, x in of_points]
    expected = grpc.UpdatePointVectors(
        collection_name="photos",
        wait=wait,
        points=[RestToGrpc.convert_point_vectors(point) for point in points],
        shard_key_selector=shard_key
        if shard_key is None
        else RestToGrpc.convert_shard_key_selector(shard_key),
        update_filter=replaced and RestToGrpc.convert_filter(replaced),
    )
    assert update_request("photos", vector, ids, X, shard_key, replaced, wait=wait) == expected


STORED: dict[str, Any] = {
    "one": {"raw": [0.5, -1.0, 3e38]},
    "two": {"raw": [1.0, 0.0, 1e-40], "pca": [2.0]},
    "none": {},
    "bare": [1.0, 2.0, 3.0],
    "bare beside a name": {"": [1.0, 2.0, 3.0], "pca": [2.0]},
    "beside others": {
        "raw": [1.0, 2.0, 3.0],
        "words": models.SparseVector(indices=[1], values=[0.5]),
        "tokens": [[1.0, 2.0], [3.0, 4.0]],
    },
}


@pytest.mark.parametrize("names", [[], ["raw"], ["pca", "raw"], ["", "pca"]], ids=str)
def test_records_are_read_as_the_client_reads_them(names: list[str]) -> None:
    payloads = [{"a": [1, {"ü": None}]}, {}]
    points = [
        grpc.RetrievedPoint(
            id=RestToGrpc.convert_extended_point_id(point),
            payload=RestToGrpc.convert_payload(payload),
            vectors=RestToGrpc.convert_vector_struct_output(stored) if stored else None,
        )
        for stored in STORED.values()
        for point, payload in zip((7, point_id("a", "b")), payloads, strict=True)
    ]
    specs = {"raw": VectorSpec(3), "pca": VectorSpec(1), "": VectorSpec(3)}
    theirs = page_of(list(map(GrpcToRest.convert_retrieved_point, points)), specs, names)
    ours = page_of(records_of(points, names), specs, names)
    assert (ours.ids, ours.payloads) == (theirs.ids, theirs.payloads)
    assert ours.vectors.keys() == theirs.vectors.keys()
    for name, X in ours.vectors.items():
        np.testing.assert_array_equal(X, theirs.vectors[name])


def test_a_vector_of_an_old_server_is_read_from_its_plain_numbers() -> None:
    old = grpc.VectorsOutput(vector=grpc.VectorOutput(data=[1.0, 2.0]))
    (record,) = records_of([grpc.RetrievedPoint(id=grpc.PointId(num=1), vectors=old)], [""])
    np.testing.assert_array_equal(record.vector[""], np.array([1, 2], np.float32))


def test_a_record_of_another_length_is_an_error_not_a_vector() -> None:
    vectors = RestToGrpc.convert_vector_struct_output({"raw": [1.0]})
    records = records_of([grpc.RetrievedPoint(id=grpc.PointId(num=1), vectors=vectors)], ["raw"])
    with pytest.raises(StoreError, match="1 dimensions instead of 3"):
        page_of(records, {"raw": VectorSpec(3)}, ["raw"])
