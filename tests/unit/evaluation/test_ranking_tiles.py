"""Leave-one-out by tiles, which serve rows and columns: the same figures as by whole rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intramodal.evaluation import ranking
from intramodal.evaluation.kernels import cpu
from intramodal.evaluation.ranking import (
    Ranking,
    Relevance,
    Ties,
    as_lists,
    rank,
    score_blocks,
    tiles,
    tiling_of,
)
from intramodal.evaluation.retrieval import run_task
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.types import VectorTable, unit_rows
from tests.unit.evaluation import plain_kernels

EXACT = 1e-12  # float64 sums of at most 60 terms
KS = (1, 3, 10)


@contextmanager
def small_tiles(panel: int = 5, tile: int = 12) -> Iterator[pytest.MonkeyPatch]:
    """Let few rows of few dimensions be ranked by tiles, of at most so many rows."""
    sizes = {"PANEL_ROWS": panel, "TILE_ROWS": tile, "MOST_ROWS": 4}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (sizes | {"LEAST_ROWS": 1, "LEAST_DIM": 1}).items():
            patch.setattr(ranking, name, value)
        yield patch


def leave_one_out(labels: np.ndarray) -> Relevance:
    n = len(labels)
    members = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    others = [members[labels[i]][members[labels[i]] != i] for i in range(n)]
    return Relevance(
        positives=lambda start, stop: as_lists(others[start:stop]),
        ignored=lambda start, stop: as_lists([[i] for i in range(start, stop)]),
        n_queries=n,
        classes=labels,
    )


def labels_of(sizes: list[int], seed: int = 0) -> np.ndarray:
    """Return labels of classes of those sizes, mixed."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


def assert_same(got: Ranking, expected: Ranking) -> None:
    np.testing.assert_array_equal(got.n_relevant, expected.n_relevant)
    close = {"atol": EXACT, "rtol": EXACT}
    np.testing.assert_allclose(got.ap, expected.ap, **close)
    np.testing.assert_allclose(got.tie_width, expected.tie_width, **close)
    np.testing.assert_allclose(got.trapezoid_ap, expected.trapezoid_ap, **close)
    for name, values in expected.figures.items():
        np.testing.assert_allclose(got.figures[name], values, err_msg=name, **close)


@settings(deadline=None)  # the first call compiles
@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=10),
    d=st.integers(1, 3),
    levels=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    ties=st.sampled_from(["expected", "sklearn", "best", "worst"]),
)
def test_every_figure_equals_the_oracle(
    sizes: list[int], d: int, levels: int, seed: int, ties: Ties
) -> None:
    """Equal rows within and across classes, and classes of one, are among the cases."""
    labels = labels_of(sizes, seed)
    # Whole numbers: products are exact, so that it does not matter which ones are computed.
    X = np.random.default_rng(seed).integers(-levels, levels, (len(labels), d)).astype(np.float32)
    lists = leave_one_out(labels)
    with small_tiles() as patch:
        assert (tiling_of(X, labels) is None) == (len(X) <= ranking.MOST_ROWS)
        got = rank(X, X, lists, ks=KS, ties=ties)
        patch.setattr(cpu, "rank_block", plain_kernels.rank_block)
        assert_same(got, rank(X, X.copy(), lists, ks=KS, ties=ties))


@pytest.mark.parametrize("n", [3000, 5000])  # pieces below and beyond what is counted at a time
@pytest.mark.parametrize("buckets", [cpu.FINE, cpu.COARSE])
def test_long_rankings_equal_those_by_whole_rows(
    rng: np.random.Generator, n: int, buckets: int
) -> None:
    labels = rng.integers(0, 40, n)
    X = np.round(8 * rng.normal(size=(n, 6)) + rng.normal(size=(40, 6))[labels]).astype(np.float32)
    lists = leave_one_out(labels)
    with small_tiles(panel=600, tile=1111) as patch:
        patch.setattr(cpu, "FINE", buckets)
        got = rank(X, X, lists)
    assert_same(got, rank(X, X.copy(), lists))


@pytest.mark.parametrize("tile", [9, 12, 40])
def test_tiles_hold_every_pair_once(rng: np.random.Generator, tile: int) -> None:
    X = rng.integers(-9, 9, (100, 4)).astype(np.float32)
    with small_tiles(panel=5, tile=tile):
        tiling = tiling_of(X, labels_of([1, 2, 3, 4] * 10))
        assert tiling is not None
        seen = np.full((100, 100), np.nan)
        for rows, columns, S in tiles(X, tiling):
            assert max(S.shape) <= tile
            at = np.ix_(tiling.order[rows], tiling.order[columns])
            assert np.isnan(seen[at]).all()
            seen[at] = S
            if rows != columns:
                assert np.isnan(seen.T[at]).all()
                seen.T[at] = S
    np.testing.assert_array_equal(seen, X @ X.T)


def test_no_class_is_cut_between_panels() -> None:
    sizes = np.array([3, 1, 7, 2, 2, 5, 4, 6, 1, 1])
    with small_tiles():
        labels = labels_of(sizes.tolist())
        tiling = tiling_of(np.zeros((len(labels), 1), np.float32), labels)
    assert tiling is not None
    assert set(tiling.bounds) <= {0, *np.cumsum(sizes)}
    assert len(tiling.bounds) > 3
    assert (np.diff(labels[tiling.order]) >= 0).all()


