"""Whether a copy holds what the original holds: counts, and a seeded sample of whole points."""

from __future__ import annotations

from collections.abc import Iterator, Set

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import StoreError
from intramodal.ingest.backfill.copied import Copy
from intramodal.ingest.backfill.points import sample_ids, told
from intramodal.ingest.backfill.verify import deviations, storage_error
from intramodal.store.base import Page
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, PointId

N_COMPARED = 200
"""Points of the sample."""

_RENORMALIZED = 1e-6
"""A cosine store may divide a float32 row by its length once more, which is 1 up to rounding."""


def compare(
    copy: Copy, new: ImageCollection, uncopied: Set[PointId], seed: int
) -> tuple[int, int]:
    """Compare the collections, payload and vectors, the projected one with a recomputation.

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
    n_only = new.count() - (copy.collection.count() - len(uncopied))
    if n_only < 0:
        raise StoreError(
            f"{new.name!r} lacks {told(-n_only)} of {copy.collection.name!r}: they were "
            f"written meanwhile; pause the writers, then run the same command again"
        )
    ids = [i for i in sample_ids(copy.collection, N_COMPARED, seed) if i not in uncopied]
    store, names = new.store, copy.renamed
    old_page = store.retrieve(copy.collection.name, ids, vectors=list(names), payload=True)
    new_names = [*names.values(), copy.vector]
    new_page = store.retrieve(new.name, old_page.ids, vectors=new_names, payload=True)
    for point, what in _differences(copy, new, old_page, new_page):
        raise StoreError(
            f"point {point} of {new.name!r} differs from that of {copy.collection.name!r} in "
            f"{what}: it was changed during the copy; pause the writers, drop {new.name!r}, then "
            f"run the same command again"
        )
    return n_only, len(old_page.ids)


def _differences(
    copy: Copy, new: ImageCollection, old_page: Page, new_page: Page
) -> Iterator[tuple[PointId, str]]:
    if new_page.ids != old_page.ids:
        yield from ((i, "being there") for i in old_page.ids if i not in new_page.ids)
        return
    pairs = zip(old_page.ids, old_page.payloads, new_page.payloads, strict=True)
    yield from ((point, "its payload") for point, was, now in pairs if was != now)
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
