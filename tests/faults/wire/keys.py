"""Who may do what: a key for everything, one for reading, a token for a collection, none."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.faults.wire.errors import WireError

_READING_POSTS = tuple(
    "/points" + end for end in ("", "/scroll", "/count", "/query", "/query/batch")
)
_READING_CALLS = frozenset(
    {"HealthCheck", "Get", "List", "ListAliases", "CollectionExists", "Scroll", "Count"}
    | {"QueryBatch"}
)


@dataclass(frozen=True)
class Keys:
    """The keys of a server; without `full` it is open.

    `scoped` is a token that may write points of `collection`, but not change what it is.
    """

    full: str | None = field(default=None, repr=False)
    reading: str | None = field(default=None, repr=False)
    scoped: str | None = field(default=None, repr=False)
    collection: str = ""

    def check(self, given: str | None) -> None:
        """Raise 401 for a stranger."""
        if self.full is None:
            return
        if given is None:
            raise WireError(401, "Must provide an API key or an Authorization bearer token")
        if given in (self.full, self.reading, self.scoped):
            return
        raise WireError(401, "Invalid API key or JWT")

    def check_write(self, given: str | None, path: str = "") -> None:
        """Raise 403 for a reader who would write, or a token that would write elsewhere."""
        if self.full is None or given == self.full:
            return
        if given is not None and given == self.scoped:
            if path.startswith(f"/collections/{self.collection}/points"):
                return
            raise WireError(403, "Forbidden: Global access is required")
        raise WireError(403, "Forbidden: Global manage access is required")


_FOR_MANAGERS = "/profiler/slow_requests"
"""Changes nothing, and is refused where a change would be (profiler_api.rs of 1.16 to 1.19)."""


def is_writing(method: str, path: str) -> bool:
    """Return whether a REST request changes something, or is for those who may."""
    if path == _FOR_MANAGERS:
        return True
    return method != "GET" and not (method == "POST" and path.endswith(_READING_POSTS))


def is_writing_call(call: str) -> bool:
    """Return whether a gRPC call changes something."""
    return call not in _READING_CALLS
