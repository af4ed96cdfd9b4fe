"""Strict mode, as far as our store reads it: what exceeds a limit is refused."""

from __future__ import annotations

from collections.abc import Sequence

from qdrant_client import models

from tests.faults.wire.errors import WireError
from tests.faults.wire.points import Collection


def check_write(collection: Collection, n: int) -> None:
    """Raise where one write holds more points than allowed."""
    _check("Upsert limit", n, _strict(collection).upsert_max_batchsize)


def check_read(collection: Collection, limit: int) -> None:
    """Raise where one answer would hold more points than allowed."""
    _check("Limit", limit, _strict(collection).max_query_limit)


def check_queries(collection: Collection, requests: Sequence[models.QueryRequest]) -> None:
    """Raise where a batch of searches is too long, or one of them asks for what is forbidden."""
    strict = _strict(collection)
    _check("Search batch size", len(requests), strict.search_max_batchsize)
    for request in requests:
        check_read(collection, request.limit or 10)
        is_exact = request.params is not None and bool(request.params.exact)
        if is_exact and strict.search_allow_exact is False:
            raise WireError(400, "Bad request: Exact search is disabled!")


def _strict(collection: Collection) -> models.StrictModeConfig:
    given = collection.config.strict_mode_config
    return given if given is not None and given.enabled else models.StrictModeConfig()


def _check(what: str, n: int, most: int | None) -> None:
    if most is not None and n > most:
        raise WireError(400, f"Bad request: {what} exceeded {n} > {most} for parameter")
