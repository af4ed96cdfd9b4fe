"""Pages of points, projected and written; what cannot be is listed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from threadpoolctl import threadpool_limits

from intramodal.errors import StoreError
from intramodal.ingest.backfill.points import ProjectedRows, paced, project_rows, with_ids
from intramodal.ingest.failures import Failures
from intramodal.progress import progress
from intramodal.runs import FailureRecord, NullRun, Run
from intramodal.store.base import Filter, Page
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, PointId, VectorMap

MOST_PASSES = 10
"""A live writer adds points while a pass goes on; each pass takes up what the last one missed."""


@dataclass(frozen=True)
class Job:
    """What is projected, and how fast.

    Parameters
    ----------
    collection : ImageCollection
    projection : VectorMap
    source, vector : str
    batch_size : int
        Points a page.
    throttle : float or None
        Most points a second.
    run : Run
    """

    collection: ImageCollection
    projection: VectorMap
    source: str
    vector: str
    batch_size: int = 1000
    throttle: float | None = None
    run: Run = field(default_factory=NullRun)


class Projecting:
    """Projects points page by page, whether they have the vector or not.

    Parameters
    ----------
    job : Job
    failures : Failures
        Takes each point that cannot be projected, once.

    Attributes
    ----------
    n_projected : int
        Points written, over all passes.
    """

    def __init__(self, job: Job, failures: Failures) -> None:
        self.n_projected = 0
        self._job = job
        self._failures = failures
        self._listed: set[str] = set()

    def over(self, *wheres: Filter) -> int:
        """Project the points that match one of the filters; returns how many cannot be.

        No point may match two of them.
        """
        job, n_refused = self._job, 0
        n_points = sum(job.collection.count(where) for where in wheres)
        pages = itertools.chain.from_iterable(
            job.collection.scroll(vectors=[job.source], where=where, batch_size=job.batch_size)
            for where in wheres
        )
        with (
            # A batch's product is short: more threads would spin beside the engine's between them.
            threadpool_limits(1, "blas"),
            progress(n_points, "project", unit="point") as bar,
        ):
            try:
                for page in paced(pages, job.throttle):
                    n_refused += self._take(page)
                    bar.update(len(page.ids))
            finally:
                self._failures.flush()
        return n_refused

    def among(self, ids: Sequence[PointId]) -> int:
        """Project those of some points that lack the vector; returns how many cannot be."""
        wheres = [replace(where, lacks_vector=self._job.vector) for where in with_ids(ids)]
        return self.over(*wheres)

    def fill(self) -> int:
        """Project all points that lack the vector; returns how many of them cannot be.

        Passes go on until one finds nothing to project and the counts agree.

        Raises
        ------
        StoreError
            If writers never let it end.
        """
        collection, vector = self._job.collection, self._job.vector
        for _ in range(MOST_PASSES):
            n_before = self.n_projected
            n_refused = self.over(Filter(lacks_vector=vector))
            n_filled = collection.count(Filter(has_vector=vector))
            if self.n_projected == n_before and n_filled + n_refused == collection.count():
                return n_refused
        raise StoreError(
            f"after {MOST_PASSES} passes points of {collection.name!r} still lack {vector!r}: "
            f"they are written without it faster than they are filled; let the writer write both "
            f"vectors, then run the same command again"
        )

    def _take(self, page: Page) -> int:
        found = project_rows(
            self._job.projection, page.vectors[self._job.source], self._job.source
        )
        self._refuse(page, found)
        if len(found.rows):
            self.n_projected += self._write([page.ids[row] for row in found.rows], found.Z)
        return len(found.refused)

    def _write(self, ids: list[PointId], Z: Floats) -> int:
        """Write the vectors of the points that are still there; returns how many those were.

        Where they are deleted faster than one can look, the next pass takes up the others.
        """
        collection, vector = self._job.collection, self._job.vector

        def write(rows: list[int]) -> None:
            which = [ids[row] for row in rows]
            collection.store.update_vectors(collection.name, vector, which, Z[rows])

        return len(collection.with_existing(ids, write))

    def _refuse(self, page: Page, found: ProjectedRows) -> None:
        new = {str(page.ids[row]): why for row, why in found.refused.items()}
        if found.missing:
            # A page holds NaN for absent vectors: the store knows which ones are NaN themselves.
            asked = Filter(
                ids=[page.ids[row] for row in found.missing], has_vector=self._job.source
            )
            for part in self._job.collection.scroll(where=asked):
                for point in part.ids:
                    new[str(point)] = f"its vector {self._job.source!r} is not finite"
        for point, why in new.items():
            if point not in self._listed:
                self._listed.add(point)
                self._failures.add(FailureRecord(point, "project", why))
