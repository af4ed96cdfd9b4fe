"""Our `Filter` in the words of either client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intramodal.errors import InputError
from intramodal.store.base import Filter
from intramodal.store.checks import canonical_ids
from intramodal.types import PointId


@dataclass(frozen=True)
class Dialect:
    """How one client spells the conditions we use."""

    all_of: Callable[[list[Any], list[Any]], Any]
    any_of: Callable[[list[Any]], Any]
    has_id: Callable[[list[PointId]], Any]
    has_vector: Callable[[str], Any]
    is_value: Callable[[str, str | int | bool], Any]
    is_among: Callable[[str, list[Any]], Any]
    is_float: Callable[[str, float], Any]
    is_absent: Callable[[str], Any]


def spell(dialect: Dialect, where: Filter | None, exclude: PointId | None = None) -> Any:
    """Return the client's filter, or None where there is nothing to filter.

    Parameters
    ----------
    dialect : Dialect
    where : Filter or None
    exclude : str, int or None
        Id of a point that must not be found.
    """
    where = where or Filter()
    must = list(_payload_conditions(dialect, where.equals))
    if where.ids is not None:
        must.append(dialect.has_id(canonical_ids(where.ids)))
    if where.has_vector is not None:
        must.append(dialect.has_vector(where.has_vector))
    must_not = [] if exclude is None else [dialect.has_id(canonical_ids([exclude]))]
    if where.lacks_vector is not None:
        must_not.append(dialect.has_vector(where.lacks_vector))
    return dialect.all_of(must, must_not) if must or must_not else None


def _payload_conditions(dialect: Dialect, equals: Mapping[str, Any]) -> Iterable[Any]:
    for field, wanted in equals.items():
        is_list = isinstance(wanted, (list, tuple, set, frozenset, np.ndarray))
        choices = list(_conditions(dialect, field, list(wanted) if is_list else [wanted]))
        if not choices:
            yield dialect.has_id([])  # one of no values: no point
        else:
            yield choices[0] if len(choices) == 1 else dialect.any_of(choices)


def _conditions(dialect: Dialect, field: str, values: Sequence[Any]) -> Iterable[Any]:
    plain = [v.item() if isinstance(v, np.generic) else v for v in values]
    for kind in (str, int):
        same = [v for v in plain if type(v) is kind]
        if same:
            yield (
                dialect.is_value(field, same[0])
                if len(same) == 1
                else dialect.is_among(field, same)
            )
    for value in plain:
        if isinstance(value, bool):
            yield dialect.is_value(field, value)
        elif isinstance(value, float):
            yield dialect.is_float(field, value)
        elif value is None:
            yield dialect.is_absent(field)
        elif not isinstance(value, (str, int)):
            raise InputError(
                f"a filter on {field!r} takes text, numbers, booleans and None, got {value!r}"
            )
