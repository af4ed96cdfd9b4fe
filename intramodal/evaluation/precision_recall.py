"""Precision against recall over full rankings, averaged over the queries, with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.intervals import LeftOut, pointwise, pooled
from intramodal.evaluation.ranking import Lists, score_blocks
from intramodal.evaluation.resampling import Population
from intramodal.evaluation.tasks import RetrievalTask, check_max_queries
from intramodal.runs.frames import json_values
from intramodal.types import Floats, VectorTable

Array = NDArray[np.float64]

LEVELS = np.linspace(0.0, 1.0, 51)
"""Recall levels of the curve."""

MAX_QUERIES = 1000
"""Queries a curve is averaged over, at most: evenly spaced ones, the same for every vector."""

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Interpolated precision by recall, the mean over queries; arrays are (n_levels,)."""

    field: str
    recall: Array
    precision: dict[str, Array]
    """By vector. At recall r: the best precision of a query at recall r or more."""
    chance: float
    """Share of the gallery that is relevant, the mean over queries: what no order gives."""
    n_queries: int
    """Of the task."""
    n_averaged: int
    """That the mean is over."""
    interval: dict[str, Array] = dataclass_field(default_factory=dict)
    """By vector: the pointwise 95% interval (2, n_levels); empty without a population."""
    speaks_of: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; NaN becomes None."""
        values: dict[str, Any] = json_values(
            {name: getattr(self, name) for name in self.__dataclass_fields__}
        )
        return values


def precision_recall(
    table: VectorTable,
    task: RetrievalTask,
    *,
    vectors: Sequence[str],
    max_queries: int = MAX_QUERIES,
    population: Population | None = None,
) -> PrecisionRecall:
    """Return the precision-recall curves of vectors, by cosine, over the queries of a task.

    Equal scores are one threshold, as in `sklearn.metrics.precision_recall_curve`. Of the task's
    queries at most `max_queries` evenly spaced ones are averaged; memory beyond the table is a
    block of scores. A population of the same task adds intervals: its units are left out in turn
    (at most 20 groups of them), as queries and, as in the verdict, as gallery.
    """
    check_max_queries(max_queries)
    n = task.relevance.n_queries
    rows = np.unique(np.linspace(0, n - 1, num=min(n, max_queries)).round().astype(np.intp))
    units = None if population is None else _Units.of(population, task, rows)
    found = {vector: _mean_curve(task, table, vector, rows, units) for vector in vectors}
    return PrecisionRecall(
        field=task.field,
        recall=LEVELS,
        precision={vector: mean for vector, (mean, _) in found.items()},
        chance=float(np.mean([_share(task, int(row)) for row in rows])),
        n_queries=n,
        n_averaged=len(rows),
        interval={vector: band for vector, (_, band) in found.items() if band is not None},
        speaks_of="" if population is None else population.phrase,
    )


def interpolated(relevant: Floats, others: Floats, levels: Array = LEVELS) -> Array:
    """Return one query's interpolated precision at ascending recall levels in [0, 1].

    From the scores of what is relevant, at least one, and of what is not.
    """
    nowhere = np.zeros(len(relevant), np.int64), np.zeros(len(others), np.int64)
    return np.asarray(without_groups(relevant, others, nowhere, 0, levels)[0])


def without_groups(
    relevant: Floats,
    others: Floats,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]],
    n_groups: int,
    levels: Array = LEVELS,
) -> Array:
    """Return one query's interpolated precision (n_groups + 1, n_levels) without each group.

    The last row is with all. `groups` are those of `relevant` and of `others`, below `n_groups`.
    NaN without a group that holds all that is relevant.
    """
    hits = np.sort(relevant)
    n_hits, n_rows = len(hits), n_groups + 1
    # Found at the threshold of hit i, the lowest first: those that reach it.
    found = np.zeros((2, n_rows, n_hits), dtype=np.int64)
    for which, scores, group in ((0, relevant, groups[0]), (1, others, groups[1])):
        reach = np.searchsorted(hits, scores, side="right")
        total = np.bincount(reach, minlength=n_hits + 1)[1:][::-1].cumsum()[::-1]
        found[which] = total
        if n_groups:
            counts = np.bincount(group * (n_hits + 1) + reach, minlength=n_groups * (n_hits + 1))
            by_group = counts.reshape(n_groups, n_hits + 1)[:, 1:]
            found[which, :-1] -= by_group[:, ::-1].cumsum(axis=1)[:, ::-1]
    right, all_found = found[0], found.sum(axis=0)
    # The threshold of a hit that is left out does no harm: the next one has as many right ones
    # and no more wrong ones.
    precision = np.divide(right, all_found, out=np.zeros(right.shape), where=all_found > 0)
    best = np.maximum.accumulate(precision, axis=1)
    at = _last_place(right, np.ceil(levels * right[:, :1] - _ROUNDING).astype(np.int64))
    curves = np.take_along_axis(best, at, axis=1)
    curves[right[:, 0] == 0] = np.nan
    return np.asarray(curves)


def _last_place(right: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return in each row the last place with at least as many right ones as wanted.

    `right` (n_rows, n_hits) falls along its rows, so that one search over all of them will do.
    """
    n_rows, n_hits = right.shape
    start = np.arange(n_rows)[:, None] * (n_hits + 1)
    keys, asked = start + n_hits - right, start + n_hits - wanted
    at = np.searchsorted(keys.ravel(), asked.ravel(), side="right").reshape(asked.shape)
    return np.asarray(np.maximum(at - 1 - np.arange(n_rows)[:, None] * n_hits, 0))


