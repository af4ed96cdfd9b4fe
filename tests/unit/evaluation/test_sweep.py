from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from intramodal.evaluation.ranking import rank
from intramodal.evaluation.retrieval import evaluate_retrieval, run_task
from intramodal.evaluation.sweep import DimensionSweep, sweep_dimensions, sweeps
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.projection.projection import Projection
from intramodal.types import VectorTable, unit_rows
from tests.unit.evaluation.test_compare_context import calls


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


def projected(table: VectorTable, *, by: float = 0.0) -> tuple[VectorTable, Projection]:
    """Return the table with its first six dimensions as a vector, and what made that."""
    turn = Projection(np.eye(12, 6, dtype=np.float32), "pca", "model", "1")
    Z = turn.apply_to_unit(table.unit("raw")) + np.float32(by)
    return table.with_unit_vectors({"pca": unit_rows(Z)}), turn


def swept(table: VectorTable, turn: Projection) -> DimensionSweep:
    task = task_of(table)
    of_raw, of_pca = (run_task(task, table, vector).map for vector in ("raw", "pca"))
    maps = [(of_raw, of_pca)]
    (found,) = sweeps(table, ("raw", "pca"), [task], turn, maps=maps, texts=None, margin=0.0)
    return found


def test_all_dimensions_of_a_turn_are_the_vector_itself(table: VectorTable) -> None:
    found = swept(*projected(table))
    assert found.dims == [2, 3, 4, 6, 12]
    assert found.map[-1] == found.raw_map == run_task(task_of(table), table, "raw").map


def test_what_is_known_is_not_ranked_again(table: VectorTable) -> None:
    """Both vectors are; a second vector of another making says nothing of its dimensions."""
    wide, turn = projected(table)
    with calls(rank) as ranked:
        found = swept(wide, turn)
    assert len(ranked) == 2 + 3
    plain = sweep_dimensions(
        wide, task_of(wide), turn.apply_to_unit(wide.unit("raw")), raw="raw", dims=[2, 3, 4, 6]
    )
    assert found.map[:-1] == pytest.approx(plain.map, abs=1e-12)
    other, _ = projected(table, by=0.1)
    assert swept(other, turn).map == pytest.approx(found.map, abs=1e-12)
