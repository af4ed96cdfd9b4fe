"""Filters, as far as our store sends them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdrant_client import models
from qdrant_client.local.json_path_parser import parse_json_path
from qdrant_client.local.siphash import point_id_slice

from intramodal.types import Payload, PointId
from tests.faults.wire.errors import WireError
from tests.faults.wire.points import Point, known_id

Matches = Callable[[PointId, Point], bool]


def matcher(where: models.Filter | None) -> Matches:
    """Return whether a point meets the filter, as a function."""
    if where is None:
        return lambda point, stored: True
    if where.min_should is not None:
        raise WireError(501, "the stand-in has no min_should")
    must, should, must_not = (
        [_condition(c) for c in _listed(conditions)]
        for conditions in (where.must, where.should, where.must_not)
    )

    def matches(point: PointId, stored: Point) -> bool:
        return (
            all(m(point, stored) for m in must)
            and (not should or any(m(point, stored) for m in should))
            and not any(m(point, stored) for m in must_not)
        )

    return matches


def _listed(conditions: Any) -> list[Any]:
    if conditions is None:
        return []
    return conditions if isinstance(conditions, list) else [conditions]


def _condition(condition: Any) -> Matches:
    if isinstance(condition, models.Filter):
        return matcher(condition)
    if isinstance(condition, models.HasIdCondition):
        ids = {known_id(i) for i in condition.has_id}
        return lambda point, stored: point in ids
    if isinstance(condition, models.HasVectorCondition):
        return lambda point, stored: condition.has_vector in stored.vectors
    if isinstance(condition, models.IsEmptyCondition):
        key = condition.is_empty.key
        return lambda point, stored: value_at(stored.payload, key) in (None, [])
    if isinstance(condition, models.SliceCondition):
        part = condition.slice
        if not 0 <= part.index < part.total:
            raise WireError(422, "Slice index must be less than the total number of slices")
        return lambda point, stored: point_id_slice(point, part.total) == part.index
    if isinstance(condition, models.FieldCondition):
        return _field(condition)
    raise WireError(501, f"the stand-in has no {type(condition).__name__}")


def _field(condition: models.FieldCondition) -> Matches:
    test = _match(condition.match) if condition.match else _range(condition.range)

    def matches(point: PointId, stored: Point) -> bool:
        value = value_at(stored.payload, condition.key)
        return any(test(v) for v in (value if isinstance(value, list) else [value]))

    return matches


def _match(match: Any) -> Callable[[Any], bool]:
    if isinstance(match, models.MatchValue):
        wanted = [match.value]
    elif isinstance(match, models.MatchAny):
        wanted = list(match.any)
    else:
        raise WireError(501, f"the stand-in has no {type(match).__name__}")
    return lambda value: any(type(value) is type(w) and value == w for w in wanted)


def _range(bounds: Any) -> Callable[[Any], bool]:
    if not isinstance(bounds, models.Range) or bounds.gt is not None or bounds.lt is not None:
        raise WireError(501, f"the stand-in has no range {bounds!r}")
    low = float("-inf") if bounds.gte is None else bounds.gte
    high = float("inf") if bounds.lte is None else bounds.lte
    return lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    )


def value_at(payload: Payload, path: str) -> Any:
    """Return the value of a payload field, by its path."""
    value: Any = payload
    for step in parse_json_path(path):
        if not isinstance(value, dict) or step.key not in value:
            return None
        value = value[step.key]
    return value
