"""Whether a copy holds what the original holds: counts, and a seeded sample of whole points."""

from __future__ import annotations

import time
from collections.abc import Iterator, Set

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import StoreError
from intramodal.ingest.backfill.copied import Copy
from intramodal.ingest.backfill.points import sample_ids, told
from intramodal.ingest.backfill.verify import deviations, storage_error
from intramodal.ingest.payload import is_same
from intramodal.store.base import Page
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, PointId

N_COMPARED = 200
"""Points of the sample."""

_LOOKS, _PAUSE_S = 5, 0.3
"""How often what differs is looked at before it counts, and the pause between: a second in all."""

_RENORMALIZED = 1e-6
"""A cosine store may divide a float32 row by its length once more, which is 1 up to rounding."""


def compare(
    copy: Copy, new: ImageCollection, uncopied: Set[PointId], seed: int
) -> tuple[int, int]:
    """Compare the collections, payload and vectors, the projected one with a recomputation.

    A writer to both collections is between its two writes now and then: what differs is looked
    at again before it counts.

    Parameters
    ----------
    copy : Copy
    new : ImageCollection
    uncopied : set of ids
        Points that the new collection cannot hold.
    seed : int
        Of the sample.

    Returns
    -------
    n_only_in_new, n_compared : int

    Raises
    ------
    StoreError
        If they differ in any of it.
    """
    n_only = _count_only_in_new(copy, new, uncopied)
    ids = [i for i in sample_ids(copy.collection, N_COMPARED, seed) if i not in uncopied]
    differing = _compared(copy, new, ids)
    for _ in range(_LOOKS - 1):
        if differing:
            time.sleep(_PAUSE_S)
            differing = _compared(copy, new, list(differing))
    if differing:
        point, what = next(iter(differing.items()))
        raise StoreError(
            f"point {point} of {new.name!r} differs from that of {copy.collection.name!r} in "
            f"{what} ({len(differing)} of {told(len(ids))} compared do): it was changed during "
            f"the copy; pause the writers or let them upsert to both, drop {new.name!r}, then run "
            f"the same command again"
        )
    return n_only, len(ids)


def _count_only_in_new(copy: Copy, new: ImageCollection, uncopied: Set[PointId]) -> int:
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE_S)
        n_only = new.count() - (copy.collection.count() - len(uncopied))
        if n_only >= 0:
            return n_only
    raise StoreError(
        f"{new.name!r} lacks {told(-n_only)} of {copy.collection.name!r}: they were written "
        f"meanwhile; pause the writers, then run the same command again"
    )


def _compared(copy: Copy, new: ImageCollection, ids: list[PointId]) -> dict[PointId, str]:
    """Return in what those of the points first differ that the old collection has."""
    store, names = new.store, copy.renamed
    old_page = store.retrieve(copy.collection.name, ids, vectors=list(names), payload=True)
    new_names = [*names.values(), copy.vector]
    new_page = store.retrieve(new.name, old_page.ids, vectors=new_names, payload=True)
    found: dict[PointId, str] = {}
    for point, what in _differences(copy, new, old_page, new_page):
        found.setdefault(point, what)
    return found


def _differences(
    copy: Copy, new: ImageCollection, old_page: Page, new_page: Page
) -> Iterator[tuple[PointId, str]]:
    if new_page.ids != old_page.ids:
        yield from ((i, "being there") for i in old_page.ids if i not in new_page.ids)
        return
    pairs = zip(old_page.ids, old_page.payloads, new_page.payloads, strict=True)
    yield from ((point, "its payload") for point, was, now in pairs if not is_same(was, now))
    specs = new.info().vectors
    for name, new_name in copy.renamed.items():
        tolerance = storage_error(specs[new_name]) + _RENORMALIZED
        differs = _differs(old_page.vectors[name], new_page.vectors[new_name], tolerance)
        yield from ((old_page.ids[row], f"the vector {name!r}") for row in np.flatnonzero(differs))
    X, stored = old_page.vectors[copy.source], new_page.vectors[copy.vector]
    pair = specs[copy.new_source], specs[copy.vector]
    rows, off, allowed = deviations(copy.projection, X, stored, pair)
    yield from ((old_page.ids[row], f"the vector {copy.vector!r}") for row in rows[off > allowed])


def _differs(was: Floats, now: Floats, tolerance: float) -> NDArray[np.bool_]:
    """Return which rows differ; one that is not finite was not copied and must be absent."""
    is_finite = np.isfinite(was).all(axis=1)
    largest = np.abs(was).max(axis=1, initial=0.0)
    is_off = ~(np.abs(was - now).max(axis=1, initial=0.0) <= tolerance * largest)
    return np.asarray(np.where(is_finite, is_off, np.isfinite(now).any(axis=1)))
