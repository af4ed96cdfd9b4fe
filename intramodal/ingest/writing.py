"""From outcomes to points: encode in this thread, write in another."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np

from intramodal.ingest.failures import Failures
from intramodal.ingest.pace import Pace
from intramodal.ingest.plan import RAW, Plan
from intramodal.ingest.prepare import Encodable, Outcome, Relabelled
from intramodal.ingest.threads import Threads
from intramodal.runs import FailureRecord
from intramodal.types import Floats, Payload

_RELABELLED_AT_ONCE = 256


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
    n_written, n_skipped, n_updated : int
        Pictures encoded; left as they are; given other payload only.
    """

    def __init__(
        self,
        plan: Plan,
        failures: Failures,
        storing: Threads,
        pace: Pace,
        on_done: Callable[[int], object],
    ) -> None:
        self.n_written = self.n_skipped = self.n_updated = 0
        self._plan = plan
        self._failures = failures
        self._storing = storing
        self._pace = pace
        self._on_done = on_done
        self._batch: list[Encodable] = []
        self._relabelled: dict[str, tuple[Payload, list[str]]] = {}
        self._writes: deque[Future[None]] = deque()

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
            self._relabel(outcome)
        else:
            self.n_skipped += 1

    def finish(self) -> None:
        """Encode and write what is left, and wait until all is written."""
        self._encode()
        self._send_relabelled()
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
        if not batch:
            return
        vectors = {RAW: X}
        if self._plan.projection is not None:
            vectors[self._plan.projection.default_vector] = self._plan.projection.apply(X)
        points, payloads = [one.point for one in batch], [one.payload for one in batch]
        self._send(self._plan.collection.write, points, vectors, payloads)
        self.n_written += len(batch)

    def _relabel(self, outcome: Relabelled) -> None:
        """Collect pictures that get the same payload: one request serves them all."""
        same = json.dumps(outcome.payload, sort_keys=True)
        self._relabelled.setdefault(same, (outcome.payload, []))[1].append(outcome.point)
        self.n_updated += 1
        if self.n_updated % _RELABELLED_AT_ONCE == 0:
            self._send_relabelled()

    def _send_relabelled(self) -> None:
        relabelled, self._relabelled = self._relabelled, {}
        collection = self._plan.collection
        for payload, points in relabelled.values():
            self._send(collection.store.set_payload, collection.name, points, payload)

    def _send(self, call: Callable[..., None], *arguments: Any) -> None:
        self._wait_for_writes(self._storing.n)
        self._writes.append(self._storing.submit(call, *arguments))

    def _wait_for_writes(self, n_left: int) -> None:
        """Wait until at most `n_left` writes are under way; an error of one is raised here."""
        while self._writes and (len(self._writes) > n_left or self._writes[0].done()):
            self._storing.result(self._writes.popleft())

    def _fail(self, failure: FailureRecord) -> None:
        self._failures.add(failure)
        if self._failures.are_too_many():
            self._send_relabelled()
            self._wait_for_writes(0)
            raise self._failures.too_many()
