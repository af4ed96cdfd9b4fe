"""Adding and removing a vector on servers of several versions."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from intramodal.errors import Conflict, InputError, StoreError, Unsupported
from intramodal.ingest.backfill.copy import copy_collection
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.plan import plan_backfill, plan_copy
from intramodal.ingest.backfill.rollback import rollback_vector
from intramodal.ingest.backfill.verify import verify_vector
from intramodal.ingest.pipeline import vectors_collection
from intramodal.store.base import UNNAMED, Store, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import Manifest
from intramodal.store.open import open_store
from tests.faults.wire import WireServer, storage
from tests.faults.wire.errors import WireError
from tests.unit.ingest.backfill_kit import (
    ORIGIN,
    PROJECTION,
    D,
    N,
    assert_projected,
    contents,
    payloads,
    photos_in,
    rows,
)


@contextmanager
def at(version: str, *, uses_grpc: bool = False) -> Iterator[tuple[WireServer, Store]]:
    with (
        WireServer(version=version, speaks_grpc=uses_grpc) as server,
        open_store(server.url) as store,
    ):
        yield server, store


def manifest(store: Store) -> Manifest:
    return ImageCollection.open(store, "photos").manifest


@pytest.mark.parametrize("version", ["1.18.0", "1.18.3"])
def test_below_1_19_a_vector_is_removed_only_after_a_yes(version: str) -> None:
    with at(version) as (_, store):
        photos = photos_in(store)
        backfill(photos, PROJECTION)
        before = contents(photos, ["raw", "pca"])
        plan = rollback_vector(photos, dry_run=True)
        assert (plan.removed, plan.is_plan) == (N, True)
        assert "this has to be confirmed (yes)" in plan.notes[0]
        reasons = rf"Qdrant {version} .*qdrant#9641.*qdrant#9105.*qdrant#9317.*1\.19\.0.*`yes`"
        with pytest.raises(Conflict, match=reasons):
            rollback_vector(photos)
        assert contents(photos, ["raw", "pca"]) == before
        assert rollback_vector(photos, yes=True).removed == N
        assert set(photos.info().vectors) == {"raw"}


@pytest.mark.parametrize("uses_grpc", [False, True])
def test_a_name_that_such_a_server_has_removed_is_used_again_only_after_a_yes(
    uses_grpc: bool,
) -> None:
    with at("1.18.3", uses_grpc=uses_grpc) as (_, store):
        photos = photos_in(store)
        backfill(photos, PROJECTION)
        rollback_vector(photos, yes=True)
        assert manifest(store).removed == {"pca": "1.18.3"}
        again = ImageCollection.open(store, "photos")
        for act in (backfill, plan_backfill):
            with pytest.raises(Conflict, match=r"removed .* by Qdrant 1\.18\.3.*#9317.*`yes`"):
                act(again, PROJECTION)
        assert set(again.info().vectors) == {"raw"}
        assert backfill(again, PROJECTION, vector="pca_2").projected == N
        assert plan_backfill(again, PROJECTION, vector="pca", yes=True).n_missing == N
        assert backfill(again, PROJECTION, vector="pca", yes=True).projected == N
        assert_projected(again)
        assert manifest(store).removed == {}
        assert backfill(again, PROJECTION).projected == 0


def test_an_ingest_does_not_use_such_a_name_again_either() -> None:
    with at("1.18.3") as (_, store):
        photos = photos_in(store)
        backfill(photos, PROJECTION)
        rollback_vector(photos, yes=True)
        with pytest.raises(Conflict, match="#9317"):
            vectors_collection(store, "photos", {"pca": (D // 2, ORIGIN)}, vector="pca")
        assert set(photos.info().vectors) == {"raw"}


def test_a_rollback_that_was_killed_before_the_removal_is_repeated_or_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with at("1.18.3") as (_, store):
        photos = photos_in(store)
        backfill(photos, PROJECTION)

        def stop(*names: str) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(store, "delete_vector", stop)
            with pytest.raises(KeyboardInterrupt):
                rollback_vector(photos, yes=True)
        assert manifest(store).removed == {"pca": "1.18.3"}
        photos = ImageCollection.open(store, "photos")
        assert backfill(photos, PROJECTION).skipped == N  # it was not removed
        assert manifest(store).removed == {}
        assert rollback_vector(photos, yes=True).removed == N


def test_after_the_upgrade_the_name_is_free_again() -> None:
    with at("1.18.3") as (old, store):
        photos = photos_in(store)
        backfill(photos, PROJECTION)
        rollback_vector(photos, yes=True)
        with (
            WireServer(version="1.19.0", storage=old.storage) as server,
            open_store(server.url) as upgraded,
        ):
            photos = ImageCollection.open(upgraded, "photos")
            assert backfill(photos, PROJECTION).projected == N
            assert rollback_vector(photos).removed == N  # and no yes is needed
            assert manifest(upgraded).removed == {}


@pytest.mark.parametrize(
    ("version", "warns"),
    [("1.18.0", True), ("1.18.1", True), ("1.18.2", False), ("1.19.0", False)],
)
def test_below_1_18_2_a_backfill_in_place_warns_before_it_adds_the_vector(
    version: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with at(version) as (_, store):
        photos = photos_in(store)
        noted = [note for note in plan_backfill(photos, PROJECTION).notes if "#8776" in note]
        assert len(noted) == warns
        with caplog.at_level(logging.WARNING, logger="intramodal"):
            for _ in range(2):
                backfill(photos, PROJECTION)
        warned = [text for text in caplog.messages if "#8776" in text]
        assert len(warned) == warns


# How the new vector is stored

SCALAR = {"scalar": {"type": "int8", "quantile": 0.5, "always_ram": True}}
PRODUCT = {"product": {"compression": "x16"}}
HNSW = {"m": 24, "ef_construct": 64}
FULL = {"on_disk": True, "hnsw_config": HNSW, "quantization_config": SCALAR}


def shop(
    store: Store,
    settings: Mapping[str, Any],
    *,
    spec: VectorSpec | None = None,
    vector: str = "raw",
    **options: Any,
) -> ImageCollection:
    """Return a collection of others whose vector is set up so, filled and declared."""
    vectors = {vector: dict(settings)} if settings else {}
    store.create("shop", {vector: spec or VectorSpec(D)}, options={"vectors": vectors, **options})
    made = ImageCollection.open(store, "shop")
    made.write(list(range(N)), {vector: rows(range(N))}, payloads(range(N)))
    made.declare(vector, ORIGIN)
    return made


def settings_of(store: Store, vector: str = "pca", name: str = "shop") -> dict[str, Any]:
    found: dict[str, Any] = store.settings(name).get("vectors", {}).get(vector, {})
    return found


@pytest.mark.parametrize("uses_grpc", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        FULL,
        {"memory": "cold"},
        {"hnsw_config": {"m": 0, "payload_m": 16}},
        {"quantization_config": {"binary": {"encoding": "two_bits", "memory": "pinned"}}},
        {"quantization_config": {"turbo": {"bits": "bits2", "always_ram": True}}},
        {},
    ],
    ids=str,
)
def test_the_new_vector_is_set_up_as_its_source(settings: dict[str, Any], uses_grpc: bool) -> None:
    with at("1.19.0", uses_grpc=uses_grpc) as (server, store):
        photos = shop(store, settings, spec=VectorSpec(D, datatype="float16"))
        notes = plan_backfill(photos, PROJECTION).notes
        assert any("'pca' takes from 'raw': " in note for note in notes)
        assert "pca" not in photos.info().vectors
        done = backfill(photos, PROJECTION)
        assert (done.projected, settings_of(store)) == (N, settings)
        assert photos.info().vectors["pca"] == VectorSpec(D // 2, datatype="float16")
        assert done.notes == [note for note in notes if "takes from" in note]
        requests: list[str] = []
        server.before = lambda method, path: requests.append(f"{method} {path}")
        assert backfill(photos, PROJECTION).projected == 0
        assert settings_of(store) == settings
        assert not [one for one in requests if "PATCH" in one or one.endswith(" Update")]


def test_what_a_source_is_set_up_with_and_what_is_left_is_said() -> None:
    with at("1.19.0") as (_, store):
        photos = shop(store, FULL, spec=VectorSpec(D, datatype="float16"))
        said = (
            "'pca' takes from 'raw': on disk, HNSW m=24 ef_construct=64, scalar quantization, "
            "float16"
        )
        assert said in plan_backfill(photos, PROJECTION).notes
        plain = plan_backfill(photos, PROJECTION, on_disk=False, quantize="none")
        assert "'pca' takes from 'raw': HNSW m=24 ef_construct=64, float16" in plain.notes
        # Two bytes a number on disk, one a number in memory; or two in memory. And the graph.
        n_numbers, links = N * D // 2, N * 2 * 24 * 4
        costs = plan_backfill(photos, PROJECTION)
        assert costs.bytes_added == 2 * n_numbers
        assert costs.ram_bytes[1] - costs.ram_bytes[0] == n_numbers + links
        assert plain.ram_bytes[1] - plain.ram_bytes[0] == 2 * n_numbers + links


@pytest.mark.parametrize(
    ("settings", "spec", "why"),
    [
        ({"quantization_config": PRODUCT}, VectorSpec(D), "product quantization (one of its"),
        ({}, VectorSpec(D, datatype="uint8"), "uint8 (components of projected vectors lie"),
        ({}, VectorSpec(D, datatype="turbo8"), "turbo8"),
    ],
)
def test_what_would_spoil_a_projected_vector_is_never_taken_over(
    settings: dict[str, Any], spec: VectorSpec, why: str
) -> None:
    with at("1.19.0") as (_, store):
        photos = shop(store, {**settings, "on_disk": True}, spec=spec)
        notes = plan_backfill(photos, PROJECTION).notes
        assert any(note.startswith(f"'pca' does not take from 'raw': {why}") for note in notes)
        backfill(photos, PROJECTION)
        assert settings_of(store) == {"on_disk": True}
        assert photos.info().vectors["pca"] == VectorSpec(D // 2)
        copied = copy_collection(photos, PROJECTION, new_collection="new", vector="other")
        assert any(f"'other' does not take from 'raw': {why}" in note for note in copied.notes)
        assert settings_of(store, "other", copied.new_collection) == {"on_disk": True}
        assert store.info("new").vectors["other"] == VectorSpec(D // 2)
        assert settings_of(store, "raw", "new") == {**settings, "on_disk": True}


@pytest.mark.parametrize(
    ("wanted", "settings", "datatype"),
    [
        ({"on_disk": False}, {**FULL, "on_disk": False}, "float16"),
        ({"quantize": "none"}, {"on_disk": True, "hnsw_config": HNSW}, "float16"),
        ({"quantize": "scalar"}, FULL, "float16"),  # that of the source, with its quantile
        (
            {"quantize": "binary", "datatype": "float32"},
            {**FULL, "quantization_config": {"binary": {"always_ram": True}}},
            "float32",
        ),
        (
            {"quantize": "turbo"},
            {**FULL, "quantization_config": {"turbo": {"always_ram": True}}},
            "float16",
        ),
        ({"datatype": "turbo8"}, FULL, "turbo8"),
    ],
    ids=str,
)
def test_what_is_wanted_otherwise_is_set_up_in_place_and_in_a_copy(
    wanted: dict[str, Any], settings: dict[str, Any], datatype: str
) -> None:
    with at("1.19.0") as (_, store):
        photos = shop(store, FULL, spec=VectorSpec(D, datatype="float16"))
        backfill(photos, PROJECTION, **wanted)
        assert settings_of(store) == settings
        assert photos.info().vectors["pca"].datatype == datatype
        assert verify_vector(photos, PROJECTION, n=N).stale == 0
        assert plan_copy(photos, PROJECTION, new_collection="new", **wanted).notes
        copy_collection(photos, PROJECTION, new_collection="new", **wanted)
        assert settings_of(store, "pca", "new") == settings
        assert store.info("new").vectors["pca"].datatype == datatype


def refuse_settings(monkeypatch: pytest.MonkeyPatch, error: WireError) -> None:
    """Let the stand-in refuse every change of a vector's settings."""
    merge = storage._merge

    def refuse(settings: Any, change: Any) -> None:
        if isinstance(change, models.VectorParamsDiff):
            raise error
        merge(settings, change)

    monkeypatch.setattr(storage, "_merge", refuse)


