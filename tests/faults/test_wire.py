"""The stand-in of the wire keeps the promises of a server, through our store and HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]  # no stubs are shipped
import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from intramodal.errors import Unsupported
from intramodal.store.base import Store, VectorSpec
from intramodal.store.open import open_store
from intramodal.store.server.client import Connection, connect_server
from intramodal.store.server.store import ServerStore
from tests.contract.store_contract import NAME, RAW, StoreContract
from tests.faults.wire import WireServer

REFUSAL = (UnexpectedResponse, grpc.RpcError)

NO_POINT = models.Filter(must=[models.HasIdCondition(has_id=[])])
LACKS_PCA = models.Filter(must_not=[models.HasVectorCondition(has_vector="pca")])
DENSE = models.VectorParams(size=2, distance=models.Distance.COSINE)
SEVERAL = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
FOREIGN: dict[str, Any] = {
    "patches": models.DenseVectorNameConfig(
        dense=models.DenseVectorConfig(
            size=2, distance=models.Distance.COSINE, multivector_config=SEVERAL
        )
    ),
    "bits": models.DenseVectorNameConfig(
        dense=models.DenseVectorConfig(
            size=3, distance=models.Distance.COSINE, datatype=models.VectorStorageDatatype.UINT8
        )
    ),
    "words": models.SparseVectorNameConfig(sparse=models.SparseVectorConfig()),
}
GIVEN: dict[str, Any] = {
    "patches": [[3.0, 4.0], [0.5, 0.0], [1.0, 1.0]],
    "bits": [1.0, 255.0, 7.0],
    "words": models.SparseVector(indices=[70_000, 3], values=[0.5, 0.25]),
}
STORED = {**GIVEN, "words": models.SparseVector(indices=[3, 70_000], values=[0.25, 0.5])}


@pytest.fixture(scope="module", params=["rest", "grpc"])
def connection(server: WireServer, request: pytest.FixtureRequest) -> Iterator[Connection]:
    connection = connect_server(server.url, prefer_grpc=request.param == "grpc")
    assert connection.uses_grpc == (request.param == "grpc")
    yield connection
    connection.client.close()


class TestStoreOverTheWire(StoreContract):
    @pytest.fixture
    def store(self, server: WireServer, connection: Connection) -> Store:
        server.storage.clear()
        return ServerStore(connection)  # one client for all: each costs 0.1 s

    @pytest.fixture
    def closable(self, server: WireServer, store: Store) -> Store:
        own = open_store(server.url)
        own.create(NAME, RAW)
        return own

    def test_a_closed_store_says_so_and_closes_twice(self, closable: Store) -> None:
        super().test_a_closed_store_says_so_and_closes_twice(closable)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/collections/x", {"vectors": {"raw": {"size": 4}}}, 400),
        ("PUT", "/collections/x", {"vectors": {}, "shards": 3}, 400),
        ("PUT", "/collections/x/points", {"ids": [1]}, 400),
        ("POST", "/collections/x/points/scroll", {"limit": "ten"}, 400),
        ("POST", "/collections/x/points/scroll", {}, 404),
        ("POST", "/collections/x/points/recommend", {}, 501),
        ("GET", "/collections/x", None, 404),
    ],
)
def test_a_wrong_request_fails(
    server: WireServer, method: str, path: str, body: object, status: int
) -> None:
    server.storage.clear()
    assert httpx.request(method, server.url + path, json=body).status_code == status
    assert server.storage.collections == {}


@pytest.fixture
def client(server: WireServer, connection: Connection) -> QdrantClient:
    """Return a client of the empty server, over either protocol."""
    server.storage.clear()
    return connection.client


@pytest.fixture
def two(client: QdrantClient) -> QdrantClient:
    """Return a client of a server that holds points 1, which has `pca`, and 2."""
    return with_two(client)


def with_two(client: QdrantClient) -> QdrantClient:
    client.create_collection(NAME, vectors_config={"raw": DENSE, "pca": DENSE})
    vectors: list[Any] = [{"raw": [1.0, 0.0], "pca": [1.0, 0.0]}, {"raw": [1.0, 0.0]}]
    payloads = [{"kept": 1, "dropped": 1}, {"kept": 2}]
    points = [
        models.PointStruct(id=n + 1, vector=vectors[n], payload=payloads[n]) for n in range(2)
    ]
    client.upsert(NAME, points)
    return client


def batch(*ids: int) -> models.Batch:
    n = len(ids)
    return models.Batch(
        ids=list(ids), vectors={"raw": [[0.0, 1.0]] * n}, payloads=[{"new": 1}] * n
    )


def points(*ids: int) -> list[models.PointStruct]:
    return [models.PointStruct(id=i, vector={"raw": [0.0, 1.0]}, payload={"new": 1}) for i in ids]


def raw_of(client: QdrantClient) -> dict[Any, Any]:
    records = client.retrieve(NAME, [1, 2, 3], with_vectors=["raw"])
    return {record.id: record.vector["raw"] for record in records}  # type: ignore[index, call-overload]


@pytest.fixture(params=[batch, points])
def written(request: pytest.FixtureRequest) -> Any:
    return request.param


OLD, NEW = [1.0, 0.0], [0.0, 1.0]


def test_an_upsert_under_a_filter_that_no_point_meets_only_inserts(
    two: QdrantClient, written: Any
) -> None:
    before = two.retrieve(NAME, [1, 2], with_vectors=True)
    two.upsert(NAME, written(1, 2, 3), update_filter=NO_POINT)
    assert two.retrieve(NAME, [1, 2], with_vectors=True) == before
    assert raw_of(two) == {1: OLD, 2: OLD, 3: NEW}


def test_an_upsert_under_a_filter_replaces_those_that_meet_it(
    two: QdrantClient, written: Any
) -> None:
    two.upsert(NAME, written(1, 2, 3), update_filter=LACKS_PCA)
    assert raw_of(two) == {1: OLD, 2: NEW, 3: NEW}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (models.UpdateMode.INSERT_ONLY, {1: OLD, 2: OLD, 3: NEW}),
        (models.UpdateMode.UPDATE_ONLY, {1: NEW, 2: NEW}),
        (models.UpdateMode.UPSERT, {1: NEW, 2: NEW, 3: NEW}),
    ],
)
def test_the_mode_says_which_points_an_upsert_is_for(
    two: QdrantClient, written: Any, mode: models.UpdateMode, expected: dict[int, list[float]]
) -> None:
    two.upsert(NAME, written(1, 2, 3), update_mode=mode)
    assert raw_of(two) == expected


def test_an_update_of_vectors_leaves_alone_what_misses_its_filter(two: QdrantClient) -> None:
    changes = [models.PointVectors(id=i, vector={"pca": NEW}) for i in (1, 2)]
    two.update_vectors(NAME, changes, update_filter=LACKS_PCA)
    found = two.retrieve(NAME, [1, 2], with_vectors=["pca"])
    assert [record.vector for record in found] == [{"pca": OLD}, {"pca": NEW}]


@pytest.mark.parametrize("condition", [None, LACKS_PCA, NO_POINT])
def test_an_update_of_a_missing_point_is_a_404_under_any_filter(
    server: WireServer, two: QdrantClient, condition: models.Filter | None
) -> None:
    change = models.PointVectors(id=9, vector={"pca": NEW})
    with pytest.raises(REFUSAL, match="No point with id 9 found"):
        two.update_vectors(NAME, [change], update_filter=condition)
    assert set(server.storage.points(NAME)) == {1, 2}


@pytest.mark.parametrize("uses_grpc", [False, True])
@pytest.mark.parametrize(
    ("version", "knows_filter", "knows_mode"),
    [("1.15.5", False, False), ("1.16.2", True, False), ("1.17.0", True, True)],
)
def test_what_an_old_server_does_not_know_it_ignores_in_silence(
    version: str, knows_filter: bool, knows_mode: bool, uses_grpc: bool, written: Any
) -> None:
    with WireServer(version=version, speaks_grpc=True) as server:
        connection = connect_server(server.url, prefer_grpc=uses_grpc)
        client = with_two(connection.client)
        client.upsert(NAME, written(1, 3), update_filter=NO_POINT)
        assert raw_of(client) == {1: OLD if knows_filter else NEW, 2: OLD, 3: NEW}
        change = models.PointVectors(id=2, vector={"raw": NEW})
        client.update_vectors(NAME, [change], update_filter=NO_POINT)
        assert raw_of(client)[2] == (OLD if knows_filter else NEW)
        client.delete(NAME, [3])
        client.upsert(NAME, written(3), update_mode=models.UpdateMode.UPDATE_ONLY)
        assert (3 in raw_of(client)) != knows_mode
        client.close()


def test_weights_of_a_fused_search_need_a_server_that_knows_them() -> None:
    fuse = {"using": "pca", "limit": 2, "Q": np.eye(1, 2, dtype=np.float32)}
    Q = np.eye(1, 3, dtype=np.float32)
    with WireServer(version="1.16.2") as server:
        store = open_store(server.url)
        store.create(NAME, {"raw": VectorSpec(3), "pca": VectorSpec(2)})
        store.upsert(NAME, [1, 2], {"raw": np.eye(2, 3), "pca": np.eye(2)}, [{}, {}])
        for weights in (None, (1, 1)):
            params = {"fuse": {**fuse, "weights": weights}}
            assert store.query_batch(NAME, Q, using="raw", k=2, params=params).ids == [[1, 2]]
        params = {"fuse": {**fuse, "weights": (2, 1)}}
        with pytest.raises(Unsupported, match=r"^Qdrant 1\.16\.2 at .* without weights; upgrade"):
            store.query_batch(NAME, Q, using="raw", k=2, params=params)
        store.close()


def test_a_null_removes_a_key_of_the_payload_at_the_top_alone(two: QdrantClient) -> None:
    two.set_payload(NAME, {"dropped": None, "absent": None, "nested": {"a": None}}, points=[1])
    assert two.retrieve(NAME, [1])[0].payload == {"kept": 1, "nested": {"a": None}}


@pytest.fixture(params=["created with them", "added later"])
def foreign(client: QdrantClient, request: pytest.FixtureRequest) -> QdrantClient:
    """Return a client of an empty collection with vectors that our store never makes."""
    if request.param == "added later":
        client.create_collection(NAME, vectors_config={"raw": DENSE})
        for name, config in FOREIGN.items():
            client.create_vector_name(NAME, name, config)
        return client
    dense = {
        "raw": DENSE,
        "patches": DENSE.model_copy(update={"multivector_config": SEVERAL}),
        "bits": DENSE.model_copy(update={"size": 3, "datatype": models.Datatype.UINT8}),
    }
    sparse = {"words": models.SparseVectorParams()}
    client.create_collection(NAME, vectors_config=dense, sparse_vectors_config=sparse)
    return client


def read_back(client: QdrantClient, selection: bool | list[str]) -> Any:
    records, _ = client.scroll(NAME, with_vectors=selection)
    assert records == client.retrieve(NAME, [r.id for r in records], with_vectors=selection)
    return [record.vector for record in records]


def test_vectors_of_other_kinds_are_described(foreign: QdrantClient) -> None:
    params = foreign.get_collection(NAME).config.params
    vectors: Any = params.vectors
    assert params.sparse_vectors == {"words": models.SparseVectorParams()}
    assert set(vectors) == {"raw", "patches", "bits"}
    assert vectors["patches"].multivector_config == SEVERAL
    assert vectors["bits"].datatype == models.Datatype.UINT8
    assert vectors["raw"] == DENSE


def test_an_upsert_of_vectors_of_other_kinds_keeps_them_as_they_came(
    foreign: QdrantClient,
) -> None:
    columns: dict[str, Any] = {name: [vector] for name, vector in GIVEN.items()}
    foreign.upsert(NAME, models.Batch(ids=[1], vectors=columns))
    foreign.upsert(NAME, [models.PointStruct(id=2, vector=GIVEN)])
    foreign.upsert(NAME, [models.PointStruct(id=3, vector={"words": GIVEN["words"]})])
    assert read_back(foreign, True) == [STORED, STORED, {"words": STORED["words"]}]
    assert read_back(foreign, ["words", "bits"])[2] == {"words": STORED["words"]}


def test_vectors_of_other_kinds_are_updated_one_by_one(foreign: QdrantClient) -> None:
    foreign.upsert(NAME, points(1, 2))
    for name, vector in GIVEN.items():
        foreign.update_vectors(NAME, [models.PointVectors(id=1, vector={name: vector})])
    assert read_back(foreign, True) == [{"raw": NEW, **STORED}, {"raw": NEW}]
    for name in GIVEN:
        has = models.Filter(must=[models.HasVectorCondition(has_vector=name)])
        assert foreign.count(NAME, has).count == 1


def test_a_dropped_vector_of_another_kind_is_gone(foreign: QdrantClient) -> None:
    foreign.upsert(NAME, [models.PointStruct(id=1, vector=GIVEN)])
    for name in GIVEN:
        foreign.delete_vector_name(NAME, name)
    params = foreign.get_collection(NAME).config.params
    assert set(params.vectors) == {"raw"}  # type: ignore[arg-type]
    assert not params.sparse_vectors
    with pytest.raises(REFUSAL, match="Not existing vector name"):
        foreign.update_vectors(NAME, [models.PointVectors(id=1, vector=GIVEN)])


def test_bytes_are_stored_as_whole_numbers_from_0_to_255(
    server: WireServer, foreign: QdrantClient
) -> None:
    foreign.upsert(NAME, [models.PointStruct(id=1, vector={"bits": [1.75, -3.0, 300.0]})])
    stored = server.storage.points(NAME)[1].vectors["bits"]
    np.testing.assert_array_equal(stored, np.array([1, 0, 255], np.uint8), strict=True)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ({"words": [1.0, 2.0]}, "sparse and regular"),
        ({"raw": GIVEN["words"]}, "sparse and regular"),
        ({"raw": [[1.0, 2.0]]}, "multi and regular"),
        ({"patches": [[1.0, 2.0], [1.0]]}, "expected dim: 2, got 1"),
        ({"bits": [1.0]}, "expected dim: 3, got 1"),
        ({"words": models.SparseVector(indices=[3, 3], values=[1.0, 2.0])}, "must be unique"),
        ({"words": models.SparseVector(indices=[3], values=[1.0, 2.0])}, "same length"),
    ],
)
def test_a_vector_of_the_wrong_kind_is_refused(
    server: WireServer, foreign: QdrantClient, vector: Any, message: str
) -> None:
    with pytest.raises(REFUSAL, match=message):
        foreign.upsert(NAME, [models.PointStruct(id=1, vector=vector)])
    assert server.storage.points(NAME) == {}


@pytest.mark.parametrize("name", ["patches", "bits", "words"])
def test_a_search_by_vectors_of_other_kinds_is_more_than_it_can(
    foreign: QdrantClient, name: str
) -> None:
    search = models.QueryRequest(query=GIVEN[name], using=name)
    with pytest.raises(REFUSAL, match="stand-in searches"):
        foreign.query_batch_points(NAME, [search])


def test_a_new_kind_of_vector_under_a_taken_name_is_refused(foreign: QdrantClient) -> None:
    foreign.create_vector_name(NAME, "patches", FOREIGN["patches"])
    for name, config in (("raw", FOREIGN["words"]), ("words", FOREIGN["bits"])):
        with pytest.raises(REFUSAL, match="different configuration"):
            foreign.create_vector_name(NAME, name, config)


def test_points_without_vectors_are_taken(foreign: QdrantClient) -> None:
    foreign.upsert(NAME, [models.PointStruct(id=1, vector={}, payload={"a": 1})])
    assert foreign.retrieve(NAME, [1])[0].payload == {"a": 1}


def test_columns_of_unequal_length_are_refused(server: WireServer) -> None:
    server.storage.clear()
    storage_url = f"{server.url}/collections/{NAME}"
    httpx.put(storage_url, json={"vectors": {"raw": {"size": 2, "distance": "Cosine"}}})
    body = {"batch": {"ids": [1, 2], "vectors": {"raw": [OLD]}}}
    assert httpx.put(storage_url + "/points", json=body).status_code == 422
    assert server.storage.points(NAME) == {}


def keyed(server: WireServer) -> str:
    """Make the collection of the recordings: the same ids under two shard keys."""
    server.storage.clear()
    place = f"{server.url}/collections/keyed"
    config = {"vectors": {"raw": {"size": 4, "distance": "Cosine"}}, "sharding_method": "custom"}
    assert httpx.put(place, json=config).status_code == 200
    for shard, key in enumerate(("a", "b")):
        assert httpx.put(f"{place}/shards", json={"shard_key": key}).status_code == 200
        points = [
            {"id": i, "vector": {"raw": [1, i, shard, 0]}, "payload": {"t": key}} for i in range(4)
        ]
        body = {"points": points, "shard_key": key}
        assert httpx.put(f"{place}/points", json=body).status_code == 200
    return place


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("PUT", "shards", {"shard_key": "a"}, 'Sharding key "a" already exists for'),
        ("PUT", "points", {"points": [{"id": 1, "vector": {}}]}, "Shard key not specified"),
        (
            "PUT",
            "points",
            {"points": [{"id": 1, "vector": {}}], "shard_key": "c"},
            'Wrong input: Shard key "c" not found',
        ),
        (
            "PUT",
            "points/vectors",
            {"points": [{"id": 1, "vector": {"raw": [1, 2, 3, 4]}}]},
            "Wrong input: Shard key not specified",
        ),
        ("POST", "points/delete", {"points": [3]}, "Wrong input: Shard key not specified"),
        (
            "POST",
            "points/scroll",
            {"limit": 10, "shard_key": "zz"},
            'Bad request: Shard key "zz" not found',
        ),
    ],
)
def test_a_request_without_its_shard_key_is_refused(
    server: WireServer, method: str, path: str, body: dict[str, Any], says: str
) -> None:
    """In the words of the recordings (1.19.0-cluster)."""
    refused = httpx.request(method, f"{keyed(server)}/{path}", json=body)
    assert refused.status_code == 400
    assert says in refused.json()["status"]["error"]
    assert len(server.storage.points("keyed")) == 8


def test_the_same_id_under_two_shard_keys_is_two_points(server: WireServer) -> None:
    place = keyed(server)

    def answer(path: str, **body: Any) -> Any:
        found = httpx.post(f"{place}/points{path}", json=body)
        assert found.status_code == 200
        return found.json()["result"]

    assert answer("/count", exact=True) == {"count": 8}
    assert answer("/count", exact=True, shard_key="a") == {"count": 4}
    for both in ({}, {"shard_key": ["a", "b"]}):  # duplicates are dropped, any of them
        points = answer("/scroll", limit=10, with_payload=True, **both)["points"]
        assert [point["id"] for point in points] == [0, 1, 2, 3]
        assert all(point["payload"] == {"t": point["shard_key"]} for point in points)
        assert {point["shard_key"] for point in answer("", ids=[0, 1, 2, 3], **both)} == {"a", "b"}
    assert answer("", ids=[1], shard_key="b", with_payload=True) == [
        {"id": 1, "payload": {"t": "b"}, "shard_key": "b"}
    ]
    search = {"query": [1, 0, 1, 0], "using": "raw", "limit": 1}
    best = answer("/query/batch", searches=[{**search, "shard_key": "b"}])[0]["points"][0]
    assert (best["id"], best["shard_key"]) == (0, "b")
    change = {"points": [{"id": 1, "vector": {"raw": [0, 0, 0, 1]}}], "shard_key": "a"}
    assert httpx.put(f"{place}/points/vectors", json=change).status_code == 200
    assert answer("/delete", points=[3], shard_key="a")["status"] == "completed"
    assert answer("/count", exact=True) == {"count": 7}
    points = server.storage.points("keyed")
    assert points["a", 1].vectors["raw"].tolist() == [0, 0, 0, 1]
    assert points["b", 1].vectors["raw"].tolist() != [0, 0, 0, 1]
    shards = httpx.get(f"{place}/cluster").json()["result"]
    assert [shard["shard_key"] for shard in shards["local_shards"]] == ["a", "b"]
