"""The payload of a picture or a row, as every store keeps it."""

from __future__ import annotations

import json
import logging
import math
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np

from intramodal.errors import InputError, Unsupported
from intramodal.store.base import IndexKind
from intramodal.store.checks import LARGEST_SIGNED, checked_payload
from intramodal.store.collection import ImageCollection
from intramodal.types import Payload, PointId

log = logging.getLogger(__name__)

_ENGINE_ULPS = 4
"""Units in the last place by which the engine (0.9) may read a float wrongly: measured, 2."""

_LARGEST_PAYLOAD = 2**20

_LONGEST_SHOWN = 60

_LARGE = "whole numbers of 2^63 or more (or below -2^63), which are kept as text"
_INFINITE = "infinity, which JSON has not; these values are left out"

_FAR = "dates before the year 1 or after 9999, which Python has not; these values are left out"

FAR_DATE = object()
"""What a reader gives in place of a date that Python cannot hold."""

# Rows of fewer and shorter cells than these cannot be too large.
_PLAIN_COLUMNS, _PLAIN_TEXT = 128, 4096


class Notes:
    """What was changed in some columns, so that each is named in one warning of a job."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def take(self, column: str, changes: Iterable[str]) -> None:
        """Warn of what has not been said of a column yet."""
        with self._lock:
            new = [change for change in changes if (column, change) not in self._known]
            self._known.update((column, change) for change in new)
        for change in new:
            log.warning("column %r holds %s", column[:_LONGEST_SHOWN], change)


def json_payload(payload: Mapping[str, Any], notes: Notes | None = None) -> Payload:
    """Return a payload as JSON gives it back, so that it can be compared with a stored one.

    Values of all sources become JSON the same way, see `json_value`.
    """
    if _is_small(payload) and all(map(_is_plain, payload.values())):
        return dict(payload)
    try:
        text = json.dumps(_json_columns(payload, notes), allow_nan=False, ensure_ascii=False)
        n_bytes = len(text.encode())
        plain: Payload = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the payload cannot be stored as JSON: {error}") from error
    if n_bytes > _LARGEST_PAYLOAD:
        raise InputError(f"the payload has {n_bytes:,} bytes; {_LARGEST_PAYLOAD:,} are allowed")
    return checked_payload(plain, largest=LARGEST_SIGNED)


def storable_columns(
    payload: Mapping[str, Any], notes: Notes | None = None
) -> tuple[Payload, str | None]:
    """Return the part of a payload that can be stored, and what is wrong with the rest."""
    try:
        return json_payload(payload, notes), None
    except InputError as error:
        whole = error
    found: Payload = {}
    problems: list[str] = []
    for column, value in payload.items():
        try:
            found |= json_payload({column: value}, notes)
        except InputError as error:
            problems.append(f"column {str(column)[:_LONGEST_SHOWN]!r} is left out: {error}")
    try:
        return json_payload(found), "; ".join(problems) or None
    except InputError:  # all of them together are too large
        return {}, f"the columns are left out: {whole}"


def json_value(value: Any, changes: set[str]) -> Any:
    """Return a value of any depth in JSON's types; what has none stays, and is refused by JSON.

    Dates and times become text (ISO 8601), whole decimals whole numbers and others floats, UUIDs
    text, NaN, infinity and `FAR_DATE` missing, and whole numbers beyond 64 bits with a sign text.
    Of all but NaN that people may not expect, `changes` gets a word.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        if -LARGEST_SIGNED - 1 <= value <= LARGEST_SIGNED:
            return value
        changes.add(_LARGE)
        return str(value)
    if kind is float:
        return _finite_or_missing(value, changes)
    if value is FAR_DATE:
        changes.add(_FAR)
        return None
    if isinstance(value, Mapping):
        return {_json_key(key): json_value(inner, changes) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(inner, changes) for inner in value]
    plain = _plain(value)
    return value if plain is value else json_value(plain, changes)