def test_a_kill_between_the_name_and_its_settings_is_made_up_for_by_the_repeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with at("1.19.0") as (_, store):
        photos = shop(store, FULL)
        with monkeypatch.context() as patched:
            refuse_settings(patched, WireError(400, "killed"))
            with pytest.raises(StoreError, match="killed"):
                backfill(photos, PROJECTION)
        assert (set(photos.info().vectors), settings_of(store)) == ({"raw", "pca"}, {})
        assert backfill(photos, PROJECTION).projected == N
        assert settings_of(store) == FULL


def test_a_complete_vector_is_set_up_by_its_owner_or_where_it_is_asked_for() -> None:
    with at("1.19.0") as (server, store):
        photos = shop(store, FULL)
        backfill(photos, PROJECTION)
        QdrantClient(server.url, check_compatibility=False).update_collection(
            "shop", vectors_config={"pca": models.VectorParamsDiff(on_disk=False)}
        )
        backfill(photos, PROJECTION)
        assert settings_of(store)["on_disk"] is False
        backfill(photos, PROJECTION, on_disk=True)
        assert settings_of(store) == FULL
        with pytest.raises(
            InputError, match=r"stored as float32 already.*another `vector`.*roll this one back"
        ):
            backfill(photos, PROJECTION, datatype="float16")


