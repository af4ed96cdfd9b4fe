"""The stand-in ends gRPC calls as a real server did: code, details and metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]  # no stubs are shipped
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse

from tests.faults.replay import FOLDER, point_vector
from tests.faults.wire import Keys, WireServer

NAME, N = "c", 60
KEYS = {"no key": None, "wrong key": "wrong", "read-only key": "read-key"}
RECORDED = [json.loads(line) for line in (FOLDER / "grpc.jsonl").read_text("utf-8").splitlines()]
# A message of 70 MB, in topic "size", was taken; one costs seconds to make.
TOPICS = list(dict.fromkeys(row["topic"] for row in RECORDED if row["topic"] != "size"))

LIMITS: dict[str, dict[str, Any]] = {
    "search_allow_exact": {"search_allow_exact": False},
    "unindexed_filtering_retrieve": {"unindexed_filtering_retrieve": False},
    "upsert_max_batchsize": {"upsert_max_batchsize": 20},
    "max_query_limit": {"max_query_limit": 40},
    "search_max_batchsize": {"search_max_batchsize": 7},
    "read_rate_limit": {"read_rate_limit": 30},
    "write_rate_limit": {"write_rate_limit": 30},
}
RAW = {"raw": models.VectorParams(size=4, distance=models.Distance.COSINE)}
OF_2001 = models.Filter(
    must=[models.FieldCondition(key="year", match=models.MatchValue(value=2001))]
)

Call = Callable[[QdrantClient], Any]


def points(n: int) -> list[models.PointStruct]:
    payload = [{"year": 2000 + i % 3} for i in range(n)]
    return [
        models.PointStruct(id=i, vector={"raw": point_vector(i)}, payload=payload[i])
        for i in range(n)
    ]


def upserted(
    n: int = 1, *, name: str = NAME, vector: dict[str, list[float]] | None = None
) -> Call:
    some = points(n)
    if vector is not None:
        some = [models.PointStruct(id=1, vector=vector)]
    return lambda client: client.upsert(name, some)


def updated(ids: range, name: str = "raw") -> Call:
    some = [models.PointVectors(id=i, vector={name: point_vector(i)}) for i in ids]
    return lambda client: client.update_vectors(NAME, some)


def searched(n: int = 1, *, using: str = "raw", vector: list[float] | None = None) -> Call:
    one = models.QueryRequest(
        query=vector or point_vector(1),
        using=using,
        limit=3,
        params=models.SearchParams(exact=True),
    )
    return lambda client: client.query_batch_points(NAME, [one] * n)


def retrieved(n: int) -> Call:
    return lambda client: client.retrieve(NAME, list(range(n)), with_payload=False)


CALLS: dict[str, Call] = {
    "upsert": upserted(),
    "create again": lambda client: client.create_collection(NAME, RAW),
    "count of no collection": lambda client: client.count("none"),
    "info of no collection": lambda client: client.get_collection("none"),
    "upsert into none": upserted(name="none"),
    "wrong dimension": upserted(vector={"raw": [1.0]}),
    "unknown name": upserted(vector={"nope": [1.0]}),
    "no points": upserted(0),
    "update_vectors of a missing id": updated(range(999, 1000)),
    "unknown using": searched(using="nope"),
    "count": lambda client: client.count(NAME),
    "delete collection": lambda client: client.delete_collection(NAME),
    "count exact": lambda client: client.count(NAME, exact=True),
    "count exact filtered": lambda client: client.count(NAME, OF_2001, exact=True),
    "scroll 50": lambda client: client.scroll(NAME, limit=50),
    "retrieve 50": retrieved(50),
    "retrieve 20": retrieved(20),
    "retrieve 20 again": retrieved(20),
    "8 exact queries": searched(8),
    "upsert 50": upserted(50),
    "upsert 20": upserted(20),
    "upsert 20 again": upserted(20),
    "update 50": updated(range(50)),
}
OTHER = {
    ("update", "unknown name"): updated(range(1), "nope"),
    ("search", "wrong dimension"): searched(vector=[1.0]),
}
"""Calls of the same name in another topic."""


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with WireServer(speaks_grpc=True, keys=Keys("full-key", "read-key")) as server:
        server.storage.clock = lambda: 0.0
        yield server


def client_of(server: WireServer, key: str | None) -> QdrantClient:
    return QdrantClient(
        "127.0.0.1",
        port=server.port,
        grpc_port=server.port + 1,
        prefer_grpc=True,
        https=False,
        api_key=key,
        check_compatibility=False,
    )


def ended(client: QdrantClient, call: Call) -> tuple[str, str, dict[str, str]]:
    """Return code, details and the metadata that say something."""
    try:
        call(client)
    except grpc.RpcError as error:
        told = {key: value for key, value in error.trailing_metadata() or () if "retry" in key}
        return error.code().name, error.details(), told
    except ResourceExhaustedResponse as error:  # what the client makes of `retry-after`
        return "RESOURCE_EXHAUSTED", error.message, {"retry-after": str(error.retry_after_s)}
    return "OK", "", {}


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
@pytest.mark.parametrize("topic", TOPICS)
def test_a_call_ends_as_the_server_ended_it(server: WireServer, topic: str) -> None:
    server.storage.clear()
    full = client_of(server, "full-key")
    full.create_collection(NAME, RAW)
    full.upsert(NAME, points(N))
    if topic.startswith("strict"):
        limits = LIMITS[topic.removeprefix("strict ")]
        full.update_collection(
            NAME, strict_mode_config=models.StrictModeConfig(enabled=True, **limits)
        )
    for row in RECORDED:
        if row["topic"] != topic or row["call"] == "set":
            continue
        kind, _, name = row["call"].partition(": ")
        key, name = (KEYS[kind], name) if name else ("full-key", kind)
        client = full if key == "full-key" else client_of(server, key)
        found = ended(client, OTHER.get((topic, name), CALLS[name]))
        was = (row["code"], row.get("details") or "", row.get("metadata") or {})
        assert found == was, row["call"]
        if client is not full:
            client.close()
    full.close()


def test_every_recorded_call_is_made() -> None:
    left = {
        row["call"]
        for row in RECORDED
        if row["topic"] != "size"
        and row["call"] != "set"
        and re.sub(r"^(no key|wrong key|read-only key): ", "", row["call"]) not in CALLS
    }
    assert left == set()
