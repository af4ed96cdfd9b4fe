"""What was seen of a collection may be no longer so: others make it anew, add keys and indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from intramodal.errors import (
    AccessDenied,
    Conflict,
    InputError,
    Locked,
    StoreError,
    StoreUnavailable,
)
from intramodal.store.base import Page
from intramodal.store.queries import Answer
from intramodal.store.server.refusals import NoWritesError, OversizedRequestError
from intramodal.types import Distance, ShardKey

F = TypeVar("F", bound=Callable[..., Any])

_NOT_EXPLAINED = (StoreUnavailable, AccessDenied, Locked, OversizedRequestError, NoWritesError)


class OutdatedError(Conflict):
    """An answer that contradicts what was last seen of a collection."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} was made anew by somebody else while it was in use; repeat what you did"
        )


class Looking(Protocol):
    """A store that remembers what it has seen of collections."""

    def _seen(self, name: str) -> Any:
        """Return what is remembered of a collection, None if nothing is."""

    def _look_again(self, name: str) -> Any:
        """Look, and return what is remembered then."""


def looks_again(method: F) -> F:
    """Repeat a method once if it is refused for what is no longer so."""

    @wraps(method)
    def wrapped(store: Looking, name: str, *args: Any, **options: Any) -> Any:
        before = store._seen(name)
        try:
            return method(store, name, *args, **options)
        except (StoreError, InputError) as error:
            if not _is_explained(store, name, before, error):
                raise
        return method(store, name, *args, **options)

    return cast(F, wrapped)


def looks_again_before_the_first(method: F) -> F:
    """Do the same for an iterator of pages, as long as it has yielded none."""

    @wraps(method)
    def wrapped(store: Looking, name: str, *args: Any, **options: Any) -> Iterator[Page]:
        before, has_begun = store._seen(name), False
        try:
            for page in method(store, name, *args, **options):
                has_begun = True
                yield page
            return
        except (StoreError, InputError) as error:
            if has_begun or not _is_explained(store, name, before, error):
                raise
        yield from method(store, name, *args, **options)

    return cast(F, wrapped)


def _is_explained(store: Looking, name: str, before: Any, error: Exception) -> bool:
    """Return whether what was known before is no longer so; looks again to tell."""
    if before is None or isinstance(error, _NOT_EXPLAINED):
        return False
    try:
        return bool(store._look_again(name) != before)
    except StoreError:  # the collection is gone, and the error says so
        return False


def check_plain(name: str, key: ShardKey | None, records: Sequence[Any]) -> None:
    """Raise `OutdatedError` for records with a shard key where none was known of.

    They are some of the points only: of those with the same id a server drops all but one.
    """
    if key is None and records and getattr(records[0], "shard_key", None) is not None:
        raise OutdatedError(name)


def check_order(name: str, answer: Answer, distance: Distance) -> None:
    """Raise `OutdatedError` for scores in the order of another distance."""
    sign = 1 if distance in ("Cosine", "Dot") else -1
    scores = sign * np.asarray(answer[1])
    if len(scores) and scores[0] < scores[-1]:
        raise OutdatedError(name)
