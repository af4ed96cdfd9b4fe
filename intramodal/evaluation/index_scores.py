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

    A picture that is left out leaves the answers, too.
    """
    if population is None:
        return None
    groups = population.groups_of(task)

    def without() -> Iterator[NDArray[np.float64]]:
        for pair, own in zip(_paired(task, table, answers), groups.own, strict=True):
            found = _ap_without(*pair, groups.gallery, groups.n_groups, most)
            found[own] = np.nan  # the query itself is left out
            yield found[None]

    return population.map_interval(ap, groups, without)


def _ap_without(
    places: Rows, relevant: Rows, group: NDArray[np.int64], n_groups: int, most: int | None
) -> NDArray[np.float64]:
    """Return AP@k (n_groups,) without the answers and the relevant items of each group.

    What would have come up from below place k is not known; that shifts all groups alike.
    """
    is_relevant = np.isin(places, relevant)
    there, own = np.unique(group[places], return_inverse=True)
    # Row 0 leaves nothing out, row 1 + i the group there[i].
    is_kept = np.vstack([np.ones(len(places), bool), own != np.arange(len(there))[:, None]])
    hits, ranks = np.cumsum(is_kept & is_relevant, axis=1), np.cumsum(is_kept, axis=1)
    sums = (hits / np.maximum(ranks, 1) * (is_kept & is_relevant)).sum(axis=1)
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
