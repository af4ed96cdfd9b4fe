"""Shards chosen by key: the same id under two keys is two points, and nothing ever mixes them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from qdrant_client import models

from intramodal.errors import InputError, NotFound, Unsupported
from intramodal.evaluation.compare import compare
from intramodal.evaluation.resampling import Resampling
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill, recompute
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.ingest.backfill.verify import verify_vector
from intramodal.ingest.label_file import read_labels
from intramodal.ingest.pipeline import ingest_images
from intramodal.ingest.prune import plan_prune
from intramodal.projection.projection import Projection
from intramodal.store.base import Cluster, Filter, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.filters import parse_filter
from intramodal.store.label_table import LabelledCollection
from intramodal.store.manifest import Manifest, VectorOrigin
from intramodal.store.origins import projected_origin
from intramodal.store.search import search
from intramodal.store.server.client import connect_server
from intramodal.store.server.store import ServerStore
from intramodal.types import (
    ImageRecord,
    KeyedId,
    Payload,
    PointId,
    ShardKey,
    VectorTable,
    point_id,
    unit_rows,
)
from tests.cli.kit import run
from tests.faults.schedules import ORIGIN, Clock, projected
from tests.faults.wire import Point, WireServer
from tests.plain_encoder import DIM, PlainEncoder
from tests.unit.ingest.pipeline_kit import records

N, D, NAME = 1000, 16, "photos"
KEYS: list[ShardKey] = [7, "acme"]


@dataclass(frozen=True)
class Tenants:
    """The same ids under every key, with other vectors and payload."""

    ids: list[PointId]
    X: dict[ShardKey, NDArray[Any]]
    projection: Projection

    @classmethod
    def of(cls, n: int, d: int) -> Tenants:
        """Return n points a key, half of them with numbers and half of them with UUIDs."""
        rng = np.random.default_rng(18)
        X = {key: unit_rows(rng.normal(size=(n, d))) for key in KEYS}
        matrix = np.linalg.qr(rng.normal(size=(d, d // 2)))[0].astype(np.float32)
        uuids: list[PointId] = sorted(point_id(NAME, f"{i}.jpg") for i in range(n // 2))
        made = Projection(matrix, "pca", ORIGIN.encoder, ORIGIN.encoder_fingerprint)
        return cls([*range(n - n // 2), *uuids], X, made)

    def payloads(self, key: ShardKey) -> list[Payload]:
        return [{"label": "abcd"[n % 4], "path": f"{key}/{n}.jpg"} for n, _ in enumerate(self.ids)]

    def pca(self, key: ShardKey) -> NDArray[np.float64]:
        return projected(self.X[key], self.projection.matrix)

    def check(self, server: WireServer, *, has_pca: tuple[ShardKey, ...]) -> None:
        """Compare every vector and payload of every key."""
        points = server.storage.points(NAME)
        assert len(points) == len(KEYS) * len(self.ids)
        for key in KEYS:
            found = [points[key, point] for point in self.ids]
            assert [point.payload for point in found] == self.payloads(key)
            raw = np.array([point.vectors["raw"] for point in found])
            np.testing.assert_array_equal(raw, self.X[key])
            if key not in has_pca:
                assert all(set(point.vectors) == {"raw"} for point in found)
                continue
            pca = np.array([point.vectors["pca"] for point in found])
            # float32 products over 16 terms against float64
            np.testing.assert_allclose(pca, self.pca(key), rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def tenants() -> Tenants:
    return Tenants.of(N, D)


def made(server: WireServer, keys: list[ShardKey] = KEYS) -> str:
    """Make an empty collection with shard keys; returns where it is."""
    server.storage.clear()
    config = models.CreateCollection(
        vectors={"raw": models.VectorParams(size=D, distance=models.Distance.COSINE)},
        sharding_method=models.ShardingMethod.CUSTOM,
        metadata=Manifest({"raw": ORIGIN}, NAME).to_metadata(),
    )
    place = f"{server.url}/collections/{NAME}"
    answers = [httpx.put(place, content=config.model_dump_json(exclude_none=True))]
    answers += [httpx.put(f"{place}/shards", json={"shard_key": key}) for key in keys]
    assert {answer.status_code for answer in answers} == {200}
    return place


def filled(server: WireServer, tenants: Tenants) -> None:
    """Write all points past every wire."""
    made(server)
    for key in KEYS:
        rows = zip(tenants.ids, tenants.X[key], tenants.payloads(key), strict=True)
        for point, x, payload in rows:
            kept = Point({"raw": np.asarray(x, np.float32)}, dict(payload), key)
            server.storage.points(NAME)[key, point] = kept


def limited(store: ServerStore, key: ShardKey) -> ServerStore:
    """Return the same store for one key."""
    return ServerStore(store._connection, retry=Clock().retry(), cluster=Cluster(3, shard_key=key))


@pytest.fixture(params=["rest", "grpc"])
def store(
    server: WireServer, tenants: Tenants, request: pytest.FixtureRequest
) -> Iterator[ServerStore]:
    filled(server, tenants)
    connection = connect_server(server.url, prefer_grpc=request.param == "grpc")
    with closing(connection.client):
        yield ServerStore(connection, retry=Clock().retry())


@pytest.fixture
def photos(store: ServerStore) -> ImageCollection:
    return ImageCollection.open(store, NAME)


def spoil(server: WireServer, point: PointId) -> None:
    """Give the points of an id a wrong projection under every key."""
    for key in KEYS:
        wrong = np.ones(D // 2, np.float32) / np.float32(np.sqrt(D // 2))
        server.storage.points(NAME)[key, point].vectors["pca"] = wrong


def test_a_backfill_projects_the_vector_of_each_key_for_that_key(
    server: WireServer, photos: ImageCollection, tenants: Tenants
) -> None:
    summary = backfill(photos, tenants.projection, batch_size=300)
    assert (summary.projected, summary.unprojectable, summary.lacking) == (2 * N, 0, 0)
    tenants.check(server, has_pca=(7, "acme"))
    again = backfill(photos, tenants.projection)
    assert (again.projected, again.skipped) == (0, 2 * N)
    assert ImageCollection.open(photos.store, NAME).origin("pca").is_complete


def test_verify_and_recompute_tell_the_keys_apart(
    server: WireServer, photos: ImageCollection, tenants: Tenants
) -> None:
    backfill(photos, tenants.projection)
    found = verify_vector(photos, tenants.projection, n=3 * N)
    assert (found.checked, found.stale) == (2 * N, 0)
    spoil(server, 3)
    found = verify_vector(photos, tenants.projection, n=3 * N)
    assert found.stale_ids == ["7/3", "acme/3"]
    done = recompute(photos, tenants.projection, where=parse_filter(["id=acme/3"]))
    assert done.projected == 1
    assert verify_vector(photos, tenants.projection, n=3 * N).stale_ids == ["7/3"]
    says = r"has the id 3 under the shard keys 7, 'acme'; write which point is meant, such as 7/3"
    with pytest.raises(InputError, match=says):
        recompute(photos, tenants.projection, where=parse_filter(["id=3"]))
    assert recompute(photos, tenants.projection, where=Filter()).projected == 2 * N
    tenants.check(server, has_pca=(7, "acme"))


def test_a_rollback_takes_the_vector_from_every_key_and_nothing_else(
    server: WireServer, photos: ImageCollection, tenants: Tenants
) -> None:
    backfill(photos, tenants.projection)
    assert rollback_vector(photos).removed == 2 * N
    tenants.check(server, has_pca=())


def test_a_store_for_one_key_fills_that_key_only(
    server: WireServer, store: ServerStore, tenants: Tenants
) -> None:
    acme = ImageCollection.open(limited(store, "acme"), NAME)
    assert acme.count() == N
    summary = backfill(acme, tenants.projection)
    assert (summary.projected, summary.lacking) == (N, 0)
    assert any("called complete after a backfill without a shard key" in n for n in summary.notes)
    tenants.check(server, has_pca=("acme",))
    assert not ImageCollection.open(store, NAME).origin("pca").is_complete
    spoil(server, 3)
    del server.storage.points(NAME)[7, 3].vectors["pca"]
    assert verify_vector(acme, tenants.projection, n=N).stale_ids == [3]
    recompute(acme, tenants.projection, where=parse_filter(["id=3"]))
    tenants.check(server, has_pca=("acme",))
    with pytest.raises(InputError, match="limited to the shard key 'acme'"):
        rollback_vector(acme)
    with pytest.raises(InputError, match="not a point of the shard key 'acme'"):
        recompute(acme, tenants.projection, where=Filter(ids=["7/3"]))
    backfill(ImageCollection.open(store, NAME), tenants.projection)
    tenants.check(server, has_pca=(7, "acme"))
    assert ImageCollection.open(store, NAME).origin("pca").is_complete
    again = backfill(ImageCollection.open(acme.store, NAME), tenants.projection)
    assert not any("without a shard key" in note for note in again.notes)
    assert ImageCollection.open(store, NAME).origin("pca").is_complete


def test_points_are_read_key_by_key_under_their_own_names(
    store: ServerStore, tenants: Tenants
) -> None:
    names = [KeyedId(key, point) for key in KEYS for point in tenants.ids]
    pages = list(store.scroll(NAME, vectors=["raw"], payload=["path"], batch_size=130))
    assert [i for page in pages for i in page.ids] == names
    assert all(isinstance(i, KeyedId) for page in pages for i in page.ids)
    X = np.concatenate([page.vectors["raw"] for page in pages])
    np.testing.assert_array_equal(X, np.concatenate([tenants.X[key] for key in KEYS]))
    for page in (pages[2], pages[7]):
        rest = store.scroll(NAME, batch_size=400, offset=page.next_offset)
        start = names.index(page.ids[-1]) + 1
        assert [i for later in rest for i in later.ids] == names[start:]
    asked = ["acme/5", 10**6, names[3], f"7/{str(tenants.ids[-1]).upper()}", "acme/1000000"]
    page = store.retrieve(NAME, asked, payload=["path"])
    assert page.ids == ["acme/5", "7/3", f"7/{tenants.ids[-1]}"]
    assert [p["path"] for p in page.payloads] == ["acme/5.jpg", "7/3.jpg", f"7/{N - 1}.jpg"]
    assert store.count(NAME) == store.info(NAME).n_points == 2 * N
    assert store.count(NAME, Filter(ids=asked)) == 3
    assert store.count(NAME, Filter({"label": "a"}, ids=["acme/4", "acme/5", "7/4"])) == 2
    assert [p.ids for p in store.scroll(NAME, where=Filter(ids=["acme/4", "7/4"]))] == [
        ["7/4"],
        ["acme/4"],
    ]
    with pytest.raises(InputError, match=r"no shard key 'globex'; it has 7, 'acme'"):
        store.retrieve(NAME, ["globex/5"])
    with pytest.raises(InputError, match="under the shard keys"):
        store.retrieve(NAME, [5])


def test_a_bare_id_is_enough_where_one_key_has_it(
    server: WireServer, store: ServerStore, tenants: Tenants
) -> None:
    for point in tenants.ids[:4]:
        del server.storage.points(NAME)["acme", point]
    store.update_vectors(NAME, "raw", [0, "acme/9"], np.eye(2, D, dtype=np.float32))
    points = server.storage.points(NAME)
    assert points[7, 0].vectors["raw"][0] == points["acme", 9].vectors["raw"][1] == 1
    assert store.retrieve(NAME, [0, "acme/9"]).ids == [0, "acme/9"]
    store.set_payload(NAME, [1], {"seen": True})
    assert points[7, 1].payload["seen"] is True
    store.delete(NAME, [2, 10**6])
    assert len(points) == 2 * N - 5
    assert (7, 2) not in points
    store.upsert(NAME, [3], {"raw": np.eye(1, D, dtype=np.float32)}, [{}])
    assert points[7, 3].vectors["raw"][0] == 1
    with pytest.raises(NotFound, match="No point with id 99999"):
        store.set_payload(NAME, [99999], {"seen": True})
    with pytest.raises(InputError, match=r"99999 is new; give the key.*`shard_key`"):
        store.upsert(NAME, [99999], {"raw": np.eye(1, D, dtype=np.float32)}, [{}])
    with pytest.raises(InputError, match="'acme/9' occurs twice"):
        store.update_vectors(NAME, "raw", ["acme/9"] * 2, np.eye(2, D, dtype=np.float32))


def test_writes_go_to_the_keys_of_their_points(server: WireServer, store: ServerStore) -> None:
    points = server.storage.points(NAME)
    ids: list[PointId] = ["acme/5000", KeyedId(7, 5000), "acme/5001"]
    X = np.eye(3, D, dtype=np.float32)
    store.insert(NAME, ids, {"raw": X}, [{"n": n} for n in range(3)])
    assert [points[place].payload["n"] for place in (("acme", 5000), (7, 5000))] == [0, 1]
    store.set_payload(NAME, ids[:1], {"n": 9})
    assert [points[place].payload["n"] for place in (("acme", 5000), (7, 5000))] == [9, 1]
    store.delete(NAME, ids[1:])
    assert ("acme", 5000) in points
    assert len(points) == 2 * N + 1
    acme = limited(store, "acme")
    acme.upsert(NAME, [1], {"raw": X[:1]}, [{"own": True}])
    assert points["acme", 1].payload == {"own": True} != points[7, 1].payload
    acme.delete(NAME, [1, 2])
    assert {(7, 1), (7, 2)} <= set(points)
    assert not {("acme", 1), ("acme", 2)} & set(points)


def expected(
    tenants: Tenants, x: NDArray[Any], k: int, without: tuple[ShardKey, PointId] | None
) -> list[str]:
    """Return the names of the nearest points by their stored vectors, computed without a store."""
    places = [(key, point) for key in KEYS for point in tenants.ids]
    X = np.concatenate([tenants.X[key] for key in KEYS]).astype(np.float64)
    order = np.argsort(-(X @ x), kind="stable")
    found = [places[row] for row in order if places[row] != without]
    return [f"{key}/{point}" for key, point in found[:k]]


@pytest.mark.parametrize("exact", [True, False])
def test_a_search_ranks_the_points_of_all_keys_and_leaves_out_the_query_alone(
    photos: ImageCollection, tenants: Tenants, exact: bool
) -> None:
    for key, row in ((7, 4), ("acme", 4), ("acme", N - 1)):
        name = KeyedId(key, tenants.ids[row])
        hits = photos.neighbours([name], using="raw", k=30, exact=exact)
        assert hits.ids[0] == expected(tenants, tenants.X[key][row], 30, (key, tenants.ids[row]))
        assert name not in hits.ids[0]
    shown = search(photos, point="acme/4", vectors=["raw"], k=5, exact=True).vectors["raw"]
    assert all(hit["path"].startswith(str(hit["id"]).split("/")[0]) for hit in shown)
    x = tenants.X[7][:1]
    hits = photos.search(x, using="raw", k=3, where=Filter(ids=["acme/1", "acme/2", "7/0"]))
    assert hits.ids[0][0] == "7/0"
    assert set(hits.ids[0]) == {"acme/1", "acme/2", "7/0"}


def test_equal_scores_are_ranked_by_name_also_across_keys(
    server: WireServer, store: ServerStore
) -> None:
    points = server.storage.points(NAME)
    for key in KEYS:
        for point in range(20):
            points[key, point].vectors["raw"] = np.eye(1, D, dtype=np.float32)[0]
    q = np.eye(1, D, dtype=np.float32)
    best = sorted(KeyedId(key, point) for key in KEYS for point in range(20))
    assert store.query_batch(NAME, q, using="raw", k=25).ids[0] == best[:25]


def test_two_stages_search_every_key_and_places_are_fused_in_one_only(
    store: ServerStore, photos: ImageCollection, tenants: Tenants
) -> None:
    backfill(photos, tenants.projection)
    Z = tenants.pca("acme")[:1].astype(np.float32)
    stage = {"using": "raw", "limit": 50, "Q": tenants.X["acme"][:1]}
    found = store.query_batch(NAME, Z, using="pca", k=3, params={"prefetch": stage})
    assert found.ids[0][0] == "acme/0"
    with pytest.raises(Unsupported, match=r"2 shard keys.*open the store for one key"):
        store.query_batch(NAME, Z, using="pca", k=3, params={"fuse": stage})
    fused = limited(store, "acme").query_batch(NAME, Z, using="pca", k=3, params={"fuse": stage})
    assert fused.ids[0][0] == 0


def test_evaluations_rank_the_points_of_all_keys_as_one_table_does(
    photos: ImageCollection, store: ServerStore, tenants: Tenants
) -> None:
    backfill(photos, tenants.projection)
    read = photos.table(["raw", "pca"], payload=["label"])
    assert len(read) == len(set(read.ids)) == 2 * N
    by_name = dict(zip(read.ids, read.vectors["raw"], strict=True))
    for key in KEYS:
        for row in (0, 1, N - 1):
            x = by_name[f"{key}/{tenants.ids[row]}"]
            np.testing.assert_array_equal(x, tenants.X[key][row])
    rows = {f"{key}/{point}": (key, n) for key in KEYS for n, point in enumerate(tenants.ids)}
    names: list[PointId] = sorted(rows)
    ours = VectorTable(
        names,
        {
            "raw": np.array([tenants.X[key][n] for key, n in map(rows.__getitem__, names)]),
            "pca": np.array(
                [tenants.pca(key)[n] for key, n in map(rows.__getitem__, names)], np.float32
            ),
        },
        {"label": ["abcd"[rows[name][1] % 4] for name in names]},
    )
    kept = {"fields": ["label"], "resampling": Resampling("none")}
    theirs, alone = (evaluate_retrieval(t, vectors=["raw"], **kept) for t in (photos, ours))
    assert theirs.to_dict()["fields"] == alone.to_dict()["fields"]
    theirs, alone = (
        compare(t, fields=["label"], tasks=["retrieval"], controls=False) for t in (photos, ours)
    )
    assert theirs.to_dict()["decision"] == alone.to_dict()["decision"]
    some = Filter(ids=[name for name in names if rows[name][1] < 8 and rows[name][0] == "acme"])
    theirs, alone = (
        evaluate_retrieval(t, vectors=["raw"], where=some, **kept) for t in (photos, ours)
    )
    assert theirs.points.n_points == alone.points.n_points == 8
    assert theirs.to_dict()["fields"] == alone.to_dict()["fields"]
    with pytest.raises(InputError, match="7/3 and acme/3 have the same id"):
        evaluate_retrieval(read, vectors=["raw"], where=Filter(ids=[3]), **kept)
    assert len(ImageCollection.open(limited(store, "acme"), NAME).table(["raw"])) == N


def test_labels_of_a_file_belong_to_the_point_of_their_key(
    photos: ImageCollection, store: ServerStore, tenants: Tenants
) -> None:
    rows = [(key, n, point) for key in KEYS for n, point in enumerate(tenants.ids)]
    lines = [f"{key}/{str(point).upper()},{key}{n % 3}" for key, n, point in rows]
    file = io.BytesIO("\n".join(["id,shape", *lines, "acme/987654,x", "nobody/3,x", ""]).encode())
    labels = read_labels(file, format="csv")
    expected = {f"{key}/{point}": f"{key}{n % 3}" for key, n, point in rows}
    for where in (None, Filter({"label": ["a", "b", "c", "d"]})):
        table = LabelledCollection(photos, labels).table(["raw"], payload=["shape"], where=where)
        assert dict(zip(table.ids, table.payload["shape"], strict=True)) == expected
        assert table.labels_from is not None
        assert (table.labels_from["n_unknown"], table.labels_from["n_without_row"]) == (2, 0)
    # Of one key the same file serves: its points have bare ids then.
    acme = LabelledCollection(ImageCollection.open(limited(store, "acme"), NAME), labels)
    table = acme.table(["raw"], payload=["shape"])
    assert dict(zip(table.ids, table.payload["shape"], strict=True)) == {
        point: f"acme{n % 3}" for n, point in enumerate(tenants.ids)
    }
    wanted = {point for n, point in enumerate(tenants.ids) if n % 3 == 1}
    where = Filter({"shape": ["acme1"]})
    assert set(acme.neighbours([0], using="raw", k=N, where=where).ids[0]) == wanted


def test_a_number_and_a_text_that_spells_it_are_two_keys(server: WireServer) -> None:
    made(server, [7, "7"])
    with closing(connect_server(server.url, prefer_grpc=False).client) as client:
        store = ServerStore(connect_server(server.url, prefer_grpc=False))
        for n, key in enumerate((7, "7")):
            X = np.eye(2, D, dtype=np.float32)[n : n + 1]
            limited(store, key).upsert(NAME, [1], {"raw": X}, [{"n": n}])
        found = {
            i: p["n"]
            for page in store.scroll(NAME, payload=["n"])
            for i, p in zip(page.ids, page.payloads, strict=True)
        }
        assert found == {"7/1": 0, '"7"/1': 1}
        assert store.retrieve(NAME, ["7/1"], payload=True).payloads == [{"n": 0}]
        assert store.retrieve(NAME, ['"7"/1'], payload=True).payloads == [{"n": 1}]
        store.close()
        client.close()


def test_a_store_for_a_key_that_is_not_there_is_refused(
    store: ServerStore, server: WireServer
) -> None:
    with pytest.raises(InputError, match=r"no shard key 'birds'; it has 7, 'acme'"):
        limited(store, "birds").count(NAME)
    assert limited(store, "7").count(NAME) == N, "a text may spell a number"
    plain = {"vectors": {"raw": {"size": 2, "distance": "Cosine"}}}
    assert httpx.put(f"{server.url}/collections/plain", json=plain).status_code == 200
    with pytest.raises(InputError, match=r"'plain' has no shard keys.*leave the shard key out"):
        limited(store, "acme").count("plain")
    with pytest.raises(InputError, match="cannot be made with shard keys"):
        ImageCollection.create(limited(store, "acme"), "new", {"raw": (D, ORIGIN)})


def test_a_copy_would_lose_the_keys_and_names_the_way_that_is_open(
    photos: ImageCollection, tenants: Tenants
) -> None:
    with pytest.raises(Unsupported, match="backfill in place"):
        copy_collection(photos, tenants.projection, new_collection="photos_v2")
    assert photos.store.collections() == [NAME]


def test_a_collection_without_shard_keys_is_not_asked_for_them(
    server: WireServer, tenants: Tenants
) -> None:
    server.storage.clear()
    asked: list[str] = []
    with ServerStore(connect_server(server.url, prefer_grpc=False)) as store:
        plain = ImageCollection.create(store, NAME, {"raw": (D, ORIGIN)})
        server.before = lambda method, path: asked.append(path)
        try:
            plain.write(tenants.ids, {"raw": tenants.X[7]}, tenants.payloads(7))
            backfill(plain, tenants.projection)
            plain.neighbours(tenants.ids[:3], using="pca")
            store.delete(NAME, tenants.ids[:3])
        finally:
            server.before = lambda method, path: None
    assert asked
    assert not [path for path in asked if path.endswith(("photos/cluster", "/shards"))]


@pytest.fixture
def at_work(
    server: WireServer, tenants: Tenants, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, ...]:
    """Stand in an empty folder beside a filled collection; returns the options of a store."""
    filled(server, tenants)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    tenants.projection.save(Path("pca.safetensors"))
    return ("--store", server.url)


def test_ingest_into_a_key_writes_there_and_only_there(
    server: WireServer, at_work: tuple[str, ...], tenants: Tenants
) -> None:
    with Path("ids.csv").open("w") as file:
        file.write("id\n" + "\n".join(map(str, tenants.ids)) + "\n")
    X = unit_rows(np.random.default_rng(4).normal(size=(N, D)))
    np.save("X.npy", X)
    what = ("X.npy", "--metadata", "ids.csv", "--id-column", "id", "--collection", NAME)
    made_by = ("--made-by", ORIGIN.encoder, *at_work)
    error = run("ingest", *what, *made_by, code=1)["error"]
    assert "under the shard keys" in error["message"]
    run("backfill", NAME, "--projection", "pca.safetensors", *at_work)
    tenants.check(server, has_pca=(7, "acme"))
    with_pca = ("--projection", "pca.safetensors", "--into-shard", "acme")
    assert run("ingest", *what, *made_by, *with_pca)["written"] == N
    again = run("ingest", *what, *made_by, *with_pca)
    assert (again["written"], again["skipped"]) == (0, N)
    changed = Tenants(tenants.ids, {7: tenants.X[7], "acme": X}, tenants.projection)
    changed.check(server, has_pca=(7, "acme"))
    verify = ("backfill", NAME, "--projection", "pca.safetensors", "--verify", "5000")
    assert run(*verify, *at_work)["checked"] == 2 * N
    assert run(*verify, *at_work, "--shard-key", "7")["checked"] == N


def test_the_commands_name_points_by_their_keys(
    server: WireServer, at_work: tuple[str, ...], tenants: Tenants
) -> None:
    run("backfill", NAME, "--projection", "pca.safetensors", *at_work)
    run("export", NAME, "--vector", "pca", "-o", "pca.npy", *at_work)
    with Path("pca.ids.csv").open() as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    assert ids == [f"{key}/{point}" for key in KEYS for point in tenants.ids]
    wanted = np.concatenate([tenants.pca(key) for key in KEYS])
    np.testing.assert_allclose(np.load("pca.npy"), wanted, rtol=0, atol=1e-6)  # as `check`
    run("export", NAME, "--vector", "pca", "-o", "own.npy", "--shard-key", "acme", *at_work)
    np.testing.assert_array_equal(np.load("own.npy"), np.load("pca.npy")[N:])
    spoil(server, 3)
    recomputed = ("backfill", NAME, "--projection", "pca.safetensors", "--recompute")
    assert run(*recomputed, "id=acme/3", *at_work)["projected"] == 1
    assert run(*recomputed, "id=3", "--shard-key", "7", *at_work)["projected"] == 1
    tenants.check(server, has_pca=(7, "acme"))
    nearest = ("search", NAME, "--vectors", "raw", "--exact", *at_work)
    hits = run(*nearest, "--id", "acme/3")["vectors"]["raw"]
    assert [hit["id"] for hit in hits] == expected(tenants, tenants.X["acme"][3], 10, ("acme", 3))
    own = run(*nearest, "--id", "3", "--shard-key", "acme")["vectors"]["raw"]
    assert all(isinstance(hit["id"], int | str) and "/" not in str(hit["id"]) for hit in own)
    figures = ("evaluate", "retrieval", NAME, "--labels", "label", "--cluster", "none")
    both = run(*figures, *at_work)
    one = run(*figures, "--shard-key", "acme", *at_work)
    assert (both["n_points"], one["n_points"]) == (2 * N, N)
    assert run("backfill", NAME, "--rollback", *at_work)["removed"] == 2 * N
    tenants.check(server, has_pca=())


JUDGED = (NAME, "--labels", "label")
OF_ONE_KEY = {
    "fewshot": ("evaluate", "fewshot", *JUDGED, "--episodes", "2", "--shots", "1"),
    "misalignment": ("evaluate", "misalignment", *JUDGED),
    "recovery": ("evaluate", "recovery", NAME, "--text-vectors", "T.npy", "--sizes", "4,40"),
    "text": ("evaluate", "text", *JUDGED, "--text-vectors", "T4.npy"),
    "index": ("evaluate", "index", *JUDGED, "-k", "5", "--timed", "5"),
    "compare": ("compare", NAME, "--vectors", "raw,pca", "--labels", "label", "--no-controls"),
    "adopt": ("adopt", NAME, "--made-by", ORIGIN.encoder),
    "fit": ("fit", "--text-vectors", "T.npy", "--made-by", ORIGIN.encoder, "--anchors", "names",
            "--center", f"{NAME}:raw", "-o", "c.safetensors"),
}  # fmt: skip


def plain(told: Any) -> Any:
    """Return what a command says without times, the name of its run and lines that name a key."""
    if isinstance(told, dict):
        drop = ("run_id", "seconds", "latency", "fingerprint", "commands")
        return {key: plain(one) for key, one in told.items() if not key.startswith(drop)}
    return [plain(one) for one in told] if isinstance(told, list) else told


@pytest.mark.parametrize("command", sorted(OF_ONE_KEY))
def test_a_command_for_one_key_gives_what_its_points_alone_give(
    server: WireServer, at_work: tuple[str, ...], tenants: Tenants, command: str
) -> None:
    """The same ids are there under another key, with other vectors."""
    texts = np.random.default_rng(5).normal(size=(40, D)).astype(np.float32)
    np.save("T.npy", texts)
    np.save("T4.npy", texts[:4])
    Path("names").write_text("".join(f"thing {n}\n" for n in range(40)))
    few = tenants.ids[:60]
    run("backfill", NAME, "--projection", "pca.safetensors", *at_work)
    for point in tenants.ids[60:]:
        for key in KEYS:
            del server.storage.points(NAME)[key, point]
    keyed = () if command == "adopt" else ("--shard-key", "acme")
    told = run(*OF_ONE_KEY[command], *keyed, *at_work)
    points = [server.storage.points(NAME)["acme", point] for point in few]
    metadata = server.storage.find(NAME).metadata
    server.storage.clear()
    with ServerStore(connect_server(server.url, prefer_grpc=False)) as store:
        store.create(NAME, {"raw": VectorSpec(D), "pca": VectorSpec(D // 2)}, metadata=metadata)
        X = {v: np.array([p.vectors[v] for p in points]) for v in ("raw", "pca")}
        store.upsert(NAME, few, X, [point.payload for point in points])
    assert plain(told) == plain(run(*OF_ONE_KEY[command], *at_work))


def test_a_centre_of_one_key_says_which(at_work: tuple[str, ...], tenants: Tenants) -> None:
    np.save("T.npy", np.random.default_rng(5).normal(size=(40, D)).astype(np.float32))
    Path("names").write_text("".join(f"thing {n}\n" for n in range(40)))
    fit = OF_ONE_KEY["fit"]
    run(*fit, "--shard-key", "7", *at_work)
    found = Projection.load("c.safetensors")
    assert found.offset is not None
    np.testing.assert_allclose(found.offset, tenants.X[7].mean(axis=0), atol=1e-6)  # float32
    assert found.recipe["center"]["shard_key"] == 7
    place = fit.index("--center")
    without = (*fit[:place], *fit[place + 2 :], "--shard-key", "7")
    assert "--shard-key is for --center" in run(*without, code=2)["error"]["message"]


def test_images_that_one_key_alone_has_are_brought_up_without_naming_it(
    server: WireServer, store: ServerStore
) -> None:
    encoder = PlainEncoder()
    raw = VectorOrigin(encoder.name, encoder.fingerprint)
    pca = Projection(np.eye(DIM, 4, dtype=np.float32), "pca", encoder.name, encoder.fingerprint)
    server.storage.clear()
    sizes = {"raw": DIM, "pca": 4}
    config = models.CreateCollection(
        vectors={v: models.VectorParams(size=n, distance="Cosine") for v, n in sizes.items()},
        sharding_method=models.ShardingMethod.CUSTOM,
        metadata=Manifest({"raw": raw, "pca": projected_origin(pca, raw, "raw")}).to_metadata(),
    )
    place = f"{server.url}/collections/{NAME}"
    httpx.put(place, content=config.model_dump_json(exclude_none=True))
    for key in KEYS:
        httpx.put(f"{place}/shards", json={"shard_key": key})
    ours = ImageCollection.open(limited(store, "acme"), NAME)
    assert ingest_images(records(9), ours, encoder=encoder, projection=pca).written == 9
    stored = list(server.storage.points(NAME).values())
    for point in stored[:4]:
        del point.vectors["pca"]
    stored[8].payload["sha256"] = "that of another file"
    photos = ImageCollection.open(store, NAME)
    again = ingest_images(records(9), photos, encoder=encoder, projection=pca)
    assert (again.written, again.projected, again.skipped, again.failed) == (1, 4, 4, 0)
    assert all(set(point.vectors) == {"raw", "pca"} for point in stored)


def test_a_prune_stays_within_its_key(
    server: WireServer, store: ServerStore, tenants: Tenants
) -> None:
    kept = [f"{i}.jpg" for i in range(N // 2)]
    for key in KEYS:
        for path in kept:
            payload = {"path": path, "dataset": NAME}
            server.storage.points(NAME)[key, point_id(NAME, path)].payload = payload
    source = [ImageRecord(path, read=bytes) for path in kept[3:]]
    with pytest.raises(InputError, match="prune one key at a time"):
        plan_prune(source, ImageCollection.open(store, NAME))
    acme = ImageCollection.open(limited(store, "acme"), NAME)
    assert plan_prune(source, acme).n_gone == 3


def test_a_key_is_read_as_names_are(
    server: WireServer, tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    odd: list[ShardKey] = [7, "7", "k,1", " sp"]
    made(server, odd)
    for n, key in enumerate(odd):
        for i in range(n + 1):
            stored = Point({"raw": np.asarray(tenants.X[7][i], np.float32)}, {}, key)
            server.storage.points(NAME)[key, i] = stored
    for n, text in enumerate(["7", '"7"', "k,1", " sp"]):
        nearest = ("search", NAME, "--id", "0", "--vectors", "raw", "--exact")
        told = run(*nearest, "--shard-key", text, "--store", server.url)
        assert len(told["vectors"]["raw"]) == n, text
    store = ServerStore(connect_server(server.url, prefer_grpc=False), retry=Clock().retry())
    names = [i for page in store.scroll(NAME) for i in page.ids]
    assert {'"k,1"/2', '" sp"/3'} <= set(names)
    assert store.count(NAME, parse_filter(["id=" + ",".join(map(str, names))])) == len(names)
    store.close()


def test_a_point_under_two_names_is_one_point(
    server: WireServer, store: ServerStore, tenants: Tenants
) -> None:
    for point in tenants.ids[:4]:
        del server.storage.points(NAME)["acme", point]
    X = np.eye(2, D, dtype=np.float32)
    with pytest.raises(InputError, match="'7/1' occurs twice in one write"):
        store.upsert(NAME, ["7/1", 1], {"raw": X}, [{}, {}])
    upper = KeyedId(7, str(tenants.ids[-1]).upper())
    assert store.retrieve(NAME, [upper]).ids == [f"7/{tenants.ids[-1]}"]
    assert store.count(NAME, Filter(ids=[upper])) == 1
    store.update_vectors(NAME, "raw", [upper], X[:1])
    assert server.storage.points(NAME)[7, tenants.ids[-1]].vectors["raw"][0] == 1
