"""What a server's refusals mean: errors of ours for whatever its client raises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import grpc  # type: ignore[import-untyped]  # no stubs are shipped
import httpx
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
from intramodal.store.server import tls
from intramodal.store.server.strict_mode import forbidden, setting_of


class Overloaded(StoreUnavailable):
    """The server asks for a pause of `retry_after_s` seconds."""

    retry_after_s: float = 0.0


class BrokenConnection(StoreUnavailable):
    """The connection broke under a request."""

    n_bytes: int = 0
    """Of its body."""

    @property
    def is_suspect(self) -> bool:
        """Whether the body may be larger than the server takes."""
        return self.n_bytes > _SUSPECT_BYTES


_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_STATUS_OF = {
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.CANCELLED: 503,
    grpc.StatusCode.ABORTED: 503,
    grpc.StatusCode.UNKNOWN: 502,  # of the transport: the server itself never says it
    grpc.StatusCode.FAILED_PRECONDITION: 500,  # as REST does while a shard is moved
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
_LARGEST_BODY = re.compile(r"larger than allowed \(limit: (\d+) bytes\)")
_SUSPECT_BYTES = 1024 * 1024
"""Servers and proxies take this much at least: a connection that breaks under a larger body may
have been closed because of it, with the reason lost on the way."""
_INSUFFICIENT_STORAGE = "qdrant-insufficient-storage"


class NoWritesError(StoreError):
    """The server takes no writes: its disk is full, or its operator has locked it."""


class OversizedRequestError(StoreError):
    """One request exceeds what the server, its rate limit or a proxy accepts."""

    limit: int | None = None
    """Bytes that a body may have, where that is known."""


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
        return _overloaded(place, float(error.retry_after_s))
    if isinstance(error, UnexpectedResponse):
        return _by_status(error.status_code or 0, _detail(error, secrets), place)
    if isinstance(error, ResponseHandlingException):
        return _by_source(error.source, place)
    if isinstance(error, grpc.RpcError):
        return _by_code(error, place, secrets)
    if isinstance(error, QdrantException):  # Retry-After with a date: busy, for how long unknown
        return StoreUnavailable(f"{place}: the server is busy")
    if isinstance(error, json.JSONDecodeError) and error.doc.lstrip().startswith("{"):
        return StoreUnavailable(f"{place}: the response broke off")  # and had no length to compare
    if isinstance(error, (json.JSONDecodeError, AssertionError)):  # the client asserts a result
        return _not_qdrant(place)
    return _by_text(_masked(_text_of(error), secrets), place)


def _by_source(source: Exception, place: str) -> StoreError:
    kind = type(source).__name__
    if isinstance(source, ValueError):  # pydantic: JSON, but not Qdrant's
        return _not_qdrant(place)
    if tls.UNVERIFIED in str(source):
        return StoreError(f"{place}: {tls.unverified(str(source))}")
    if kind in ("ConnectError", "ConnectTimeout"):
        return StoreUnavailable(
            f"{place}: no connection ({source or kind}); is the server running, and is the "
            f"address right?"
        )
    if kind.endswith("Timeout"):
        return StoreUnavailable(f"{place}: no response in time ({kind})")
    return _broken(source, f"{place}: the connection broke ({source or kind})")


def _broken(source: Exception, message: str) -> BrokenConnection:
    n_bytes = _body_bytes(source)
    is_large = n_bytes > _SUSPECT_BYTES
    ours = BrokenConnection(
        f"{message} under a request of {n_bytes:,} bytes" if is_large else message
    )
    ours.n_bytes = n_bytes
    return ours


def _body_bytes(source: Exception) -> int:
    if not isinstance(source, httpx.RequestError):
        return 0
    try:
        return len(source.request.content)
    except (RuntimeError, httpx.RequestNotRead):  # it never became a request
        return 0


def _by_code(error: grpc.RpcError, place: str, secrets: Sequence[str]) -> StoreError | InputError:
    code = error.code() if hasattr(error, "code") else None
    detail = _masked((error.details() if hasattr(error, "details") else str(error)) or "", secrets)
    told = _trailing(error)
    if tls.UNVERIFIED in detail:
        return StoreError(f"{place}: {tls.unverified('')}")
    status = _STATUS_OF.get(code, 0)
    if status == 429 and _INSUFFICIENT_STORAGE in told:
        status = 507
    if status == 429 and "larger than max" in detail:  # gRPC's word for 413
        status = 413
    pause = told.get("retry-after", "")
    if status in _TRANSIENT and pause.isdecimal():
        return _overloaded(place, float(pause))
    return _by_status(status, detail, place, name=code.name if code is not None else "")


def _trailing(error: grpc.RpcError) -> Mapping[str, str]:
    """Return what stands beside the status of a call."""
    told = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    return {str(key).lower(): str(value) for key, value in told or ()}


def _overloaded(place: str, pause_s: float) -> Overloaded:
    ours = Overloaded(f"{place}: the server is busy and requests a pause of {pause_s:.0f} s")
    ours.retry_after_s = max(0.0, pause_s)
    return ours


def _by_status(status: int, detail: str, place: str, *, name: str = "") -> StoreError | InputError:
    """Return the error that a status means; `name` is what gRPC calls it."""
    if status in (400, 413, 429):
        too_large = _oversized(status, detail, place)
        if too_large is not None:
            return too_large
    if (status == 403 or name == "FAILED_PRECONDITION") and "locked" in detail.lower():
        return NoWritesError(
            f"{place}: the server is locked for writes{_tail(detail)}; let its operator unlock it"
        )
    if status in _TRANSIENT:
        return StoreUnavailable(f"{place}: the server responded {name or status}{_tail(detail)}")
    if status in (401, 403):
        return AccessDenied(f"{place}: access denied; {_lacks(status, detail)}{_tail(detail)}")
    if status == 507:
        return NoWritesError(
            f"{place}: the server's disk is full, or its quota is used up{_tail(detail)}; free "
            f"some space or raise the quota, then repeat: what was written stays"
        )
    kinds: dict[int, type[StoreError]] = {404: NotFound, 405: Unsupported, 409: Conflict}
    if status in kinds:
        return kinds[status](f"{place}{_tail(detail) or f': the server responded {status}'}")
    return _by_text(detail or f"the server responded {name or status}", place)


def _oversized(status: int, detail: str, place: str) -> OversizedRequestError | None:
    """Return the error of a request that is too large, None where it is not that."""
    limit = _LARGEST_BODY.search(detail)
    if limit is not None:
        ours = OversizedRequestError(f"{place}{_tail(detail)}")
        ours.limit = int(limit[1])
        return ours
    if status == 429 and "split your request" in detail:
        setting = setting_of(detail)
        reason = f": {forbidden(detail, setting)}" if setting else _tail(detail)
        return OversizedRequestError(f"{place}{reason}")
    if status == 413:
        return OversizedRequestError(f"{place}: a request is larger than the server takes (413)")
    return None


_RIGHTS = (
    # In the server's words (rbac), the first that fits.
    ("expiredsignature", "the token in QDRANT_API_KEY has expired; have a new one made"),
    ("invalidsignature", "the token in QDRANT_API_KEY was not made with this server's key"),
    (
        "global access",
        "the token in QDRANT_API_KEY is for single collections, and this takes a key for the "
        "whole server, or a token with the right to manage it",
    ),
    (
        "manage access",
        "the key in QDRANT_API_KEY is read-only, or a token that may not change this; it takes a "
        "key that may write, or a token with the right to manage the server",
    ),
    ("points access", "the token in QDRANT_API_KEY is for points alone"),
    ("access to collection", "the token in QDRANT_API_KEY lacks a right on this collection"),
)


def _lacks(status: int, detail: str) -> str:
    """Return what a key lacks, and what to do."""
    known = (why for words, why in _RIGHTS if words in detail.lower())
    otherwise = "the API key is missing, wrong or read-only; set it in QDRANT_API_KEY"
    return otherwise if status == 401 else next(known, otherwise)


def _by_text(text: str, place: str) -> StoreError | InputError:
    """Return the error that a message means; local mode and status 400 say no more."""
    setting = setting_of(text)
    if setting is not None:
        return Unsupported(f"{place}: {forbidden(text, setting)}")
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
        f"{place}: the response is not Qdrant's (a web page or a proxy's?); check the "
        f"address and any proxy"
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
        text = _plain_text(error.content) or str(error.reason_phrase or "")
    return _masked(str(text), secrets)


def _plain_text(content: bytes) -> str:
    """Return an answer that is a sentence, as those about keys are; no page and no JSON."""
    text = content.decode(errors="replace").strip()
    return "" if text[:1] in ("<", "{") or len(text) > _LONGEST_DETAIL else text


def _masked(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_DETAIL else text[:_LONGEST_DETAIL] + "…"


def _tail(detail: str) -> str:
    return f": {detail}" if detail else ""
