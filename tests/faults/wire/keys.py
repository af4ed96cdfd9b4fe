"""Who may do what: a key for everything, one for reading, none."""

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
    """The keys of a server; without `full` it is open."""

    full: str | None = field(default=None, repr=False)
    reading: str | None = field(default=None, repr=False)

    def check(self, given: str | None) -> None:
        """Raise 401 for a stranger."""
        if self.full is None or given in (self.full, self.reading):
            return
        if given is None:
            raise WireError(401, "Must provide an API key or an Authorization bearer token")
        raise WireError(401, "Invalid API key or JWT")

    def check_write(self, given: str | None) -> None:
        """Raise 403 for a reader who would write."""
        if self.full is not None and given != self.full:
            raise WireError(403, "Forbidden: Global manage access is required")


def is_writing(method: str, path: str) -> bool:
    """Return whether a REST request changes something."""
    return method != "GET" and not (method == "POST" and path.endswith(_READING_POSTS))


def is_writing_call(call: str) -> bool:
    """Return whether a gRPC call changes something."""
    return call not in _READING_CALLS
