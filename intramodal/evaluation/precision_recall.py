"""Precision against recall over full rankings, averaged over the queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.ranking import Lists, score_blocks
from intramodal.evaluation.results import json_values
from intramodal.evaluation.retrieval_task import RetrievalTask
from intramodal.types import Floats, VectorTable

Array = NDArray[np.float64]

LEVELS = np.linspace(0.0, 1.0, 51)
"""Recall levels of the curve."""

MAX_QUERIES = 1000
"""Queries a curve is averaged over, at most: evenly spaced ones, the same for every vector."""

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Interpolated precision by recall, the mean over queries.

    Parameters
    ----------
    field : str
    recall : ndarray of shape (n_levels,)
    precision : dict of str to ndarray of shape (n_levels,)
        By vector. At recall r: the best precision of a query at recall r or more.
    chance : float
        Share of the gallery that is relevant, the mean over queries: what no order gives.
    n_queries, n_averaged : int
        Queries in all, and those that the mean is over.
    """

    field: str
    recall: Array
    precision: dict[str, Array]
    chance: float
    n_queries: int
    n_averaged: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; NaN becomes None."""
        values: dict[str, Any] = json_values(
            {name: getattr(self, name) for name in self.__dataclass_fields__}
        )
        return values


def precision_recall(
    table: VectorTable,
    *,
    vectors: list[str],
    field: str,
    min_class_size: int = 2,
    max_queries: int = MAX_QUERIES,
) -> PrecisionRecall:
    """Return the precision-recall curves of several vectors over the same queries.

    Equal scores are one threshold, as in `sklearn.metrics.precision_recall_curve`. Every picture
    asks all others; memory beyond the table is a block of scores.

    Parameters
    ----------
    table : VectorTable
    vectors : list of str
        Compared by cosine.
    field : str
        Payload field: relevant is what shares a value.
    min_class_size : int
        Classes with fewer images are left out.
    max_queries : int
        At most so many queries, evenly spaced.

    Raises
    ------
    InputError
        If the field cannot serve as a label.
    """
    task = RetrievalTask.from_table(table, field, min_class_size=min_class_size)
    n = task.relevance.n_queries
    rows = np.unique(np.linspace(0, n - 1, num=min(n, max_queries)).round().astype(np.intp))
    shares = [_share(task, int(row)) for row in rows]
    return PrecisionRecall(
        field=field,
        recall=LEVELS,
        precision={vector: _mean_curve(task, table, vector, rows) for vector in vectors},
        chance=float(np.mean(shares)),
        n_queries=n,
        n_averaged=len(rows),
    )


def interpolated(relevant: Floats, others: Floats, levels: Array = LEVELS) -> Array:
    """Return one query's interpolated precision at the given recall levels.

    Parameters
    ----------
    relevant, others : ndarray of shape (n_relevant,) and (n_others,)
        Scores of what is relevant, at least one, and of what is not.
    levels : ndarray of shape (n_levels,)
        Ascending, in [0, 1].

    Examples
    --------
    >>> interpolated(np.array([0.9, 0.5]), np.array([0.7]), np.array([0.5, 1.0]))
    array([1.        , 0.66666667])
    """
    hits = np.sort(relevant)
    # At the threshold of each relevant score: how many are found, and how many are right.
    right = len(hits) - np.searchsorted(hits, hits, side="left")
    wrong = len(others) - np.searchsorted(np.sort(others), hits, side="left")
    order = np.argsort(right, kind="stable")
    precision = (right / (right + wrong))[order]
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(right[order] / len(hits), levels - _ROUNDING, side="left")
    return np.asarray(best[np.minimum(at, len(best) - 1)], dtype=np.float64)


def _mean_curve(
    task: RetrievalTask, table: VectorTable, vector: str, rows: NDArray[np.intp]
) -> Array:
    Q, G = task.vectors(table, vector)
    total = np.zeros(len(LEVELS))
    for start, _, S in score_blocks(Q[rows], G):
        for row, scores in zip(rows[start:], S, strict=False):
            is_relevant, is_there = _masks(task, int(row), len(G))
            total += interpolated(scores[is_relevant], scores[is_there & ~is_relevant])
    return total / len(rows)


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
