"""What a search asks for, checked: the same for every backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from intramodal.errors import InputError
from intramodal.store.base import VectorSpec
from intramodal.store.checks import canonical_ids, check_queries
from intramodal.types import Floats, PointId

_PARAMS = ("hnsw_ef", "indexed_only", "quantization")
_PREFETCH = ("using", "limit", "Q")


@dataclass(frozen=True)
class FirstStage:
    """The candidates of a two-stage search: `limit` points near the rows of `Q` (n, d)."""

    Q: Floats
    using: str
    limit: int


@dataclass(frozen=True)
class SearchPlan:
    """One search for each row of `Q` (n, d).

    Parameters
    ----------
    exclude : list
        One id a query, or None.
    params : dict
        ``hnsw_ef``, ``indexed_only`` and ``quantization`` as far as they were given.
    first : FirstStage or None
    """

    Q: Floats
    using: str
    exact: bool
    exclude: list[PointId | None]
    params: dict[str, Any] = field(default_factory=dict)
    first: FirstStage | None = None

    def most(self, ceiling: int | None) -> int | None:
        """Return the largest number of answers that may be asked for."""
        limits = [ceiling, self.first.limit if self.first else None]
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
    first = _first_stage(specs, Q, k, given.pop("prefetch", None))
    unknown = sorted(set(given) - set(_PARAMS))
    if unknown:
        raise InputError(
            f"there is no search parameter {unknown[0]!r}; give prefetch, {', '.join(_PARAMS)}"
        )
    return SearchPlan(Q, using, exact, _excluded(exclude, len(Q)), given, first)


def _excluded(exclude: Sequence[PointId | None] | None, n: int) -> list[PointId | None]:
    if exclude is None:
        return [None] * n
    if len(exclude) != n:
        raise InputError(f"got {n} queries but {len(exclude)} ids to exclude; give one each")
    return [None if i is None else canonical_ids([i])[0] for i in exclude]


def _first_stage(
    specs: Mapping[str, VectorSpec], Q: Floats, k: int, prefetch: Mapping[str, Any] | None
) -> FirstStage | None:
    if prefetch is None:
        return None
    unknown = sorted(set(prefetch) - set(_PREFETCH))
    if unknown or not {"using", "limit"} <= set(prefetch):
        raise InputError(
            f"prefetch takes using, limit and optionally Q, got {', '.join(sorted(prefetch))}"
        )
    if prefetch["limit"] < k:
        raise InputError(
            f"prefetch limit {prefetch['limit']} is below k={k}; ask for at least k candidates"
        )
    first = check_queries(specs, prefetch["using"], prefetch.get("Q", Q), k)
    if len(first) != len(Q):
        raise InputError(f"got {len(Q)} queries but {len(first)} for prefetch; give one each")
    return FirstStage(first, prefetch["using"], prefetch["limit"])
