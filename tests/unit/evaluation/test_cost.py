"""What the searches that a comparison offers give: the store's first results, by every field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import Projection, open_store
from intramodal.evaluation.compare import Comparison, compare
from intramodal.evaluation.cost import N_PROBES, NO_INDEX, index_recall, two_stages, vector_costs
from intramodal.evaluation.mapped_queries import with_mapped_queries
from intramodal.evaluation.retrieval import RetrievalResult, evaluate_retrieval
from intramodal.evaluation.tasks import RetrievalTask, Sides, tasks_of
from intramodal.store.base import VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.filters import parse_filter
from intramodal.store.manifest import VectorOrigin
from intramodal.store.query_side import QuerySide
from intramodal.types import VectorTable

N, D = 180, 12
FIELDS = ["kind", "season", "rare"]


@pytest.fixture(scope="module")
def collection() -> ImageCollection:
    """Return points whose `pca` has lost the season."""
    rng = np.random.default_rng(3)
    kind, season = np.arange(N) % 6, np.arange(N) // 6 % 4
    halves = [rng.normal(size=(n, D // 2))[labels] for n, labels in ((6, kind), (4, season))]
    X = (np.hstack(halves) + rng.normal(size=(N, D))).astype(np.float32)
    store = open_store(":memory:")
    origin = VectorOrigin("clip", "3f9a")
    made = ImageCollection.create(store, "c", {"raw": (D, origin), "pca": (D // 2, origin)})
    payloads: list[dict[str, Any]] = [
        {
            "kind": f"k{k}",
            "season": f"s{s}",
            **({"rare": f"r{k % 2}"} if n < N // 2 else {}),
            "shop": "ab"[n // 2 % 2],
            "side": ("test", "train", "train", "other")[n * 7 % 11 % 4],
        }
        for n, (k, s) in enumerate(zip(kind, season, strict=True))
    ]
    made.write(list(range(N)), {"raw": X, "pca": X[:, : D // 2].copy()}, payloads)
    return made


def read(collection: ImageCollection, sample: int | None = None) -> VectorTable:
    return collection.table(["raw", "pca"], payload=FIELDS, sample=sample)


def tasks(table: VectorTable, fields: list[str]) -> dict[str, RetrievalTask]:
    return dict(zip(fields, tasks_of(table, fields, None), strict=True))


def check_is_exact(found: dict[str, Any], exact: RetrievalResult, probes: set[Any]) -> None:
    """Compare figures of a search with the means of the exact ranking over the probes."""
    is_probe = np.isin(exact.query_ids, list(probes))
    assert found["n_queries"] == is_probe.sum() > 0
    for name, metric in (("ndcg_at_10", "ndcg@10"), ("precision_at_10", "precision@10")):
        # So few points are searched exactly.
        assert found[name] == pytest.approx(exact.metrics[metric][is_probe].mean(), abs=1e-9)


def probes(table: VectorTable) -> set[Any]:
    return {table.ids[int(at)] for at in np.linspace(0, len(table) - 1, num=N_PROBES)}


@pytest.mark.parametrize("field", ["kind", "season"])
def test_first_results_are_those_of_the_exact_ranking_for_the_same_queries(
    collection: ImageCollection, field: str
) -> None:
    table = read(collection)
    costs = vector_costs(collection, table, ["raw", "pca"], tasks(table, FIELDS))
    exact = evaluate_retrieval(table, vectors=["raw", "pca"], fields=[field], ks=(10,))
    for vector in ("raw", "pca"):
        assert costs[vector]["fields"][field]["n_queries"] == costs[vector]["n_probes"] == N_PROBES
        check_is_exact(costs[vector]["fields"][field], exact[field, vector], probes(table))


def test_two_stages_keep_the_quality_of_the_vector_that_ranks(collection: ImageCollection) -> None:
    table = read(collection)
    costs = vector_costs(collection, table, ["raw", "pca"], tasks(table, FIELDS))
    for field in ("kind", "season"):
        by_raw, by_pca, both = (row["fields"][field]["ndcg_at_10"] for row in costs.values())
        assert list(costs) == ["raw", "pca", "pca > raw"]
        assert abs(both - by_raw) < abs(by_pca - by_raw) / 2
    assert two_stages("raw", "pca").startswith("pca > raw: pca finds 40 candidates and raw ranks")


def test_points_without_a_label_neither_ask_nor_answer(collection: ImageCollection) -> None:
    table = read(collection)
    found = vector_costs(collection, table, ["raw"], tasks(table, ["rare"]))["raw"]["fields"][
        "rare"
    ]
    labelled = {table.ids[row] for row in range(N) if table.payload["rare"][row] is not None}
    assert found["n_queries"] == len(probes(table) & labelled) < N_PROBES
    hits = collection.neighbours(sorted(probes(table) & labelled), using="raw", k=10)
    assert found["precision_at_10"] <= np.mean([len(set(ids) & labelled) / 10 for ids in hits.ids])


def test_of_a_field_that_no_probe_has_there_is_nothing(collection: ImageCollection) -> None:
    table = read(collection)
    others = [row for row in range(N) if table.ids[row] not in probes(table)]
    table.payload["few"] = [None] * N
    for row, label in zip(others, "aabb", strict=False):
        table.payload["few"][row] = label
    by_field = tasks(table, ["few", "kind"])
    found = vector_costs(collection, table, ["raw"], by_field)["raw"]["fields"]
    assert found["few"] is None
    assert found["kind"]["n_queries"] == N_PROBES
    assert vector_costs(collection, table, ["raw"])["raw"]["fields"] == {}


def compared(collection: ImageCollection, **about: Any) -> Comparison:
    asked: dict[str, Any] = {"fields": ["kind"], "tasks": ["retrieval"], "controls": False}
    return compare(collection, "raw", "pca", **asked, **about)


@pytest.mark.parametrize("where", [None, parse_filter(["shop=a"])])
@pytest.mark.parametrize(
    "sides",
    ["side", Sides.parse("side=test", None), Sides.parse(None, "side=train,other"), None],
)
def test_searches_are_of_the_sides_and_of_the_points_that_are_compared(
    collection: ImageCollection, where: Any, sides: Any
) -> None:
    found = compared(collection, sides=sides, where=where, sample=10 * N)
    assert found.cost is not None
    table, split = found.context.table, found.context.knobs.split
    able = np.flatnonzero(split[0]) if split else np.arange(len(table))
    at = able[np.linspace(0, len(able) - 1, num=min(len(able), N_PROBES)).astype(int)]
    queries = {table.ids[row] for row in at}
    about: dict[str, Any] = {"sides": sides, "where": where, "ks": (10,)}
    exact = evaluate_retrieval(collection, vectors=["raw", "pca"], fields=["kind"], **about)
    for vector in ("raw", "pca"):
        cost = found.cost[vector]
        assert cost["n_probes"] == len(queries) <= N_PROBES
        check_is_exact(cost["fields"]["kind"], exact["kind", vector], queries)
        assert cost["recall_at_10"] == 1.0
        assert cost["ram_bytes"] == 6 * N * table.vectors[vector].shape[1]


def test_the_store_has_no_results_in_a_gallery_that_it_does_not_know(
    collection: ImageCollection,
) -> None:
    masks = np.arange(N) % 2 == 0, np.arange(N) % 3 > 0
    for about in ({"sides": masks}, {"sample": 90}):
        found = compared(collection, **about).cost
        assert found is not None
        assert [row["fields"] for row in found.values()] == [{"kind": None}] * 3


def test_the_index_is_measured_with_stored_and_with_projected_queries(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge", reason="no wheel of qdrant-edge-py for this platform")
    rng = np.random.default_rng(7)
    X = rng.normal(size=(3000, 24)).astype(np.float32)
    made = Projection(np.linalg.qr(rng.normal(size=(24, 8)))[0], "pca", "clip", "3f9a")
    side = QuerySide(made, "raw")
    # A poor graph, so that something is lost by default and less with longer lists.
    options = {
        "optimizers_config": {"indexing_threshold": 1},
        "hnsw_config": {"m": 2, "ef_construct": 8, "full_scan_threshold": 1},
    }
    with open_store(str(tmp_path / "store")) as store:
        store.create("c", {"raw": VectorSpec(24)}, options=options)
        store.upsert("c", list(range(3000)), {"raw": X}, [{}] * 3000)
        collection = ImageCollection.open(store, "c")
        table = with_mapped_queries(collection.table(["raw"]), side)
        assert index_recall(collection, table, side)["note"] == NO_INDEX
        store.optimize("c")
        found = index_recall(ImageCollection.open(store, "c"), table, side)
    assert found["note"] == ""
    assert found["n_probes"] == 200
    for name in ("raw", "pca@query"):
        recalls = found["recall_at_10"][name]
        assert list(recalls) == ["default", "128", "256", "512"]
        assert recalls["default"] < recalls["512"] <= 1
        reached = [ef for ef, recall in recalls.items() if recall >= found["enough"]]
        assert found["needs"][name] == (reached[0] if reached else None)
