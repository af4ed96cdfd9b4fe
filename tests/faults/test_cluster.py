"""A new vector name reaches the nodes of a cluster one after another: all are waited for."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from intramodal.errors import AccessDenied, InputError, NotFound, StoreUnavailable
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill, recompute
from intramodal.ingest.backfill.points import Replicas
from intramodal.ingest.pipeline import (
    images_collection,
    ingest_images,
    ingest_vectors,
    vectors_collection,
)
from intramodal.ingest.vectors.load import vectors_of
from intramodal.ingest.vectors.ready import ReadyVectors, open_ready
from intramodal.store.base import Cluster, Filter, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.open import open_store
from intramodal.store.origins import projected_origin
from intramodal.store.server.client import connect_server
from intramodal.store.server.cluster import SPREAD_DEADLINE_S
from intramodal.store.server.store import ServerStore
from tests.cli.kit import run
from tests.faults.ports import bound
from tests.faults.schedules import ORIGIN, Clock, Slept, Truth
from tests.faults.wire import Keys, Point, WireServer
from tests.faults.wire.cluster import MARKED_DEAD, NOT_MARKED
from tests.faults.wire.cluster import Cluster as Nodes
from tests.faults.wire.errors import WireError
from tests.plain_encoder import PlainEncoder
from tests.unit.ingest.pipeline_kit import records

N, D, N_SHARDS = 300, 16, 6
NAME = "photos"
PCA = VectorSpec(D // 2)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth.of(N, D)


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[WireServer]]:
    with ExitStack() as stack:
        first = stack.enter_context(WireServer(speaks_grpc=True))
        others = [WireServer(storage=first.storage, peer=peer) for peer in (1, 2)]
        yield [first, *(stack.enter_context(other) for other in others)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["rest", "grpc"])
def store(
    nodes: list[WireServer], clock: Clock, request: pytest.FixtureRequest
) -> Iterator[ServerStore]:
    nodes[0].storage.clear()
    connection = connect_server(nodes[0].url, prefer_grpc=request.param == "grpc")
    with closing(connection.client):
        yield ServerStore(connection, retry=clock.retry())


def spread(nodes: list[WireServer], **how: object) -> Nodes:
    """Let the three nodes be a cluster."""
    nodes[0].storage.cluster = Nodes(3, **how)  # type: ignore[arg-type]
    return nodes[0].storage.cluster


def filled(store: ServerStore, truth: Truth, n_shards: int = N_SHARDS) -> ImageCollection:
    options = {"shard_number": n_shards}
    made = ImageCollection.create(store, NAME, {"raw": (D, ORIGIN)}, options=options)
    made.write(truth.ids, {"raw": truth.X}, truth.payloads)
    return made


def waited_for(clock: Clock) -> float:
    return sum(event.seconds for event in clock.journal if isinstance(event, Slept))


@pytest.mark.parametrize("replicas", [1, 2, 3])
@pytest.mark.parametrize("lag", [{0: 4}, {1: 9}, {1: 30, 2: 12}, {0: 20, 1: 3, 2: 5}], ids=str)
def test_no_write_meets_a_node_that_does_not_know_the_vector(
    nodes: list[WireServer],
    store: ServerStore,
    clock: Clock,
    truth: Truth,
    lag: dict[int, int],
    replicas: int,
) -> None:
    cluster = spread(nodes, lag=lag, replicas=replicas)
    photos = filled(store, truth)
    photos.add_vector("pca", D // 2, projected_origin(truth.projection, ORIGIN, "raw"))
    assert all(cluster.is_known("pca", peer) for peer in range(3))
    assert waited_for(clock) > 0
    clock.journal.clear()
    assert backfill(photos, truth.projection).projected == N
    assert waited_for(clock) == 0
    truth.check(nodes[0].storage.points(NAME), is_projected=True)


def test_a_run_that_finds_the_name_there_already_waits_as_well(
    nodes: list[WireServer], store: ServerStore, clock: Clock, truth: Truth
) -> None:
    """Whoever added it may have been killed a moment ago."""
    cluster = spread(nodes, lag={1: 10})
    filled(store, truth)
    dense = models.DenseVectorConfig(size=D // 2, distance=models.Distance.COSINE)
    nodes[0].storage.add_vector(NAME, "pca", dense)
    store.add_vector(NAME, "pca", PCA)
    assert cluster.is_known("pca", 1)


def test_only_a_node_that_is_named_is_asked_when_it_holds_no_shard(
    nodes: list[WireServer], store: ServerStore, clock: Clock, truth: Truth
) -> None:
    cluster = spread(nodes, lag={2: 40})
    filled(store, truth, n_shards=1)
    store.add_vector(NAME, "pca", PCA)
    assert not cluster.is_known("pca", 2)
    store.delete_vector(NAME, "pca")
    knowing = ServerStore(
        store._connection, retry=clock.retry(), cluster=Cluster(nodes=(nodes[2].url,))
    )
    knowing.add_vector(NAME, "pca", PCA)
    assert cluster.is_known("pca", 2)


@pytest.mark.parametrize(
    ("lagging", "named", "says"),
    [
        (1, False, "a node refuses it"),
        (0, False, "does not list it"),
        (2, True, "does not list it"),
    ],
)
def test_a_node_that_never_learns_it_is_told_of_after_a_minute(
    nodes: list[WireServer],
    store: ServerStore,
    clock: Clock,
    truth: Truth,
    lagging: int,
    named: bool,
    says: str,
) -> None:
    spread(nodes, lag={lagging: 10**6})
    filled(store, truth)
    urls = (nodes[lagging].url,) if named else ()
    asking = ServerStore(store._connection, retry=clock.retry(), cluster=Cluster(nodes=urls))
    with pytest.raises(StoreUnavailable, match=says) as caught:
        asking.add_vector(NAME, "pca", PCA)
    assert "'pca' of 'photos' is known everywhere" in str(caught.value)
    assert not named or nodes[2].url in str(caught.value)
    assert SPREAD_DEADLINE_S < waited_for(clock) < SPREAD_DEADLINE_S + 2.1


def test_writes_that_a_node_refuses_are_repeated_until_it_has_learnt_the_name(
    nodes: list[WireServer], store: ServerStore, clock: Clock, truth: Truth
) -> None:
    """For example one that came back while points were written."""
    cluster = spread(nodes)
    photos = filled(store, truth)
    photos.add_vector("pca", D // 2, projected_origin(truth.projection, ORIGIN, "raw"))
    cluster.lag = {2: 12}
    cluster.added("pca")
    store.update_vectors(NAME, "pca", truth.ids, truth.projected.astype(np.float32))
    n_pauses = len(clock.journal)
    assert n_pauses > 0
    truth.check(nodes[0].storage.points(NAME), is_projected=True)
    new = [7, 8, 9]
    cluster.added("pca")
    store.upsert(NAME, new, {"raw": truth.X[:3], "pca": truth.X[:3, :8].copy()}, [{}] * 3)
    assert len(clock.journal) > n_pauses
    assert all("pca" in nodes[0].storage.points(NAME)[i].vectors for i in new)


def test_a_vector_that_somebody_removes_meanwhile_is_not_waited_for(
    nodes: list[WireServer], store: ServerStore, clock: Clock, truth: Truth
) -> None:
    spread(nodes)
    photos = filled(store, truth)
    photos.add_vector("pca", D // 2, projected_origin(truth.projection, ORIGIN, "raw"))
    nodes[0].storage.find(NAME).drop_vector("pca")
    with pytest.raises(NotFound, match="no vector 'pca'"):
        store.update_vectors(NAME, "pca", truth.ids, truth.X[:, :8].copy())
    assert waited_for(clock) == 0


@pytest.mark.parametrize("says", [MARKED_DEAD, NOT_MARKED])
def test_a_dead_replica_does_not_keep_one_waiting(
    nodes: list[WireServer], store: ServerStore, clock: Clock, truth: Truth, says: str
) -> None:
    cluster = spread(nodes, is_one_down=True, down_says=says, replicas=2, lag={1: 8})
    filled(store, truth)
    store.add_vector(NAME, "pca", PCA)
    assert cluster.is_known("pca", 1), "its shards' first replicas are on it"
    assert waited_for(clock) < 10


def test_a_server_alone_is_asked_once(
    nodes: list[WireServer], store: ServerStore, clock: Clock, truth: Truth
) -> None:
    nodes[0].storage.cluster = Nodes()
    filled(store, truth)
    asked: list[str] = []
    nodes[0].before = lambda method, path: asked.append(path)
    try:
        store.add_vector(NAME, "pca", PCA)
    finally:
        nodes[0].before = lambda method, path: None
    assert waited_for(clock) == 0
    assert not [path for path in asked if path.endswith(("query/batch", "QueryBatch"))]
    assert asked.count("/cluster") == 1


def test_the_command_asks_the_nodes_that_it_is_given(
    nodes: list[WireServer], truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    nodes[0].storage.clear()
    cluster = spread(nodes, lag={2: 30})
    with open_store(nodes[0].url) as store:
        filled(store, truth, n_shards=1)  # type: ignore[arg-type]  # its address says which store
    truth.projection.save(Path("pca.safetensors"))
    asked: list[str] = []
    nodes[2].before = lambda method, path: asked.append(path)
    place = ("--store", nodes[0].url, "--node", nodes[2].url, "--upload-streams", "2")
    done = run("backfill", NAME, "--projection", "pca.safetensors", *place)
    assert done["projected"] == N
    assert cluster.is_known("pca", 2)
    assert f"/collections/{NAME}" in asked
    truth.check(nodes[0].storage.points(NAME), is_projected=True)


@pytest.mark.parametrize(
    ("store", "options", "says"),
    [
        (":memory:", {"nodes": ["http://127.0.0.1:1"]}, "not a server"),
        ("http://127.0.0.1:1", {"nodes": ["http://me:secret@127.0.0.1:2"]}, "must not carry"),
        ("http://127.0.0.1:1", {"upload_streams": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_before_anybody_is_asked(
    store: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        open_store(store, **options)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("is_right", [True, False])
def test_named_nodes_are_asked_with_the_key_and_nobody_repeats_it(
    nodes: list[WireServer], clock: Clock, truth: Truth, is_right: bool
) -> None:
    nodes[0].storage.clear()
    cluster = spread(nodes, lag={2: 40})
    key = "planted-4717"
    for node, wanted in zip(nodes, (key, key, key if is_right else "another"), strict=True):
        node.keys = Keys(wanted)
    try:
        connection = connect_server(nodes[0].url, api_key=key)
        with ServerStore(
            connection, retry=clock.retry(), cluster=Cluster(nodes=(nodes[2].url,))
        ) as store:
            filled(store, truth, n_shards=1)
            if is_right:
                store.add_vector(NAME, "pca", PCA)
                assert cluster.is_known("pca", 2)
            else:
                with pytest.raises(AccessDenied, match="QDRANT_API_KEY") as caught:
                    store.add_vector(NAME, "pca", PCA)
                assert nodes[2].url in str(caught.value)
                assert key not in "".join(traceback.format_exception(caught.value))
    finally:
        for node in nodes:
            node.keys = Keys()


def replicated(store: ServerStore, truth: Truth, **options: Any) -> ImageCollection:
    """Make a collection with two replicas of each shard."""
    options = {"shard_number": N_SHARDS, "replication_factor": 2, **options}
    made = ImageCollection.create(store, NAME, {"raw": (D, ORIGIN)}, options=options)
    made.write(truth.ids, {"raw": truth.X}, truth.payloads)
    return made


def behind(nodes: list[WireServer]) -> int:
    """Return how many points lack `pca` on some replica."""
    return sum("pca" in missed for p in stored(nodes) for missed in p.lacks.values())


def stored(nodes: list[WireServer]) -> list[Point]:
    return list(nodes[0].storage.points(NAME).values())


def test_writes_to_replicas_ask_for_an_order_and_others_do_not(
    nodes: list[WireServer], store: ServerStore, truth: Truth
) -> None:
    cluster = spread(nodes, replicas=2)
    photos = replicated(store, truth)
    backfill(photos, truth.projection)
    store.delete(NAME, truth.ids[:3])
    store.set_payload(NAME, truth.ids[3:5], {"seen": True})
    assert set(cluster.orderings) == {"medium"}
    nodes[0].storage.clear()
    cluster.orderings.clear()
    fresh = ServerStore(store._connection, retry=Clock().retry())
    backfill(filled(fresh, truth), truth.projection)
    assert set(cluster.orderings) == {None}


def test_what_one_replica_missed_is_found_and_filled_at_the_end(
    nodes: list[WireServer], store: ServerStore, truth: Truth
) -> None:
    cluster = spread(nodes, replicas=2)
    photos = replicated(store, truth)
    cluster.n_deaf = 1
    found = backfill(photos, truth.projection)
    assert behind(nodes) == 0
    assert found.replicas.mended > 0
    assert found.replicas == Replicas(found.replicas.mended)
    assert photos.origin("pca").is_complete
    truth.check(nodes[0].storage.points(NAME), is_projected=True)


@pytest.mark.parametrize("n_lacking", [0, 1, 11, N])
def test_a_page_of_ids_is_asked_of_all_replicas_at_once_and_by_id_for_what_is_absent(
    nodes: list[WireServer],
    store: ServerStore,
    truth: Truth,
    n_lacking: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("intramodal.store.server.store._READ_BATCH", 25)
    monkeypatch.setattr("intramodal.ingest.backfill.points._IDS_A_PAGE", 150)
    cluster = spread(nodes, replicas=2)
    photos = replicated(store, truth)
    backfill(photos, truth.projection)
    for point in stored(nodes)[:n_lacking]:
        point.lacks[2] = {"pca"}
        point.lacks[1] = {"pca"}
    asked: list[int] = []
    monkeypatch.setattr(cluster, "check_all", lambda: asked.append(1))
    again = backfill(photos, truth.projection)
    assert behind(nodes) == 0
    assert again.projected + again.replicas.mended == n_lacking
    assert photos.origin("pca").is_complete
    # Whether all know the vector, and two pages; 25 ids a request would take twelve.
    assert n_lacking or len(asked) == 1 + 2


def test_replicas_are_asked_for_no_more_ids_than_strict_mode_allows(
    nodes: list[WireServer], store: ServerStore, truth: Truth
) -> None:
    cluster = spread(nodes, replicas=2)
    strict = {"enabled": True, "condition_max_size": 40}
    photos = replicated(store, truth, strict_mode_config=strict)
    cluster.n_deaf = 1
    found = backfill(photos, truth.projection)
    assert (behind(nodes), found.replicas.unverified) == (0, "")
    assert found.replicas.mended > 0


def test_where_strict_mode_lets_nobody_ask_the_replicas_that_is_said(
    nodes: list[WireServer], store: ServerStore, truth: Truth
) -> None:
    spread(nodes, replicas=2)
    strict = {"enabled": True, "filter_max_conditions": 1}
    photos = replicated(store, truth, strict_mode_config=strict)
    found = backfill(photos, truth.projection)
    assert found.projected == N
    assert "filter_max_conditions" in found.replicas.unverified
    assert not photos.origin("pca").is_complete


def test_replicas_are_asked_again_after_the_pause_of_a_rate_limit(
    nodes: list[WireServer],
    store: ServerStore,
    clock: Clock,
    truth: Truth,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which is longer than a node is waited for that does not answer."""
    cluster = spread(nodes, replicas=2)
    photos = replicated(store, truth)
    refusals = iter([WireError(429, "Rate limit exceeded", retry_after_s=40)])

    def busy() -> None:
        for error in refusals:
            raise error

    monkeypatch.setattr(cluster, "check_all", busy)
    assert backfill(photos, truth.projection).replicas == Replicas()
    assert 40 < waited_for(clock) < 60
    assert photos.origin("pca").is_complete


