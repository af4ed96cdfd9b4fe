from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from intramodal.evaluation.retrieval import evaluate_retrieval
from intramodal.evaluation.sweep import sweep_dimensions
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.types import VectorTable


@pytest.fixture
def table(rng: np.random.Generator) -> VectorTable:
    """Return vectors whose first three columns tell the classes apart, the others do not."""
    labels = np.arange(80) % 4
    signal = 3 * rng.normal(size=(4, 3))[labels]
    X = np.hstack([signal + rng.normal(size=(80, 3)), 2 * rng.normal(size=(80, 9))])
    return VectorTable(list(range(80)), {"raw": X.astype(np.float32)}, {"label": labels.tolist()})


def task_of(table: VectorTable) -> RetrievalTask:
    return RetrievalTask.of_all(table, "label")


def test_every_point_is_the_map_of_the_first_columns(table: VectorTable) -> None:
    Z = table.vectors["raw"]
    found = sweep_dimensions(table, task_of(table), Z, raw="raw", dims=[6, 3, 3])
    assert (found.dims, found.n_queries) == ([3, 6], 80)
    for n, value in zip(found.dims, found.map, strict=True):
        part = VectorTable(table.ids, {"z": Z[:, :n]}, table.payload)
        expected = evaluate_retrieval(part, vectors=["z"], fields=["label"])["label", "z"].map
        assert value == pytest.approx(expected, abs=1e-12)
    assert (
        found.raw_map
        == evaluate_retrieval(table, vectors=["raw"], fields=["label"])["label", "raw"].map
    )


def test_the_knee_is_the_fewest_dimensions_within_the_margin_of_the_best(
    table: VectorTable,
) -> None:
    sweep = partial(
        sweep_dimensions,
        table,
        task_of(table),
        table.vectors["raw"],
        raw="raw",
        dims=[1, 3, 6, 12],
    )
    assert sweep(margin=0.0).knee == 3
    assert sweep(margin=1.0).knee == 1


def test_drawn_queries_are_those_of_the_task(table: VectorTable) -> None:
    task = RetrievalTask.of_all(table, "label", max_queries=10)
    assert sweep_dimensions(table, task, table.vectors["raw"], raw="raw", dims=[3]).n_queries == 10


def test_all_dimensions_of_a_turn_are_the_vector_itself(table: VectorTable) -> None:
    raw = table.vectors["raw"]
    found = sweep_dimensions(
        table, task_of(table), raw[:, :6], raw="raw", dims=[3, 6], turns=True, margin=0.0
    )
    assert (found.dims, found.map[-1]) == ([3, 6, 12], found.raw_map)
    whole = sweep_dimensions(table, task_of(table), raw, raw="raw", dims=[12], turns=True)
    assert whole.dims == [12]
