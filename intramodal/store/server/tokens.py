"""What a key allows: a token (JWT) has its rights in the clear, of another the server is asked."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from intramodal.errors import AccessDenied, InputError, StoreError
from intramodal.store.server.client import Caller


def is_token(api_key: str | None) -> bool:
    """Return whether a key says itself what it may do."""
    return bool(_claims(api_key or ""))


def lacking_right(api_key: str | None, collection: str, *, to_write: bool = False) -> str:
    """Return why a key may not change a collection's description; "" where it may.

    `to_write` asks for less: to change its points. A key that is no token says nothing about
    itself: "". The server decides.

    Examples
    --------
    >>> lacking_right("an api key", "photos")
    ''
    """
    access = _claims(api_key or "").get("access", "m")
    if access == "m":
        return ""
    if not isinstance(access, list):
        return "the token in QDRANT_API_KEY may only read"
    named = (one for one in access if isinstance(one, dict))
    rights = {
        one["collection"]: one.get("access")
        for one in named
        if isinstance(one.get("collection"), str)
    }
    of_this = rights.get(collection)
    if of_this is None:
        return f"the token in QDRANT_API_KEY has no right on {collection!r}"
    if of_this == "r":
        return f"the token in QDRANT_API_KEY may only read {collection!r}"
    if to_write:
        return ""
    return (
        f"the token in QDRANT_API_KEY may write points of {collection!r}, but not change its "
        f"description, which takes a key for the whole server"
    )


_LOG_OF_SLOW_REQUESTS = "/profiler/slow_requests"
"""What a server (from 1.16 on) shows of its own memory to whoever may change everything, and to
nobody else: the log of its slow requests, of which none is asked for. Of the requests that a key
for reading is refused it is one of the few that change nothing for another key, not even a log
that is kept (src/actix/api/profiler_api.rs, the same from 1.16.0 to 1.19.0)."""

_REFUSAL = "manage access is required"
"""A server's own words (recorded on 1.18.3 and 1.19.0, of other requests): a proxy that hides the
path has others."""


def only_reads(server: Caller) -> bool:
    """Return whether a server says that the key is for reading alone; asked once."""
    try:
        server.call_once(
            "read what the key may do",
            lambda: server.client.http.client.request(
                type_=Any, method="GET", url=_LOG_OF_SLOW_REQUESTS, params={"limit": 0}
            ),
        )
    except AccessDenied as error:
        return _REFUSAL in str(error)
    except (StoreError, InputError):  # an old server, a proxy: it is known when it writes
        return False
    return False


def _claims(token: str) -> dict[str, Any]:
    """Return the claims of a token, unverified; none of anything else."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        found = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
