"""Rankings that do not depend on insertion order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from intramodal.store.base import Distance, Hits
from intramodal.types import PointId

Answer = tuple[list[PointId], NDArray[np.float32]]
"""Ids and scores of one query, best first."""

Search = Callable[[Sequence[int], int], Sequence[Answer]]
"""Answers the queries of the given rows with up to so many points each."""


def id_order(point_id: PointId) -> tuple[bool, PointId]:
    """Return the sort key of ids: numbers by value, then UUIDs by their text.

    Examples
    --------
    >>> sorted(["b", 10, 9, "a"], key=id_order)
    [9, 10, 'a', 'b']
    """
    return isinstance(point_id, str), point_id


def rank(search: Search, n: int, k: int, *, distance: Distance, most: int | None) -> Hits:
    """Answer `n` queries with `k` points each, equal scores in the order of their ids.

    Engines cut equal scores at will: one more point than asked shows whether the cut falls
    between equals, and such queries are asked again with more room.

    Parameters
    ----------
    search : callable
    n, k : int
    distance : str
        Under Cosine and Dot the highest score is best, else the lowest.
    most : int or None
        Largest number of points that may be asked for.
    """
    answers: dict[int, Answer] = {}
    rows, limit = list(range(n)), _capped(k + 1, most)
    while rows:
        for row, answer in zip(rows, search(rows, limit), strict=True):
            answers[row] = answer
        rows = [row for row in rows if _is_cut_between_equals(answers[row], k, limit)]
        wider = _capped(limit * 4, most)
        if wider == limit:
            break
        limit = wider
    ranked = [_ranked(answers[row], k, distance) for row in range(n)]
    return Hits([ids for ids, _ in ranked], [scores for _, scores in ranked])


def _capped(limit: int, most: int | None) -> int:
    return limit if most is None else min(limit, most)


def _is_cut_between_equals(answer: Answer, k: int, limit: int) -> bool:
    scores = answer[1]
    return k < limit == len(scores) and bool(scores[k - 1] == scores[-1])


def _ranked(answer: Answer, k: int, distance: Distance) -> Answer:
    ids, scores = answer
    if len(scores) < 2 or (np.diff(scores) != 0).all():
        return ids[:k], scores[:k]
    sign = -1.0 if distance in ("Cosine", "Dot") else 1.0
    order = sorted(range(len(ids)), key=lambda i: (sign * float(scores[i]), id_order(ids[i])))[:k]
    return [ids[i] for i in order], scores[order]