def test_the_same_command_fills_what_a_replica_lacks_although_no_pass_finds_it(
    nodes: list[WireServer], store: ServerStore, truth: Truth
) -> None:
    """As a replica that was dead for a while: the node that is asked has every vector."""
    spread(nodes, replicas=2)
    photos = replicated(store, truth)
    backfill(photos, truth.projection)
    for point in stored(nodes)[:11]:
        point.lacks[2] = {"pca"}
        point.lacks[1] = {"pca"}
    again = backfill(photos, truth.projection)
    assert behind(nodes) == 0
    # The node that is asked sees some of them itself: it reads a replica of its own, or any.
    assert again.projected < 11
    assert again.replicas == Replicas(mended=11 - again.projected)
    assert "lacked 'pca' on a replica and got it there" in again.sentence


def test_a_replica_that_stays_behind_is_told_of_with_its_node_and_leaves_the_vector_incomplete(
    nodes: list[WireServer], store: ServerStore, clock: Clock, truth: Truth
) -> None:
    cluster = spread(nodes, replicas=2)
    urls = tuple(node.url for node in nodes[1:])
    asking = ServerStore(store._connection, retry=clock.retry(), cluster=Cluster(nodes=urls))
    photos = replicated(asking, truth)
    cluster.n_deaf = 10**6
    found = backfill(photos, truth.projection)
    assert found.replicas.behind == N
    by_node = found.replicas.by_node
    assert set(by_node) == {node.url for node in nodes}
    assert N <= sum(by_node.values()) < 3 * N
    assert f"{nodes[1].url}: {by_node[nodes[1].url]:,}" in found.sentence
    assert "run the same command again" in found.sentence
    assert not photos.origin("pca").is_complete
    cluster.n_deaf = 0
    again = backfill(photos, truth.projection)
    assert again.replicas.behind == behind(nodes) == 0
    assert photos.origin("pca").is_complete


