"""What a search asks for, checked, and rankings that do not depend on insertion order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.store.base import Hits, VectorSpec
from intramodal.store.checks import canonical_names, check_queries
from intramodal.types import Distance, Floats, PointId

_PARAMS = ("hnsw_ef", "indexed_only", "quantization")
_STAGE = ("using", "limit", "Q")

Weights = tuple[float, float]
"""How much the rankings of a fused search count, the one by its own vector first."""


def check_weights(given: Sequence[float]) -> Weights:
    """Return the weights of a fused search; `InputError` unless they are two above 0."""
    if len(given) != 2 or not all(0 < weight < math.inf for weight in given):
        raise InputError(
            f"a fused search has two weights above 0, one a ranking, got "
            f"{', '.join(f'{weight:g}' for weight in given)}; a search by one vector leaves the "
            f"other out"
        )
    return float(given[0]), float(given[1])


@dataclass(frozen=True)
class Stage:
    """One list of candidates: `limit` points near the rows of `Q` (n, d)."""

    Q: Floats
    using: str
    limit: int


@dataclass(frozen=True)
class SearchPlan:
    """One search for each row of `Q` (n, d)."""

    Q: Floats
    using: str
    exact: bool
    exclude: list[PointId | None]
    """One id a query, or None."""
    params: dict[str, Any] = field(default_factory=dict)
    """``hnsw_ef``, ``indexed_only`` and ``quantization`` as far as they were given."""
    first: Stage | None = None
    """Gives the candidates that are ranked, or the second list of a fused search."""
    is_fused: bool = False
    """Whether the lists of `using` and of `first` are fused by their ranks."""
    weights: Weights | None = None
    """Of the lists of `using` and of `first`; None where they count alike."""

    def stages(self) -> list[Stage]:
        """Return the lists that are made before the last step."""
        if self.first is None:
            return []
        own = [Stage(self.Q, self.using, self.first.limit)] if self.is_fused else []
        return [*own, self.first]

    @property
    def width(self) -> int:
        """Return how many numbers are sent for one search."""
        return int(self.Q.shape[1]) + sum(int(stage.Q.shape[1]) for stage in self.stages())

    def distance(self, specs: Mapping[str, VectorSpec]) -> Distance:
        """Return what the scores mean: a fused search has the highest ones first."""
        return "Cosine" if self.is_fused else specs[self.using].distance

    def most(self, ceiling: int | None) -> int | None:
        """Return the largest number of answers that may be asked for."""
        limits = [ceiling, sum(stage.limit for stage in self.stages()) or None]
        return min((limit for limit in limits if limit is not None), default=None)


def plan_search(
    specs: Mapping[str, VectorSpec],
    Q: Floats,
    *,
    using: str,
    k: int,
    exact: bool,
    exclude: Sequence[PointId | None] | None,
    params: Mapping[str, Any] | None,
) -> SearchPlan:
    """Return the checked plan of a `Store.query_batch` call."""
    Q = check_queries(specs, using, Q, k)
    given = dict(params or {})
    prefetch, fuse = given.pop("prefetch", None), given.pop("fuse", None)
    if prefetch is not None and fuse is not None:
        raise InputError("a search is either fused or has a prefetch; give one of the two")
    fuse, weights = _weighed(fuse)
    first = _stage(specs, Q, k, "prefetch", prefetch) or _stage(specs, Q, k, "fuse", fuse)
    unknown = sorted(set(given) - set(_PARAMS))
    if unknown:
        raise InputError(
            f"there is no search parameter {unknown[0]!r}; give prefetch, fuse, "
            f"{', '.join(_PARAMS)}"
        )
    excluded = _excluded(exclude, len(Q))
    is_fused = fuse is not None
    return SearchPlan(Q, using, exact, excluded, given, first, is_fused=is_fused, weights=weights)


def _weighed(fuse: Mapping[str, Any] | None) -> tuple[Mapping[str, Any] | None, Weights | None]:
    """Return what is fused, and its weights where they say more than 1 and 1."""
    if fuse is None:
        return None, None
    rest = dict(fuse)
    given = rest.pop("weights", None)
    weights = None if given is None else check_weights(given)
    return rest, None if weights == (1.0, 1.0) else weights


def _excluded(exclude: Sequence[PointId | None] | None, n: int) -> list[PointId | None]:
    if exclude is None:
        return [None] * n
    if len(exclude) != n:
        raise InputError(f"got {n} queries but {len(exclude)} ids to exclude; give one each")
    return [None if i is None else canonical_names([i])[0] for i in exclude]


def _stage(
    specs: Mapping[str, VectorSpec],
    Q: Floats,
    k: int,
    kind: str,
    given: Mapping[str, Any] | None,
) -> Stage | None:
    if given is None:
        return None
    unknown = sorted(set(given) - set(_STAGE))
    if unknown or not {"using", "limit"} <= set(given):
        raise InputError(
            f"{kind} takes using, limit and optionally Q (fuse weights, too), got "
            f"{', '.join(sorted(given))}"
        )
    if given["limit"] < k:
        raise InputError(
            f"{kind} limit {given['limit']} is below k={k}; give at least k candidates"
        )
    first = check_queries(specs, given["using"], given.get("Q", Q), k)
    if len(first) != len(Q):
        raise InputError(f"got {len(Q)} queries but {len(first)} for {kind}; give one each")
    return Stage(first, given["using"], given["limit"])


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

    Under Cosine and Dot the highest score is best, else the lowest; at most `most` points are
    asked for.
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


def without(answer: Answer, point: PointId | None) -> Answer:
    """Return the answers to a query without a point, by its id."""
    ids, scores = answer
    if point is None or point not in ids:
        return answer
    kept = [place for place, found in enumerate(ids) if found != point]
    return [ids[place] for place in kept], scores[kept]


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
