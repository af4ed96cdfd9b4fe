"""The projected vector, added to and changed in the collection that clients search."""

from __future__ import annotations

import time

from intramodal.errors import InputError
from intramodal.ingest.backfill.origins import check_in_place, check_made_by
from intramodal.ingest.backfill.projecting import Job, Projecting
from intramodal.ingest.backfill.summaries import BackfillSummary
from intramodal.ingest.failures import Failures
from intramodal.projection.artifact import Projection
from intramodal.runs import NullRun, Run
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection


def backfill(  # noqa: PLR0913  a job with many settings, each with a default
    collection: ImageCollection,
    projection: Projection,
    *,
    vector: str | None = None,
    source: str = "raw",
    batch_size: int = 1000,
    throttle: float | None = None,
    reindex: bool = True,
    run: Run | None = None,
) -> BackfillSummary:
    """Add the projected vector to all points that lack it; everything else stays untouched.

    Killed at any moment, the same call goes on; once complete, it writes nothing.

    Parameters
    ----------
    collection : ImageCollection
    projection : Projection
    vector : str, optional
        Name of the new vector; the projection's own by default.
    source : str
        Name of the stored vector that is projected.
    batch_size : int
        Points a request.
    throttle : float, optional
        Most points a second.
    reindex : bool
        Wait until a server has rebuilt its index, or rebuild that of an embedded collection if it
        had one.
    run : Run, optional
        Takes the failures and figures.

    Raises
    ------
    ManifestMismatchError
        If the projection was fitted for another encoder, or the name is taken by other vectors.
    InputError
        If the source vector has another length or no name.
    Unsupported
        If the server is too old to add a vector.
    StoreError
        If writers add points without the vector faster than they are filled.
    """
    started = time.perf_counter()
    vector = vector or projection.default_vector
    check_pace(batch_size, throttle)
    origin = check_in_place(collection, projection, source, vector)
    was_indexed = collection.info().n_indexed > 0
    collection.add_vector(vector, projection.dim_out, origin)
    n_skipped = collection.count(Filter(has_vector=vector))
    job = Job(collection, projection, source, vector, batch_size, throttle, run or NullRun())
    failures = Failures(job.run, None)
    projecting = Projecting(job, failures)
    n_refused = projecting.fill()
    collection.finish_vector(vector)
    seconds = time.perf_counter() - started
    needs_index = was_indexed and projecting.n_projected > 0
    return _told(
        job,
        BackfillSummary(
            collection=collection.name,
            source=source,
            vector=vector,
            projected=projecting.n_projected,
            skipped=n_skipped,
            unprojectable=n_refused,
            failures=failures.listed,
            seconds=round(seconds, 3),
            reindex_seconds=rebuild_index(collection, needed=needs_index) if reindex else 0.0,
        ),
    )


def recompute(  # noqa: PLR0913  as `backfill`
    collection: ImageCollection,
    projection: Projection,
    where: Filter,
    *,
    vector: str | None = None,
    source: str = "raw",
    batch_size: int = 1000,
    throttle: float | None = None,
    run: Run | None = None,
) -> BackfillSummary:
    """Compute the projected vector of the matching points anew, whether they have it or not.

    Parameters
    ----------
    collection : ImageCollection
    projection : Projection
        The one that made the vector.
    where : Filter
        Which points.
    vector, source, batch_size, throttle, run
        As in `backfill`.

    Raises
    ------
    NotFound
        If the collection has no vector that this projection has made.
    ManifestMismatchError, InputError
        As in `backfill`.
    """
    started = time.perf_counter()
    vector = vector or projection.default_vector
    check_pace(batch_size, throttle)
    check_made_by(collection, projection, source, vector)
    job = Job(collection, projection, source, vector, batch_size, throttle, run or NullRun())
    failures = Failures(job.run, None)
    projecting = Projecting(job, failures)
    n_refused = projecting.over(where)
    return _told(
        job,
        BackfillSummary(
            collection=collection.name,
            source=source,
            vector=vector,
            projected=projecting.n_projected,
            skipped=0,
            unprojectable=n_refused,
            failures=failures.listed,
            seconds=round(time.perf_counter() - started, 3),
        ),
    )


def check_pace(batch_size: int, throttle: float | None) -> None:
    """Raise `InputError` for numbers that cannot be meant."""
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if throttle is not None and not throttle > 0:
        raise InputError(f"throttle must be more than 0 points a second, got {throttle}")


def rebuild_index(collection: ImageCollection, *, needed: bool) -> float:
    """Rebuild the index, or wait until a server has; returns the seconds."""
    started = time.perf_counter()
    if needed or collection.info().status != "green":
        collection.store.optimize(collection.name)
    return round(time.perf_counter() - started, 3)


def _told(job: Job, summary: BackfillSummary) -> BackfillSummary:
    for figure in ("projected", "skipped", "unprojectable", "seconds", "reindex_seconds"):
        job.run.log_metric(figure, getattr(summary, figure), vector=summary.vector)
    return summary
