"""Many episodes: the draws, near-copies as one, and counts equal to a product a classifier."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from intramodal.evaluation.episodes import comparable_shots, prototype_result, with_episodes
from intramodal.evaluation.fewshot import run_fewshot
from intramodal.evaluation.shots import FewshotTask
from intramodal.types import VectorTable


def drawn_table(rng: np.random.Generator, sizes: tuple[int, ...], dim: int = 12) -> VectorTable:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    X = rng.normal(size=(len(sizes), dim))[labels] + rng.normal(size=(len(labels), dim))
    payload = {
        "label": [f"c{c}" for c in labels],
        "split": ["test" if i % 3 else "train" for i in range(len(labels))],
    }
    return VectorTable(list(range(len(labels))), {"raw": X.astype(np.float32)}, payload)


def task_of(
    table: VectorTable, groups: np.ndarray | None = None, n_draws: int = 40, **settings: object
) -> FewshotTask:
    split = table.payload["split"] if settings.pop("is_split", False) else None
    task = FewshotTask.from_table(table, "label", n_episodes=1, split=split, seed=3)
    groups = np.arange(len(table)) if groups is None else groups
    return with_episodes(task, groups, n_draws=n_draws, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("is_split", [False, True])
@pytest.mark.parametrize("copies", [1, 3])
def test_counts_equal_those_of_a_product_a_classifier(
    rng: np.random.Generator, copies: int, is_split: bool
) -> None:
    table = drawn_table(rng, (30, 24, 9, 41, 6))
    groups = np.arange(len(table)) // copies
    task = task_of(table, groups, is_split=is_split)
    got = prototype_result(task, table, "raw")
    expected = run_fewshot(task, table, "raw", ["prototype"])["prototype"]
    np.testing.assert_array_equal(got.n_tested, expected.n_tested)
    np.testing.assert_array_equal(got.n_correct, expected.n_correct)
    np.testing.assert_allclose(got.accuracy, expected.accuracy)
    np.testing.assert_allclose(got.class_accuracy, expected.class_accuracy)
    assert got.shots == expected.shots


def test_of_near_copies_one_is_drawn_and_none_is_tested_beside_it(
    rng: np.random.Generator,
) -> None:
    table = drawn_table(rng, (24, 24))
    groups = np.arange(48) // 3
    task = task_of(table, groups)
    drawn = np.where(task.draws >= 0, groups[task.rows[task.draws]], -1)
    for shots in drawn.reshape(-1, drawn.shape[2]):
        assert len(set(shots[shots >= 0])) == (shots >= 0).sum()
    # At 4 shots 4 of 8 groups of each class are left: 24 images, whatever was drawn.
    result = prototype_result(task, table, "raw")
    at = result.shots.index(4)
    assert result.n_test[at] == 24
    assert result.n_pool[at] == 8


def test_images_and_groups_are_drawn_alike_often(rng: np.random.Generator) -> None:
    table = drawn_table(rng, (12, 12))
    groups = np.concatenate([np.repeat([0, 1, 2, 3], 3), np.arange(4, 16)])
    draws = task_of(table, groups, n_draws=6000).draws
    first = Counter(draws[:, 0, 0].tolist())
    # Four groups of three: each image with probability 1/12, in every place of the order.
    assert all(abs(first[i] / 6000 - 1 / 12) < 0.02 for i in range(12))
    last = Counter(draws[:, 1, 1].tolist())
    assert all(abs(last[i] / 6000 - 1 / 12) < 0.02 for i in range(12, 24))


def test_one_number_of_shots_gives_way_to_a_mean_over_the_same_classes(
    rng: np.random.Generator,
) -> None:
    wide = FewshotTask.from_table(drawn_table(rng, (30, 30, 12)), "label", n_episodes=1)
    assert comparable_shots(wide) == (1, 2, 4, 8)  # at 16 a class is missing
    mixed = FewshotTask.from_table(drawn_table(rng, (30, 30, 6)), "label", n_episodes=1)
    assert comparable_shots(mixed) == (1, 2, 4, 8, 16)  # two numbers of shots would have to go
    few = FewshotTask.from_table(drawn_table(rng, (5, 4)), "label", n_episodes=1)
    assert comparable_shots(few) == (1, 2)


def test_so_many_images_are_tested_and_all_may_be_shots(rng: np.random.Generator) -> None:
    table = drawn_table(rng, (40, 40))
    task = task_of(table, max_tested=10)
    assert task.is_test.sum() == 10
    assert len(set(task.draws.ravel().tolist())) == 80
    same = task_of(table, max_tested=10)
    np.testing.assert_array_equal(task.is_test, same.is_test)
    assert prototype_result(task, table, "raw").n_tested.max() > 0
