"""Whether the stored projections still are those of the stored vectors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.ingest.backfill.points import (
    in_points,
    known_field,
    payload_needed,
    project_rows,
    sample_ids,
)
from intramodal.progress import foretold, progress
from intramodal.projection.stored_map import StoredMap
from intramodal.store.base import Filter, Page, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import source_and_projection
from intramodal.store.origins import check_made_by
from intramodal.types import Floats, Payload, PointId, short_repr, unit_rows

ROUNDING = 1e-5
"""Allowed error of a component of z, for unit x. Measured against float64: 1.3e-7 with 512 to
2,048 terms in any order; the rest is for other machines. Divided by |z| for the unit vector."""

STORAGE_ERRORS = {"float32": 0.0, "float16": 1e-3, "turbo8": 1e-2, "turbo16": 1e-3}
"""Largest error of a component of a unit vector by the type it is stored as; others: 0.05.
Measured on 2,000 unit vectors of 8 to 512 dimensions: float16 2.8e-4, turbo16 2.2e-5, turbo8
5.2e-3 at most."""

_OTHER_STORAGE_ERROR = 0.05
_TURBO4_ERROR = 0.8
"""Times 1 / sqrt(dimensions). Of turbo8 the root mean square was 0.0074 / sqrt(d), the largest
error 5.8 times that, and a code of 4 bits is 16 times as coarse. It was not measured itself."""

_READ_AT_ONCE = 1000
_MOST_LISTED = 10_000
_OTHERS_SAMPLE, _OTHERS_AT_LEAST = 100, 0.05
"""Points that a backfill looks at among those that others have filled, and which part of them
tells of another projection."""


@short_repr
@dataclass(frozen=True)
class VerifySummary:
    """What a recomputed sample says.

    Parameters
    ----------
    collection, source, vector : str
    checked : int
        Points of the sample that have both vectors.
    stale : int
        Those whose stored vector is not the projection of their source vector.
    unverifiable : int
        Points of the sample whose source vector is missing, zero or not finite.
    stale_ids : list
        Ids of the stale ones; the first 10,000.
    largest_deviation : float
        Of a component of the stored unit vector.
    tolerance : float
        What rounding may make of it, for a projection of length one; a shorter one divides it.
    seed : int
    known_field : str or None
        Payload field whose labels the vector holds where they are known; None for most maps.
    """

    collection: str
    source: str
    vector: str
    checked: int
    stale: int
    unverifiable: int
    stale_ids: list[PointId]
    largest_deviation: float
    tolerance: float
    seed: int
    known_field: str | None = None

    @property
    def sentence(self) -> str:
        """What a person needs to know."""
        if not self.stale:
            return f"{in_points(self.checked)} recomputed, all agree"
        made_of = repr(self.source)
        if self.known_field is not None:
            made_of += f" or {self.known_field!r}"
        return (
            f"{self.stale:,} of {in_points(self.checked)} are stale: their "
            f"{made_of} has changed since {self.vector!r} was computed; recompute them"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "sentence": self.sentence}


def verify_vector(
    collection: ImageCollection,
    projection: StoredMap,
    *,
    n: int,
    vector: str | None = None,
    source: str | None = None,
    seed: int = 0,
) -> VerifySummary:
    """Recompute a seeded sample of `n` points that have the vector; writes nothing.

    Parameters
    ----------
    collection : ImageCollection
    projection : Projection or PosteriorMap
        The one that made the vector.
    n : int
        Points to check; all that have the vector if there are fewer.
    vector, source : str, optional
        As in `backfill`.
    seed : int

    Raises
    ------
    NotFound
        If the collection has no vector that this projection has made.
    """
    if n < 1:
        raise InputError(f"n must be at least 1, got {n}")
    source, vector = source_and_projection(collection, projection, source, vector)
    check_made_by(collection, projection, source, vector)
    ids = sample_ids(collection, n, seed, Filter(has_vector=vector))
    specs = collection.vector_spec(source), collection.vector_spec(vector)
    stale, n_checked, largest = _checked(collection, projection, source, vector, ids)
    return VerifySummary(
        collection=collection.name,
        source=source,
        vector=vector,
        checked=n_checked,
        stale=len(stale),
        unverifiable=len(ids) - n_checked,
        stale_ids=stale[:_MOST_LISTED],
        largest_deviation=largest,
        tolerance=projection.gain * (ROUNDING + storage_error(specs[0])) + storage_error(specs[1]),
        seed=seed,
        known_field=known_field(projection),
    )


def stale_ids(
    collection: ImageCollection, projection: StoredMap, source: str, vector: str
) -> Iterator[list[PointId]]:
    """Yield, page by page, which points hold what this map would not make of them now."""
    pages = collection.scroll(
        vectors=[source, vector],
        payload=payload_needed(projection),
        where=Filter(has_vector=vector),
    )
    for stale, _, _ in _looked_at(collection, projection, source, vector, pages):
        if stale:
            yield stale


def on_others(
    collection: ImageCollection, projection: StoredMap, source: str, vector: str, *, n_own: int
) -> list[str]:
    """Return what to do if others have written vectors that are not of this projection.

    A sample tells, and only where more points have the vector than the `n_own` that were written
    by this run. Some of `_OTHERS_AT_LEAST` are those of a writer of the source alone, and for
    `verify_vector` to find.
    """
    has_it = Filter(has_vector=vector)
    if collection.count(has_it) <= n_own:
        return []
    ids = sample_ids(collection, _OTHERS_SAMPLE, 0, has_it)
    stale, n_checked, _ = _checked(collection, projection, source, vector, ids)
    if len(stale) < max(1, _OTHERS_AT_LEAST * n_checked):
        return []
    return [
        f"{vector!r} is not called complete: {len(stale)} of {n_checked} points of a sample hold "
        f"vectors that this projection has not made of their {source!r} (those of another "
        f"projection, or of an earlier {source!r}); verify all, recompute those, then run "
        f"the same again"
    ]


def _checked(
    collection: ImageCollection,
    projection: StoredMap,
    source: str,
    vector: str,
    ids: list[PointId],
) -> tuple[list[PointId], int, float]:
    """Return which of some points are stale, how many could be checked, and what is most off."""
    stale: list[PointId] = []
    n_checked, largest = 0, 0.0
    parts = (ids[start : start + _READ_AT_ONCE] for start in range(0, len(ids), _READ_AT_ONCE))
    pages = (
        collection.store.retrieve(
            collection.name, part, vectors=[source, vector], payload=payload_needed(projection)
        )
        for part in parts
    )
    with progress(len(ids), f"verify {collection.name}", unit="points") as bar:
        read = foretold(pages, lambda page: len(page.ids), lambda: len(ids))
        for found in _looked_at(collection, projection, source, vector, read):
            stale += found[0]
            n_checked += found[1]
            largest = max(largest, found[2])
            bar.update(found[1])
    return stale, n_checked, largest


def _looked_at(
    collection: ImageCollection,
    projection: StoredMap,
    source: str,
    vector: str,
    pages: Iterable[Page],
) -> Iterator[tuple[list[PointId], int, float]]:
    """Yield for each page which points are stale, how many could be checked, what is most off."""
    specs = collection.vector_spec(source), collection.vector_spec(vector)
    for page in pages:
        X, Z = page.vectors[source], page.vectors[vector]
        rows, off, allowed = deviations(projection, X, Z, specs, page.payloads)
        stale = [page.ids[row] for row in rows[off > allowed]]
        yield stale, len(rows), float(off.max(initial=0.0))


def deviations(
    projection: StoredMap,
    X: Floats,
    stored: Floats,
    specs: tuple[VectorSpec, VectorSpec],
    payloads: Sequence[Payload] = (),
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Return the rows that can be mapped, how far they are off, and what rounding allows.

    Shapes: `X` (n, dim_in); `stored` (n, dim_out).
    """
    found = project_rows(projection, X, "", payloads)
    wanted, there = found.Z, stored[found.rows]
    lengths = np.ones(len(wanted))
    if projection.distance == "Cosine":
        lengths = np.minimum(np.linalg.norm(wanted.astype(np.float64), axis=1), 1.0)
        wanted, there = unit_rows(wanted), unit_rows(there)
    off = np.abs(there - wanted).max(axis=1, initial=0.0)
    off = np.where(np.isfinite(off), off, np.inf).astype(np.float64)
    source, vector = specs
    before = projection.gain * (ROUNDING + storage_error(source)) / lengths
    return found.rows, off, before + storage_error(vector)


def storage_error(spec: VectorSpec) -> float:
    """Return what storing a unit vector may change in a component."""
    if spec.datatype == "turbo4":
        return _TURBO4_ERROR / math.sqrt(spec.size)
    return STORAGE_ERRORS.get(spec.datatype, _OTHER_STORAGE_ERROR)