def test_a_key_that_may_not_set_it_up_fills_the_vector_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a token of the collection, where the vector's name was added and declared for it."""
    with at("1.19.0") as (_, store):
        photos = shop(store, FULL)
        refuse_settings(monkeypatch, WireError(403, "Forbidden: Global manage access is required"))
        assert backfill(photos, PROJECTION).projected == N
        assert settings_of(store) == {}
        (warned,) = [text for text in caplog.messages if "filled all the same" in text]
        assert "'on_disk': True" in warned


def test_the_product_quantization_of_a_whole_collection_is_pointed_out() -> None:
    with at("1.19.0") as (_, store):
        photos = shop(store, {}, quantization_config=PRODUCT)
        notes = plan_backfill(photos, PROJECTION).notes
        assert any("the collection's own product quantization" in note for note in notes)
        with pytest.raises(InputError, match="choose one of scalar, binary, turbo"):
            backfill(photos, PROJECTION, quantize="none")
        assert "pca" not in photos.info().vectors
        backfill(photos, PROJECTION, quantize="scalar")
        assert settings_of(store)["quantization_config"]["scalar"]["type"] == "int8"


# Beside a vector without a name


@pytest.mark.parametrize("uses_grpc", [False, True])
def test_a_vector_is_added_beside_one_without_a_name(uses_grpc: bool) -> None:
    with at("1.18.3", uses_grpc=uses_grpc) as (server, store):
        photos = shop(store, {"on_disk": True}, vector=UNNAMED)
        raw = contents(photos, [UNNAMED])
        assert server.storage.describe("shop")["config"]["params"]["vectors"]["size"] == D
        plan = plan_backfill(photos, PROJECTION, source=UNNAMED)
        (said,) = [note for note in plan.notes if "become a map of '' and 'pca'" in note]
        done = backfill(photos, PROJECTION, source=UNNAMED)
        assert (done.projected, said in done.notes) == (N, True)
        assert contents(photos, [UNNAMED]) == raw
        assert settings_of(store) == {"on_disk": True}
        described = server.storage.describe("shop")["config"]["params"]["vectors"]
        assert set(described) == {UNNAMED, "pca"}
        # Clients that know of no names go on.
        client = QdrantClient(server.url, check_compatibility=False)
        client.upsert("shop", [models.PointStruct(id=900, vector=rows([900])[0].tolist())])
        query = models.QueryRequest(query=rows([900])[0].tolist(), limit=1)
        (found,) = client.query_batch_points("shop", [query])
        assert [hit.id for hit in found.points] == [900]
        assert backfill(photos, PROJECTION, source=UNNAMED).projected == 1
        assert verify_vector(photos, PROJECTION, source=UNNAMED, n=N + 1).stale == 0
        assert rollback_vector(photos, yes=True).removed == N + 1
        assert photos.info().vectors == {UNNAMED: VectorSpec(D)}
        assert ImageCollection.open(store, "shop").origin(UNNAMED) == ORIGIN


def test_below_1_18_a_vector_without_a_name_needs_a_copy() -> None:
    with at("1.17.1") as (_, store):
        photos = shop(store, {}, vector=UNNAMED)
        with pytest.raises(Unsupported, match="`new_collection`"):
            backfill(photos, PROJECTION, source=UNNAMED)
