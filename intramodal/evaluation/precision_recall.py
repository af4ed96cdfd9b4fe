"""Precision against recall over full rankings, averaged over the queries, with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.intervals import LeftOut, pointwise, pooled
from intramodal.evaluation.ranking import Relevance, score_blocks
from intramodal.evaluation.resampling import Population
from intramodal.evaluation.tasks import RetrievalTask, check_max_queries
from intramodal.plots import Plot, precision_recall_plot
from intramodal.runs.frames import json_values
from intramodal.types import Floats, VectorTable, short_repr

Array = NDArray[np.float64]

LEVELS = np.linspace(0.0, 1.0, 51)
"""Recall levels of the curve."""

MAX_QUERIES = 1000
"""Queries a curve is averaged over, at most: evenly spaced ones, the same for every vector."""

_TOGETHER = 64
"""Queries whose relevant items are listed at a time."""


@short_repr
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

    def plot(self) -> Plot:
        """Return precision by recall, with the 95% intervals where there are any."""
        return Plot.of([precision_recall_plot(self.to_dict())])

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
    relevance = task.relevance if len(rows) == n else task.relevance.only(rows)
    units = _Units.none(task, rows) if population is None else _Units.of(population, task, rows)
    found = {}
    for vector in vectors:
        Q, G = task.vectors(table, vector)
        reranking = task.reranking(table, vector)
        blocks = score_blocks(Q[rows], G, None, reranking and reranking.only(rows))
        found[vector] = _mean_curve(blocks, relevance, units)
    return PrecisionRecall(
        field=task.field,
        recall=LEVELS,
        precision={vector: mean for vector, (mean, _) in found.items()},
        chance=_chance(relevance, len(task.gallery_rows)),
        n_queries=n,
        n_averaged=len(rows),
        interval={vector: band for vector, (_, band) in found.items() if band is not None},
        speaks_of="" if population is None else population.phrase,
    )


@dataclass(frozen=True, eq=False)
class _Units:
    """What is left out in turn: the group of each asking row and of each gallery row."""

    own: NDArray[np.int64]
    gallery: NDArray[np.int64]
    """-1 where the gallery stays."""
    n_groups: int
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, population: Population, task: RetrievalTask, rows: NDArray[np.intp]) -> _Units:
        groups = pooled(population.groups, seed=population.seed)
        own, gallery = groups[task.query_rows][rows], groups[task.gallery_rows]
        n_groups = int(groups.max()) + 1
        of_all = gallery if population.leaves_gallery else own
        sizes = np.bincount(of_all[of_all >= 0], minlength=n_groups)
        stays = np.full_like(gallery, -1)
        return cls(own, gallery if population.leaves_gallery else stays, n_groups, sizes)

    @classmethod
    def none(cls, task: RetrievalTask, rows: NDArray[np.intp]) -> _Units:
        """Return that nothing is left out."""
        own, gallery = (np.full(len(part), -1) for part in (rows, task.gallery_rows))
        return cls(own, gallery, 0, np.empty(0, dtype=np.int64))


def _mean_curve(
    blocks: Iterator[tuple[int, int, Floats]], relevance: Relevance, units: _Units
) -> tuple[Array, Array | None]:
    """Return the mean curve of blocks of scores and, where units are left out, its interval."""
    from intramodal.evaluation.kernels.cpu import curves_block  # numba: when it is needed

    sums = np.zeros((units.n_groups + 1, len(LEVELS)))
    counts = np.zeros(units.n_groups + 1, dtype=np.int64)
    for start, stop, S in blocks:
        lists = relevance.positives(start, stop), relevance.ignored(start, stop)
        groups = units.gallery, units.own[start:stop], units.n_groups
        found, n_found = curves_block(S, *lists, groups, LEVELS)
        sums += found
        counts += n_found
    mean = sums[-1] / counts[-1]
    if not units.n_groups:
        return mean, None
    return mean, pointwise(mean, *LeftOut(sums[:-1], counts[:-1], units.sizes).means())


def _chance(relevance: Relevance, n_gallery: int) -> float:
    """Return the share of the gallery that is relevant, the mean over the queries."""
    shares = []
    for start in range(0, relevance.n_queries, _TOGETHER):
        stop = min(start + _TOGETHER, relevance.n_queries)
        n_relevant = np.diff(relevance.positives(start, stop)[0])
        n_ignored = np.diff(relevance.ignored(start, stop)[0])
        shares.append(n_relevant / (n_gallery - n_ignored))
    return float(np.mean(np.concatenate(shares)))