def test_a_copy_is_complete_on_every_replica_too(
    nodes: list[WireServer], store: ServerStore, truth: Truth
) -> None:
    cluster = spread(nodes, replicas=2)
    photos = replicated(store, truth)
    copy_collection(photos, truth.projection, new_collection="photos_v2")
    for point in list(nodes[0].storage.points("photos_v2").values())[:11]:
        point.lacks[1] = point.lacks[2] = {"pca"}
    cluster.n_deaf = 10**6
    again = copy_collection(photos, truth.projection, new_collection="photos_v2")
    assert again.replicas.behind > 0
    assert "run the same command again" in again.sentence
    assert not ImageCollection.open(store, "photos_v2").origin("pca").is_complete
    cluster.n_deaf = 0
    again = copy_collection(photos, truth.projection, new_collection="photos_v2")
    assert again.replicas.behind == 0
    assert ImageCollection.open(store, "photos_v2").origin("pca").is_complete


def test_points_that_cannot_be_projected_are_not_behind(
    nodes: list[WireServer], store: ServerStore, truth: Truth
) -> None:
    spread(nodes, replicas=2)
    photos = replicated(store, truth)
    store.update_vectors(NAME, "raw", truth.ids[:2], np.zeros((2, D), np.float32))
    found = backfill(photos, truth.projection)
    assert (found.unprojectable, found.replicas.behind) == (2, 0)
    assert photos.origin("pca").is_complete


