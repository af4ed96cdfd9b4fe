"""Shard keys and replicas on the nodes of a cluster, or on a stand-in of three."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from intramodal.errors import InputError
from intramodal.ingest.backfill.in_place import backfill, recompute
from intramodal.ingest.backfill.points import Replicas
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.ingest.backfill.verify import verify_vector
from intramodal.store.base import Cluster, Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.filters import parse_filter
from intramodal.store.manifest import Manifest
from intramodal.store.server.client import connect_server
from intramodal.store.server.store import ServerStore
from intramodal.types import ShardKey
from tests.faults.ports import bound
from tests.faults.schedules import ORIGIN, Truth
from tests.faults.wire import WireServer
from tests.faults.wire.cluster import Cluster as Nodes
from tests.integration.servers import CLUSTER_URLS, SERVER, STAND_IN

N, D = 200, 16
KEYS: list[ShardKey] = [7, "acme"]
RAW = {"raw": models.VectorParams(size=D, distance=models.Distance.COSINE)}


@pytest.fixture(scope="module", params=[SERVER, STAND_IN])
def urls(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Return the addresses of all nodes."""
    given = os.environ.get(CLUSTER_URLS, "")
    if request.param == SERVER:
        if not given:
            pytest.skip(f"{CLUSTER_URLS} is not set: the nodes of a cluster are needed")
        yield [url.strip() for url in given.split(",")]
        return
    if given:
        pytest.skip(f"{CLUSTER_URLS} names real nodes")
    with ExitStack() as stack:
        first = stack.enter_context(WireServer(speaks_grpc=True))
        first.storage.cluster = Nodes(3, replicas=2)
        others = [WireServer(storage=first.storage, peer=peer) for peer in (1, 2)]
        yield [first.url, *(stack.enter_context(other).url for other in others)]


def opened(url: str, nodes: tuple[str, ...] = (), key: ShardKey | None = None) -> ServerStore:
    api_key = os.environ.get("INTRAMODAL_TEST_CLUSTER_API_KEY") or None
    return ServerStore(
        connect_server(url, api_key=api_key), cluster=Cluster(nodes=nodes, shard_key=key)
    )


@pytest.fixture
def client(urls: list[str]) -> Iterator[QdrantClient]:
    api_key = os.environ.get("INTRAMODAL_TEST_CLUSTER_API_KEY") or None
    with closing(QdrantClient(url=urls[0], api_key=api_key, timeout=60)) as client:
        yield client


@pytest.fixture
def name(client: QdrantClient) -> Iterator[str]:
    """Return the name of a collection that is dropped in the end; others are left alone."""
    name = f"intramodal-test-{uuid.uuid4().hex}"
    yield name
    client.delete_collection(name)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth.of(N, D)


def keyed(client: QdrantClient, name: str, urls: list[str], truth: Truth) -> None:
    """Write the same ids under two keys; of the second key the vectors are in reverse order."""
    client.create_collection(
        name,
        vectors_config=RAW,
        sharding_method=models.ShardingMethod.CUSTOM,
        metadata=Manifest({"raw": ORIGIN}, name).to_metadata(),
    )
    for n, key in enumerate(KEYS):
        client.create_shard_key(name, key)
        X = truth.X[::-1].copy() if n else truth.X
        with opened(urls[0], key=key) as store:
            store.upsert(name, range(N), {"raw": X}, [{"key": key}] * N)


def check_keys(urls: list[str], name: str, truth: Truth) -> None:
    for n, key in enumerate(KEYS):
        with opened(urls[-1], key=key) as store:
            pages = list(store.scroll(name, vectors=["raw", "pca"], payload=["key"]))
        assert [i for page in pages for i in page.ids] == list(range(N))
        assert all(p == {"key": key} for page in pages for p in page.payloads)
        for vector, X in (("raw", truth.X), ("pca", truth.projected)):
            found = np.concatenate([page.vectors[vector] for page in pages])
            # float32 products over 16 terms against float64; a server normalises again
            np.testing.assert_allclose(found, X[::-1] if n else X, rtol=0, atol=1e-6)


