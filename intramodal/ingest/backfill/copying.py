"""A new collection with everything of the old one and the projected vector; then the switch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import StoreError
from intramodal.ingest.backfill.comparing import compare
from intramodal.ingest.backfill.copied import Copy, check_copyable, is_switched, original_of
from intramodal.ingest.backfill.in_place import check_pace, rebuild_index
from intramodal.ingest.backfill.points import absent_ids, paced, project_rows
from intramodal.ingest.backfill.projecting import MOST_PASSES, Job, Projecting
from intramodal.ingest.backfill.summaries import CopySummary
from intramodal.ingest.failures import Failures
from intramodal.progress import progress
from intramodal.projection.artifact import Projection
from intramodal.runs import FailureRecord, NullRun, Run
from intramodal.store.base import Filter, Page
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, PointId


def copy_with_projection(  # noqa: PLR0913  a job with many settings, each with a default
    collection: ImageCollection,
    projection: Projection,
    new_collection: str,
    *,
    vector: str | None = None,
    source: str = "raw",
    batch_size: int = 1000,
    throttle: float | None = None,
    reindex: bool = True,
    seed: int = 0,
    run: Run | None = None,
) -> CopySummary:
    """Copy a collection into a new one that also has the projected vector, and switch aliases.

    Everything is copied: vectors (an unnamed one becomes ``raw``), payload, payload indexes and
    settings. Counts and a seeded sample are compared; then all aliases of the old collection
    mean the new one, in one step. The old collection is never changed. Killed at any moment, the
    same call resumes; what changes in the old collection after it was copied is not copied again.
    Points that the new collection has are never overwritten: writers may upsert whole points to
    both collections meanwhile (servers from 1.16 on).

    Parameters
    ----------
    collection : ImageCollection
        The one to be copied, or an alias of it, also after the switch.
    projection : Projection
    new_collection : str
        Made if absent; or an unfinished copy of the same kind.
    vector : str, optional
        Name of the new vector; the projection's own by default.
    source : str
        Name of the stored vector that is projected; ``""`` for an unnamed one.
    batch_size : int
        Points a request.
    throttle : float, optional
        Most points a second.
    reindex : bool
        Have the new collection indexed, if the old one is, before clients are switched.
    seed : int
        Of the sample.
    run : Run, optional
        Takes the failures and figures.

    Raises
    ------
    Conflict, Unsupported, InputError, ManifestMismatchError
        As `check_copyable`, before anything is made.
    StoreError
        If the collections differ at the end: points were changed meanwhile. Nothing is switched.
    """
    started = time.perf_counter()
    check_pace(batch_size, throttle)
    vector = vector or projection.default_vector
    original = original_of(collection, new_collection)
    copy = Copy(original, projection, new_collection, source, vector)
    check_copyable(copy)
    new, is_done = _open_or_create(copy)
    job = Job(new, projection, copy.new_source, vector, batch_size, throttle, run or NullRun())
    n_skipped = new.count(Filter(has_vector=vector))
    failures = Failures(job.run, None)
    copying, projecting = Copying(copy, job, failures), Projecting(job, failures)
    if not is_done:
        copying.fill()
    n_refused = projecting.fill()
    n_only, n_compared = (0, 0) if is_done else compare(copy, new, copying.uncopied, seed)
    new.finish_vector(vector)
    seconds = round(time.perf_counter() - started, 3)
    needs_index = original.info().n_indexed > 0 and new.info().n_indexed == 0
    reindex_seconds = rebuild_index(new, needed=needs_index) if reindex else 0.0
    return _told(
        job,
        CopySummary(
            collection=original.name,
            new_collection=new.name,
            source=job.source,
            vector=vector,
            copied=copying.n_copied,
            projected=copying.n_projected + projecting.n_projected,
            skipped=n_skipped,
            unprojectable=n_refused,
            compared=n_compared,
            only_in_new=n_only,
            aliases=[] if is_done else _switch(copy, new),
            failures=failures.listed,
            seconds=seconds,
            reindex_seconds=reindex_seconds,
        ),
    )


def _told(job: Job, summary: CopySummary) -> CopySummary:
    for figure in ("copied", "projected", "skipped", "unprojectable", "compared", "only_in_new"):
        job.run.log_metric(figure, getattr(summary, figure), vector=summary.vector)
    return summary


def _open_or_create(copy: Copy) -> tuple[ImageCollection, bool]:
    """Return the new collection, and whether clients use it already: then nothing is copied."""
    store, name = copy.collection.store, copy.new_name
    if not store.exists(name):
        metadata = {
            **store.info(copy.collection.name).metadata,
            **copy.manifest().to_metadata(),
            **copy.record.to_metadata(),
        }
        store.create(name, copy.specs(), metadata=metadata, options=copy.settings())
    # Before the points: a later index would read them all.
    store.copy_indexes(copy.collection.name, name)
    new = ImageCollection.open(store, name)
    if copy.vector not in new.manifest.vectors:
        new.declare(copy.vector, copy.origin())
    return new, is_switched(copy)


def _switch(copy: Copy, new: ImageCollection) -> list[str]:
    """Let all aliases of the old collection mean the new one; returns them."""
    aliases = copy.aliases()
    record = replace(copy.record, aliases=tuple(aliases), is_complete=True)
    # First, so that a kill in between leaves a copy that can be switched, and then undone.
    new.store.set_metadata(new.name, record.to_metadata())
    new.store.set_aliases(dict.fromkeys(aliases, new.name))
    return aliases


class Copying:
    """Passes over the old collection, until one finds nothing that the new one lacks.

    Parameters
    ----------
    copy : Copy
    job : Job
        Of the new collection.
    failures : Failures

    Attributes
    ----------
    n_copied, n_projected : int
        Points written; those of them with the projected vector.
    uncopied : set of ids
        Points without any vector that can be stored.
    """

    def __init__(self, copy: Copy, job: Job, failures: Failures) -> None:
        self.n_copied = self.n_projected = 0
        self.uncopied: set[PointId] = set()
        self._copy = copy
        self._job = job
        self._failures = failures
        self._listed: set[tuple[PointId, str]] = set()

    def fill(self) -> None:
        """Copy all points that the new collection lacks; `StoreError` if that never ends."""
        for _ in range(MOST_PASSES):
            n_before = self.n_copied
            self._pass()
            if self.n_copied == n_before:
                return
        raise StoreError(
            f"after {MOST_PASSES} passes {self._copy.new_name!r} still lacks points of "
            f"{self._copy.collection.name!r}: they are written faster than they are copied; pause "
            f"the writers, then run the same command again"
        )

    def _pass(self) -> None:
        old, names = self._copy.collection, list(self._copy.renamed)
        pages = old.scroll(batch_size=self._job.batch_size)
        with progress(old.count(), "copy", unit="point") as bar:
            try:
                for page in paced(pages, self._job.throttle):
                    absent = absent_ids(self._job.collection, page.ids)
                    wanted = [point for point in absent if point not in self.uncopied]
                    if wanted:
                        self._take(
                            old.store.retrieve(old.name, wanted, vectors=names, payload=True)
                        )
                    bar.update(len(page.ids))
            finally:
                self._failures.flush()

    def _take(self, page: Page) -> None:
        source = page.vectors[self._copy.source]
        found = project_rows(self._job.projection, source, self._copy.source)
        Z = np.full((len(page.ids), self._job.projection.dim_out), np.nan, dtype=np.float32)
        Z[found.rows] = found.Z
        self._tell_of_infinite(page)
        columns = {new: page.vectors[old] for old, new in self._copy.renamed.items()}
        columns[self._copy.vector] = Z
        for names, rows in _alike(columns):
            self._write(page, {name: columns[name][rows] for name in names}, rows)

    def _write(self, page: Page, vectors: Mapping[str, Floats], rows: NDArray[np.intp]) -> None:
        ids = [page.ids[row] for row in rows]
        if not vectors:
            self.uncopied.update(ids)
            for point in ids:
                self._tell(point, "it has no vector that can be stored; it is not copied")
            return
        # Never over a point that a writer to both has brought there first: that one is newer.
        self._job.collection.insert(ids, vectors, [page.payloads[row] for row in rows])
        self.n_copied += len(ids)
        self.n_projected += len(ids) if self._copy.vector in vectors else 0

    def _tell_of_infinite(self, page: Page) -> None:
        for name, X in page.vectors.items():
            is_infinite = ~np.isfinite(X).all(axis=1) & ~np.isnan(X).all(axis=1)
            for row in np.flatnonzero(is_infinite):
                self._tell(page.ids[row], f"its vector {name!r} is not finite; it is not copied")

    def _tell(self, point: PointId, why: str) -> None:
        if (point, why) not in self._listed:
            self._listed.add((point, why))
            self._failures.add(FailureRecord(str(point), "copy", why))


def _alike(columns: Mapping[str, Floats]) -> Iterator[tuple[list[str], NDArray[np.intp]]]:
    """Yield the rows that have the same vectors, with the names of these."""
    there = np.stack([np.isfinite(X).all(axis=1) for X in columns.values()], axis=1)
    for pattern in np.unique(there, axis=0):
        names = [name for name, has in zip(columns, pattern, strict=True) if has]
        yield names, np.flatnonzero((there == pattern).all(axis=1))
