"""The projected vector for points that exist, from their stored vectors."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from intramodal.errors import InputError, ManifestMismatchError, StoreError
from intramodal.progress import progress
from intramodal.projection.artifact import Projection
from intramodal.runs import NullRun, Run
from intramodal.store.base import Filter, Page
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import encoders_agree

MOST_PASSES = 10
"""A live writer adds points while a pass goes on; each pass takes up what the last one missed."""


@dataclass(frozen=True)
class BackfillPlan:
    """What a backfill would do.

    Parameters
    ----------
    n_points, n_missing, n_unprojectable : int
        Points of the collection; those that lack the vector and can get it; those that lack the
        source vector.
    bytes_added : int
        float32 vectors of the missing points, without the index.
    """

    collection: str
    source: str
    vector: str
    dim: int
    n_points: int
    n_missing: int
    n_unprojectable: int
    bytes_added: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class BackfillSummary:
    """What a backfill did.

    Parameters
    ----------
    written, skipped, unprojectable : int
        Points that got the vector; that had it; that lack the source vector or hold zeros there.
    seconds : float
    """

    collection: str
    source: str
    vector: str
    written: int
    skipped: int
    unprojectable: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def plan_backfill(
    collection: ImageCollection,
    projection: Projection,
    *,
    vector: str | None = None,
    source: str = "raw",
) -> BackfillPlan:
    """Return what `backfill` would do, with the same refusals, changing nothing."""
    vector = vector or projection.default_vector
    check_projectable(collection, projection, source, vector)
    has_vector = vector in collection.info().vectors
    n_points = collection.count()
    n_source = collection.count(Filter(has_vector=source))
    missing = Filter(has_vector=source, lacks_vector=vector if has_vector else None)
    n_missing = collection.count(missing)
    return BackfillPlan(
        collection=collection.name,
        source=source,
        vector=vector,
        dim=projection.dim_out,
        n_points=n_points,
        n_missing=n_missing,
        n_unprojectable=n_points - n_source,
        bytes_added=n_missing * projection.dim_out * 4,
    )


def backfill(
    collection: ImageCollection,
    projection: Projection,
    *,
    vector: str | None = None,
    source: str = "raw",
    batch_size: int = 1000,
    throttle: float | None = None,
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
        Name of the stored vector that is projected; ``""`` for an unnamed one.
    batch_size : int
        Points a request.
    throttle : float, optional
        Most points a second.
    run : Run, optional
        Takes the failures and figures.

    Raises
    ------
    ManifestMismatchError
        If the projection was fitted for another encoder, or the name is taken by other vectors.
    InputError
        If the source vector has another length.
    """
    started = time.perf_counter()
    vector = vector or projection.default_vector
    origin = check_projectable(collection, projection, source, vector)
    collection.add_vector(vector, projection.dim_out, origin)
    skipped = collection.count(Filter(has_vector=vector))
    filling = _Filling(collection, projection, source, vector, throttle, run or NullRun())
    filling.fill(batch_size)
    collection.finish_vector(vector)
    complete = collection.count(Filter(has_vector=vector))
    return BackfillSummary(
        collection=collection.name,
        source=source,
        vector=vector,
        written=filling.n_written,
        skipped=skipped,
        unprojectable=collection.count() - complete,
        seconds=round(time.perf_counter() - started, 3),
    )


def check_projectable(
    collection: ImageCollection, projection: Projection, source: str, vector: str
) -> VectorOrigin:
    """Return the origin the new vector will have; raises unless everything belongs together."""
    if vector == source:
        raise InputError(
            f"{vector!r} cannot be projected into itself; name another vector with --to"
        )
    size = collection.vector_spec(source).size
    known = collection.origin(source)
    check_fitted_for(projection, known)
    if size != projection.dim_in:
        raise InputError(
            f"{source!r} of {collection.name!r} has {size} dimensions, the projection takes "
            f"{projection.dim_in}; fit one for this model"
        )
    origin = projected_origin(projection, known, source)
    collection.manifest.check(vector, origin)
    return origin


def check_fitted_for(projection: Projection, origin: VectorOrigin) -> None:
    """Raise `ManifestMismatchError` if the projection was fitted for another encoder."""
    fitted_for = (projection.encoder, projection.encoder_fingerprint)
    if not encoders_agree(fitted_for, (origin.encoder, origin.encoder_fingerprint)):
        raise ManifestMismatchError(
            f"the projection was fitted for {projection.encoder} "
            f"({projection.encoder_fingerprint[:12]}), the vectors were made by {origin}; "
            f"fit one for this model"
        )


def projected_origin(projection: Projection, origin: VectorOrigin, source: str) -> VectorOrigin:
    """Return the origin of a vector projected from vectors of the given origin."""
    return VectorOrigin(
        origin.encoder,
        origin.encoder_fingerprint,
        precision=origin.precision,
        projection=projection.fingerprint,
        source=source,
        method=projection.method,
    )


class _Filling:
    """Passes over the points that lack the vector, until one finds none."""

    def __init__(
        self,
        collection: ImageCollection,
        projection: Projection,
        source: str,
        vector: str,
        throttle: float | None,
        run: Run,
    ) -> None:
        self._collection = collection
        self._projection = projection
        self._source, self._vector = source, vector
        self._throttle = throttle
        self._run = run
        self._missing = Filter(has_vector=source, lacks_vector=vector)
        self._refused: set[str] = set()
        self.n_written = 0

    def fill(self, batch_size: int) -> None:
        """Fill until only refused points are left; `StoreError` if writers never let it end."""
        for _ in range(MOST_PASSES):
            left = self._collection.count(self._missing) - len(self._refused)
            if left <= 0:
                return
            self._pass(left, batch_size)
        raise StoreError(
            f"after {MOST_PASSES} passes points of {self._collection.name!r} still lack "
            f"{self._vector!r}: they are written without it faster than they are filled; let the "
            f"writer write both vectors, then run the same command again"
        )

    def _pass(self, n_expected: int, batch_size: int) -> None:
        pages = self._collection.scroll(
            vectors=[self._source], where=self._missing, batch_size=batch_size
        )
        with progress(n_expected, "project", unit="point") as bar:
            for page in pages:
                started = time.monotonic()
                self._write(page)
                bar.update(len(page.ids))
                self._pause(len(page.ids), time.monotonic() - started)

    def _write(self, page: Page) -> None:
        X = page.vectors[self._source]
        usable = np.isfinite(X).all(axis=1) & X.any(axis=1)
        self._refuse([str(page.ids[row]) for row in np.flatnonzero(~usable)])
        rows = np.flatnonzero(usable)
        if len(rows):
            ids = [page.ids[row] for row in rows]
            projected = self._projection.apply(X[rows])
            collection = self._collection
            collection.store.update_vectors(collection.name, self._vector, ids, projected)
            self.n_written += len(rows)

    def _refuse(self, ids: list[str]) -> None:
        for point in ids:
            if point not in self._refused:
                self._refused.add(point)
                self._run.log_failure(point, "project", "the stored vector is zero")

    def _pause(self, n_points: int, elapsed_s: float) -> None:
        if self._throttle:
            time.sleep(max(0.0, n_points / self._throttle - elapsed_s))
