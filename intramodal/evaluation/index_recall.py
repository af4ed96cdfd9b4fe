"""Recall of a store's answers against the exact top k of the same stored vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.index_scores import Rows
from intramodal.evaluation.ranking import score_blocks
from intramodal.evaluation.retrieval_task import Mask
from intramodal.store.base import Distance, Hits
from intramodal.types import Floats, PointId, VectorTable, unit_rows

if TYPE_CHECKING:
    from intramodal.evaluation.index_search import IndexSearch

# Two float32 implementations of a score differ by a few units in the last place.
_SAME_SCORE = 1e-6
_BLOCK_ROWS = 256


def recall_at_k(
    table: VectorTable,
    search: IndexSearch,
    rows: NDArray[np.intp],
    hits: Hits,
    *,
    may_answer: Mask | None = None,
    distance: Distance = "Cosine",
) -> NDArray[np.float64]:
    """Return the share of each query's answers that score as high as the exact k-th.

    Equal scores are equally right, whichever of them the store chose. Answers that are not in the
    table, because they lack one of its vectors, cannot be judged: they shorten both lists.

    Parameters
    ----------
    rows : ndarray of shape (n_queries,)
        Rows of the table that asked.
    hits : Hits
        Their answers.
    may_answer : ndarray of shape (n,), bool, optional
        Rows that may answer; all by default.
    distance : {"Cosine", "Dot", "Euclid", "Manhattan"}
        By which the collection compares this vector.

    Returns
    -------
    ndarray of shape (n_queries,)
        Over ``min(k, number of rows that may answer)``. NaN for a fused search.
    """
    row_of = {point: row for row, point in enumerate(table.ids)}
    answers = [rows_of(ids, row_of) for ids in hits.ids]
    return recall_of(table, search, rows, answers, may_answer=may_answer, distance=distance)


def rows_of(ids: Sequence[PointId], row_of: Mapping[PointId, int]) -> Rows:
    """Return the rows of a table's points; -1 for others."""
    return np.array([row_of.get(point, -1) for point in ids], dtype=np.int64)


def recall_of(
    table: VectorTable,
    search: IndexSearch,
    rows: NDArray[np.intp],
    answers: Sequence[Rows],
    *,
    may_answer: Mask | None = None,
    distance: Distance = "Cosine",
) -> NDArray[np.float64]:
    """Return what `recall_at_k` does, of answers that are rows of the table already."""
    recall = np.full(len(rows), np.nan)
    if search.fuse:
        return recall
    X = table.vectors[search.vector]
    is_there = np.asarray(np.isfinite(X).all(axis=1))
    if may_answer is not None:
        is_there &= may_answer
    known = np.where(is_there[:, None], X, 0)
    for start, stop, S in _nearness(X[rows], known, distance):
        S[:, ~is_there] = -np.inf
        S[np.arange(stop - start), rows[start:stop]] = -np.inf
        for i in range(stop - start):
            given = answers[start + i]
            inside = given[given >= 0]
            recall[start + i] = _share(S[i], inside, search.k - (len(given) - len(inside)))
    return recall


def _nearness(Q: Floats, G: Floats, distance: Distance) -> Iterator[tuple[int, int, Floats]]:
    """Yield (start, stop, scores of Q[start:stop] with G) where the nearest score highest."""
    if distance == "Cosine":
        yield from score_blocks(unit_rows(Q), unit_rows(G))
    elif distance == "Dot":
        yield from score_blocks(Q, G)
    else:
        from scipy.spatial.distance import cdist

        metric = "cityblock" if distance == "Manhattan" else "euclidean"
        for start in range(0, len(Q), _BLOCK_ROWS):
            stop = min(start + _BLOCK_ROWS, len(Q))
            yield start, stop, -cdist(Q[start:stop], G, metric)


def _share(scores: Floats, answers: Rows, k: int) -> float:
    wanted = min(k, int(np.isfinite(scores).sum()))
    if wanted == 0:
        return float("nan")
    least = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    rounding = _SAME_SCORE * max(1.0, abs(float(least)))
    return float((scores[answers] >= least - rounding).sum()) / wanted
