"""A vector of an embedded collection gets its settings after its name: interrupted in between."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from intramodal.errors import InputError, StoreError, Unsupported
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.plan import plan_backfill
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.ingest.backfill.verify import verify_vector
from intramodal.store.base import Filter, Store, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.open import open_store
from tests.unit.ingest.backfill_kit import (
    ORIGIN,
    PROJECTION,
    D,
    N,
    assert_projected,
    contents,
    payloads,
    rows,
)

pytest.importorskip("qdrant_edge", reason="no wheel of qdrant-edge-py for this platform")
engine = pytest.importorskip("intramodal.store.edge.engine")
repair = pytest.importorskip("intramodal.store.edge.repair")

HNSW = {"m": 24, "ef_construct": 64, "full_scan_threshold": 10_000, "max_indexing_threads": 0}
INT8 = {"scalar": {"type": "int8", "always_ram": True}}
FULL = {"on_disk": True, "hnsw_config": HNSW, "quantization_config": INT8}


def shop_in(store: Store) -> ImageCollection:
    """Return a collection whose source vector is set up in every way, and indexed."""
    options = {"vectors": {"raw": FULL}, "optimizers_config": {"indexing_threshold": 1}}
    store.create("shop", {"raw": VectorSpec(D)}, options=options)
    made = ImageCollection.open(store, "shop")
    made.declare("raw", ORIGIN)
    made.write(list(range(N)), {"raw": rows(range(N))}, payloads(range(N)))
    return made


def settings_of(store: Store, vector: str = "pca") -> dict[str, Any]:
    found: dict[str, Any] = store.settings("shop").get("vectors", {}).get(vector, {})
    return found


def segments(store: Store) -> list[dict[str, Any]]:
    files = Path(store.location).glob("shop-*/segments/*/segment.json")
    return [json.loads(path.read_text())["config"]["vector_data"] for path in files]


@pytest.fixture
def location(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def test_the_new_vector_is_set_up_as_its_source_and_indexed_so(location: str) -> None:
    with open_store(location) as store:
        shop = shop_in(store)
        store.optimize("shop")
        before = contents(shop)
        notes = plan_backfill(shop, PROJECTION).notes
        assert any("takes from 'raw': on disk, HNSW" in note for note in notes)
        assert backfill(shop, PROJECTION).projected == N
        assert (settings_of(store), settings_of(store, "raw")) == (FULL, FULL)
        assert contents(shop) == before
        (made,) = [found for found in segments(store) if found["pca"]["index"]["type"] == "hnsw"]
        assert made["pca"]["index"]["options"] == HNSW
        assert made["pca"]["quantization_config"] == INT8
        assert_projected(shop)
    with open_store(location) as store:
        assert settings_of(store) == FULL
        assert store.count("shop", Filter(has_vector="pca")) == N


@pytest.mark.parametrize("is_written", [False, True])
def test_a_kill_between_the_name_and_its_settings_is_made_up_for_by_the_repeat(
    location: str, monkeypatch: pytest.MonkeyPatch, *, is_written: bool
) -> None:
    set_up = repair.set_up

    def stop(*arguments: Any) -> None:
        if is_written:
            set_up(*arguments)
        raise KeyboardInterrupt

    with open_store(location) as store:
        shop = shop_in(store)
        before = contents(shop)
        with monkeypatch.context() as patched:
            patched.setattr(repair, "set_up", stop)
            with pytest.raises(KeyboardInterrupt):
                backfill(shop, PROJECTION)
    with open_store(location) as store:
        shop = ImageCollection.open(store, "shop")
        assert set(shop.info().vectors) == {"raw", "pca"}
        assert settings_of(store) == (FULL if is_written else {})
        assert contents(shop) == before
        assert backfill(shop, PROJECTION).projected == N
        assert settings_of(store) == FULL
        assert contents(shop) == before
        assert_projected(shop)


def test_a_half_written_file_of_settings_is_removed(location: str) -> None:
    with open_store(location) as store:
        shop_in(store)
    (folder,) = Path(location).glob("shop-*")
    (folder / "intramodal.tmp").write_text('{"vectors": {"ra')
    with open_store(location) as store:
        assert store.count("shop") == N
        assert settings_of(store, "raw") == FULL
    assert not list(folder.rglob("intramodal.tmp"))


def test_settings_that_the_engine_does_not_open_are_put_back(
    location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(location) as store:
        shop = shop_in(store)
        before = contents(shop)
        monkeypatch.setattr(engine, "as_written", lambda *_: {"hnsw_config": "none of its words"})
        with pytest.raises(StoreError):
            backfill(shop, PROJECTION)
        assert settings_of(store) == {}
        assert contents(shop) == before
        monkeypatch.undo()
        assert backfill(shop, PROJECTION).projected == N
        assert settings_of(store) == FULL


@pytest.mark.parametrize(
    ("wanted", "own"),
    [
        ({"on_disk": False}, {**FULL, "on_disk": False}),
        ({"quantize": "none"}, {"on_disk": True, "hnsw_config": HNSW}),
        *(
            ({"quantize": kind}, {**FULL, "quantization_config": {kind: {"always_ram": True}}})
            for kind in ("binary", "turbo")
        ),
    ],
    ids=str,
)
def test_what_is_wanted_otherwise_is_set_up(
    location: str, wanted: dict[str, Any], own: dict[str, Any]
) -> None:
    with open_store(location) as store:
        shop = shop_in(store)
        backfill(shop, PROJECTION, datatype="float16", **wanted)
        assert settings_of(store) == own
        assert shop.info().vectors["pca"].datatype == "float16"
        store.optimize("shop")
        assert store.query_batch("shop", rows([3]), using="raw", k=1).ids == [[3]]
        checked = verify_vector(shop, PROJECTION, n=N)
        assert (checked.checked, checked.stale) == (N, 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quantization_config": {"product": {"compression": "x16"}}}, "quantizes by scalar"),
        ({"quantization_config": {"binary": {"encoding": "five"}}}, "'five' is none of"),
        ({"memory": "lukewarm"}, "'lukewarm' is none of"),
        ({"speed": 1}, "by 'speed'; it takes on_disk"),
        ({"hnsw_config": {"m": "many"}}, "set up the vector 'pca'"),
    ],
    ids=str,
)
def test_settings_that_the_engine_does_not_know_are_refused_before_anything_changes(
    location: str, settings: dict[str, Any], said: str
) -> None:
    with open_store(location) as store:
        shop = shop_in(store)
        with pytest.raises((Unsupported, InputError), match=said):
            store.add_vector("shop", "pca", VectorSpec(D // 2), settings)
        assert set(shop.info().vectors) == {"raw"}


@pytest.mark.parametrize("datatype", ["float16", "turbo8", "turbo16"])
def test_what_a_datatype_rounds_is_not_taken_for_stale(location: str, datatype: str) -> None:
    with open_store(location) as store:
        shop = shop_in(store)
        backfill(shop, PROJECTION, datatype=datatype)
        checked = verify_vector(shop, PROJECTION, n=N)
        assert (checked.checked, checked.stale) == (N, 0)
        store.update_vectors("shop", "raw", [3], rows([3], salt=1))
        assert verify_vector(shop, PROJECTION, n=N).stale_ids == [3]


# What servers below 1.19 do wrong when a vector is removed, see tests/faults/test_vector_names.py


def test_a_name_made_again_brings_no_vector_back_that_the_disk_still_holds(location: str) -> None:
    """As qdrant#9317, whose removal leaves folders behind."""
    with open_store(location) as store:
        backfill(shop_in(store), PROJECTION)
    kept = {
        path: Path(shutil.copytree(path, f"{location}-kept-{number}"))
        for number, path in enumerate(Path(location).glob("shop-*/segments/*/vector_*-pca"))
    }
    assert kept
    with open_store(location) as store:
        rollback_vector(ImageCollection.open(store, "shop"))
        for path, copy in kept.items():
            shutil.copytree(copy, path, dirs_exist_ok=True)
        store.add_vector("shop", "pca", VectorSpec(D // 2))
    with open_store(location) as store:
        assert store.count("shop", Filter(has_vector="pca")) == 0


def test_the_optimizer_goes_on_after_a_vector_was_removed(location: str) -> None:
    """As qdrant#9641, where it never did again."""
    with open_store(location) as store:
        shop = shop_in(store)
        backfill(shop, PROJECTION)
        rollback_vector(shop)
        shop.write(
            list(range(N, 2 * N)), {"raw": rows(range(N, 2 * N))}, payloads(range(N, 2 * N))
        )
        store.optimize("shop")
        assert store.info("shop").n_indexed == 2 * N
        assert not any("pca" in found for found in segments(store))
