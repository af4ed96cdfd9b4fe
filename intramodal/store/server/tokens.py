"""What a token allows, as it says itself: a server's JWT (rbac) has its rights in the clear."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any


def lacking_right(api_key: str | None, collection: str) -> str:
    """Return why a key may not change a collection's description; "" where it may.

    A key that is no token says nothing about itself: "". The server decides.

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
    return (
        f"the token in QDRANT_API_KEY may write points of {collection!r}, but not change its "
        f"description, which takes a key for the whole server"
    )


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
