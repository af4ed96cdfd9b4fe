"""The projected vector, added to and changed in the collection that clients search."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from intramodal.errors import InputError
from intramodal.ingest.backfill.points import BackfillSummary, Job, Projecting, with_ids
from intramodal.ingest.failures import Failures
from intramodal.runs.run import Run
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.origins import check_in_place, check_made_by
from intramodal.types import PointId, VectorMap


def backfill(  # noqa: PLR0913  a job with many settings, each with a default
    collection: ImageCollection,
    projection: VectorMap,
    *,
    vector: str | None = None,
    source: str = "raw",
    only: Sequence[PointId] | None = None,
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
    projection : VectorMap
        A `Projection`, or another map of stored vectors.
    vector : str, optional
        Name of the new vector; the projection's own by default.
    source : str
        Name of the stored vector that is projected.
    only : sequence of str or int, optional
        Ids of the points that get the vector; the manifest calls it incomplete then.
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
    wanted = [Filter()] if only is None else with_ids(only)
    n_skipped = sum(collection.count(replace(where, has_vector=vector)) for where in wanted)
    job = Job(collection, projection, source, vector, batch_size, throttle, run or Run())
    failures = Failures(job.run, None)
    projecting = Projecting(job, failures)
    if only is None:
        n_refused = projecting.fill()
        collection.finish_vector(vector)
    else:
        n_refused = projecting.among(only)
    seconds = time.perf_counter() - started
    needs_index = was_indexed and (projecting.n_projected > 0 or _is_half_indexed(collection))
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
    projection: VectorMap,
    *,
    where: Filter,
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
    projection : VectorMap
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
    job = Job(collection, projection, source, vector, batch_size, throttle, run or Run())
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


def _is_half_indexed(collection: ImageCollection) -> bool:
    """Return whether vectors are in no index, as after a kill while it was rebuilt.

    A few that were added since the last build are not, either: looking for work costs little.
    """
    info = collection.info()
    return info.n_indexed < info.n_points * len(info.vectors)


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