def test_where_a_replica_is_dead_nobody_says_that_it_has_the_vector(
    nodes: list[WireServer], store: ServerStore, clock: Clock, truth: Truth
) -> None:
    cluster = spread(nodes, replicas=2, is_one_down=True)
    photos = replicated(store, truth)
    found = backfill(photos, truth.projection)
    assert found.projected == N
    assert "enough active replicas" in found.replicas.unverified
    assert "when all are active" in found.sentence
    assert waited_for(clock) < 30
    assert not photos.origin("pca").is_complete
    assert store.inactive_replicas(NAME) == ["shard 1 on http://node-1:6335 is Dead",
                                             "shard 1 on http://node-2:6335 is Dead"]  # fmt: skip
    cluster.is_one_down = False
    assert store.inactive_replicas(NAME) == []
    backfill(photos, truth.projection)
    assert photos.origin("pca").is_complete


def test_deletions_meanwhile_make_the_writes_to_replicas_small(
    nodes: list[WireServer], store: ServerStore, truth: Truth
) -> None:
    spread(nodes, replicas=2, deaf_after_404=3)
    photos = replicated(store, truth)
    sizes: list[int] = []
    update, retrieve = store.update_vectors, store.retrieve
    left = iter([truth.ids[0]])

    def deleting(name: str, ids: Any, **what: Any) -> Any:
        page = retrieve(name, ids, **what)
        for point in left:  # another client's, right after the look
            del nodes[0].storage.points(NAME)[point]
        return page

    def counted(name: str, vector: str, ids: Any, *rest: Any, **how: Any) -> None:
        sizes.append(len(ids))
        update(name, vector, ids, *rest, **how)

    store.retrieve, store.update_vectors = deleting, counted  # type: ignore[method-assign]
    found = backfill(photos, truth.projection, batch_size=150)
    assert found.projected >= N - 1  # some are sent twice: a replica has missed them
    assert sizes[:2] == [150, 149]
    assert max(sizes[2:]) <= 50
    assert found.replicas.behind == behind(nodes) == 0


