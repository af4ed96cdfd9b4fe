"""The payload of a picture or a row, as every store keeps it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from intramodal.errors import InputError, Unsupported
from intramodal.store.base import IndexKind
from intramodal.store.checks import LARGEST_SIGNED, checked_payload
from intramodal.store.collection import ImageCollection
from intramodal.types import Payload, PointId

log = logging.getLogger(__name__)

_ENGINE_ULPS = 4
"""Units in the last place by which the engine (0.9) may read a float wrongly: measured, 2."""

_LARGEST_PAYLOAD = 2**20

# Rows of fewer and shorter cells than these cannot be too large.
_PLAIN_COLUMNS, _PLAIN_TEXT = 128, 4096


def json_payload(payload: Mapping[str, Any]) -> Payload:
    """Return a payload as JSON gives it back, so that it can be compared with a stored one."""
    if _is_small(payload) and all(map(_is_plain, payload.values())):
        return dict(payload)
    try:
        text = json.dumps(payload, allow_nan=False, ensure_ascii=False)
        n_bytes = len(text.encode())
        plain: Payload = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the payload cannot be stored as JSON: {error}") from error
    if n_bytes > _LARGEST_PAYLOAD:
        raise InputError(f"the payload has {n_bytes:,} bytes; {_LARGEST_PAYLOAD:,} are allowed")
    return checked_payload(plain, largest=LARGEST_SIGNED)


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
