"""One picture from its source to what the encoder takes; runs in the decoding threads."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import ImageError
from intramodal.ingest.decode import decode_image
from intramodal.runs import FailureRecord
from intramodal.types import Encoder, ImageRecord, Payload

RESERVED = ("path", "sha256", "dataset")
"""Payload keys that the ingest itself writes."""

_LARGEST_PAYLOAD = 2**20
_LARGEST_INTEGER = 2**63


@dataclass(frozen=True)
class Stored:
    """What the collection holds of a picture.

    Parameters
    ----------
    payload : dict
    is_complete : bool
        Whether it has every vector that this ingest writes.
    """

    payload: Payload = field(default_factory=dict)
    is_complete: bool = False


@dataclass(frozen=True)
class Encodable:
    """A picture to encode: new, changed, or stored without one of the vectors.

    Parameters
    ----------
    point, key : str
    payload : dict
        All that the point will carry.
    pixels : ndarray of shape (side, side, 3)
    seconds : float
        What reading and decoding it took.
    """

    point: str
    key: str
    payload: Payload
    pixels: NDArray[np.uint8]
    seconds: float


@dataclass(frozen=True)
class Relabelled:
    """A stored picture whose payload alone has changed.

    Parameters
    ----------
    point : str
    payload : dict
        The keys to set; None removes one.
    """

    point: str
    payload: Payload


@dataclass(frozen=True)
class Unchanged:
    """A stored picture with nothing to do."""


Outcome = Encodable | Relabelled | Unchanged | FailureRecord


def prepare(
    record: ImageRecord, point: str, stored: Stored | None, *, dataset: str, encoder: Encoder
) -> Outcome:
    """Read a picture, and decode it unless the collection holds it already.

    Parameters
    ----------
    record : ImageRecord
    point : str
        Its id.
    stored : Stored or None
        What the collection holds under that id.
    dataset : str
    encoder : Encoder
        Gives size and preprocessing; encodes nothing here.
    """
    started = time.perf_counter()
    try:
        data = record.read()
        payload = _storable(record.payload)
    except (OSError, ImageError) as error:
        return FailureRecord(record.key, "read", _reason(error))
    payload |= {
        "path": record.key,
        "sha256": hashlib.sha256(data).hexdigest(),
        "dataset": dataset,
    }
    known = stored or Stored()
    if known.is_complete and known.payload.get("sha256") == payload["sha256"]:
        changed = {key: value for key, value in payload.items() if known.payload.get(key) != value}
        return Relabelled(point, changed) if changed else Unchanged()
    try:
        pixels = encoder.preprocess(decode_image(data, target=encoder.image_size))
    except ImageError as error:
        return FailureRecord(record.key, "decode", _reason(error))
    # What others have added to the point outlives a new version of the picture.
    merged = {
        key: value for key, value in {**known.payload, **payload}.items() if value is not None
    }
    return Encodable(point, record.key, merged, pixels, time.perf_counter() - started)


def _storable(payload: Mapping[str, Any]) -> Payload:
    """Return the payload as JSON gives it back, so that it can be compared with a stored one.

    A column with the name of a key in `RESERVED` is kept as ``source_<name>``.
    """
    try:
        text = json.dumps(payload, allow_nan=False, ensure_ascii=False)
        n_bytes = len(text.encode())
        plain: Payload = json.loads(text, parse_int=_integer)
    except (TypeError, ValueError, RecursionError) as error:
        raise ImageError(f"the payload cannot be stored as JSON: {error}") from error
    if n_bytes > _LARGEST_PAYLOAD:
        raise ImageError(f"the payload has {n_bytes:,} bytes; {_LARGEST_PAYLOAD:,} are allowed")
    renamed = {f"source_{key}": plain.pop(key) for key in RESERVED if key in plain}
    return {**renamed, **plain}


def _integer(digits: str) -> int:
    number = int(digits)
    if not -_LARGEST_INTEGER <= number < _LARGEST_INTEGER:
        raise ValueError(f"{digits[:30]} needs more than 64 bits")
    return number


def _reason(error: OSError | ImageError) -> str:
    return getattr(error, "strerror", None) or str(error)
