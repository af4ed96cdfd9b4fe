"""What the searches that a comparison offers give: the store's first results, by every field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from intramodal import open_store
from intramodal.evaluation.cost import N_PROBES, two_stages, vector_costs
from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
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
        {"kind": f"k{k}", "season": f"s{s}", **({"rare": f"r{k % 2}"} if n < N // 2 else {})}
        for n, (k, s) in enumerate(zip(kind, season, strict=True))
    ]
    made.write(list(range(N)), {"raw": X, "pca": X[:, : D // 2].copy()}, payloads)
    return made


def read(collection: ImageCollection, sample: int | None = None) -> VectorTable:
    return collection.table(["raw", "pca"], payload=FIELDS, sample=sample)


def probes(table: VectorTable) -> set[Any]:
    return {table.ids[int(at)] for at in np.linspace(0, len(table) - 1, num=N_PROBES)}


@pytest.mark.parametrize("field", ["kind", "season"])
def test_first_results_are_those_of_the_exact_ranking_for_the_same_queries(
    collection: ImageCollection, field: str
) -> None:
    table = read(collection)
    costs = vector_costs(collection, table, ["raw", "pca"], FIELDS)
    exact = evaluate_retrieval(table, vectors=["raw", "pca"], fields=[field], ks=(10,))
    for vector in ("raw", "pca"):
        result = exact[field, vector]
        is_probe = np.isin(result.query_ids, list(probes(table)))
        found = costs[vector]["fields"][field]
        assert found["n_queries"] == is_probe.sum() == costs[vector]["n_probes"] == N_PROBES
        for name, metric in (("ndcg_at_10", "ndcg@10"), ("precision_at_10", "precision@10")):
            # So few points are searched exactly.
            assert found[name] == pytest.approx(result.metrics[metric][is_probe].mean(), abs=1e-9)


def test_two_stages_keep_the_quality_of_the_vector_that_ranks(collection: ImageCollection) -> None:
    costs = vector_costs(collection, read(collection), ["raw", "pca"], FIELDS)
    for field in ("kind", "season"):
        by_raw, by_pca, both = (row["fields"][field]["ndcg_at_10"] for row in costs.values())
        assert list(costs) == ["raw", "pca", "pca > raw"]
        assert abs(both - by_raw) < abs(by_pca - by_raw) / 2
    assert two_stages("raw", "pca").startswith("pca > raw: pca finds 40 candidates and raw ranks")


def test_points_without_a_label_neither_ask_nor_answer(collection: ImageCollection) -> None:
    table = read(collection)
    found = vector_costs(collection, table, ["raw"], ["rare"])["raw"]["fields"]["rare"]
    labelled = {table.ids[row] for row in range(N) if table.payload["rare"][row] is not None}
    assert found["n_queries"] == len(probes(table) & labelled) < N_PROBES
    hits = collection.neighbours(sorted(probes(table) & labelled), using="raw", k=10)
    assert found["precision_at_10"] <= np.mean([len(set(ids) & labelled) / 10 for ids in hits.ids])


def test_of_a_sample_and_of_a_field_that_no_probe_has_there_is_nothing(
    collection: ImageCollection,
) -> None:
    sampled = vector_costs(collection, read(collection, 60), ["raw"], ["kind"])
    assert sampled["raw"]["fields"] == {"kind": None}
    table = read(collection)
    others = [row for row in range(N) if table.ids[row] not in probes(table)]
    table.payload["few"] = [None] * N
    for row, label in zip(others, "aabb", strict=False):
        table.payload["few"][row] = label
    found = vector_costs(collection, table, ["raw"], ["few", "kind"])["raw"]["fields"]
    assert found["few"] is None
    assert found["kind"]["n_queries"] == N_PROBES
    assert vector_costs(collection, table, ["raw"])["raw"]["fields"] == {}