def test_equal_rows_tie_wherever_they_stand(rng: np.random.Generator) -> None:
    """Scores of one query come from tiles on and off the diagonal, as rows and as columns."""
    X = unit_rows(rng.normal(size=(600, 513)))  # a width for which the BLAS has a special routine
    X[300:] = X[:300]
    if any((S[:, :300] != S[:, 300:]).any() for _, _, S in score_blocks(X, X, 256 * 4 * 600)):
        pytest.skip("this BLAS gives equal rows other scores by whole rows, too")
    with small_tiles(panel=200, tile=300):
        tiling = tiling_of(X, labels_of([3] * 200))
        assert tiling is not None
        whole = np.empty((600, 600), dtype=np.float32)
        for rows, columns, S in tiles(X, tiling):
            at = np.ix_(tiling.order[rows], tiling.order[columns])
            whole[at] = whole.T[at] = S
    np.testing.assert_array_equal(whole[:, :300], whole[:, 300:])


def test_what_needs_whole_rows_is_ranked_by_them(rng: np.random.Generator) -> None:
    labels = labels_of([4] * 10)
    X = rng.integers(-2, 2, (40, 2)).astype(np.float32)
    lists, shapes = leave_one_out(labels), set()
    whole = rank(X, X.copy(), lists, ties="id")
    with small_tiles() as patch:
        patch.setattr(ranking, "tiles", None)
        assert_same(rank(X, X, lists, ties="id"), whole)
        rank(X, X, lists, seen=lambda start, S: shapes.add(S.shape))
        rank(X, X, lists, block_bytes=40 * 4 * 4)
        with pytest.raises(TypeError):
            rank(X, X, lists)
    assert shapes == {(4, 40)}


def test_tiles_hold_no_more_than_blocks() -> None:
    n = ranking.MOST_ROWS + 1000
    held = ranking.BLOCK_BYTES
    X = np.zeros((n, ranking.LEAST_DIM), dtype=np.float32)
    for n_classes in (50, 100, 500, 2500):
        tiling = tiling_of(X, np.arange(n) % n_classes)
        assert tiling is not None
        tallies = cpu.start_tallies(tiling.sizes, X.dtype, tiling.buckets)
        n_bytes = sum(array.nbytes for array in tallies)
        assert n_bytes == cpu.tally_bytes(tiling.sizes, X.dtype, tiling.buckets)
        assert n_bytes + 4 * tiling.most_rows**2 <= held
        assert np.iinfo(tallies.counts.dtype).max >= n
    assert tiling_of(X, np.arange(n) % 2) is None


def test_counters_hold_a_gallery_in_one_bucket() -> None:
    pairs = np.full(2**15, 2)
    assert cpu.start_tallies(pairs[1:], np.float32, 4).counts.dtype == np.uint16
    assert cpu.start_tallies(pairs, np.float32, 4).counts.dtype == np.uint32


def test_few_rows_few_dimensions_and_unequal_classes_are_ranked_by_blocks() -> None:
    n = 2 * ranking.MOST_ROWS
    X = np.zeros((n, ranking.LEAST_DIM), dtype=np.float32)
    classes = np.arange(n) // 10
    assert tiling_of(X, classes) is not None
    assert tiling_of(X, None) is None
    assert tiling_of(X[:, 1:], classes) is None
    assert tiling_of(X[: n // 2], classes[: n // 2]) is None
    last = np.where(np.arange(n) < 10, 0, 1 + np.arange(n) // 1500)  # a panel of few rows
    assert tiling_of(X, -last) is None


def labelled_table(labels: list[object]) -> VectorTable:
    X = np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32)
    return VectorTable(list(range(len(labels))), {"raw": X, "pca": X[:, :2]}, {"label": labels})


def test_a_leave_one_out_task_is_ranked_by_tiles() -> None:
    """Rows without a label take no part: the others still ask each other."""
    table = labelled_table(["a", None, *"bcabcabcabcabc", None, *"abcabcabcabc"])
    expected = run_task(RetrievalTask.from_table(table, "label"), table, "raw", ks=KS)
    with small_tiles() as patch:
        n_tiles = []
        patch.setattr(
            ranking, "tiles", lambda *given: (n_tiles.append(t) or t for t in tiles(*given))
        )
        task = RetrievalTask.from_table(table, "label")
        got = run_task(task, table, "raw", ks=KS)
    assert len(n_tiles) > 3
    Q, G = task.vectors(table, "raw")
    assert Q is G
    np.testing.assert_allclose(got.ap, expected.ap, atol=1e-6)  # last bits of products may differ
    np.testing.assert_array_equal(got.n_relevant, expected.n_relevant)


@pytest.mark.parametrize(
    "options",
    [
        {"max_queries": 5},
        {"split": (np.arange(12) < 6, np.arange(12) >= 6)},
        {"split": (np.arange(12) < 9, np.ones(12, dtype=bool))},
    ],
)
def test_other_tasks_say_no_classes(options: dict[str, object]) -> None:
    table = labelled_table(list("abcabcabcabc"))
    task = RetrievalTask.from_table(table, "label", **options)  # type: ignore[arg-type]
    assert task.relevance.classes is None
    Q, G = task.vectors(table, "raw")
    assert Q is not G


def test_several_values_a_row_say_no_classes() -> None:
    table = labelled_table([["a", "b"], "a", "b", ["a", "c"], "c"])
    assert RetrievalTask.from_table(table, "label").relevance.classes is None
