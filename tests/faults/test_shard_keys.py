"""Shards chosen by key: points stay where they are, and new ones go where one says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest
from qdrant_client import models

from intramodal.errors import InputError, NotFound, StoreError, Unsupported
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill
from intramodal.store.base import Cluster
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import Manifest
from intramodal.store.server.client import connect_server
from intramodal.store.server.store import ServerStore
from intramodal.types import PointId
from tests.cli.kit import run
from tests.faults.schedules import ORIGIN, Clock, Truth
from tests.faults.wire import WireServer
from tests.faults.wire.points import Place, Point, bare

N, D, NAME = 300, 16, "photos"
KEYS: list[str | int] = ["cats", "dogs", 7]


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth.of(N, D)


def opened(store: ServerStore, key: str | int | None = None) -> ServerStore:
    """Return the same store, whose new points go to a key."""
    return ServerStore(store._connection, retry=Clock().retry(), cluster=Cluster(3, shard_key=key))


@pytest.fixture(params=["rest", "grpc"])
def store(
    server: WireServer, truth: Truth, request: pytest.FixtureRequest
) -> Iterator[ServerStore]:
    """Return a store with a collection whose points lie in three shards in turn."""
    make(server)
    connection = connect_server(server.url, prefer_grpc=request.param == "grpc")
    with closing(connection.client):
        store = ServerStore(connection, retry=Clock().retry())
        for place, key in enumerate(KEYS):
            rows = slice(place, None, len(KEYS))
            photos = ImageCollection.open(opened(store, key), NAME)
            photos.write(truth.ids[rows], {"raw": truth.X[rows]}, truth.payloads[rows])
        yield store


def make(server: WireServer) -> None:
    server.storage.clear()
    config = models.CreateCollection(
        vectors={"raw": models.VectorParams(size=D, distance=models.Distance.COSINE)},
        sharding_method=models.ShardingMethod.CUSTOM,
        metadata=Manifest({"raw": ORIGIN}, NAME).to_metadata(),
    )
    place = f"{server.url}/collections/{NAME}"
    answers = [httpx.put(place, content=config.model_dump_json(exclude_none=True))]
    answers += [httpx.put(f"{place}/shards", json={"shard_key": key}) for key in KEYS]
    assert {answer.status_code for answer in answers} == {200}


def places(server: WireServer) -> list[str | int | None]:
    found = {bare(place): point.shard_key for place, point in stored(server).items()}
    return [found[i] for i in Truth.of(N, D).ids]


def stored(server: WireServer) -> dict[Place, Point]:
    return server.storage.points(NAME)


def without_keys(server: WireServer) -> dict[PointId, Point]:
    return {bare(place): point for place, point in stored(server).items()}


def test_a_backfill_finds_the_shard_of_every_point(
    server: WireServer, store: ServerStore, truth: Truth
) -> None:
    before = places(server)
    assert Counter(before) == dict.fromkeys(KEYS, N // 3)
    summary = backfill(ImageCollection.open(store, NAME), truth.projection, batch_size=70)
    assert (summary.projected, summary.unprojectable) == (N, 0)
    assert places(server) == before
    truth.check(without_keys(server), is_projected=True)


def test_points_that_exist_stay_in_their_shard_and_new_ones_need_a_key(
    server: WireServer, store: ServerStore, truth: Truth
) -> None:
    before = places(server)
    photos = ImageCollection.open(store, NAME)
    photos.write(truth.ids, {"raw": truth.X}, truth.payloads)
    assert places(server) == before
    with pytest.raises(InputError, match=r"'photos' puts points into shards by key.*--into-shard"):
        photos.write([1, 2], {"raw": truth.X[:2]}, [{}] * 2)
    with pytest.raises(StoreError, match='Shard key "birds" not found'):
        opened(store, "birds").upsert(NAME, [1], {"raw": truth.X[:1]}, [{}])
    assert len(server.storage.points(NAME)) == N
    ids = [*truth.ids[:5], 1, 2]
    opened(store, "dogs").upsert(NAME, ids, {"raw": truth.X[:7]}, [{}] * 7)
    found = [without_keys(server)[i].shard_key for i in ids]
    assert found == [*before[:5], "dogs", "dogs"]


def test_payload_is_set_and_points_are_deleted_in_every_shard(
    server: WireServer, store: ServerStore, truth: Truth
) -> None:
    store.set_payload(NAME, truth.ids, {"seen": True})
    assert all(point.payload["seen"] for point in server.storage.points(NAME).values())
    with pytest.raises(NotFound, match="No point with id 99"):
        store.set_payload(NAME, [*truth.ids[:2], 99], {"seen": False})
    store.delete(NAME, [*truth.ids[:10], 99])
    assert set(without_keys(server)) == set(truth.ids[10:])


def test_a_point_that_is_absent_is_told_of(store: ServerStore, truth: Truth) -> None:
    with pytest.raises(NotFound, match="No point with id 99"):
        store.update_vectors(NAME, "raw", [truth.ids[0], 99], truth.X[:2])


def test_a_copy_would_lose_the_keys_and_names_the_way_that_is_open(
    store: ServerStore, truth: Truth
) -> None:
    photos = ImageCollection.open(store, NAME)
    with pytest.raises(Unsupported, match="backfill in place"):
        copy_collection(photos, truth.projection, new_collection="photos_v2")
    assert store.collections() == [NAME]


def test_the_command_puts_new_points_where_it_is_told(
    server: WireServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truth: Truth
) -> None:
    make(server)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    np.save("X.npy", truth.X)
    place = ("X.npy", "--collection", NAME, "--made-by", ORIGIN.encoder, "--store", server.url)
    error = run("ingest", *place, code=1)["error"]
    assert "--into-shard" in error["message"]
    assert run("ingest", *place, "--into-shard", "cats")["written"] == N
    assert run("ingest", *place)["skipped"] == N
    found = {point.shard_key for point in server.storage.points(NAME).values()}
    assert found == {"cats"}
