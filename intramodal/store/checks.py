"""What is checked before anything is sent, the same for every backend."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import Conflict, InputError, NotFound, Unsupported
from intramodal.store.base import UNNAMED, IndexKind, VectorSpec
from intramodal.types import Floats, Payload, PointId, unit_rows

# The server's own rule (and the client's) for names of collections and vectors.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_LONGEST_NAME = 200
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_LARGEST_ID = 2**64
_LARGEST_SIZE = 65536
_SMALLEST_INTEGER = -(2**63)

_UNIT_TOLERANCE = 1e-6
"""Of a squared length, within which the engine takes a vector for a unit one."""

_FLOATS = ("float32", "float16")

LARGEST_SIGNED, LARGEST_UNSIGNED = 2**63 - 1, 2**64 - 1
"""Largest whole number in payload: over gRPC, and by every other way."""

DEEPEST_PAYLOAD = 32
"""Levels of lists and objects in a payload value.

The embedded engine (0.9) writes 123 levels to its log and cannot read them back: the whole
collection would never open again.
"""


def check_name(name: str, what: str = "collection") -> None:
    """Raise `InputError` unless a server would take `name` for a collection, alias or vector."""
    is_usable = isinstance(name, str) and 0 < len(name.encode(errors="replace")) <= _LONGEST_NAME
    if not is_usable or name in (".", "..") or _FORBIDDEN.search(name):
        raise InputError(
            f"{name!r} cannot be the name of a {what}: give 1 to {_LONGEST_NAME} bytes "
            f'without any of < > : " / \\ | ? *'
        )


def check_new_vector(name: str) -> None:
    """Raise `InputError` for a name of our own making that no list of names could hold.

    Vectors of other writers may have it: there it is written in double quotes.
    """
    if name != UNNAMED:
        check_name(name, "vector")
    if "," in name:
        raise InputError(
            f"{name!r} cannot be the name of a new vector: a comma parts names in lists; leave it "
            f"out"
        )


def check_aliases(targets: Mapping[str, str], existing: Sequence[str]) -> None:
    """Raise unless each alias may point at its target among the `existing` collections."""
    for alias, name in targets.items():
        check_name(alias, "alias")
        if alias in existing:
            raise Conflict(f"{alias!r} is a collection; an alias cannot take its name")
        if name not in existing:
            raise NotFound(f"there is no collection {name!r} for the alias {alias!r}")


def check_specs(vectors: Mapping[str, VectorSpec]) -> None:
    """Raise unless a collection with these vectors can be created."""
    if not vectors:
        raise InputError("a collection needs at least one vector; got none")
    for name, spec in vectors.items():
        check_spec(name, spec)


def check_spec(name: str, spec: VectorSpec) -> None:
    """Raise `InputError` or `Unsupported` unless the vector can be created."""
    if name != UNNAMED:
        check_name(name, "vector")
    if not 1 <= spec.size <= _LARGEST_SIZE:
        raise InputError(
            f"vector {name!r} cannot have {spec.size} dimensions; give 1 to {_LARGEST_SIZE}"
        )
    if spec.is_multivector:
        raise _no_multivector(name)


def check_index_kind(kind: str) -> None:
    """Raise `InputError` unless a payload index can be of that kind."""
    kinds = get_args(IndexKind)
    if kind not in kinds:
        raise InputError(f"there is no index of kind {kind!r}; choose one of {', '.join(kinds)}")


def says(told: Any, wanted: Any) -> bool:
    """Return whether settings hold all that is wanted, whatever else they hold."""
    if not (isinstance(told, Mapping) and isinstance(wanted, Mapping)):
        return bool(told == wanted)
    return all(key in told and says(told[key], value) for key, value in wanted.items())


def canonical_ids(ids: Sequence[PointId], *, unique: bool = False) -> list[Any]:
    """Return `ids` with UUIDs in their canonical text; `InputError` for anything else."""
    canonical = [i if isinstance(i, str) and _CANONICAL_UUID(i) else _canonical_id(i) for i in ids]
    if unique:
        check_unique(canonical)
    return canonical


def is_canonical_id(point: Any) -> bool:
    """Return whether it is the id of a point in its canonical form, without a shard key."""
    if isinstance(point, int):
        return not isinstance(point, bool) and 0 <= point < _LARGEST_ID
    return isinstance(point, str) and _CANONICAL_UUID(point) is not None


def check_unique(ids: Sequence[PointId | None]) -> None:
    """Raise `InputError` if an id occurs twice."""
    if len(set(ids)) != len(ids):
        twice = next(i for n, i in enumerate(ids) if i in ids[:n])
        raise InputError(f"the id {twice!r} occurs twice in one write; give every point one id")


_HEX_UUID = 32


def typed_id(text: str) -> PointId:
    """Return an id that was written as text: a whole number, or as it is.

    Examples
    --------
    >>> typed_id("17"), typed_id("1" * 32)  # 32 digits are a UUID without hyphens
    (17, '11111111111111111111111111111111')
    """
    return int(text) if text.isdecimal() and len(text) != _HEX_UUID else text


def _canonical_id(point_id: Any) -> PointId:
    if isinstance(point_id, (int, np.integer)) and not isinstance(point_id, bool):
        if 0 <= point_id < _LARGEST_ID:
            return int(point_id)
    elif isinstance(point_id, (str, uuid.UUID)):
        try:
            return str(uuid.UUID(str(point_id)))
        except ValueError:
            pass
    raise InputError(
        f"{point_id!r} cannot be the id of a point: give a whole number from 0 to 2^64 - 1 "
        f"or a UUID (`intramodal.types.point_id` makes one of any text)"
    )


def canonical_names(ids: Sequence[PointId]) -> list[PointId]:
    """Return `ids`, some of which may name the key of their shard, in their canonical text.

    Examples
    --------
    >>> canonical_names([7, "tenant-a/8"])
    [7, 'tenant-a/8']
    """
    return [_canonical_name(point) for point in ids]


def _canonical_name(point: PointId) -> PointId:
    if not isinstance(point, str) or "/" not in point:
        return _canonical_id(point)
    key, _, rest = point.rpartition("/")
    return f"{key}/{_canonical_id(typed_id(rest))}"


def check_points(
    specs: Mapping[str, VectorSpec],
    ids: Sequence[PointId],
    vectors: Mapping[str, Floats],
    payloads: Sequence[Payload],
) -> dict[str, Floats]:
    """Return the vectors as float32; raise unless whole points can be written."""
    if len(payloads) != len(ids):
        raise InputError(f"got {len(ids)} ids but {len(payloads)} payloads; give one each")
    if not vectors:
        raise InputError("points need at least one vector; got none")
    return {name: check_vector(specs, name, X, len(ids)) for name, X in vectors.items()}


def checked_payload(
    payload: Mapping[str, Any], point: Any = None, *, largest: int = LARGEST_UNSIGNED
) -> Payload:
    """Return the payload as plain JSON; `InputError` unless every store gives it back as it is.

    That is text keys, at most `DEEPEST_PAYLOAD` levels, finite numbers, whole numbers up to
    `largest`, text that is Unicode. NumPy's numbers, tuples, enumerations and other kinds of
    dictionaries become JSON's own. `point` is named in the message.
    """
    reason = _unstorable(payload, DEEPEST_PAYLOAD + 1, largest)
    if reason is None:
        return payload  # type: ignore[return-value]  # a dict, as it has been found to be
    plain = _plain(payload, DEEPEST_PAYLOAD + 1)
    reason = _unstorable(plain, DEEPEST_PAYLOAD + 1, largest)
    if reason is not None:
        of_point = "" if point is None else f" of point {point}"
        raise InputError(f"the payload{of_point} cannot be stored: {reason}")
    kept: Payload = plain
    return kept


def _plain(value: Any, levels: int) -> Any:
    """Return a value in JSON's own types, as far as it has any."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping) and levels >= 0:
        return {_plain(key, -1): _plain(inner, levels - 1) for key, inner in value.items()}
    if isinstance(value, list | tuple) and levels >= 0:
        return [_plain(inner, levels - 1) for inner in value]
    for kind in (bool, str, int, float):
        if isinstance(value, kind):
            return kind(value)
    return value


