"""From outcomes to points: encode in this thread, write in others."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intramodal.ingest.backfill.points import project_rows
from intramodal.ingest.failures import Failures
from intramodal.ingest.pace import Pace
from intramodal.ingest.payload import by_payload
from intramodal.ingest.plan import RAW, Plan
from intramodal.ingest.prepare import HASH, Encodable, Outcome, Relabelled, Unprojected
from intramodal.ingest.threads import Threads
from intramodal.projection.artifact import Projection
from intramodal.runs import FailureRecord
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, Payload, PointId

_AT_ONCE = 256
"""Stored pictures that are relabelled or projected in one go."""


@dataclass(frozen=True)
class Wrote:
    """What a write did."""

    n_written: int = 0
    n_projected: int = 0
    failures: list[FailureRecord] = field(default_factory=list)


class Writing:
    """Takes outcomes and brings the collection up to them.

    Parameters
    ----------
    plan : Plan
    failures : Failures
    storing : Threads
        Each writes a batch of its own: no two batches hold the same point.
    pace : Pace
        Is told what the forward passes took.
    on_done : callable
        Is told how many further pictures are done with.

    Attributes
    ----------
    n_written, n_skipped, n_updated, n_projected : int
        Pictures encoded; left as they are; given other payload only; projected from their stored
        vector.
    """

    def __init__(
        self,
        plan: Plan,
        failures: Failures,
        storing: Threads,
        pace: Pace,
        on_done: Callable[[int], object],
    ) -> None:
        self.n_written = self.n_skipped = self.n_updated = self.n_projected = 0
        self._plan = plan
        self._failures = failures
        self._storing = storing
        self._pace = pace
        self._on_done = on_done
        self._batch: list[Encodable] = []
        self._relabelled: list[Relabelled] = []
        self._unprojected: list[Unprojected] = []
        self._writes: deque[Future[Wrote]] = deque()

    def take(self, outcome: Outcome) -> None:
        """Do what the outcome asks for, sooner or later.

        Raises
        ------
        InputError
            If more pictures failed than are allowed; all that was encoded is written then.
        """
        if isinstance(outcome, Encodable):
            self._batch.append(outcome)
            if len(self._batch) == self._plan.batch_size:
                self._encode()
            return
        self._on_done(1)
        if isinstance(outcome, FailureRecord):
            self._fail(outcome)
        elif isinstance(outcome, Relabelled):
            self._relabelled.append(outcome)
            self.n_updated += 1
        elif isinstance(outcome, Unprojected):
            self._unprojected.append(outcome)
        else:
            self.n_skipped += 1
        if max(len(self._relabelled), len(self._unprojected)) == _AT_ONCE:
            self._send_stored()

    def finish(self) -> None:
        """Encode and write what is left, and wait until all is written."""
        self._encode()
        self._send_stored()
        self._wait_for_writes(0)

    def _encode(self) -> None:
        batch, self._batch = self._batch, []
        if not batch:
            return
        started = time.perf_counter()
        X = self._plan.encoder.encode_pixels(np.stack([one.pixels for one in batch]))
        self._pace.encoded(batch, time.perf_counter() - started)
        usable = np.isfinite(X).all(axis=1) & X.any(axis=1)
        self._on_done(len(batch))
        self._write([batch[row] for row in np.flatnonzero(usable)], X[usable])
        for row in np.flatnonzero(~usable):
            reason = "the model gives zeros, NaN or infinity for this picture"
            self._fail(FailureRecord(batch[row].key, "encode", reason))

    def _write(self, batch: list[Encodable], X: Floats) -> None:
        for is_known, write in ((False, _add), (True, _renew)):
            rows = [row for row, one in enumerate(batch) if one.is_known is is_known]
            if rows:
                some = [batch[row] for row in rows]
                self._send(write, self._plan.collection, some, self._vectors(X[rows]))

    def _vectors(self, X: Floats) -> dict[str, Floats]:
        projection = self._plan.projection
        if projection is None:
            return {RAW: X}
        return {RAW: X, projection.default_vector: projection.apply(X)}

    def _send_stored(self) -> None:
        """Send what needs no encoder: pictures with other payload or without their projection."""
        collection, projection = self._plan.collection, self._plan.projection
        relabelled, self._relabelled = self._relabelled, []
        unprojected, self._unprojected = self._unprojected, []
        if relabelled:
            self._send(_relabel, collection, relabelled)
        if unprojected and projection is not None:
            self._send(_project, collection, projection, unprojected)

    def _send(self, write: Callable[..., Wrote], *arguments: Any) -> None:
        self._wait_for_writes(self._storing.n)
        self._writes.append(self._storing.submit(write, *arguments))

    def _wait_for_writes(self, n_left: int) -> None:
        """Wait until at most `n_left` writes are under way; an error of one is raised here."""
        while self._writes and (len(self._writes) > n_left or self._writes[0].done()):
            wrote = self._storing.result(self._writes.popleft())
            self.n_written += wrote.n_written
            self.n_projected += wrote.n_projected
            for failure in wrote.failures:
                self._fail(failure)

    def _fail(self, failure: FailureRecord) -> None:
        self._failures.add(failure)
        if self._failures.are_too_many():
            self._send_stored()
            self._wait_for_writes(0)
            raise self._failures.too_many()


# What the storing threads do.


def _add(
    collection: ImageCollection, batch: Sequence[Encodable], vectors: dict[str, Floats]
) -> Wrote:
    """Write new pictures, whole; a point that somebody has added meanwhile stays as it is.

    It counts as written: without our hash, the next run brings it up.
    """
    collection.insert([one.point for one in batch], vectors, [one.payload for one in batch])
    return Wrote(len(batch))


def _renew(
    collection: ImageCollection, batch: Sequence[Encodable], vectors: dict[str, Floats]
) -> Wrote:
    """Write the vectors and payload keys of known pictures; all else of their points stays.

    The hash goes first and comes last: after a kill in between, the picture is encoded again,
    whichever version of it is there by then. So it is where another ingest has set it meanwhile:
    nobody knows whose vectors are there.
    """
    store, name = collection.store, collection.name

    def write(rows: list[int]) -> None:
        points: list[PointId] = [batch[row].point for row in rows]
        store.set_payload(name, points, {HASH: None})
        for vector, X in vectors.items():
            store.update_vectors(name, vector, points, X[rows])
        hashes = store.retrieve(name, points, payload=[HASH])
        unclear = {i for i, found in zip(hashes.ids, hashes.payloads, strict=True) if found}
        payloads = [
            {**batch[row].payload, HASH: None}
            if batch[row].point in unclear
            else batch[row].payload
            for row in rows
        ]
        _set_payloads(collection, points, payloads)

    rows = set(collection.with_existing([one.point for one in batch], write))
    gone = [_deleted(one.key) for row, one in enumerate(batch) if row not in rows]
    return Wrote(len(rows), failures=gone)


def _relabel(collection: ImageCollection, batch: Sequence[Relabelled]) -> Wrote:
    """Set the payload keys that differ; of points that were deleted meanwhile nothing is left."""
    points: list[PointId] = [one.point for one in batch]

    def write(rows: list[int]) -> None:
        payloads = [batch[row].payload for row in rows]
        _set_payloads(collection, [points[row] for row in rows], payloads)

    collection.with_existing(points, write)
    return Wrote()


def _project(
    collection: ImageCollection, projection: Projection, batch: Sequence[Unprojected]
) -> Wrote:
    """Project stored vectors, as a backfill does, and set the payload keys that differ."""
    store, name, vector = collection.store, collection.name, projection.default_vector
    by_point: dict[PointId, Unprojected] = {one.point: one for one in batch}
    page = store.retrieve(name, list(by_point), vectors=[RAW])
    found = project_rows(projection, page.vectors[RAW], RAW)
    points = [page.ids[row] for row in found.rows]

    def write(rows: list[int]) -> None:
        there = [points[row] for row in rows]
        store.update_vectors(name, vector, there, found.Z[rows])
        _set_payloads(collection, there, [by_point[point].payload for point in there])

    projected = {points[row] for row in collection.with_existing(points, write)}
    refused = {page.ids[row]: why for row, why in found.refused.items()}
    failures = [FailureRecord(by_point[i].key, "project", why) for i, why in refused.items()]
    gone = by_point.keys() - projected - refused.keys()
    failures += [_deleted(one.key) for point, one in by_point.items() if point in gone]
    return Wrote(n_projected=len(projected), failures=failures)


def _set_payloads(
    collection: ImageCollection, points: Sequence[PointId], payloads: Sequence[Payload]
) -> None:
    for payload, some in by_payload(points, payloads):
        if payload:
            collection.store.set_payload(collection.name, some, payload)


def _deleted(key: str) -> FailureRecord:
    reason = "its point was deleted meanwhile; run the same command again to add it"
    return FailureRecord(key, "write", reason)
