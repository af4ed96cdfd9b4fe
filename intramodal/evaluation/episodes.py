"""Many few-shot episodes: near-copies drawn as one, prototypes by the products of images.

The score of an image with a prototype is the sum of its products with the shots, over the length
of their sum. So the rows of X X' serve all episodes: no product a classifier is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.fewshot import Counts, FewshotResult, fewshot_result
from intramodal.evaluation.ranking import score_blocks
from intramodal.evaluation.shots import FewshotTask
from intramodal.types import Floats, VectorTable

N_DRAWS = 1000
"""Draws of shots. 500 leave a standard deviation of .08 points over seeds, 50 leave .25."""


def with_episodes(
    task: FewshotTask,
    groups: NDArray[np.int64],
    *,
    n_draws: int = N_DRAWS,
    max_tested: int | None = None,
) -> FewshotTask:
    """Return the task with other episodes: of every class one image a group, groups alike.

    Near-copies share a group in `groups` (n_table,). Where more images can be tested, `max_tested`
    of them are drawn. Nothing tunes.
    """
    task = replace(task, groups=groups[task.rows])
    task = replace(task, shots=comparable_shots(task))
    n_shots = max(task.shots, default=0)
    return replace(
        task,
        is_test=_drawn_tests(task, max_tested),
        draws=draw_shots(task, n_shots, n_draws),
        validation=np.empty((n_draws, len(task.names), 0), dtype=np.int64),
    )


def comparable_shots(task: FewshotTask) -> tuple[int, ...]:
    """Return the numbers of shots that two classes can serve: if it can be, all the same classes.

    Where all but one number are served by all the classes, that one is left out: a mean over the
    shots then speaks of the same classes throughout.
    """
    served = {s: task.classes_at(s).tolist() for s in task.shots}
    able = tuple(s for s, classes in served.items() if len(classes) > 1)
    most = max((len(served[s]) for s in able), default=0)
    alike = tuple(s for s in able if len(served[s]) == most)
    return alike if len(able) - len(alike) <= 1 else able


def _drawn_tests(task: FewshotTask, most: int | None) -> NDArray[np.bool_]:
    tested = np.flatnonzero(task.is_test)
    if most is None or len(tested) <= most:
        return task.is_test
    rng = np.random.default_rng((task.seed, 4))  # a stream of its own, as every draw has
    kept = np.zeros_like(task.is_test)
    kept[rng.choice(tested, most, replace=False)] = True
    return kept


def draw_shots(task: FewshotTask, n_shots: int, n_draws: int) -> NDArray[np.int64]:
    """Return shots (n_draws, K, n_shots) by position in the task's rows; -1 beyond a class."""
    rng = np.random.default_rng((task.seed, 3))
    draws = np.full((n_draws, len(task.names), n_shots), -1, dtype=np.int64)
    pool = np.flatnonzero(task.is_pool)
    order = pool[np.lexsort((task.groups[pool], task.codes[pool]))]
    bounds = np.searchsorted(task.codes[order], np.arange(len(task.names) + 1))
    for c, (start, stop) in enumerate(itertools.pairwise(bounds)):
        members = order[start:stop]
        _, first, sizes = np.unique(task.groups[members], return_index=True, return_counts=True)
        at = _subsets(rng, len(first), n_shots, n_draws)
        within = (rng.random(at.shape) * sizes[at]).astype(np.int64)
        draws[:, c, : at.shape[1]] = members[first[at] + within]
    return draws


def _subsets(rng: np.random.Generator, n: int, size: int, n_draws: int) -> NDArray[np.int64]:
    """Return subsets (n_draws, size or n) of range(n) in random order (Floyd's algorithm).

    As many random numbers as are drawn, however large n is.
    """
    size = min(size, n)
    chosen = np.full((n_draws, size), -1, dtype=np.int64)
    for i, last in enumerate(range(n - size, n)):
        found = rng.integers(0, last, n_draws, endpoint=True)
        is_taken = (chosen[:, :i] == found[:, None]).any(axis=1)
        chosen[:, i] = np.where(is_taken, last, found)
    return rng.permuted(chosen, axis=1)


def prototype_result(task: FewshotTask, table: VectorTable, vector: str) -> FewshotResult:
    """Return the accuracy of nearest prototypes in all episodes, as `run_fewshot` does."""
    X = task.images(table, vector)
    return fewshot_result(task, table, vector, "prototype", _counts(task, X))


def _counts(task: FewshotTask, X: Floats) -> list[Counts]:
    """Return times right, times tested and accuracies of every episode, for each shot count."""
    from intramodal.evaluation.kernels.classification import count_episodes, prototype_scales

    shots = np.array(task.shots, dtype=np.int64)
    serves = _serving(task, task.shots)
    drawn = task.draws, prototype_scales(X, task.draws, shots)
    rows = np.flatnonzero(task.is_test)
    counts = np.zeros((2, len(shots), len(X)), dtype=np.int64)
    totals = np.zeros((2, len(shots), len(task.draws)))
    for start, stop, scores in score_blocks(X[rows], X):
        at = rows[start:stop]
        copied = _copied(task, at, serves)
        found = count_episodes(scores, task.codes[at], drawn, shots, serves, copied)
        counts[:, :, at] = found[0]
        totals += found[1].sum(axis=0)
    with np.errstate(invalid="ignore"):
        accuracy = totals[0] / totals[1]
    return list(zip(*counts, accuracy, strict=True))


def _serving(task: FewshotTask, shots: Sequence[int]) -> NDArray[np.bool_]:
    """Return (n_shots, K): which classes take part."""
    serves = np.zeros((len(shots), len(task.names)), dtype=bool)
    for i, s in enumerate(shots):
        serves[i, task.classes_at(s)] = True
    return serves


def _copied(
    task: FewshotTask, rows: NDArray[np.intp], serves: NDArray[np.bool_]
) -> NDArray[np.uint32]:
    """Return (b, n_draws): for which numbers of shots, as bits, the image or a copy is a shot."""
    from intramodal.evaluation.kernels.classification import copied_shots

    place = np.full(1 + int(task.groups.max()), -1, dtype=np.int64)
    distinct, own = np.unique(task.groups[rows], return_inverse=True)
    place[distinct] = np.arange(len(distinct))
    drawn_as = np.arange(task.draws.shape[2])
    masks = np.zeros((len(task.names), len(drawn_as)), dtype=np.uint32)
    for a, s in enumerate(task.shots):
        masks |= (serves[a][:, None] & (drawn_as < s)).astype(np.uint32) << np.uint32(a)
    found: NDArray[np.uint32] = copied_shots(task.draws, task.groups, place, len(distinct), masks)[
        own
    ]
    return found
