"""Near-copies are the connected components of what a plain computation calls alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from intramodal.errors import InputError
from intramodal.evaluation.duplicates import (
    DuplicateFinder,
    Duplicates,
    check_threshold,
    parse_threshold,
)
from intramodal.evaluation.retrieval import run_task
from intramodal.evaluation.tasks import RetrievalTask, Sides
from intramodal.types import VectorTable, unit_rows


def bursts(rng: np.random.Generator, n: int, copies: int, cosine: float) -> VectorTable:
    """Return n images in groups of so many copies, with a common mean as CLIP's images have."""
    mean = 2 * unit_rows(rng.normal(size=(1, 24)).astype(np.float32))
    centres = np.repeat(rng.normal(size=(n // copies, 24)), copies, axis=0)
    noise = rng.normal(size=centres.shape) * np.sqrt(1 / cosine - 1)
    X = unit_rows((mean + (centres + noise) / 5).astype(np.float32))
    labels = [f"c{i // copies % 3}" for i in range(len(X))]
    return VectorTable(list(range(len(X))), {"raw": X}, {"label": labels})


def found_in(table: VectorTable, task: RetrievalTask, threshold: float | None = 0.9) -> Duplicates:
    finder = DuplicateFinder(table, task, "raw", threshold)
    run_task(task, table, "raw", ks=(), seen=finder.see)
    return finder.found()


def alike(U: np.ndarray, threshold: float) -> np.ndarray:
    C = unit_rows(U.astype(np.float64) - U.mean(axis=0, dtype=np.float64))
    return np.greater(C @ C.T, threshold)


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len(set(a.tolist())) == len(set(b.tolist()))


@pytest.mark.parametrize("max_queries", [None, 40])
@pytest.mark.parametrize("has_sides", [False, True])
def test_a_look_finds_what_a_ranking_shows(
    rng: np.random.Generator, has_sides: bool, max_queries: int | None
) -> None:
    table = bursts(rng, 240, 3, 0.95)
    table.vectors["raw"] = table.vectors["raw"].astype(np.float16)
    asks = np.arange(240) % 6 < 4
    split = (asks, ~asks) if has_sides else None
    task = RetrievalTask.from_table(table, "label", split=split, max_queries=max_queries)
    finder = DuplicateFinder(table, task, "raw", 0.9)
    finder.look()
    found, expected = finder.found(), found_in(table, task)
    np.testing.assert_array_equal(found.groups, expected.groups)
    assert found.page_share == expected.page_share > 0
    assert len(found.sizes) > 0


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.99])
def test_groups_are_the_components_of_the_centred_cosines(
    rng: np.random.Generator, threshold: float
) -> None:
    table = bursts(rng, 120, 3, 0.95)
    found = found_in(table, RetrievalTask.of_all(table, "label"), threshold)
    _, expected = connected_components(alike(table.vectors["raw"], threshold))
    assert same_partition(found.groups, expected)
    assert len(set(expected)) < 120 or threshold == 0.99


def test_copies_on_first_pages_are_counted(rng: np.random.Generator) -> None:
    table = bursts(rng, 120, 3, 0.9999)
    found = found_in(table, RetrievalTask.of_all(table, "label"))
    assert found.to_dict() == {
        "threshold": 0.9,
        "n_images": 120,
        "n_groups": 40,
        "largest": 3,
        "page_share": pytest.approx(2 / 10),
    }


def test_sides_are_compared_with_each_other_and_within(rng: np.random.Generator) -> None:
    table = bursts(rng, 120, 3, 0.9999)
    asks = np.arange(120) % 6 < 3  # whole bursts on one side
    rows, split = Sides.of((asks, ~asks)).apply(table)
    found = found_in(rows, RetrievalTask.from_table(rows, "label", split=split))
    assert found.to_dict()["n_groups"] == 40


def test_where_some_ask_the_others_are_compared_too(rng: np.random.Generator) -> None:
    table = bursts(rng, 120, 3, 0.9999)
    task = RetrievalTask.from_table(table, "label", max_queries=10)
    assert found_in(table, task).to_dict()["n_groups"] == 40


def test_images_that_are_all_alike_are_one_suspect_group() -> None:
    X = np.tile(unit_rows(np.ones((1, 5), dtype=np.float32)), (40, 1))
    table = VectorTable(list(range(40)), {"raw": X}, {"label": ["a", "b"] * 20})
    found = found_in(table, RetrievalTask.of_all(table, "label"))
    assert found.to_dict()["largest"] == 40
    assert found.page_share == 1.0  # 39 copies tie for ten places
    assert found.is_suspect


def test_few_images_and_off_mean_that_none_is_looked_for(rng: np.random.Generator) -> None:
    few, many = bursts(rng, 27, 3, 0.9999), bursts(rng, 120, 3, 0.9999)
    for table, threshold in ((few, 0.9), (many, None)):
        found = found_in(table, RetrievalTask.of_all(table, "label"), threshold)
        assert found.threshold is None
        assert found.to_dict()["n_groups"] == 0
        assert len(set(found.groups.tolist())) == len(table)


def test_a_threshold_is_a_cosine_or_off() -> None:
    assert parse_threshold("off") is None
    assert parse_threshold("0.95") == 0.95
    for text in ("1.2", "0", "none", "nan"):
        with pytest.raises(InputError, match="between 0 and 1"):
            parse_threshold(text)
    with pytest.raises(InputError, match=r"got 1\.5"):
        check_threshold(1.5)