def test_a_node_that_is_down_is_waited_for_10_s_and_named_at_the_end(
    nodes: list[WireServer], store: ServerStore, clock: Clock, truth: Truth
) -> None:
    spread(nodes, replicas=2, lag={1: 4})
    with bound(0) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
        urls = (dead, nodes[1].url)
        asking = ServerStore(store._connection, retry=clock.retry(), cluster=Cluster(nodes=urls))
        found = backfill(replicated(asking, truth), truth.projection)
    assert found.projected == N
    assert found.replicas.silent_nodes == (dead,)
    assert f"no response from {dead}" in found.sentence
    assert waited_for(clock) < 10


def test_doctor_shows_replicas_that_are_not_read(
    nodes: list[WireServer], store: ServerStore, truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    cluster = spread(nodes, replicas=2, is_one_down=True)
    replicated(store, truth)
    where = ("doctor", "--store", nodes[0].url, "--runs", ":memory:")

    def shown() -> list[str]:
        checks = run(*where)["checks"]
        return [c["detail"] for c in checks if c["name"] == "store" and c["state"] == "warning"]

    assert shown() == [
        "'photos': shard 1 on http://node-1:6335 is Dead, shard 1 on http://node-2:6335 is Dead"
    ]
    cluster.is_one_down = False
    assert shown() == []


def rows(truth: Truth, folder: Path, n: int = 30) -> ReadyVectors:
    """Return n ready vectors; their ids are 0 to n - 1, which no other point has."""
    np.save(folder / "X.npy", truth.X[:n])
    return open_ready(folder / "X.npy", dataset=NAME)


def projected_once(store: ServerStore, truth: Truth) -> ImageCollection:
    photos = replicated(store, truth)
    backfill(photos, truth.projection)
    return photos


def test_a_replica_that_keeps_an_old_vector_is_found_by_a_recomputation(
    nodes: list[WireServer], store: ServerStore, truth: Truth
) -> None:
    """It has one, so that a look for points without it does not find it."""
    cluster = spread(nodes, replicas=2)
    photos = projected_once(store, truth)
    cluster.n_deaf = 1
    found = recompute(photos, truth.projection, where=Filter(ids=truth.ids[:40]))
    assert found.replicas == Replicas(mended=40)
    assert "40 points lacked 'pca' on a replica and got it there" in found.sentence
    assert not any(missed for point in stored(nodes) for missed in point.stale.values())
    assert photos.origin("pca").is_complete


def test_a_recomputation_that_leaves_a_replica_behind_says_so_and_its_repeat_fills_it(
    nodes: list[WireServer], store: ServerStore, truth: Truth
) -> None:
    cluster = spread(nodes, replicas=2)
    photos = projected_once(store, truth)
    cluster.n_deaf = 10**6
    some = Filter(ids=truth.ids[:40])
    found = recompute(photos, truth.projection, where=some)
    assert found.replicas.behind == 40
    assert "40 points still lack the current 'pca' on a replica" in found.sentence
    assert found.notes == ["'pca' is called incomplete until all replicas are found to have it"]
    assert not ImageCollection.open(store, NAME).origin("pca").is_complete
    cluster.n_deaf = 0
    assert recompute(photos, truth.projection, where=some).replicas == Replicas()
    assert backfill(photos, truth.projection).projected == 0
    assert photos.origin("pca").is_complete


def test_an_ingest_fills_what_a_replica_lacks_of_its_points_and_asks_for_no_others(
    nodes: list[WireServer], store: ServerStore, truth: Truth, tmp_path: Path
) -> None:
    cluster = spread(nodes, replicas=2)
    photos = projected_once(store, truth)
    for point in stored(nodes)[:50]:  # of others
        point.lacks[1] = point.lacks[2] = {"pca"}
    n_before = behind(nodes)
    photos.write(list(range(30)), {"raw": truth.X[:30]}, [{}] * 30)
    cluster.n_deaf = 1
    done = ingest_vectors(rows(truth, tmp_path), photos, projection=truth.projection)
    n_mended = done.replicas["pca"].mended
    assert done.written == 30
    assert n_mended > 0
    assert done.replicas == {"raw": Replicas(), "pca": Replicas(n_mended)}
    assert behind(nodes) == n_before
    assert photos.origin("pca").is_complete


def test_an_ingest_that_leaves_a_replica_behind_is_completed_by_its_repeat(
    nodes: list[WireServer], store: ServerStore, truth: Truth, tmp_path: Path
) -> None:
    cluster = spread(nodes, replicas=2)
    photos = replicated(store, truth)
    cluster.n_deaf = 10**6
    done = ingest_vectors(rows(truth, tmp_path), photos)
    assert done.replicas["raw"].behind == 30
    assert "30 points still lack the current 'raw' on a replica" in done.notes[0]
    assert not ImageCollection.open(store, NAME).origin("raw").is_complete
    cluster.n_deaf = 0
    again = ingest_vectors(rows(truth, tmp_path), ImageCollection.open(store, NAME))
    assert (again.written, again.notes) == (30, [])
    assert again.replicas == {"raw": Replicas()}
    assert not any("raw" in missed for p in stored(nodes) for missed in p.lacks.values())
    assert ImageCollection.open(store, NAME).origin("raw").is_complete


def test_images_that_a_replica_lacks_are_encoded_again_by_the_repeat(
    nodes: list[WireServer], store: ServerStore, truth: Truth
) -> None:
    cluster = spread(nodes, replicas=2)
    encoder = PlainEncoder()
    options = {"shard_number": N_SHARDS, "replication_factor": 2}
    photos = images_collection(store, NAME, encoder=encoder, options=options)
    cluster.n_deaf = 10**6
    done = ingest_images(records(20), photos, encoder=encoder)
    assert done.replicas["raw"].behind == 20
    cluster.n_deaf = 0
    again = ingest_images(records(20), photos, encoder=encoder)
    assert (again.written, again.skipped, again.notes) == (20, 0, [])
    assert photos.origin("raw").is_complete
    assert ingest_images(records(20), photos, encoder=encoder).skipped == 20


def test_views_that_a_replica_lacks_are_made_again_by_the_repeat(
    nodes: list[WireServer], store: ServerStore, truth: Truth
) -> None:
    cluster = spread(nodes, replicas=2)
    encoder = PlainEncoder()
    options = {"shard_number": N_SHARDS, "replication_factor": 2}
    how: dict[str, Any] = {"encoder": encoder, "augment": True}
    ingest_images(
        records(20), images_collection(store, NAME, encoder=encoder, options=options),
        encoder=encoder,
    )  # fmt: skip
    photos = images_collection(store, NAME, **how)  # adds the vector of views
    cluster.n_deaf = 10**6
    done = ingest_images(records(20), photos, **how)
    assert done.replicas["raw_augmented"].behind == 20
    assert not ImageCollection.open(store, NAME).origin("raw_augmented").is_complete
    cluster.n_deaf = 0
    again = ingest_images(records(20), photos, **how)
    assert (again.written, again.skipped, again.notes) == (20, 0, [])
    assert photos.origin("raw_augmented").is_complete
    assert ingest_images(records(20), photos, **how).skipped == 20


def test_an_ingest_beside_a_dead_replica_goes_on_and_says_what_is_unknown(
    nodes: list[WireServer], store: ServerStore, clock: Clock, truth: Truth, tmp_path: Path
) -> None:
    cluster = spread(nodes, replicas=2)
    photos = projected_once(store, truth)
    cluster.is_one_down = True
    done = ingest_vectors(rows(truth, tmp_path), photos, projection=truth.projection)
    assert done.written == 30
    assert "enough active replicas" in done.replicas["pca"].unverified
    assert waited_for(clock) < 60
    assert not photos.origin("pca").is_complete


@pytest.mark.parametrize("replicas", [1, 2])
def test_an_ingest_that_adds_a_vector_names_a_node_that_was_not_asked(
    nodes: list[WireServer],
    store: ServerStore,
    clock: Clock,
    truth: Truth,
    tmp_path: Path,
    replicas: int,
) -> None:
    spread(nodes, replicas=replicas, lag={1: 4})
    with bound(0) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
        asking = ServerStore(
            store._connection, retry=clock.retry(), cluster=Cluster(nodes=(dead,))
        )
        replicated(asking, truth, replication_factor=replicas)
        ready = rows(truth, tmp_path)
        vectors = vectors_of(ready, ORIGIN, "other", None)
        photos = vectors_collection(asking, NAME, vectors, vector="other")
        done = ingest_vectors(ready, photos, vector="other")
    assert done.written == 30
    assert done.notes == [f"no response from {dead}"]
    assert photos.origin("other").is_complete
