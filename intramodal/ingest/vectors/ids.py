"""What a metadata row becomes: the id of a point, and its payload as JSON gives it back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from intramodal.errors import InputError
from intramodal.types import Payload, PointId, point_id

_INTEGER = re.compile(r"0|[1-9][0-9]{0,19}").fullmatch
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
_UUID_LENGTH = 36
_LARGEST_ID = 2**64
_LARGEST_INTEGER = 2**63
_LARGEST_PAYLOAD = 2**20
# Rows of fewer and shorter cells than these cannot be too large.
_PLAIN_COLUMNS, _PLAIN_TEXT = 128, 4096


def row_key(value: Any) -> PointId:
    """Return what an id is told apart by: a whole number, a UUID in small letters, or text.

    Raises
    ------
    InputError
        If it can be no id.

    Examples
    --------
    >>> row_key("17"), row_key("017"), row_key(17)
    (17, '017', 17)
    """
    if value is None or value == "":
        raise InputError("the row has no id")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"the id {value!r} is neither a whole number nor text")
    text = str(value)
    if not text.isascii():
        if any("\ud800" <= sign <= "\udfff" for sign in text):
            raise InputError(f"the id {text!r} is not UTF-8")
    elif text.isdigit():
        return int(text) if _INTEGER(text) and int(text) < _LARGEST_ID else text
    elif len(text) == _UUID_LENGTH and _UUID(text):
        return text.lower()
    return text


def point_of(key: PointId, dataset: str) -> PointId:
    """Return the point's id: whole numbers and UUIDs as they are, a UUIDv5 of other text."""
    if isinstance(key, int) or (len(key) == _UUID_LENGTH and _UUID(key)):
        return key
    return point_id(dataset, key)


def json_payload(payload: Mapping[str, Any]) -> Payload:
    """Return a payload as JSON gives it back, so that it can be compared with a stored one.

    Raises
    ------
    InputError
        If JSON cannot hold it, or it is larger than a megabyte.
    """
    is_small = len(payload) < _PLAIN_COLUMNS and "".join(payload).isascii()
    if is_small and all(map(_is_plain, payload.values())):
        return dict(payload)
    try:
        text = json.dumps(payload, allow_nan=False, ensure_ascii=False)
        n_bytes = len(text.encode())
        plain: Payload = json.loads(text, parse_int=_integer)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the payload cannot be stored as JSON: {error}") from error
    if n_bytes > _LARGEST_PAYLOAD:
        raise InputError(f"the payload has {n_bytes:,} bytes; {_LARGEST_PAYLOAD:,} are allowed")
    return plain


def _is_plain(value: Any) -> bool:
    """Return whether JSON certainly gives the value back; saves the round trip of most rows."""
    kind = type(value)
    if kind is str:
        return len(value) < _PLAIN_TEXT and value.isascii()
    if kind is int:
        return bool(-_LARGEST_INTEGER <= value < _LARGEST_INTEGER)
    return value is None or kind is bool or (kind is float and math.isfinite(value))


def _integer(digits: str) -> int:
    number = int(digits)
    if not -_LARGEST_INTEGER <= number < _LARGEST_INTEGER:
        raise ValueError(f"{digits[:30]} needs more than 64 bits")
    return number
