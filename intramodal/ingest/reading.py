"""From a source to outcomes, one a picture: what to encode, what to leave, what failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

from intramodal.ingest.plan import Plan
from intramodal.ingest.prepare import Outcome, Stored, prepare
from intramodal.ingest.sources.base import is_text, spelled, unreadable
from intramodal.ingest.stored import Seen, ensure_indexes, look_up
from intramodal.ingest.threads import Threads
from intramodal.types import ImageRecord, PointId, point_id

T = TypeVar("T")

_LOOKED_UP_AT_ONCE = 256

Admitted = tuple[ImageRecord, str]
"""A picture and the id of its point."""

LookedUp = tuple[list[Admitted], dict[PointId, Stored]]


class Reading:
    """Reads and decodes in threads, ahead of whoever takes the outcomes.

    Parameters
    ----------
    plan : Plan
    seen : Seen
        Gets the ids of all pictures.
    decoding, storing : Threads
    """

    def __init__(self, plan: Plan, seen: Seen, decoding: Threads, storing: Threads) -> None:
        self._plan = plan
        self._seen = seen
        self._decoding = decoding
        self._storing = storing

    def outcomes(self, source: Iterable[ImageRecord]) -> Iterator[Outcome]:
        """Yield one outcome a picture, in the order of the source."""
        # While one batch is encoded, the next one is decoded.
        return self._decoding.in_order(self._prepared(source), ahead=self._plan.batch_size)

    def _prepared(self, source: Iterable[ImageRecord]) -> Iterator[Future[Outcome]]:
        plan = self._plan
        given: dict[str, Any] = {
            "dataset": plan.dataset,
            "encoder": plan.encoder,
            "projected": plan.projection and plan.projection.default_vector,
        }
        for chunk, stored in self._storing.in_order(self._looked_up(source), ahead=0):
            for record, point in chunk:
                yield self._decoding.submit(prepare, record, point, stored.get(point), **given)

    def _looked_up(self, source: Iterable[ImageRecord]) -> Iterator[Future[LookedUp]]:
        is_first = True
        for chunk in _chunks(self._admitted(source), _LOOKED_UP_AT_ONCE):
            yield self._storing.submit(self._look_up, chunk, is_first)
            is_first = False

    def _look_up(self, chunk: list[Admitted], is_first: bool) -> LookedUp:
        plan = self._plan
        if is_first:
            ensure_indexes(plan.collection, [record for record, _ in chunk])
        return chunk, look_up(plan.collection, plan.vectors, [point for _, point in chunk])

    def _admitted(self, source: Iterable[ImageRecord]) -> Iterator[Admitted]:
        for given in source:
            record = given
            if not is_text(record.key):
                record = unreadable(spelled(record.key), "the key is not UTF-8")
            point = point_id(self._plan.dataset, record.key)
            if not self._seen.add(point):
                twice = unreadable(record.key, "occurs twice in the source; give it once")
                record = replace(record, read=twice.read)
            yield record, point


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
