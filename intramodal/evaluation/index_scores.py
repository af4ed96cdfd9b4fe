"""What the k answers of a store say of the average precision: AP@k, bounds, interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.inference import Interval
from intramodal.evaluation.population import Population
from intramodal.evaluation.retrieval_task import RetrievalTask
from intramodal.types import VectorTable

Rows = NDArray[np.int64]
"""Rows of a table that answer one query, best first; -1 for answers that are not in it."""

_BATCH = 100
_PRIOR = 40
"""Answers that a query's own share of relevant ones is weighed against."""


def judge(
    task: RetrievalTask, table: VectorTable, answers: Sequence[Rows], most: int | None
) -> dict[str, Any]:
    """Return the figures of every query; AP@k over at most `most` relevant items."""
    figures = np.zeros((len(answers), 3))
    n_relevant, n_answers = np.zeros((2, len(answers)), dtype=np.int64)
    for i, (places, relevant) in enumerate(_paired(task, table, answers)):
        n_others = len(task.gallery_rows) - int(task.query_at[i] >= 0)
        n_relevant[i], n_answers[i] = len(relevant), len(places)
        figures[i] = certified_ap(np.isin(places, relevant), len(relevant), n_others)
    ap, lower, upper = figures.T
    if most is not None:
        ap = ap * n_relevant / np.minimum(n_relevant, most)
    return {
        "ap": ap,
        "lower": lower,
        "upper": upper,
        "n_relevant": n_relevant,
        "n_answers": n_answers,
    }


def _paired(
    task: RetrievalTask, table: VectorTable, answers: Sequence[Rows]
) -> Iterator[tuple[Rows, Rows]]:
    """Yield, for every query, the gallery places of its answers and of what is relevant."""
    # One place more: row -1, an answer that is not in the table, is not in the gallery either.
    place = np.full(len(table) + 1, -1, dtype=np.int64)
    place[task.gallery_rows] = np.arange(len(task.gallery_rows))
    for start in range(0, len(answers), _BATCH):
        part = answers[start : start + _BATCH]
        pointers, positives = task.relevance.positives(start, start + len(part))
        for i, rows in enumerate(part):
            places = place[rows]
            yield places[places >= 0], positives[pointers[i] : pointers[i + 1]]


def map_at_k_interval(
    task: RetrievalTask,
    table: VectorTable,
    answers: Sequence[Rows],
    ap: NDArray[np.float64],
    population: Population | None,
    most: int | None,
) -> Interval | None:
    """Return the interval of the mAP@k, the mean of `ap`.

    A picture that is left out leaves the answers, too, and another one comes up from below.
    """
    if population is None:
        return None
    groups = population.groups_of(task)

    def without() -> Iterator[NDArray[np.float64]]:
        chances = _chances(task, table, answers)
        pairs = _paired(task, table, answers)
        for pair, chance, own in zip(pairs, chances, groups.own, strict=True):
            found = _ap_without(*pair, groups.gallery, groups.n_groups, most, chance)
            found[own] = np.nan  # the query itself is left out
            yield found[None]

    return population.map_interval(ap, groups, without)


def _chances(
    task: RetrievalTask, table: VectorTable, answers: Sequence[Rows]
) -> NDArray[np.float64]:
    """Return each query's chance (n_queries,) that the picture below its answers is relevant.

    The share of the relevant in the lower half of the answers, which are few: drawn towards that
    of all queries, as `_PRIOR` more answers would. 0 where nothing is below.
    """
    found = np.zeros((len(answers), 2))
    is_below = np.ones(len(answers), dtype=bool)
    for i, (places, relevant) in enumerate(_paired(task, table, answers)):
        lower = places[len(places) // 2 :]
        found[i] = np.isin(lower, relevant).sum(), len(lower)
        is_below[i] = len(places) < len(task.gallery_rows) - int(task.query_at[i] >= 0)
    hits, n = found.T
    pooled = hits.sum() / max(n.sum(), 1)
    return np.where(is_below, (hits + _PRIOR * pooled) / (n + _PRIOR), 0.0)


def _ap_without(
    places: Rows,
    relevant: Rows,
    group: NDArray[np.int64],
    n_groups: int,
    most: int | None,
    chance: float,
) -> NDArray[np.float64]:
    """Return AP@k (n_groups,) without the answers and the relevant items of each group."""
    is_relevant = np.isin(places, relevant)
    there, own = np.unique(group[places], return_inverse=True)
    # Row 0 leaves nothing out, row 1 + i the group there[i].
    is_kept = np.vstack([np.ones(len(places), bool), own != np.arange(len(there))[:, None]])
    is_hit = is_kept & is_relevant
    hits, ranks = np.cumsum(is_hit, axis=1), np.cumsum(is_kept, axis=1)
    sums = (hits / np.maximum(ranks, 1) * is_hit).sum(axis=1)
    # What comes up stands at the end, where its precision is that of the hits with it.
    n_gone = (~is_kept).sum(axis=1)
    sums += n_gone * chance * (is_hit.sum(axis=1) + 1) / max(len(places), 1)
    total = np.full(n_groups, sums[0])
    total[there] = sums[1:]
    n_left = len(relevant) - np.bincount(group[relevant], minlength=n_groups)
    counted = n_left if most is None else np.minimum(n_left, most)
    return np.where(n_left > 0, total / np.maximum(counted, 1), np.nan)


def certified_ap(
    is_relevant: NDArray[np.bool_], n_relevant: int, n_gallery: int
) -> tuple[float, float, float]:
    """Return AP@k, and the least and most AP of any full ranking that begins so.

    With h of the R relevant items among the k answers, the others stand last in the worst case
    and at the places k + 1, ... in the best.

    Parameters
    ----------
    is_relevant : ndarray of shape (k,), bool
        The answers, best first.
    n_relevant, n_gallery : int
        R, and the number of items ranked.

    Examples
    --------
    >>> ap, least, most = certified_ap(np.array([True, False]), 2, 4)
    >>> ap, least, round(most, 3)
    (0.5, 0.75, 0.833)
    """
    found = np.flatnonzero(is_relevant) + 1.0
    sure = float((np.arange(1, len(found) + 1) / found).sum())
    missing = np.arange(1, n_relevant - len(found) + 1)
    hits = len(found) + missing
    least = float((hits / (n_gallery - len(missing) + missing)).sum())
    most = float((hits / (len(is_relevant) + missing)).sum())
    return sure / n_relevant, (sure + least) / n_relevant, (sure + most) / n_relevant