@dataclass(frozen=True, eq=False)
class _Units:
    """What is left out in turn: the group of each asking row and of each gallery row."""

    own: NDArray[np.int64]
    gallery: NDArray[np.int64]
    n_groups: int
    leaves_gallery: bool

    @classmethod
    def of(cls, population: Population, task: RetrievalTask, rows: NDArray[np.intp]) -> _Units:
        groups = pooled(population.groups, seed=population.seed)
        return cls(
            own=groups[task.query_rows][rows],
            gallery=groups[task.gallery_rows],
            n_groups=int(groups.max()) + 1,
            leaves_gallery=population.leaves_gallery,
        )

    def curves(self, query: int, relevant: _Scored, others: _Scored) -> Array:
        """Return a query's curve without each group, NaN for its own; the last one is whole."""
        if self.leaves_gallery:
            groups = relevant.groups, others.groups
            found = without_groups(relevant.scores, others.scores, groups, self.n_groups)
        else:
            whole = interpolated(relevant.scores, others.scores)
            found = np.repeat(whole[None], self.n_groups + 1, axis=0)
        found[self.own[query]] = np.nan
        return found

    def interval(self, mean: Array, sums: Array, counts: NDArray[np.int64]) -> Array:
        """Return the interval (2, n_levels) from the sums of curves without each group."""
        of_all = self.gallery if self.leaves_gallery else self.own
        sizes = np.bincount(of_all[of_all >= 0], minlength=self.n_groups)
        return pointwise(mean, *LeftOut(sums, counts, sizes).means())


@dataclass(frozen=True, eq=False)
class _Scored:
    scores: Floats
    groups: NDArray[np.int64]


def _mean_curve(
    task: RetrievalTask,
    table: VectorTable,
    vector: str,
    rows: NDArray[np.intp],
    units: _Units | None,
) -> tuple[Array, Array | None]:
    """Return the mean curve of a vector and, given units, its interval."""
    n_rows = 1 if units is None else units.n_groups + 1
    sums, counts = np.zeros((n_rows, len(LEVELS))), np.zeros(n_rows, dtype=np.int64)
    gallery = np.zeros(len(task.gallery_rows), np.int64) if units is None else units.gallery
    for query, relevant, others in _asked(task, table, vector, rows, gallery):
        if units is None:
            curves = interpolated(relevant.scores, others.scores)[None]
        else:
            curves = units.curves(query, relevant, others)
        sums += np.nan_to_num(curves)
        counts += np.isfinite(curves[:, 0])
    mean = sums[-1] / counts[-1]
    return mean, None if units is None else units.interval(mean, sums[:-1], counts[:-1])


def _asked(
    task: RetrievalTask,
    table: VectorTable,
    vector: str,
    rows: NDArray[np.intp],
    gallery: NDArray[np.int64],
) -> Iterator[tuple[int, _Scored, _Scored]]:
    """Yield every query with the scores and groups of what is relevant to it, and of the rest."""
    Q, G = task.vectors(table, vector)
    for start, _, S in score_blocks(Q[rows], G):
        for query, scores in enumerate(S, start):
            is_relevant, is_there = _masks(task, int(rows[query]), len(G))
            is_other = is_there & ~is_relevant
            yield (
                query,
                _Scored(scores[is_relevant], gallery[is_relevant]),
                _Scored(scores[is_other], gallery[is_other]),
            )


def _share(task: RetrievalTask, row: int) -> float:
    is_relevant, is_there = _masks(task, row, len(task.gallery_rows))
    return float(is_relevant.sum() / is_there.sum())


def _masks(
    task: RetrievalTask, row: int, n_gallery: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which gallery rows are relevant to a query, and which are there for it."""
    is_relevant, is_there = np.zeros(n_gallery, dtype=bool), np.ones(n_gallery, dtype=bool)
    is_relevant[_only(task.relevance.positives(row, row + 1))] = True
    is_there[_only(task.relevance.ignored(row, row + 1))] = False
    return is_relevant, is_there


def _only(lists: Lists) -> NDArray[np.int64]:
    pointers, indices = lists
    return indices[pointers[0] : pointers[1]]
