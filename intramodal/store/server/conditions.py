"""Filters under strict mode: what a server is asked for, and what is checked of its answers here.

A server may demand an index for each condition on the payload, and limit how many conditions a
filter has and how many values each. Such a filter is cut in two: as much of it is sent as may be,
and the points that come back are held against the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from intramodal.errors import InputError, Unsupported
from intramodal.store.base import UNNAMED, Filter, IndexKind, plain_id, values_of
from intramodal.store.checks import canonical_ids
from intramodal.store.fields import is_read_by, value_at, values_at
from intramodal.store.filters import indexed_conditions, spell
from intramodal.store.queries import id_order
from intramodal.store.server import convert
from intramodal.types import Payload, PointId


@dataclass(frozen=True)
class Allowed:
    """Which conditions a collection takes.

    Parameters
    ----------
    limits : Limits
    indexes : dict of str to str
        Kinds of the payload indexes, by JSON path.
    """

    limits: convert.Limits
    indexes: Mapping[str, str] = field(default_factory=dict)

    def sent(self, one: Filter, n_left: int | None) -> Any:
        """Return a single condition as it is sent, None if it may not be."""
        whole = spell(convert.CLIENT, one)
        if self._fits(whole, n_left) and (self.limits.allows_unindexed or not one.equals):
            return whole
        for name, wanted in one.equals.items():
            found = indexed_conditions(convert.CLIENT, name, values_of(wanted), self.indexes)
            if found is not None and self._fits(found, n_left):
                return found
        return None

    def _fits(self, condition: Any, n_left: int | None) -> bool:
        longest = self.limits.values_a_condition
        return (n_left is None or convert.n_conditions(condition) <= n_left) and (
            longest is None or convert.longest_condition(condition) <= longest
        )

    def cuts(self, where: Filter | None) -> bool:
        """Return whether a part of a filter cannot be sent."""
        return self.limits.restricts_filters and any(
            part(chunk, self).rest.conditions for chunk in in_chunks(where, self)
        )

    def lacks_index(self, one: Filter) -> str | None:
        """Return the payload field of a single condition that cannot be sent."""
        if not one.equals or self.sent(one, self.limits.conditions_a_filter) is not None:
            return None
        return next(iter(one.equals), None)


@dataclass(frozen=True)
class Parted:
    """A filter in two.

    Parameters
    ----------
    sent : models.Filter or None
    rest : Filter
        What is checked here; without conditions where everything is sent.
    excludes : bool
        Whether what is sent excludes the point that was to be excluded.
    """

    sent: Any
    rest: Filter
    excludes: bool = True

    @property
    def vectors(self) -> list[str]:
        """The vectors that must be read for the check."""
        named = [(one.has_vector, one.lacks_vector) for one in self.rest.conditions]
        return list(dict.fromkeys(name for pair in named for name in pair if name is not None))

    @property
    def fields(self) -> list[str]:
        """The payload fields that must be read for it."""
        return list(dict.fromkeys(name for one in self.rest.conditions for name in one.equals))

    def admitted(self, records: Sequence[Any]) -> list[Any]:
        """Return the records that meet the rest."""
        tests = [_test(one) for one in self.rest.conditions]
        return [record for record in records if all(test(record) for test in tests)]


def part(where: Filter | None, allowed: Allowed, exclude: PointId | None = None) -> Parted:
    """Cut a filter in two: as much is sent as may be, what chooses most first."""
    if not allowed.limits.restricts_filters:
        return Parted(spell(convert.CLIENT, where, exclude), Filter())
    left, sent, rest = allowed.limits.conditions_a_filter, [], Filter()
    for one in sorted((where or Filter()).conditions, key=_breadth):
        condition = allowed.sent(one, left)
        if condition is None:
            rest = rest & one
            continue
        sent.append(condition)
        left = None if left is None else left - convert.n_conditions(condition)
    excludes = exclude is None or left is None or left > 0
    if excludes and exclude is not None:
        sent.append(spell(convert.CLIENT, None, exclude))
    return Parted(convert.all_of(sent), rest, excludes)


def _breadth(one: Filter) -> int:
    """Return how little a single condition chooses: ids least, then payload, then vectors."""
    return 0 if one.ids is not None else 1 if one.equals else 2


def of_search(
    name: str, where: Filter | None, allowed: Allowed, exclude: PointId | None
) -> Parted:
    """Return the filter of a search; `Unsupported` where more than the exclusion is not sent."""
    found = part(where, allowed, exclude)
    for one in found.rest.conditions:
        raise Unsupported(f"{_reason(one, name, allowed)}; {_WAY_OUT}")
    return found


_WAY_OUT = "have an index made on its field, or the setting changed, or leave the filter out"


def _reason(one: Filter, name: str, allowed: Allowed) -> str:
    limits = allowed.limits
    lacks_index = one.equals and allowed.sent(one, None) is None
    if lacks_index and not limits.allows_unindexed:
        return (
            f"the strict mode of {name!r} forbids filters on fields without an index "
            f"(unindexed_filtering_retrieve), and none answers {one}"
        )
    longest = limits.values_a_condition
    if longest is not None and convert.longest_condition(spell(convert.CLIENT, one)) > longest:
        return (
            f"the strict mode of {name!r} allows {longest} values a condition "
            f"(condition_max_size), and a search for {str(one)[:60]} takes more"
        )
    return (
        f"the strict mode of {name!r} allows {limits.conditions_a_filter} conditions a filter "
        f"(filter_max_conditions), and a search for {one} takes more"
    )


def in_chunks(where: Filter | None, allowed: Allowed) -> Iterator[Filter | None]:
    """Yield filters that list no more ids than allowed, in the order of ids; together the same."""
    most = allowed.limits.values_a_condition
    conditions = [] if where is None or most is None else where.conditions
    listed = next((one for one in conditions if len(one.ids or ()) > (most or 0)), None)
    if listed is None or most is None:
        yield where
        return
    others = Filter()
    for one in conditions:
        others = others if one is listed else others & one
    ids = sorted(dict.fromkeys(canonical_ids(listed.ids or ())), key=id_order)
    for start in range(0, len(ids), most):
        yield replace(others, ids=ids[start : start + most])


def kind_of(payloads: Sequence[Payload], name: str, wanted: Any) -> IndexKind | None:
    """Return which index a field takes, by what some points have in it or what is looked for."""
    found = [v for payload in payloads for v in values_of(value_at(payload, name))]
    kinds = [kind for kind in map(_kind, found or values_of(wanted)) if kind is not None]
    if not found:  # "2001" may be meant as text or as a number: nobody knows
        return "keyword" if set(kinds) == {"keyword"} else None
    if {"integer", "float"} <= set(kinds):
        kinds = ["float" if kind == "integer" else kind for kind in kinds]
    return max(dict.fromkeys(kinds), key=kinds.count, default=None)


def _kind(value: Any) -> IndexKind | None:
    if isinstance(value, bool):
        return "bool"
    kinds: dict[type, IndexKind] = {str: "keyword", int: "integer", float: "float"}
    return kinds.get(type(value))


# What a server would check.


def _test(one: Filter) -> Callable[[Any], bool]:
    """Return whether a record meets a single condition, as a function."""
    if one.ids is not None:
        ids = set(canonical_ids(one.ids))
        return lambda record: plain_id(record.id) in ids
    if one.has_vector is not None or one.lacks_vector is not None:
        name = one.lacks_vector if one.has_vector is None else one.has_vector
        wants = one.has_vector is not None
        return lambda record: (name in _named(record)) is wants
    if one.slice is not None:
        raise Unsupported(f"strict mode leaves no room for a filter by {one}; read without it")
    ((name, wanted),) = one.equals.items()
    if not is_read_by(name):
        raise InputError(
            f"a filter on {name!r} cannot be checked here, and strict mode does not let the "
            f"server do it; have an index made on that field"
        )
    values = values_of(wanted)
    return lambda record: _has(values_at(record.payload or {}, name), values)


def _named(record: Any) -> Mapping[str, Any]:
    found = record.vector
    if found is None:
        return {}
    return found if isinstance(found, Mapping) else {UNNAMED: found}


def _has(stored: Sequence[Any], wanted: Sequence[Any]) -> bool:
    """Return whether a field, in one of its readings, has one of some values.

    A list has each of its items; None is found where no reading holds anything: a list of a null
    holds one, an empty list does not.
    """
    if None in wanted and all(found is None or found == [] for found in stored):
        return True
    items = [one for found in stored for one in (found if isinstance(found, list) else [found])]
    values = [value for value in wanted if value is not None]
    return any(_equals(item, value) for item in items for value in values)


def _equals(item: Any, value: Any) -> bool:
    """Return whether a server takes one for the other: a float is looked for among all numbers."""
    if isinstance(item, bool) or isinstance(value, bool):
        return item is value
    if isinstance(value, float):  # which an engine compares as doubles, beyond 2**53, too
        return isinstance(item, int | float) and _double(item) == value
    return type(item) is type(value) and bool(item == value)


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # of a whole number that JSON can write and a double cannot hold
        return math.copysign(math.inf, number)
