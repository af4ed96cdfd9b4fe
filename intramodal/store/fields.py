"""Names of payload fields, as Qdrant's JSON paths spell them.

A name means the key of exactly that name and, where it reads as a path, what lies there inside
objects: ``a.b`` finds ``{"a.b": 1}`` and ``{"a": {"b": 1}}``; ``"a.b"``, with quotation marks as
Qdrant writes it, finds the first alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from intramodal.errors import InputError
from intramodal.types import Payload

_BARE = re.compile(r"[\w-]+")
_STEP = r'(?:[\w-]+|"[^"\\]*")'
_KEYS = re.compile(rf"{_STEP}(?:\.{_STEP})*")
_PATH = re.compile(rf"{_STEP}(?:\.{_STEP}|\[\d*\])*")
_UNSPEAKABLE = re.compile(r'["\\]')


def paths(field: str) -> list[str]:
    r"""Return the JSON paths that a field's name means: one, or two where it can be read twice.

    Examples
    --------
    >>> paths("label"), paths("my field"), paths("a.b")
    (['label'], ['"my field"'], ['"a.b"', 'a.b'])
    """
    found = [] if _UNSPEAKABLE.search(field) else [_step(field)]
    if _PATH.fullmatch(field):
        found.append(field)
    if not found:
        raise InputError(
            f"the payload field {field!r} cannot be searched: Qdrant has no way to write a "
            f'quotation mark (") or a backslash inside a key; choose another field, or rename it'
        )
    return list(dict.fromkeys(found))


def selection(wanted: Sequence[str] | bool, *, knows_quotes: bool = True) -> list[str] | bool:
    """Return which parts of the payload to ask for: all of it where a key cannot be spelled.

    `knows_quotes` says whether the other side reads quoted keys here, as servers do.
    """
    if isinstance(wanted, bool):
        return wanted
    for field in wanted:
        is_spelled = _PATH.fullmatch(field) or not _UNSPEAKABLE.search(field)
        if not is_spelled or not (knows_quotes or _BARE.fullmatch(field)):
            return True
    return [path for field in wanted for path in paths(field)] or False


def picked(payloads: Sequence[Payload], wanted: Sequence[str] | bool) -> list[Payload]:
    """Return payloads without what was not asked for, where `selection` asked for all."""
    if isinstance(wanted, bool):
        return list(payloads)
    steps = (re.match(_STEP, field) for field in wanted)
    keys = {*wanted, *(step[0].strip('"') for step in steps if step)}
    return [{key: p[key] for key in p if key in keys} for p in payloads]


def value_at(payload: Mapping[str, Any], field: str) -> Any:
    """Return what a point has in a field; None if nothing. Lists on the way are not entered.

    Examples
    --------
    >>> value_at({"shot": {"by": "me"}}, "shot.by"), value_at({"a.b": 1}, "a.b")
    ('me', 1)
    """
    if field in payload or not _KEYS.fullmatch(field):
        return payload.get(field)
    return _followed(payload, field)


def values_at(payload: Mapping[str, Any], field: str) -> list[Any]:
    """Return what a point has under each reading of a field's name (`paths`); None if nothing.

    Examples
    --------
    >>> values_at({"a.b": 1, "a": {"b": 2}}, "a.b"), values_at({"a.b": 1}, '"a.b"')
    ([1, 2], [1])
    """
    return [_followed(payload, path) for path in paths(field)]


def _followed(payload: Mapping[str, Any], path: str) -> Any:
    value: Any = payload
    for step in re.findall(_STEP, path):
        value = value.get(step.strip('"')) if isinstance(value, Mapping) else None
    return value


def has_one_of(wanted: Sequence[Any]) -> Callable[[Any], bool]:
    """Return a test whether a field's value, or one in its list, is one of some; None: absent.

    Examples
    --------
    >>> [has_one_of([1, None])(value) for value in (1, 1.0, True, [2, 1], None, "1")]
    [True, True, False, True, True, False]
    """
    kinds, is_absent_wanted = {_kind(value) for value in wanted}, None in wanted

    def test(value: Any) -> bool:
        if value is None or value == []:
            return is_absent_wanted
        return not kinds.isdisjoint(map(_kind, items_of(value)))

    return test


def items_of(value: Any) -> list[Any]:
    """Return the values of a field that can be told apart, one or those of its list."""
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, str | int | float)]


def _kind(item: Any) -> tuple[str, Any]:
    """Return what tells values apart: ``True`` and 1 are equal in Python, not in a payload."""
    return ("bool" if isinstance(item, bool) else "", item)


def head_of(field: str) -> str:
    """Return the key of the payload that a field's name begins with.

    Examples
    --------
    >>> head_of("shot.by"), head_of('"a.b".c'), head_of("my field")
    ('shot', 'a.b', 'my field')
    """
    step = re.match(_STEP, field) if _KEYS.fullmatch(field) else None
    return step[0].strip('"') if step else field


def is_read_by(field: str) -> bool:
    """Return whether `values_at` finds all that Qdrant finds in a field: no path into lists."""
    return "[" not in field


def fields_of(payload: Payload) -> Iterator[str]:
    """Yield the names of all fields of a point, those inside objects as paths.

    Examples
    --------
    >>> list(fields_of({"my label": 1, "shot": {"by": "me", "at sea": True}}))
    ['my label', 'shot.by', 'shot."at sea"']
    """
    for key, value in payload.items():
        inner = list(_inside(value)) if isinstance(value, Mapping) else []
        yield from (f"{_step(key)}.{rest}" for rest in inner)
        if not inner:
            yield key


def _inside(value: Mapping[str, Any]) -> Iterator[str]:
    for name in fields_of(dict(value)):
        yield name if _PATH.fullmatch(name) else _step(name)


def _step(key: str) -> str:
    """Return a key as one step of a path; canonical, as Qdrant answers it."""
    return key if _BARE.fullmatch(key) else f'"{key}"'
