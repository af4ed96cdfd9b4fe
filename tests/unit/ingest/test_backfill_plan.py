"""What a plan says costs what the formulas say, and changes nothing."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from intramodal.ingest.backfill import points
from intramodal.ingest.backfill.in_place import backfill
from intramodal.ingest.backfill.plan import (
    BackfillPlan,
    RecomputePlan,
    plan_backfill,
    plan_copy,
    plan_recompute,
    reindex_seconds,
    vector_cost,
)
from intramodal.ingest.backfill.points import in_points
from intramodal.progress import about
from intramodal.store.base import UNNAMED, Filter, Store, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.open import open_store
from tests.unit.ingest.backfill_kit import (
    ORIGIN,
    PROJECTION,
    D,
    N,
    contents,
    photos_in,
    rows,
    shop_in,
    write,
)

LINK = 4
HAS_INDEX = {"has_index": True}


def graph(store: Store, m: int = 16) -> int:
    """Return the bytes of the 2 m links of a point in a graph; local mode has none."""
    return 0 if store.location == ":memory:" else 2 * m * LINK


def test_the_plan_in_place_adds_the_new_vectors_and_their_links(store: Store) -> None:
    photos = photos_in(store)
    before = contents(photos)
    plan = plan_backfill(photos, PROJECTION)
    half, links = D // 2, graph(store)
    assert (plan.n_points, plan.n_missing, plan.n_unprojectable) == (N, N, 0)
    assert plan.bytes_added == N * half * 4
    assert plan.vector_bytes == (N * D * 4, N * (D + half) * 4)
    assert plan.ram_bytes == (N * (D * 4 + links), N * ((D + half) * 4 + 2 * links))
    assert plan.new_collection is None
    assert contents(photos) == before
    assert set(photos.info().vectors) == set(photos.manifest.vectors) == {"raw"}


def test_a_plan_says_what_reading_and_projecting_takes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 20, item 10: by the rate of the first points, of which it reads no more."""
    photos = photos_in(store)
    seconds = count(step=60)  # a minute each time that it is looked at: the first page tells
    monkeypatch.setattr(points, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))

    def told(plan: BackfillPlan | RecomputePlan, n: int) -> None:
        assert plan.read_seconds in (60, 112.5)  # the first page of a copy, 32 points, is small
        note = f"projecting {in_points(n)} takes {about(plan.read_seconds)}, by the first of them"
        assert (note in "".join(plan.notes)) == (points.LONG_S == 0)

    for longest in (points.LONG_S, 0.0):
        monkeypatch.setattr(points, "LONG_S", longest)
        told(plan_backfill(photos, PROJECTION), N)
        told(plan_copy(photos, PROJECTION, new_collection="new"), N)


def test_a_plan_of_nothing_to_do_takes_no_time(store: Store) -> None:
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    assert plan_backfill(photos, PROJECTION).read_seconds == 0
    assert plan_recompute(photos, PROJECTION, where=Filter(ids=[1, 2])).read_seconds >= 0