def test_the_same_ids_under_two_keys_get_each_its_own_projection(
    client: QdrantClient, name: str, urls: list[str], truth: Truth
) -> None:
    keyed(client, name, urls, truth)
    with opened(urls[0]) as store:
        photos = ImageCollection.open(store, name)
        assert backfill(photos, truth.projection).projected == 2 * N
        check_keys(urls, name, truth)
        assert verify_vector(photos, truth.projection, n=3 * N).stale == 0
        for key in KEYS:
            wrong = np.ones((1, D // 2), np.float32)
            store.update_vectors(name, "pca", [f"{key}/3"], wrong)
        assert verify_vector(photos, truth.projection, n=3 * N).stale_ids == ["7/3", "acme/3"]
        recompute(photos, truth.projection, where=parse_filter(["id=acme/3"]))
        assert verify_vector(photos, truth.projection, n=3 * N).stale_ids == ["7/3"]
        with pytest.raises(InputError, match="has the id 3 under the shard keys 7, 'acme'"):
            recompute(photos, truth.projection, where=parse_filter(["id=3"]))
        recompute(photos, truth.projection, where=Filter())
        check_keys(urls, name, truth)
        hits = photos.neighbours(["acme/0"], using="raw", k=2, exact=True)
        assert hits.ids[0][0] == f"7/{N - 1}", "the same vector under the other key"
        assert rollback_vector(photos, yes=True).removed == 2 * N


def test_a_store_for_one_key_stays_there(
    client: QdrantClient, name: str, urls: list[str], truth: Truth
) -> None:
    keyed(client, name, urls, truth)
    with opened(urls[0], key="acme") as store, opened(urls[0]) as whole:
        acme = ImageCollection.open(store, name)
        assert backfill(acme, truth.projection).projected == N
        assert whole.count(name, Filter(has_vector="pca")) == N
        store.delete(name, [5])
        assert (store.count(name), whole.count(name)) == (N - 1, 2 * N - 1)


def replicated(store: ServerStore, name: str, truth: Truth) -> ImageCollection:
    options = {"shard_number": 6, "replication_factor": 2}
    photos = ImageCollection.create(store, name, {"raw": (D, ORIGIN)}, options=options)
    photos.write(truth.ids, {"raw": truth.X}, truth.payloads)
    return photos


def lacking(urls: list[str], name: str) -> list[int]:
    """Return how many points lack `pca` as each node sees it."""
    found = []
    for url in urls:
        with opened(url) as store:
            found.append(store.count(name, Filter(lacks_vector="pca")))
    return found


@pytest.mark.usefixtures("client")
def test_every_replica_has_the_vector_at_the_end(name: str, urls: list[str], truth: Truth) -> None:
    with opened(urls[0], tuple(urls[1:])) as store:
        photos = replicated(store, name, truth)
        assert store.n_replicas(name) == 2
        found = backfill(photos, truth.projection)
        assert (found.projected, found.replicas) == (N, Replicas())
        assert photos.origin("pca").is_complete
        assert store.with_vector_everywhere(name, "pca", truth.ids) == truth.ids
        assert store.inactive_replicas(name) == []
    assert lacking(urls, name) == [0] * len(urls)


def test_deletions_through_another_node_leave_no_replica_behind(
    name: str, urls: list[str], truth: Truth
) -> None:
    gone = truth.ids[::4]
    with opened(urls[0], tuple(urls[1:])) as store, opened(urls[-1]) as other:
        photos = replicated(store, name, truth)

        def delete() -> None:
            for point in gone:
                other.delete(name, [point])
                time.sleep(1 / 60)

        deleting = threading.Thread(target=delete)
        deleting.start()
        backfill(photos, truth.projection, batch_size=40, throttle=N)
        deleting.join()
        again = backfill(photos, truth.projection)
        assert (again.lacking, again.replicas.behind) == (0, 0)
        assert store.count(name) == N - len(gone)
    assert lacking(urls, name) == [0] * len(urls)


def test_a_node_that_is_down_is_left_out_and_named(
    name: str, urls: list[str], truth: Truth
) -> None:
    with bound(0) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with opened(urls[0], (dead, *urls[1:])) as store:
            photos = replicated(store, name, truth)
            started = time.monotonic()
            found = backfill(photos, truth.projection)
    assert found.replicas.silent_nodes == (dead,)
    assert time.monotonic() - started < 30
    assert lacking(urls, name) == [0] * len(urls)
