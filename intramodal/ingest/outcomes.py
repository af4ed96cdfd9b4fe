"""One picture from its source to what the encoder takes; runs in the decoding threads."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import ImageError, InputError
from intramodal.ingest.decode import decode_image
from intramodal.ingest.payload import changed_keys, json_payload, without_none
from intramodal.runs.records import FailureRecord
from intramodal.types import Encoder, ImageRecord, Payload

RESERVED = ("path", "sha256", "dataset")
"""Payload keys that the ingest itself writes."""

HASH = "sha256"
"""The payload key that says which file the stored vectors were made of."""


@dataclass(frozen=True)
class Stored:
    """What the collection holds of a picture.

    Parameters
    ----------
    payload : dict
    lacks : set of str
        Those of the vectors which this ingest writes that it has not.
    """

    payload: Payload
    lacks: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Encodable:
    """A picture to encode: new, changed, or stored without the encoder's vector.

    Parameters
    ----------
    point, key : str
    payload : dict
        Of a new point all, of a known one the keys to set (None removes one).
    pixels : ndarray of shape (side, side, 3)
    seconds : float
        What reading and decoding it took.
    is_known : bool
        Whether the collection has the point: what others have added to it stays.
    """

    point: str
    key: str
    payload: Payload
    pixels: NDArray[np.uint8]
    seconds: float
    is_known: bool = False


@dataclass(frozen=True)
class Unprojected:
    """A stored picture, unchanged, that lacks the projected vector alone.

    Parameters
    ----------
    point, key : str
    payload : dict
        The keys to set; None removes one.
    """

    point: str
    key: str
    payload: Payload


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


Outcome = Encodable | Unprojected | Relabelled | Unchanged | FailureRecord


def prepare(
    record: ImageRecord,
    point: str,
    stored: Stored | None,
    *,
    dataset: str,
    encoder: Encoder,
    projected: str | None = None,
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
    projected : str, optional
        The vector that is made of a stored one, without the encoder.
    """
    started = time.perf_counter()
    try:
        data = record.read()
        payload = _storable(record.payload)
    except (OSError, InputError, ImageError) as error:
        return FailureRecord(record.key, "read", _reason(error))
    digest = hashlib.sha256(data).hexdigest()
    payload |= {"path": record.key, HASH: digest, "dataset": dataset}
    if stored is not None:
        payload = changed_keys(payload, stored.payload)
        if HASH not in payload and stored.lacks <= {projected}:
            return _unencoded(record.key, point, payload, stored)
        payload[HASH] = digest
    try:
        pixels = encoder.preprocess(decode_image(data, target=encoder.image_size))
    except ImageError as error:
        return FailureRecord(record.key, "decode", _reason(error))
    seconds = time.perf_counter() - started
    if stored is None:
        return Encodable(point, record.key, without_none(payload), pixels, seconds)
    return Encodable(point, record.key, payload, pixels, seconds, is_known=True)


def _unencoded(key: str, point: str, payload: Payload, stored: Stored) -> Outcome:
    if stored.lacks:
        return Unprojected(point, key, payload)
    return Relabelled(point, payload) if payload else Unchanged()


def _storable(payload: Mapping[str, Any]) -> Payload:
    """Return the payload as `json_payload`; a column named like a `RESERVED` key is renamed.

    It is kept as ``source_<name>``.
    """
    plain = json_payload(payload)
    renamed = {f"source_{key}": plain.pop(key) for key in RESERVED if key in plain}
    return {**renamed, **plain}


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