def _plain(value: Any) -> Any:
    """Return a value of another library or class in Python's own types, as far as it has any."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic | np.ndarray):
        return value.item() if isinstance(value, np.generic) else value.tolist()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        is_whole = value.is_finite() and value == value.to_integral_value()
        return int(value) if is_whole and value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    for kind in (bool, int, float, str):
        if isinstance(value, kind) and type(value) is not kind:
            return kind(value)
    return value


def _finite_or_missing(value: float, changes: set[str]) -> float | None:
    if math.isinf(value):
        changes.add(_INFINITE)
    return value if math.isfinite(value) else None


def _json_key(key: Any) -> Any:
    plain = _plain(key)
    if isinstance(plain, float) and not math.isfinite(plain):
        return str(plain)
    return plain


def _json_columns(payload: Mapping[str, Any], notes: Notes | None) -> Payload:
    found: Payload = {}
    for column, value in payload.items():
        changes: set[str] = set()
        found[column] = json_value(value, changes)
        if changes and notes is not None:
            notes.take(str(column), sorted(changes))
    return found


def changed_keys(given: Mapping[str, Any], known: Mapping[str, Any]) -> Payload:
    """Return the keys of `given` that a stored payload lacks or holds otherwise; None removes one.

    Numbers that differ in their last bits are the same, see `is_same`.
    """
    return {key: value for key, value in given.items() if not is_same(value, known.get(key))}


def is_same(a: Any, b: Any) -> bool:
    """Return whether two JSON values are the same, as far as the engine tells numbers apart."""
    if a == b:
        return True
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= _ENGINE_ULPS * math.ulp(a)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(is_same(value, b[key]) for key, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(is_same, a, b))
    return False


def without_none(payload: Payload) -> Payload:
    """Return what a new point gets of a payload in which None removes a key."""
    if None not in payload.values():
        return payload
    return {key: value for key, value in payload.items() if value is not None}


def set_payloads(
    collection: ImageCollection, points: Iterable[PointId], payloads: Iterable[Payload]
) -> None:
    """Set the keys of each point's payload; one request serves all that get the same."""
    requests: dict[str, tuple[Payload, list[PointId]]] = {}
    for point, payload in zip(points, payloads, strict=True):
        same = json.dumps(payload, sort_keys=True)
        requests.setdefault(same, (payload, []))[1].append(point)
    for payload, some in requests.values():
        if payload:
            collection.store.set_payload(collection.name, some, payload)


def _is_small(payload: Mapping[str, Any]) -> bool:
    return len(payload) < _PLAIN_COLUMNS and all(
        type(key) is str and key.isascii() for key in payload
    )


def _is_plain(value: Any) -> bool:
    """Return whether JSON certainly gives the value back; saves the round trip of most rows."""
    kind = type(value)
    if kind is str:
        return len(value) < _PLAIN_TEXT and value.isascii()
    if kind is int:
        return bool(-LARGEST_SIGNED <= value <= LARGEST_SIGNED)
    return value is None or kind is bool or (kind is float and math.isfinite(value))


def index_payload(collection: ImageCollection, payloads: Sequence[Payload]) -> None:
    """Index what points are chosen by, data set and label, where they have them.

    Before the load: a later index would read all points.

    The label's index takes whole numbers if the first labels are such; an index that somebody
    has made stays as it is.
    """
    labels = [payload["label"] for payload in payloads if "label" in payload]
    is_number = bool(labels) and isinstance(labels[0], int) and not isinstance(labels[0], bool)
    kinds: dict[str, IndexKind] = {
        "dataset": "keyword",
        "label": "integer" if is_number else "keyword",
    }
    there = collection.described.indexes
    for key, kind in kinds.items():
        if key not in there and any(key in payload for payload in payloads):
            _index(collection, key, kind)


def _index(collection: ImageCollection, key: str, kind: IndexKind) -> None:
    """Make an index, which only makes filters quick: where it is one too many, go on without."""
    try:
        collection.ensure_index(key, kind)
    except Unsupported as error:
        log.warning("points can be chosen by %r all the same, but slowly: %s", key, error)