def _unstorable(value: Any, levels: int, largest: int) -> str | None:
    """Return why a value cannot be stored, None if it can; `levels` may still follow."""
    kind = type(value)
    if kind is str:
        return (
            None if value.isascii() or _is_unicode(value) else "it holds text that is no Unicode"
        )
    if value is None or kind is bool:
        return None
    if kind is int:
        fits = _SMALLEST_INTEGER <= value <= largest
        how = ", one of them the sign" if largest == LARGEST_SIGNED else ""
        return None if fits else f"the number {str(value)[:30]} needs more than 64 bits{how}"
    if kind is float:
        return None if math.isfinite(value) else f"JSON has no {value}"
    if kind is dict or kind is list:
        return _unstorable_inside(value, levels - 1, largest)
    return f"JSON has no {kind.__module__}.{kind.__qualname__}".replace("builtins.", "")


def _unstorable_inside(value: Any, levels: int, largest: int) -> str | None:
    if levels < 0:
        return f"it is nested deeper than {DEEPEST_PAYLOAD} levels; flatten it or leave it out"
    inside = value
    if type(value) is dict:
        odd = next((key for key in value if type(key) is not str), None)
        if odd is not None:
            return f"the key {odd!r} is not text"
        if not all(key.isascii() or _is_unicode(key) for key in value):
            return "it has a key that is no Unicode"
        inside = value.values()
    reasons = (_unstorable(one, levels, largest) for one in inside)
    return next((why for why in reasons if why is not None), None)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def check_vector(specs: Mapping[str, VectorSpec], name: str, X: Floats, n: int) -> Floats:
    """Return `X` as float32; raise unless it holds `n` finite rows of the vector's size.

    For a cosine vector they have unit length.
    """
    require_vectors(specs, [name])
    X = np.asarray(X)
    if X.shape != (n, specs[name].size):
        raise InputError(
            f"vector {name!r} takes an array of shape ({n}, {specs[name].size}) for {n} points, "
            f"got {X.shape}"
        )
    given = X
    if specs[name].distance == "Cosine" and specs[name].datatype in _FLOATS:
        X = _cosine_rows(X)
    with np.errstate(over="ignore"):  # beyond float32: infinity, which a server would store
        kept = np.ascontiguousarray(X, dtype=np.float32)
    if not np.isfinite(kept).all():
        raise _not_finite(name, given, kept)
    return kept


