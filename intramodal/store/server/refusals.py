"""What a server's refusals mean: errors of ours for whatever its client raises."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc  # type: ignore[import-untyped]  # no stubs are shipped
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from intramodal.errors import (
    AccessDenied,
    Conflict,
    InputError,
    Locked,
    NotFound,
    StoreError,
    StoreUnavailable,
    Unsupported,
)


class Overloaded(StoreUnavailable):
    """The server asks for a pause of `retry_after_s` seconds."""

    retry_after_s: float = 0.0


_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_STATUS_OF = {
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 408,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.UNIMPLEMENTED: 405,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
}
_ABSENT = (
    "not existing vector",
    "are not specified in config",
    "not found",
    "doesn't exist",
    "no point with id",
)
_LONGEST_DETAIL = 300


class OversizedRequestError(StoreError):
    """One request exceeds what the server or a proxy accepts."""


@contextmanager
def translated(what: str, location: str, secrets: Sequence[str] = ()) -> Iterator[None]:
    """Raise our errors for whatever the client raises inside."""
    try:
        yield
    except (
        UnexpectedResponse, ResponseHandlingException, QdrantException, grpc.RpcError,
        ValueError, LookupError, RuntimeError, NotImplementedError, AssertionError,
    ) as error:  # fmt: skip
        if isinstance(error, InputError):
            raise
        ours = _ours(error, what, location, secrets)
        # A cause that quotes the key would put it into every traceback.
        is_clean = not any(secret in f"{error!s}{error!r}" for secret in secrets)
        raise ours from (error if is_clean else None)


def _ours(error: Exception, what: str, location: str, secrets: Sequence[str]) -> Exception:
    place = f"cannot {what} at {location}"
    if isinstance(error, ResourceExhaustedResponse):
        ours = Overloaded(f"{place}: the server is busy and asks for {error.retry_after_s} s")
        ours.retry_after_s = max(0.0, float(error.retry_after_s))
        return ours
    if isinstance(error, UnexpectedResponse):
        return _by_status(error.status_code or 0, _detail(error, secrets), place)
    if isinstance(error, ResponseHandlingException):
        return _by_source(error.source, place)
    if isinstance(error, grpc.RpcError):
        return _by_code(error, place, secrets)
    if isinstance(error, QdrantException):  # Retry-After with a date: busy, for how long unknown
        return StoreUnavailable(f"{place}: the server is busy")
    if isinstance(error, json.JSONDecodeError) and error.doc.lstrip().startswith("{"):
        return StoreUnavailable(f"{place}: the answer broke off")  # and had no length to compare
    if isinstance(error, (json.JSONDecodeError, AssertionError)):  # the client asserts a result
        return _not_qdrant(place)
    return _by_text(_masked(_text_of(error), secrets), place)


def _by_source(source: Exception, place: str) -> StoreError:
    kind = type(source).__name__
    if isinstance(source, ValueError):  # pydantic: JSON, but not Qdrant's
        return _not_qdrant(place)
    if kind in ("ConnectError", "ConnectTimeout"):
        return StoreUnavailable(
            f"{place}: no connection ({source or kind}); is the server running, and is the "
            f"address right?"
        )
    if kind.endswith("Timeout"):
        return StoreUnavailable(f"{place}: no answer in time ({kind})")
    return StoreUnavailable(f"{place}: the connection broke ({source or kind})")


def _by_code(error: grpc.RpcError, place: str, secrets: Sequence[str]) -> StoreError | InputError:
    status = _STATUS_OF.get(error.code() if hasattr(error, "code") else None, 0)
    detail = error.details() if hasattr(error, "details") else str(error)
    if status == 429 and "larger than max" in (detail or ""):  # gRPC's word for 413
        status = 413
    return _by_status(status, _masked(detail or "", secrets), place)


def _by_status(status: int, detail: str, place: str) -> StoreError | InputError:
    if status in _TRANSIENT:
        return StoreUnavailable(f"{place}: the server answered {status}{_tail(detail)}")
    if status in (401, 403):
        return AccessDenied(
            f"{place}: access denied; the API key is missing, wrong or read-only; set it in "
            f"QDRANT_API_KEY{_tail(detail)}"
        )
    if status == 413:
        return OversizedRequestError(f"{place}: a request is larger than the server takes (413)")
    if status == 507:
        return StoreError(f"{place}: the server's disk is full (507)")
    kinds: dict[int, type[StoreError]] = {404: NotFound, 405: Unsupported, 409: Conflict}
    if status in kinds:
        return kinds[status](f"{place}{_tail(detail) or f': the server answered {status}'}")
    return _by_text(detail or f"the server answered {status}", place)


def _by_text(text: str, place: str) -> StoreError | InputError:
    """Return the error that a message means; local mode and status 400 say no more."""
    lower = text.lower()
    message = f"{place}: {text}"
    if "already exist" in lower:
        return Conflict(message)
    if any(words in lower for words in _ABSENT):
        return NotFound(message)
    if "dimension error" in lower or "nan values" in lower or "wrong input" in lower:
        return InputError(message)
    if "already accessed by another" in lower:
        return Locked(f"{place}: another process holds the directory; stop it or wait for it")
    return StoreError(message)


def _not_qdrant(place: str) -> StoreError:
    return StoreError(
        f"{place}: the answer is not Qdrant's (a web page or a proxy's?); check the address, and "
        f"whatever stands between"
    )


def _text_of(error: Exception) -> str:
    if isinstance(error, KeyError):  # local mode: the bare id
        return f"No point with id {error.args[0] if error.args else ''} found"
    return str(error) or type(error).__name__


def _detail(error: UnexpectedResponse, secrets: Sequence[str]) -> str:
    try:
        status = json.loads(error.content)["status"]
        text = status["error"] if isinstance(status, dict) else str(status)
    except (ValueError, LookupError, TypeError):
        text = str(error.reason_phrase or "")
    return _masked(str(text), secrets)


def _masked(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_DETAIL else text[:_LONGEST_DETAIL] + "…"


def _tail(detail: str) -> str:
    return f": {detail}" if detail else ""
