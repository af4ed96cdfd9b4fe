"""What the id of a metadata row becomes: the id of a point."""

from __future__ import annotations

import re
from typing import Any

from intramodal.errors import InputError
from intramodal.types import PointId, point_id

_INTEGER = re.compile(r"0|[1-9][0-9]{0,19}").fullmatch
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
_UUID_LENGTH = 36
_LARGEST_ID = 2**64


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
