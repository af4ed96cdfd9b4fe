"""What the versions of the server know: a field that one does not know is ignored in silence."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message  # type: ignore[import-untyped]  # no stubs

VERSION = "1.19.0"
"""What a stand-in is, unless it is told."""

_SINCE = {
    "update_filter": (1, 16),
    "update_mode": (1, 17),
    "search_max_batchsize": (1, 17),
    "optimizations": (1, 17),
    "update queue": (1, 17),
    "vector names": (1, 18),
    "slice": (1, 19),
    "standalone": (1, 19),
    "keyword prefix": (1, 19),
}
_FIELDS = ("update_filter", "update_mode")


def knows(version: str, what: str) -> bool:
    """Return whether a server has something that came after 1.15."""
    return _numbers(version) >= _SINCE[what]


def adds_vectors(version: str) -> bool:
    """Return whether a server can add a vector to a collection."""
    return knows(version, "vector names")


def seen_by(version: str, request: Any) -> Any:
    """Return what a server makes of a request, a model or a message, which may be changed."""
    for name in _FIELDS:
        if not knows(version, name):
            _forget(request, name)
    return request


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in version.split(".")[:2])


def _forget(request: Any, name: str) -> None:
    if isinstance(request, Message):
        if name in request.DESCRIPTOR.fields_by_name:
            request.ClearField(name)
    elif name in getattr(type(request), "model_fields", {}):
        setattr(request, name, None)
