"""Ready vectors into a collection: read and project here, look up and write in another thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np

from intramodal.errors import InputError
from intramodal.ingest.backfill import check_fitted_for, projected_origin
from intramodal.ingest.failures import Failures
from intramodal.ingest.pipeline import IngestSummary
from intramodal.ingest.plan import RAW
from intramodal.ingest.stored import index_payload
from intramodal.ingest.threads import Threads
from intramodal.ingest.vectors.changes import Batch, Tally, bring_up
from intramodal.ingest.vectors.ready import Block, ReadyVectors
from intramodal.progress import progress
from intramodal.projection.artifact import Projection
from intramodal.runs import FailureRecord, NullRun, Run
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin

DEFAULT_BATCH = 1000

_MOST_WRITES = 2
"""Batches that wait or are being written while the next one is read."""


def ingest_vectors(
    ready: ReadyVectors,
    collection: ImageCollection,
    *,
    vector: str = RAW,
    projection: Projection | None = None,
    batch_size: int = DEFAULT_BATCH,
    max_failures: int | None = None,
    run: Run | None = None,
) -> IngestSummary:
    """Bring a collection up to ready vectors.

    A row whose vector and payload are stored already is not written again. A stored vector is
    the row's where no component of the unit vectors differs by more than 1e-6 (1e-5 for the
    projected one, 1e-3 for float16); vectors of lossier datatypes are always written again.
    Killed at any moment, the same call goes on. Other vectors of the points, and payload keys
    that the rows do not name, stay as they are.

    Parameters
    ----------
    ready : ReadyVectors
    collection : ImageCollection
        With the vectors that `vectors_of` names.
    vector : str
        Named vector of the rows.
    projection : Projection, optional
        Its vector is written beside, in the same upsert.
    batch_size : int
        Rows read and written at once.
    max_failures : int, optional
        Stop when more rows have failed; by default never.
    run : Run, optional
        Takes failures and figures.

    Raises
    ------
    InputError
        If a setting cannot be used, or too many rows have failed.
    StoreError
        If the store fails for longer than its deadline.
    """
    started = time.perf_counter()
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    run = run or NullRun()
    failures = Failures(run, max_failures, "rows")
    loading = _Loading(ready, collection, vector, projection, failures)
    try:
        tally = loading.run(batch_size)
    finally:
        failures.flush()
    summary = IngestSummary(
        collection=collection.name,
        written=tally.written,
        skipped=tally.skipped,
        updated=tally.updated,
        projected=0,
        failed=failures.n,
        pruned=0,
        failures=failures.listed,
        seconds=round(time.perf_counter() - started, 3),
    )
    for figure in ("written", "skipped", "updated", "failed"):
        run.log_metric(figure, getattr(summary, figure))
    return summary


def vectors_of(
    ready: ReadyVectors, origin: VectorOrigin, vector: str, projection: Projection | None
) -> dict[str, tuple[int, VectorOrigin]]:
    """Return size and origin of all vectors that an ingest writes.

    Raises
    ------
    ManifestMismatchError
        If the projection was fitted for another model.
    InputError
        If it takes vectors of another length, or would overwrite its own source.
    """
    vectors = {vector: (ready.matrix.dim, origin)}
    if projection is None:
        return vectors
    check_fitted_for(projection, origin)
    if projection.dim_in != ready.matrix.dim:
        raise InputError(
            f"{ready.matrix.path} has {ready.matrix.dim} dimensions, the projection takes "
            f"{projection.dim_in}; fit one for this model"
        )
    if projection.default_vector == vector:
        raise InputError(
            f"{vector!r} is the projected vector's own name; write the given ones to another"
        )
    projected = projected_origin(projection, origin, vector)
    return {**vectors, projection.default_vector: (projection.dim_out, projected)}


def check_target(
    collection: ImageCollection, vector: str, vectors: dict[str, tuple[int, VectorOrigin]]
) -> bool:
    """Return whether `vector` must be added first; raise unless the collection takes them all.

    Raises
    ------
    ManifestMismatchError
        If a vector was made by another model or projection, or the projected one is absent.
    InputError
        If the new points would lack the projected vectors that the others have; one of several
        is enough, a backfill fills the rest.
    """
    is_new = vector not in collection.info().vectors
    for name, (size, origin) in vectors.items():
        if name == vector and is_new:
            collection.manifest.check(name, origin)
        else:
            collection.require(name, origin, size)
    made_of_it = sorted(v for v, o in collection.manifest.vectors.items() if o.source == vector)
    if made_of_it and len(vectors) == 1:
        raise InputError(
            f"collection {collection.name!r} has the projected vector {made_of_it[0]!r} and new "
            f"points would lack it; give --projection FILE, the one it was made with"
        )
    return is_new


class _Loading:
    """One load: blocks become batches in the calling thread, batches are written in another."""

    def __init__(
        self,
        ready: ReadyVectors,
        collection: ImageCollection,
        vector: str,
        projection: Projection | None,
        failures: Failures,
    ) -> None:
        self._ready = ready
        self._collection = collection
        self._vector = vector
        self._projection = projection
        self._failures = failures

    def run(self, batch_size: int) -> Tally:
        """Write all rows and return how many of each kind there were."""
        specs = self._collection.info().vectors
        tally = Tally()
        writes: deque[Future[Tally]] = deque()
        n_rows = self._ready.matrix.n_rows
        with progress(n_rows, "ingest", unit="vec") as bar, Threads(1, "store") as storing:
            for batch in self._batches(batch_size):
                while len(writes) >= _MOST_WRITES or (writes and writes[0].done()):
                    tally += storing.result(writes.popleft())
                writes.append(storing.submit(bring_up, self._collection, batch, specs))
                bar.update(batch_size)
            while writes:
                tally += storing.result(writes.popleft())
        return tally

    def _batches(self, size: int) -> Iterator[Batch]:
        for number, block in enumerate(self._ready.blocks(size)):
            if number == 0:
                index_payload(self._collection, block.payloads)
            batch = self._usable(block)
            if batch.points:
                yield batch
            if self._failures.are_too_many():
                raise self._failures.too_many()

    def _usable(self, block: Block) -> Batch:
        """Return what can be stored of a block; the rest is listed."""
        problems = {**_bad_rows(block), **block.problems}
        for place in sorted(problems):
            self._failures.add(FailureRecord(block.names[place], "read", problems[place]))
        X, points, payloads = block.X, block.points, block.payloads
        if problems:
            rows = [place for place in range(len(points)) if place not in problems]
            X = X[rows]
            points = [points[row] for row in rows]
            payloads = [payloads[row] for row in rows]
        vectors = {self._vector: X}
        if self._projection is not None and points:
            vectors[self._projection.default_vector] = self._projection.apply(X)
        return Batch(points, vectors, payloads)


def _bad_rows(block: Block) -> dict[int, str]:
    # One number a row tells: it is not finite if a component is not, and zero if all are.
    sizes = np.abs(block.X).max(axis=1)
    bad = {int(row): "the vector is zero" for row in np.flatnonzero(sizes == 0)}
    for row in np.flatnonzero(~np.isfinite(sizes)):
        bad[int(row)] = "the vector is missing, of another length, or not finite"
    return bad
