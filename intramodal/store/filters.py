"""Our `Filter` in the words of either client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from intramodal.errors import InputError, Unsupported
from intramodal.store.base import Filter, Slice, values_of
from intramodal.store.checks import canonical_ids, canonical_names, typed_id
from intramodal.store.fields import paths
from intramodal.types import PointId, split_field, split_list

_ID = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,])+')
"""Commas part ids, but for those within quotes: of a shard key."""
_WHOLE_NUMBER = re.compile(r"-?\d{1,18}")
_NUMBER = re.compile(r"-?\d+\.\d*(?:[eE][-+]?\d{1,2})?")


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
    in_slice: Callable[[Slice], Any] | None = None


def parse_filter(texts: Sequence[str]) -> Filter:
    """Return the filter that a person writes: ``all``, ``id=7,8`` or ``field=value,value``.

    Conditions on several fields must all hold; several values of one field are alternatives. A
    value that looks like a number or a boolean matches both that and the text; ``2012`` is found
    as 2012.0, too. A value with a comma stands in double quotes: ``shop="Smith, Sons"``.

    Raises
    ------
    InputError
        For anything else, or ``all`` beside another condition.

    Examples
    --------
    >>> parse_filter(["label=cat,dog", "year=2024"]).equals
    {'label': ['cat', 'dog'], 'year': ['2024', 2024, 2024.0]}
    >>> parse_filter(["id=7"]).ids
    [7]
    """
    if list(texts) == ["all"]:
        return Filter()
    wanted: dict[str, list[Any]] = {}
    for text in texts:
        field, listed = split_field(text)
        values = split_list(listed)
        if field == "id":
            values = [value.strip() for value in _ID.findall(listed) if value.strip()]
        if not (field and values):
            raise InputError(
                f"{text!r} is not a filter; write field=value[,value], id=7[,8], or all alone"
            )
        wanted.setdefault(field, []).extend(values)
    ids = wanted.pop("id", None)
    equals_any = {field: _meant(values) for field, values in wanted.items()}
    return Filter(equals_any, ids=None if ids is None else [_id(value) for value in ids])


def _id(text: str) -> PointId:
    return canonical_names([typed_id(text)])[0]


def _meant(texts: Sequence[str]) -> list[Any]:
    meant: list[Any] = []
    for text in texts:
        meant.append(text)
        if text in ("true", "false"):
            meant.append(text == "true")
        if _WHOLE_NUMBER.fullmatch(text):
            meant += [int(text), float(text)]
        elif _NUMBER.fullmatch(text):
            meant.append(float(text))
    return meant


def spell(dialect: Dialect, where: Filter | None, exclude: PointId | None = None) -> Any:
    """Return the client's filter, or None where there is nothing to filter."""
    must: list[Any] = []
    must_not = [] if exclude is None else [dialect.has_id(canonical_ids([exclude]))]
    for one in (where or Filter()).conditions:
        must += _payload_conditions(dialect, one.equals)
        if one.ids is not None:
            must.append(dialect.has_id(canonical_ids(one.ids)))
        if one.has_vector is not None:
            must.append(dialect.has_vector(one.has_vector))
        if one.lacks_vector is not None:
            must_not.append(dialect.has_vector(one.lacks_vector))
        if one.slice is not None:
            must.append(_slice_condition(dialect, one.slice))
    return dialect.all_of(must, must_not) if must or must_not else None


def _slice_condition(dialect: Dialect, part: Slice) -> Any:
    if dialect.in_slice is None:
        raise Unsupported(
            f"this store has no slices of its ids, got a filter for {part}; leave it out"
        )
    return dialect.in_slice(part)


def _payload_conditions(dialect: Dialect, equals: Mapping[str, Any]) -> Iterable[Any]:
    for field, wanted in equals.items():
        values = values_of(wanted)
        choices = [
            choice for path in paths(field) for choice in _conditions(dialect, path, values)
        ]
        if any(value is None for value in values):
            absent = [dialect.is_absent(path) for path in paths(field)]
            choices.append(absent[0] if len(absent) == 1 else dialect.all_of(absent, []))
        if not choices:
            yield dialect.has_id([])  # one of no values: no point
        else:
            yield choices[0] if len(choices) == 1 else dialect.any_of(choices)


def indexed_conditions(
    dialect: Dialect, field: str, values: Sequence[Any], indexes: Mapping[str, str]
) -> Any:
    """Return what the indexes of a field can answer of a condition, None if nothing.

    Of ``2001``, which may be meant as text or as a number, it is the one that the index holds:
    `is_whole_in` tells whether that is all.
    """
    known = [path for path in paths(field) if path in indexes]
    if not known or any(value is None for value in values):
        return None
    choices = [
        choice
        for path in known
        for choice in _conditions(dialect, path, _answered(indexes[path], values))
    ]
    if not choices:
        return None
    return dialect.all_of(choices, []) if len(choices) == 1 else dialect.any_of(choices)


def is_whole_in(field: str, values: Sequence[Any], indexes: Mapping[str, str]) -> bool:
    """Return whether the indexes of a field find all points with one of some values.

    They may find more: of whole numbers an index may hold 2001.0 as 2001.
    """
    kinds = [indexes.get(path, "") for path in paths(field)]
    return all(type(value) in _HELD.get(kind, ()) for kind in kinds for value in values)


def missed_by(field: str, values: Sequence[Any], indexes: Mapping[str, str]) -> list[Any]:
    """Return the values of which the indexes of a field, so far as it has any, may miss points."""
    kinds = [indexes[path] for path in paths(field) if path in indexes]
    return [v for v in values if not all(type(v) in _HELD.get(kind, ()) for kind in kinds)]


_HELD: dict[str, tuple[type, ...]] = {
    "keyword": (str,),
    "integer": (int,),
    "float": (int, float),
    "bool": (bool,),
}
"""Types of the values that an index holds."""


def _answered(kind: str, values: Sequence[Any]) -> list[Any]:
    """Return the values that an index can look for, each once."""
    if kind == "float":
        numbers = [float(v) for v in values if type(v) in (int, float)]
        return list(dict.fromkeys(numbers))
    return [value for value in values if type(value) in _HELD.get(kind, ())]


def _conditions(dialect: Dialect, field: str, values: Sequence[Any]) -> Iterable[Any]:
    for kind in (str, int):
        same = [v for v in values if type(v) is kind]
        if same:
            yield (
                dialect.is_value(field, same[0])
                if len(same) == 1
                else dialect.is_among(field, same)
            )
    for value in values:
        if isinstance(value, bool):
            yield dialect.is_value(field, value)
        elif isinstance(value, float):
            yield dialect.is_float(field, value)
        elif value is not None and not isinstance(value, (str, int)):
            raise InputError(
                f"a filter on {field!r} takes text, numbers, booleans and None, got {value!r}"
            )
