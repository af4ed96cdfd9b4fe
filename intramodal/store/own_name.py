"""What an alias means, pinned while a job writes: it may mean another collection in a moment."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import ParamSpec, TypeVar

from intramodal.errors import AccessDenied, NotFound
from intramodal.store.collection import ImageCollection

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)


def under_own_name(collection: ImageCollection) -> ImageCollection:
    """Return a collection under its own name, looked at anew; itself where it has that name."""
    try:
        own = collection.store.aliases().get(collection.name)
    except AccessDenied as error:
        log.info("%s; %r is taken for the collection's own name", error, collection.name)
        return collection
    return collection if own is None else ImageCollection.open(collection.store, own)


def writes_under_own_name(job: Callable[P, R]) -> Callable[P, R]:
    """Let a job work on what an alias means as it begins, from its checks to its last write.

    A switch of the alias meanwhile would else send the rest of its writes, and the manifest's
    word for them, to a collection that it has not checked. Single calls of an `ImageCollection`
    go where the alias means at that moment, as those of every other client do: that is what
    aliases are for.
    """

    @wraps(job)
    def pinned(*args: P.args, **kwargs: P.kwargs) -> R:
        (given,) = (one for one in (*args, *kwargs.values()) if isinstance(one, ImageCollection))
        own = under_own_name(given)
        if own is given:
            return job(*args, **kwargs)
        found = [own if one is given else one for one in args]
        named = {key: own if one is given else one for key, one in kwargs.items()}
        done = job(*found, **named)  # type: ignore[arg-type]  # the same kinds of arguments
        with suppress(NotFound):  # the alias may be gone
            given.reread()
        return done

    return pinned
