"""Pages of points, projected and written; what cannot be is listed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from intramodal.errors import StoreError
from intramodal.ingest.failures import Failures
from intramodal.progress import progress
from intramodal.runs.records import FailureRecord
from intramodal.runs.run import Run
from intramodal.store.base import Filter, Page
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, PointId, VectorMap

_IDS_A_PAGE = 10_000
_IDS_A_FILTER = 1000


@dataclass(frozen=True)
class ProjectedRows:
    """What a projection makes of an array of stored vectors."""

    rows: NDArray[np.intp]
    """(m,): The rows that can be projected."""
    Z: Floats
    """(m, dim_out): float32."""
    refused: dict[int, str]
    """Why each other row cannot."""
    missing: list[int]
    """Those among them without any number: the vector is absent, or nothing but NaN."""


def project_rows(projection: VectorMap, X: Floats, name: str) -> ProjectedRows:
    """Project the rows of `X` (n, dim_in), the vectors called `name`, that can be projected."""
    is_missing = np.isnan(X).all(axis=1)
    is_finite = np.isfinite(X).all(axis=1)
    is_zero = is_finite & ~X.any(axis=1)
    rows = np.flatnonzero(is_finite & ~is_zero)
    Z = projection.apply(X[rows]) if len(rows) else np.empty((0, projection.dim_out), np.float32)
    lives = Z.any(axis=1)
    refused = {
        **dict.fromkeys(np.flatnonzero(is_missing).tolist(), f"it has no vector {name!r}"),
        **dict.fromkeys(np.flatnonzero(is_zero).tolist(), f"its vector {name!r} is zero"),
        **dict.fromkeys(
            np.flatnonzero(~is_finite & ~is_missing).tolist(), f"its vector {name!r} is not finite"
        ),
        **dict.fromkeys(rows[~lives].tolist(), f"the projection of its {name!r} is zero"),
    }
    missing = np.flatnonzero(is_missing).tolist()
    return ProjectedRows(rows[lives], Z[lives], refused, missing)


def paced(pages: Iterable[Page], throttle: float | None) -> Iterator[Page]:
    """Yield pages, at most `throttle` points a second, whatever is done with them meanwhile."""
    for page in pages:
        started = time.monotonic()
        yield page
        if throttle:
            time.sleep(max(0.0, len(page.ids) / throttle - (time.monotonic() - started)))


def sample_ids(
    collection: ImageCollection, n: int, seed: int, where: Filter | None = None
) -> list[PointId]:
    """Return `n` ids of (matching) points, or all if there are fewer; same seed, same sample."""
    total = collection.count(where)
    chosen = np.random.default_rng(seed).choice(total, size=min(n, total), replace=False)
    chosen.sort()
    found: list[PointId] = []
    start = 0
    for page in collection.scroll(where=where, batch_size=_IDS_A_PAGE):
        end = start + len(page.ids)
        low, high = np.searchsorted(chosen, [start, end])
        found += [page.ids[row - start] for row in chosen[low:high]]
        if high == len(chosen):
            break
        start = end
    return found


def with_ids(ids: Sequence[PointId]) -> list[Filter]:
    """Return filters for some points, so many ids each as a request may well carry."""
    return [
        Filter(ids=ids[start : start + _IDS_A_FILTER])
        for start in range(0, len(ids), _IDS_A_FILTER)
    ]


def told(n: int) -> str:
    """Return a number of points as a person reads it.

    Examples
    --------
    >>> told(1), told(1200)
    ('1 point', '1,200 points')
    """
    return f"{n:,} point" if n == 1 else f"{n:,} points"


def absent_ids(collection: ImageCollection, ids: list[PointId]) -> list[PointId]:
    """Return those of `ids` that the collection does not hold."""
    there = set(collection.store.retrieve(collection.name, ids).ids)
    return [point for point in ids if point not in there]


@dataclass(frozen=True)
class BackfillSummary:
    """What a backfill or a recomputation did.

    Parameters
    ----------
    collection, source, vector : str
    projected, skipped, unprojectable : int
        Points that got the vector; that had it and were left alone; that cannot have it: their
        source vector is missing, zero or not finite.
    failures : list of dict
        "item", "stage" and "reason" of each that cannot; the first 10,000.
    seconds, reindex_seconds : float
        Until all was written; until the index was rebuilt after that.
    """

    collection: str
    source: str
    vector: str
    projected: int
    skipped: int
    unprojectable: int
    failures: list[dict[str, str]]
    seconds: float
    reindex_seconds: float = 0.0

    @property
    def sentence(self) -> str:
        """What a person needs to know."""
        rest = f"{told(self.unprojectable)} cannot be projected"
        if not self.projected:
            return f"nothing to do, {rest}"
        return f"{told(self.projected)} of {self.collection!r} got {self.vector!r}, {rest}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "sentence": self.sentence}


@dataclass(frozen=True)
class CopySummary:
    """What a copy into a new collection did.

    Parameters
    ----------
    collection, new_collection, source, vector : str
        `source` is the name in the new collection.
    copied, projected, skipped, unprojectable : int
        Points written; those of them (or found there without it) that got the vector; that had it
        when this run began; that cannot have it.
    compared : int
        Points of the seeded sample, all equal in both collections.
    only_in_new : int
        Points of the new collection that the old one lacks: deleted there meanwhile, or written
        to the new one alone. They are left as they are.
    aliases : list of str
        Those that point at the new collection since this run.
    failures : list of dict
        "item", "stage" and "reason"; the first 10,000.
    seconds, reindex_seconds : float
    """

    collection: str
    new_collection: str
    source: str
    vector: str
    copied: int
    projected: int
    skipped: int
    unprojectable: int
    compared: int
    only_in_new: int
    aliases: list[str]
    failures: list[dict[str, str]]
    seconds: float
    reindex_seconds: float = 0.0

    @property
    def sentence(self) -> str:
        """What a person needs to know."""
        done = f"{told(self.copied)} copied, {self.projected:,} projected"
        if not (self.copied or self.projected):
            done = "nothing to do"
        parts = [f"{done}, {told(self.unprojectable)} cannot be projected"]
        if self.only_in_new:
            parts.append(
                f"{self.new_collection!r} holds {told(self.only_in_new)} that "
                f"{self.collection!r} lacks: deleted there meanwhile, or written to the new one "
                f"alone; nothing was deleted here"
            )
        if self.aliases:
            moved = ", ".join(repr(alias) for alias in self.aliases)
            parts.append(f"{moved} now means {self.new_collection!r}")
        elif self.copied:
            parts.append(
                f"no alias was switched: give clients the new name {self.new_collection!r} (an "
                f"alias cannot take the name of the collection {self.collection!r})"
            )
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "sentence": self.sentence}


MOST_PASSES = 10
"""A live writer adds points while a pass goes on; each pass takes up what the last one missed."""


@dataclass(frozen=True)
class Job:
    """What is projected, and how fast."""

    collection: ImageCollection
    projection: VectorMap
    source: str
    vector: str
    batch_size: int = 1000
    """Points a page."""
    throttle: float | None = None
    """Most points a second."""
    run: Run = field(default_factory=Run)


class Projecting:
    """Projects points page by page, whether they have the vector or not."""

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