def _cosine_rows(X: NDArray[Any]) -> NDArray[Any]:
    """Return `X` (n, d) with all rows of unit length but zeros, for a cosine vector.

    The engine scales them itself, in float32: it leaves very short ones as they are and turns
    very long ones into zeros. Rows that it would take for unit ones are left alone, as it does.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        is_off = ~(np.abs(np.einsum("ij,ij->i", X, X, dtype=np.float64) - 1) <= _UNIT_TOLERANCE)
        if not is_off.any():
            return X
        found = np.array(X, dtype=np.float32)
        found[is_off] = unit_rows(X[is_off])
    return found


def _not_finite(name: str, X: NDArray[Any], kept: Floats) -> InputError:
    row = int(np.flatnonzero(~np.isfinite(kept).all(axis=1))[0])
    beyond = X[row][np.isfinite(X[row]) & ~np.isfinite(kept[row])]
    what = f"{beyond[0]:g}, which is beyond float32" if len(beyond) else "NaN or infinity"
    return InputError(f"row {row} of vector {name!r} holds {what}; leave such points out")


def check_queries(specs: Mapping[str, VectorSpec], using: str, Q: Floats, k: int) -> Floats:
    """Return `Q` as float32; raise unless it can be searched with."""
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    Q = np.asarray(Q)
    if Q.ndim != 2:
        raise InputError(f"queries must be an array of shape (n, d), got {Q.shape}")
    return check_vector(specs, using, Q, len(Q))


def require_vectors(specs: Mapping[str, VectorSpec], names: Sequence[str]) -> None:
    """Raise `NotFound` or `Unsupported` unless all `names` are vectors of one row a point."""
    for name in names:
        if name not in specs:
            there = ", ".join(repr(known) for known in sorted(specs)) or "none"
            raise NotFound(f"the collection has no vector {name!r}; it has {there}")
        if specs[name].is_multivector:
            raise _no_multivector(name)


def _no_multivector(name: str) -> Unsupported:
    return Unsupported(
        f"vector {name!r} is a multivector (several rows per point), and a projection of image "
        f"embeddings needs one row per point; use another vector"
    )