def test_the_plan_of_a_half_done_backfill_counts_what_is_left(store: Store) -> None:
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    write(photos, range(10))
    plan = plan_backfill(photos, PROJECTION)
    assert (plan.n_missing, plan.bytes_added) == (10, 10 * D // 2 * 4)
    backfill(photos, PROJECTION)
    assert plan_backfill(photos, PROJECTION).notes == [
        "nothing to do: no point with a source vector lacks the new one"
    ]


def test_an_index_is_built_again_only_where_there_is_one(store: Store) -> None:
    photos = photos_in(store)
    assert plan_backfill(photos, PROJECTION).reindexed == 0
    assert plan_backfill(photos, PROJECTION).reindex_seconds == (0, 0)


def test_the_plan_of_a_copy_counts_both_collections_and_names_what_is_switched(
    store: Store,
) -> None:
    photos = photos_in(store)
    store.set_alias("shown", "photos")
    plan = plan_copy(photos, PROJECTION, new_collection="new")
    half, links = D // 2, graph(store)
    assert plan.bytes_added == N * (D + half) * 4
    assert plan.vector_bytes == (N * D * 4, N * (2 * D + half) * 4)
    assert plan.ram_bytes == (N * (D * 4 + links), N * ((2 * D + half) * 4 + 3 * links))
    assert plan.aliases == ["shown"]
    assert any("pause the writers of 'photos'" in note for note in plan.notes)
    assert "'shown' will mean 'new' instead of 'photos', in one step" in plan.notes
    assert store.collections() == ["photos"]
    assert store.aliases() == {"shown": "photos"}


def test_without_an_alias_the_plan_says_that_clients_need_the_new_name(store: Store) -> None:
    plan = plan_copy(photos_in(store), PROJECTION, new_collection="new")
    assert plan.aliases == []
    assert "clients must be given the new name 'new'" in plan.notes[-1]


def test_an_unnamed_vector_is_planned_as_raw(store: Store) -> None:
    shop = shop_in(store, {UNNAMED: VectorSpec(D)})
    shop.declare(UNNAMED, ORIGIN)
    shop.write([1], {UNNAMED: rows([1])}, [{}])
    plan = plan_copy(shop, PROJECTION, new_collection="new", source=UNNAMED)
    assert (plan.n_points, plan.n_missing, plan.bytes_added) == (1, 1, (D + D // 2) * 4)


def test_the_plan_of_a_recomputation_counts_the_matching_points(store: Store) -> None:
    photos = photos_in(store)
    backfill(photos, PROJECTION)
    plan = plan_recompute(photos, PROJECTION, where=Filter(equals={"label": "l1"}))
    assert plan.n_matching == N // 3


def test_the_index_of_an_embedded_collection_is_planned_and_rebuilt(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge", reason="no wheel of qdrant-edge-py for this platform")
    low = {
        "optimizers_config": {"indexing_threshold": 1},
        "hnsw_config": {"m": 8, "full_scan_threshold": 1},
    }
    with open_store(str(tmp_path / "store")) as store:
        store.create("photos", {"raw": VectorSpec(D)}, options=low)
        photos = photos_of(store)
        write(photos, range(500))
        store.optimize("photos", deadline_s=60)
        assert store.info("photos").n_indexed == 500
        plan = plan_backfill(photos, PROJECTION)
        assert plan.reindexed == 500
        per_point = D * 4 + graph(store, m=8)
        assert plan.ram_bytes[0] == 500 * per_point
        summary = backfill(photos, PROJECTION)
        assert summary.reindex_seconds > 0
        assert store.info("photos").n_indexed == 2 * 500
        write(photos, range(500, 520))
        assert backfill(photos, PROJECTION, reindex=False).reindex_seconds == 0


def photos_of(store: Store) -> ImageCollection:
    photos = ImageCollection.open(store, "photos")
    photos.declare("raw", ORIGIN)
    return photos


@pytest.mark.parametrize(
    ("settings", "bits"),
    [
        ({}, 0),
        ({"quantization_config": {"scalar": {"type": "int8"}}}, 8),
        ({"quantization_config": {"binary": {}}}, 1),
        ({"quantization_config": {"binary": {"encoding": "two_bits"}}}, 2),
        ({"quantization_config": {"turbo": {"bits": "bits4"}}}, 4),
        ({"quantization_config": {"product": {"compression": "x16"}}}, 2),
        ({"vectors": {"raw": {"quantization_config": {"binary": {}}}}}, 1),
    ],
)
def test_quantized_vectors_are_counted_beside_the_originals(
    settings: dict[str, Any], bits: int
) -> None:
    cost = vector_cost(VectorSpec(512), 1000, {**settings, **HAS_INDEX}, "raw")
    assert cost.data == 1000 * 512 * 4
    assert cost.memory == 1000 * (512 * 4 + 512 * bits // 8 + 2 * 16 * LINK)


@pytest.mark.parametrize(
    ("datatype", "size"), [("float32", 4), ("float16", 2), ("uint8", 1), ("turbo8", 1)]
)
def test_a_vector_costs_what_its_type_costs(datatype: str, size: int) -> None:
    cost = vector_cost(VectorSpec(512, datatype=datatype), 10, HAS_INDEX, "raw")
    assert cost.data == 10 * 512 * size


def test_vectors_on_disk_are_not_counted_as_memory_and_their_own_m_is() -> None:
    own = {"vectors": {"raw": {"on_disk": True, "hnsw_config": {"m": 24}}}}
    cost = vector_cost(VectorSpec(512), 10, {**own, **HAS_INDEX}, "raw")
    assert cost.memory == 10 * 2 * 24 * LINK


def test_the_time_of_an_index_is_the_measured_one_scaled() -> None:
    # Measured: 100,000 points of 768 dimensions in 60 s; 20,000 of 1,024 in 168 s, at worst.
    assert reindex_seconds(100_000, 768)[0] == 60
    assert reindex_seconds(20_000, 1024)[1] == 168
    assert reindex_seconds(50_000, 1536) == reindex_seconds(100_000, 768)
