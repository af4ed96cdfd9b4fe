"""Filters under strict mode: what a server is asked for, and what is checked of its answers here.

A server may demand an index for each condition on the payload, and limit how many conditions a
filter has and how many values each. Such a filter is cut in two: as much of it is sent as may be,
and the points that come back are held against the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from intramodal.errors import InputError, Unsupported
from intramodal.store.base import UNNAMED, Filter, IndexKind, plain_id, values_of
from intramodal.store.checks import canonical_ids
from intramodal.store.fields import is_read_by, paths, values_at
from intramodal.store.filters import indexed_conditions, is_whole_in, missed_by, spell
from intramodal.store.queries import id_order
from intramodal.store.server import convert
from intramodal.types import PointId


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

    def sent(self, one: Filter, n_left: int | None) -> Sendable | None:
        """Return a single condition as it is sent, None if points would be lost, or it may not."""
        if self.takes_whole(one, n_left):
            return Sendable(spell(convert.CLIENT, one), is_all=True)
        for name, wanted in one.equals.items():
            values = values_of(wanted)
            found = self.answered(one, n_left)
            if found is not None and is_whole_in(name, values, self.indexes):
                is_all = {type(value) for value in values} in ({str}, {bool})
                return Sendable(found, is_all)
        return None

    def takes_whole(self, one: Filter, n_left: int | None) -> bool:
        """Return whether a single condition may be sent as it is, whatever indexes there are."""
        is_allowed = self.limits.allows_unindexed or not one.equals
        return is_allowed and self._fits(spell(convert.CLIENT, one), n_left)

    def answered(self, one: Filter, n_left: int | None) -> Any:
        """Return what the index of a single condition answers of it, None if nothing."""
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

    def lacks_index(self, one: Filter) -> tuple[str, IndexKind] | None:
        """Return the payload field of a single condition that an index would let be sent."""
        if self.limits.allows_unindexed:
            return None
        for name, wanted in one.equals.items():
            kind = kind_of(values_of(wanted))
            if kind is not None and not any(path in self.indexes for path in paths(name)):
                return name, kind
        return None


@dataclass(frozen=True)
class Sendable:
    """A condition that finds all points it should; `is_all` says that it finds no others."""

    condition: Any
    is_all: bool


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
    missed : tuple of str
        Of a search, which points its filter does not find, or finds besides, as sentences.
    """

    sent: Any
    rest: Filter
    excludes: bool = True
    missed: tuple[str, ...] = ()

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
    return _cut(where, allowed, exclude, allowed.sent)


def _cut(
    where: Filter | None,
    allowed: Allowed,
    exclude: PointId | None,
    sendable: Callable[[Filter, int | None], Sendable | None],
) -> Parted:
    if not allowed.limits.restricts_filters:
        return Parted(spell(convert.CLIENT, where, exclude), Filter())
    left, sent, rest = allowed.limits.conditions_a_filter, [], Filter()
    for one in sorted((where or Filter()).conditions, key=_breadth):
        found = sendable(one, left)
        if found is None or not found.is_all:
            rest = rest & one
        if found is not None:
            sent.append(found.condition)
            left = None if left is None else left - convert.n_conditions(found.condition)
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
    """Return the filter of a search, of each condition what an index answers.

    `Parted.missed` says what that leaves out; `Unsupported` where it is nothing, or more than the
    exclusion is not sent.
    """
    lossy: list[Filter] = []

    def sendable(one: Filter, n_left: int | None) -> Sendable | None:
        if allowed.takes_whole(one, n_left):
            return allowed.sent(one, n_left)
        found = allowed.answered(one, n_left)
        if found is None:
            return None
        lossy.append(one)
        return Sendable(found, is_all=True)

    found = _cut(where, allowed, exclude, sendable)
    for one in found.rest.conditions:
        raise Unsupported(f"{_reason(one, name, allowed)}; {_WAY_OUT}")
    told = (
        _missed(field, values_of(wanted), allowed.indexes)
        for one in lossy
        for field, wanted in one.equals.items()
    )
    return replace(found, missed=tuple(chain.from_iterable(told)))


def _missed(name: str, values: Sequence[Any], indexes: Mapping[str, str]) -> Iterator[str]:
    """Yield what the indexes of a field get wrong about some values."""
    known = [path for path in paths(name) if path in indexes]
    kinds = " and ".join(dict.fromkeys(indexes[path] for path in known))
    why = f"its payload index is of type {kinds}, and strict mode allows no other condition"
    lost = missed_by(name, values, indexes)
    if lost:
        listed = " or ".join(dict.fromkeys(f"the {_TYPES[type(v)]} {v!r}" for v in lost))
        yield f"searches do not find points whose {name!r} is {listed}: {why}"
    more = [float(v) for v in values if type(v) is int]
    more = [v for v in more if not any(type(w) is float and w == v for w in values)]
    if more and "float" in kinds:
        listed = " or ".join(map(str, more))
        yield f"searches also find points whose {name!r} is the number {listed}: {why}"
    for path in [path for path in paths(name) if path not in indexes]:
        yield (
            f"searches find points by {' and '.join(known)} and not by {path}, which has no "
            f"payload index"
        )


_TYPES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "boolean",
    type(None): "empty value",
}


def cost_of(found: Parted, name: str) -> str:
    """Return what it costs that every point's payload is checked; "" where a part is sent."""
    told = " and ".join(str(one) for one in found.rest.conditions if one.equals)
    if not told or found.sent is not None:
        return ""
    return (
        f"the strict mode of {name!r} takes no filter that finds all points with {told[:80]}: "
        f"the field of every point is read and compared here"
    )


_WAY_OUT = "have an index made on its field, or the setting changed, or leave the filter out"


def _reason(one: Filter, name: str, allowed: Allowed) -> str:
    limits = allowed.limits
    lacks_index = one.equals and allowed.answered(one, None) is None
    if lacks_index and not limits.allows_unindexed:
        return (
            f"the strict mode of {name!r} forbids filters on fields without an index "
            f"(unindexed_filtering_retrieve), and none serves {one}"
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


def kind_of(values: Sequence[Any]) -> IndexKind | None:
    """Return the kind of index that finds all points with one of some values; None if none does.

    ``2001`` may be meant as text or as a number, and no index holds both.
    """
    types = {type(value) for value in values}
    kinds: dict[IndexKind, set[type]] = {
        "keyword": {str},
        "bool": {bool},
        "integer": {int},
        "float": {int, float},
    }
    return next((kind for kind, held in kinds.items() if types and types <= held), None)


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
