"""Embedded stores that a kill has left in the middle of a change: they open, and lose nothing.

The stores were made by 0.1.0, see tests/data/make_stores_0001.py.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal.errors import Conflict, Locked, NotFound, StoreError, Unsupported
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.runs.ledger import RunLedger
from intramodal.store.base import Filter, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import METADATA_KEY
from intramodal.store.open import open_store
from tests.data.make_stores_0001 import D, K, N, projection

edge = pytest.importorskip("qdrant_edge", reason="no wheel of qdrant-edge-py for this platform")
engine = pytest.importorskip("intramodal.store.edge.engine")

ARCHIVE = Path(__file__).parents[1] / "data" / "stores-0001.tar.xz"
BROKEN = ["added-half", "removed-half", "first-segment", "removed-unsaid"]

Points = dict[Any, tuple[dict[str, Any], bytes]]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def made(stores: Path) -> Points:
    """Return what every store held before it was killed."""
    return points(stores / "whole")


def points(location: Path, name: str = "shop") -> Points:
    found = {}
    with open_store(str(location)) as store:
        for page in store.scroll(name, vectors=["raw"], payload=True):
            for row, point in enumerate(page.ids):
                found[point] = (page.payloads[row], page.vectors["raw"][row].tobytes())
    return found


def shard_of(location: Path, name: str = "shop") -> Path:
    contents = json.loads((location / "catalogue.json").read_text())
    return location / contents["collections"][name]["folder"]


def folders(location: Path) -> set[str]:
    return {path.name for path in location.iterdir() if path.is_dir()}


def test_a_whole_store_of_0_1_opens_unchanged(stores: Path, made: Points) -> None:
    assert len(made) == N
    with open_store(str(stores / "whole")) as store:
        info = store.info("shown")
        assert info.vectors == {"raw": VectorSpec(D), "pca": VectorSpec(K)}
        assert info.indexes == {"label": "keyword"}
        assert store.count("shop", Filter(has_vector="pca")) == N
        assert store.count("shop", Filter({"label": "l3"})) == N // 5
    with RunLedger.open(str(stores / "runs.db")) as ledger:
        assert [run.status for run in ledger.runs()] == ["COMPLETE"]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_store_killed_within_a_change_of_its_vectors_opens_without_the_vector(
    stores: Path, made: Points, broken: str
) -> None:
    location = stores / broken
    assert points(location) == made
    with open_store(str(location)) as store:
        shop = ImageCollection.open(store, "shop")
        assert dict(shop.info().vectors) == {"raw": VectorSpec(D)}
        assert store.aliases() == {"shown": "shop"}
        assert "pca" not in (shard_of(location) / "edge_config.json").read_text()
        # Whatever was interrupted, both can be repeated.
        assert rollback_vector(shop).removed == 0
        assert backfill(shop, projection()).projected == N
        assert shop.origin("pca").is_complete
    assert points(location) == made
    with open_store(str(location)) as store:
        table = ImageCollection.open(store, "shop").table(["raw", "pca"])
        expected = projection().apply(table.vectors["raw"])
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        # float32 dot products over 24 terms, stored normalised
        np.testing.assert_allclose(table.vectors["pca"], expected, atol=1e-6)
        assert rollback_vector(ImageCollection.open(store, "shop")).removed == N
    assert points(location) == made


def test_a_copy_that_0_1_has_begun_is_completed(stores: Path, made: Points) -> None:
    location = stores / "copied-half"
    with open_store(str(location)) as store:
        shop = ImageCollection.open(store, "shop")
        summary = copy_collection(shop, projection(), new_collection="shop_v2")
        assert (summary.copied, summary.aliases) == (N - 100, ["shown"])
    assert points(location, "shop_v2") == made


def test_a_killed_create_or_drop_leaves_no_folder(tmp_path: Path) -> None:
    with open_store(str(tmp_path)) as store:
        store.create("kept", {"raw": VectorSpec(D)})
        store.create("gone", {"raw": VectorSpec(D)})
    kept = shard_of(tmp_path, "kept").name
    path = tmp_path / "catalogue.json"
    contents = json.loads(path.read_text())
    contents["discarded"] = [contents["collections"].pop("gone")["folder"], "never-made"]
    path.write_text(json.dumps(contents))
    (tmp_path / "catalogue.tmp123").write_text("{")
    with open_store(str(tmp_path)) as store:
        assert store.collections() == ["kept"]
    assert folders(tmp_path) == {kept}
    assert json.loads(path.read_text())["discarded"] == []
    assert not list(tmp_path.glob("*.tmp*"))


def test_half_a_segment_of_a_killed_optimizer_is_deleted(tmp_path: Path) -> None:
    with open_store(str(tmp_path)) as store:
        store.create("shop", {"raw": VectorSpec(2)})
        store.upsert("shop", [1], {"raw": np.ones((1, 2), np.float32)}, [{"n": 1}])
    shard = shard_of(tmp_path)
    (segment,) = (shard / "segments").iterdir()
    litter = [
        shard / "temp_segments/segment_builder_AbCdEf/vector_storage-raw",
        *(place / ".atomicwriteAbCdEf" for place in (shard, shard / "wal", segment)),
    ]
    for folder in litter:
        folder.mkdir(parents=True)
        (folder / "tmpfile.tmp").write_bytes(bytes(100))
    with open_store(str(tmp_path)) as store:
        assert store.retrieve("shop", [1], payload=True).payloads == [{"n": 1}]
    assert not [folder for folder in litter if folder.exists()]
    assert not (shard / "temp_segments/segment_builder_AbCdEf").exists()


def test_a_collection_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    with open_store(str(tmp_path)) as store:
        store.create("kept", {"raw": VectorSpec(D)})
        before = (tmp_path / "catalogue.json").read_bytes(), folders(tmp_path)
        with pytest.raises(Unsupported, match="shards"):
            store.create("shop", {"raw": VectorSpec(D)}, options={"shards": 3})
        assert ((tmp_path / "catalogue.json").read_bytes(), folders(tmp_path)) == before


def test_a_discarded_folder_outside_of_the_store_is_never_deleted(tmp_path: Path) -> None:
    outside = tmp_path / "photos"
    outside.mkdir()
    location = tmp_path / "store"
    open_store(str(location)).close()
    contents = {"version": 1, "collections": {}, "aliases": {}, "discarded": ["../photos"]}
    (location / "catalogue.json").write_text(json.dumps(contents))
    with open_store(str(location)) as store, pytest.raises(StoreError, match="folder"):
        store.collections()
    assert outside.is_dir()


def test_a_folder_without_a_catalogue_is_left_alone(stores: Path) -> None:
    before = folders(stores / "orphans")
    assert len(before) == 3
    with open_store(str(stores / "orphans")) as store:
        assert store.collections() == ["shop"]
    assert folders(stores / "orphans") == before


def test_vectors_that_other_programs_have_added_are_seen_and_never_removed(tmp_path: Path) -> None:
    with open_store(str(tmp_path)) as store:
        store.create("shop", {"raw": VectorSpec(2)})
        store.upsert("shop", [1], {"raw": np.ones((1, 2), np.float32)}, [{}])
    shard = edge.EdgeShard.load(str(shard_of(tmp_path)))
    shard.update(edge.UpdateOperation.create_dense_vector("pca", 3, edge.Distance.Dot, None, None))
    row = np.array([1, 2, 3], np.float32)
    shard.update(edge.UpdateOperation.update_vectors([edge.PointVectors(1, {"pca": row})]))
    shard.close()
    for _ in range(2):
        with open_store(str(tmp_path)) as store:
            assert store.info("shop").vectors["pca"] == VectorSpec(3, "Dot")
            with pytest.raises(Conflict, match="has a vector 'pca' already"):
                store.add_vector("shop", "pca", VectorSpec(3))
            found = store.retrieve("shop", [1], vectors=["pca"]).vectors["pca"]
            np.testing.assert_array_equal(found, row[None])


@pytest.mark.parametrize("damage", ["edge_config.json", "wal", "segments", ""])
def test_a_collection_that_cannot_be_opened_can_be_dropped(tmp_path: Path, damage: str) -> None:
    with open_store(str(tmp_path)) as store:
        store.create("shop", {"raw": VectorSpec(2)})
        store.create("other", {"raw": VectorSpec(2)})
        store.set_alias("shown", "shop")
    damaged = shard_of(tmp_path) / damage
    if damage == "edge_config.json":
        damaged.write_text("{")
    else:
        shutil.rmtree(damaged)
        damaged.touch()
    with open_store(str(tmp_path)) as store:
        with pytest.raises(StoreError):
            store.count("shop")
        store.drop("shop")
        assert (store.collections(), store.aliases()) == (["other"], {})
        with pytest.raises(NotFound):
            store.drop("shop")


def test_what_another_store_has_open_is_not_dropped(tmp_path: Path) -> None:
    with open_store(str(tmp_path)) as one, open_store(str(tmp_path)) as other:
        one.create("shop", {"raw": VectorSpec(2)})
        with pytest.raises(Locked, match="holds it"):
            other.drop("shop")
        assert one.count("shop") == 0
        one.drop("shop")
        assert other.collections() == []


def make_shop(location: Path) -> dict[str, Any]:
    """Make a collection with a filled `pca`; returns what the catalogue says of it."""
    with open_store(str(location)) as store:
        store.create("shop", {"raw": VectorSpec(2)})
        store.upsert("shop", [1], {"raw": np.ones((1, 2), np.float32)}, [{}])
        store.add_vector("shop", "pca", VectorSpec(3))
        store.update_vectors("shop", "pca", [1], np.ones((1, 3), np.float32))
    whole: dict[str, Any] = json.loads((location / "catalogue.json").read_text())
    return whole


def test_a_change_that_ends_while_another_process_waits_is_not_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_shop(tmp_path)
    path = tmp_path / "catalogue.json"
    half = json.loads(path.read_text())
    half["collections"]["shop"]["pending"] = "pca"
    del half["collections"]["shop"]["vectors"]["pca"]
    path.write_text(json.dumps(half))
    load = engine.load_shard

    def load_when_the_other_is_done(*arguments: Any) -> Any:
        path.write_text(json.dumps(whole))
        return load(*arguments)

    monkeypatch.setattr(engine, "load_shard", load_when_the_other_is_done)
    with open_store(str(tmp_path)) as store:
        assert store.count("shop", Filter(has_vector="pca")) == 1


def test_a_change_whose_end_could_not_be_written_is_undone_before_it_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(str(tmp_path)) as opened:
        store: Any = opened
        store.create("shop", {"raw": VectorSpec(2)})
        store.upsert("shop", [1], {"raw": np.ones((1, 2), np.float32)}, [{}])
        save, calls = store._catalogue.save, iter(range(9))

        def fail_at_the_end(contents: Any) -> None:
            if next(calls) == 1:
                raise KeyboardInterrupt
            save(contents)

        monkeypatch.setattr(store._catalogue, "save", fail_at_the_end)
        with pytest.raises(KeyboardInterrupt):
            store.add_vector("shop", "pca", VectorSpec(3))
        store.add_vector("shop", "pca", VectorSpec(3))
        store.update_vectors("shop", "pca", [1], np.ones((1, 3), np.float32))
    with open_store(str(tmp_path)) as store:
        assert store.count("shop", Filter(has_vector="pca")) == 1


def test_a_collection_is_never_discarded(tmp_path: Path) -> None:
    contents = make_shop(tmp_path)
    contents["discarded"] = [contents["collections"]["shop"]["folder"]]
    (tmp_path / "catalogue.json").write_text(json.dumps(contents))
    with open_store(str(tmp_path)) as store:
        assert store.count("shop") == 1


def test_metadata_of_others_does_not_keep_an_old_collection_from_opening(tmp_path: Path) -> None:
    contents = make_shop(tmp_path)
    about = contents["collections"]["shop"]
    about |= {"is_reconciled": False, "metadata": {METADATA_KEY: "not a manifest"}}
    (tmp_path / "catalogue.json").write_text(json.dumps(contents))
    with open_store(str(tmp_path)) as store:
        assert store.problems() == {}
        assert store.count("shop", Filter(has_vector="pca")) == 1


def test_the_name_of_a_sparse_vector_is_taken(tmp_path: Path) -> None:
    make_shop(tmp_path)
    shard = edge.EdgeShard.load(str(shard_of(tmp_path)))
    shard.update(edge.UpdateOperation.create_sparse_vector("words"))
    shard.close()
    with open_store(str(tmp_path)) as store:
        with pytest.raises(Conflict, match="has a sparse vector 'words'"):
            store.add_vector("shop", "words", VectorSpec(3))
        assert set(store.settings("shop")["sparse_vectors"]) == {"words"}
