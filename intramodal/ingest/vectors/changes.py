"""What a collection lacks of a batch of points: looked up, compared, written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import NotFound
from intramodal.ingest.payload import by_payload, changed_keys, without_none
from intramodal.store.base import Page, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, Payload, PointId, unit_rows

# Largest difference of a component under which a stored vector is the given one: the engine
# normalises in float32, and a projection's last bits depend on BLAS and the batch. Vectors of
# other datatypes have lost too much to tell, and are written again.
_TOLERANCE = {"float32": 1e-6, "float16": 1e-3}
_MOST_TRIES = 3
_PROJECTED_TOLERANCE = {"float32": 1e-5, "float16": 1e-3}


@dataclass(frozen=True)
class Batch:
    """Points to bring a collection up to.

    Parameters
    ----------
    points : list of str or int
    vectors : dict of str to ndarray of shape (n, d)
        float32, finite.
    payloads : list of dict
        None removes a key.
    """

    points: list[PointId]
    vectors: Mapping[str, Floats]
    payloads: list[Payload]


@dataclass(frozen=True)
class Tally:
    """How many points got vectors, were left alone, and got other payload only."""

    written: int = 0
    skipped: int = 0
    updated: int = 0

    def __add__(self, other: Tally) -> Tally:
        """Return both together."""
        return Tally(
            self.written + other.written,
            self.skipped + other.skipped,
            self.updated + other.updated,
        )


def bring_up(collection: ImageCollection, batch: Batch, specs: Mapping[str, VectorSpec]) -> Tally:
    """Write what the collection lacks of a batch, and nothing else.

    New points are written whole, in one upsert. Of stored ones only the vectors and payload keys
    that differ are set: other vectors and keys stay as they are.

    Parameters
    ----------
    collection : ImageCollection
    batch : Batch
    specs : dict of str to VectorSpec
        Definitions of the batch's vectors.

    Raises
    ------
    NotFound
        If a vector is absent, or points are deleted faster than they can be looked up.
    """
    for _ in range(_MOST_TRIES - 1):
        try:
            return _bring_up(collection, batch, specs)
        except NotFound:  # a point was deleted since it was looked up: it is a new one now
            continue
    return _bring_up(collection, batch, specs)


def _bring_up(collection: ImageCollection, batch: Batch, specs: Mapping[str, VectorSpec]) -> Tally:
    store, name = collection.store, collection.name
    page = store.retrieve(name, batch.points, vectors=list(batch.vectors), payload=True)
    places = {point: place for place, point in enumerate(batch.points)}
    rows = np.array([places.pop(point) for point in page.ids], dtype=np.intp)
    _add(collection, batch, list(places.values()))
    if not len(rows):
        return Tally(written=len(batch.points))
    differs = _differing(batch, page, rows, specs)
    for vector, is_other in differs.items():
        changed = rows[is_other]
        if len(changed):
            points = [batch.points[row] for row in changed]
            store.update_vectors(name, vector, points, batch.vectors[vector][changed])
    relabelled = _relabel(collection, batch, page, rows)
    rewritten = np.logical_or.reduce(list(differs.values()))
    return Tally(
        written=len(batch.points) - len(rows) + int(rewritten.sum()),
        skipped=int((~rewritten & ~relabelled).sum()),
        updated=int((~rewritten & relabelled).sum()),
    )


def _add(collection: ImageCollection, batch: Batch, rows: Sequence[int]) -> None:
    if not rows:
        return
    vectors = batch.vectors
    if len(rows) < len(batch.points):
        vectors = {vector: X[rows] for vector, X in vectors.items()}
    payloads = [without_none(batch.payloads[row]) for row in rows]
    collection.insert([batch.points[row] for row in rows], vectors, payloads)


def _differing(
    batch: Batch, page: Page, rows: NDArray[np.intp], specs: Mapping[str, VectorSpec]
) -> dict[str, NDArray[np.bool_]]:
    """Return for each vector which stored points have another one, or none."""
    is_projected = False  # the first is the model's own
    differs: dict[str, NDArray[np.bool_]] = {}
    for vector, X in batch.vectors.items():
        tolerances = _PROJECTED_TOLERANCE if is_projected else _TOLERANCE
        given = X[rows]
        expected = unit_rows(given) if specs[vector].distance == "Cosine" else given
        # NaN, where there is no vector, is never close.
        apart = np.abs(page.vectors[vector] - expected).max(axis=1)
        differs[vector] = ~(apart <= tolerances.get(specs[vector].datatype, -1.0))
        is_projected = True
    return differs


def _relabel(
    collection: ImageCollection, batch: Batch, page: Page, rows: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Set the payload keys that differ; returns of which of the stored points."""
    pairs = zip(rows, page.payloads, strict=True)
    changes = [changed_keys(batch.payloads[row], known) for row, known in pairs]
    relabelled = np.array([bool(change) for change in changes], dtype=bool)
    for payload, points in by_payload(page.ids, changes):
        if payload:
            collection.store.set_payload(collection.name, points, payload)
    return relabelled
