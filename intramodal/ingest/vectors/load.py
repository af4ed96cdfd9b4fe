"""Rows of ready vectors into points: what the collection lacks of them is written."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, NotFound
from intramodal.ingest.backfill.points import ReplicaLook, known_field, mapped, with_known
from intramodal.ingest.payload import changed_keys, index_payload, set_payloads, without_none
from intramodal.ingest.reader import Step, Tally
from intramodal.ingest.stale_codes import StaleCodes
from intramodal.ingest.vectors.ready import Block, ReadyVectors
from intramodal.ingest.workers import Threads
from intramodal.model_names import check_dimension
from intramodal.projection.stored_map import StoredMap
from intramodal.runs.records import FailureRecord
from intramodal.store.base import Page, VectorSpec
from intramodal.store.checks import check_spec
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.origins import check_fitted_for, projected_origin
from intramodal.types import Floats, Payload, PointId, unit_rows

# Largest difference of a component under which a stored vector is the given one: the engine
# normalises in float32, and a projection's last bits depend on BLAS and the batch. Vectors of
# other datatypes have lost too much to tell, and are written again.
_TOLERANCE = {"float32": 1e-6, "float16": 1e-3}
_PROJECTED_TOLERANCE = {"float32": 1e-5, "float16": 1e-3}

_MOST_TRIES = 3

Vectors = Mapping[str, tuple[int, VectorOrigin]]
"""Size and origin of each vector."""


@dataclass(frozen=True)
class Batch:
    """Points to bring a collection up to."""

    points: list[PointId]
    vectors: Mapping[str, Floats]
    """(n, d): float32, finite."""
    payloads: list[Payload]
    """None removes a key."""


def vectors_of(
    ready: ReadyVectors,
    origin: VectorOrigin,
    vector: str,
    projection: StoredMap | None,
    *,
    filled: str | None = None,
) -> dict[str, tuple[int, VectorOrigin]]:
    """Return size and origin of the vectors an ingest writes, the rows' own first.

    `filled` is the projection's, by default under the projection's own name. Raises for a wrong
    projection, and for a known model of another dimension.
    """
    if not origin.projection:
        check_dimension(origin.encoder, str(ready.matrix.file), ready.matrix.dim)
    vectors = {vector: (ready.matrix.dim, origin)}
    if projection is None:
        return vectors
    check_fitted_for(projection, origin)
    if projection.dim_in != ready.matrix.dim:
        raise InputError(
            f"{ready.matrix.file} has {ready.matrix.dim} dimensions, the projection takes "
            f"{projection.dim_in}; fit one for this model"
        )
    filled = projection.default_vector if filled is None else filled
    if filled == vector:
        raise InputError(
            f"{vector!r} is the projected vector's own name; write the given ones to another"
        )
    projected = projected_origin(projection, origin, vector)
    return {**vectors, filled: (projection.dim_out, projected)}


def check_vectors(vectors: Vectors) -> None:
    """Raise `InputError` for a name or a size that no store takes."""
    for name, (size, _) in vectors.items():
        check_spec(name, VectorSpec(size))


def check_target(collection: ImageCollection, vector: str, vectors: Vectors) -> bool:
    """Return whether `vector` must be added first; raise unless the collection takes them all."""
    is_new = vector not in collection.vectors
    for name, (size, origin) in vectors.items():
        if name == vector and is_new:
            collection.manifest.check(name, origin)
        else:
            collection.require(name, origin, size)
    made_of_it = sorted(v for v, o in collection.manifest.vectors.items() if o.source == vector)
    if made_of_it and len(vectors) == 1:
        raise InputError(
            f"collection {collection.name!r} has the projected vector {made_of_it[0]!r} and new "
            f"points would lack it; give `projection`, the one it was made with"
        )
    return is_new


def bring_up(
    collection: ImageCollection,
    batch: Batch,
    specs: Mapping[str, VectorSpec],
    replicas: ReplicaLook,
    stale: StaleCodes,
    projection: StoredMap | None = None,
    filled: str | None = None,
) -> Tally:
    """Write what the collection lacks of a batch, and nothing else.

    New points are written whole, in one upsert. Of stored ones only the vectors and payload keys
    that differ are set: other vectors and keys stay as they are.
    """
    for _ in range(_MOST_TRIES - 1):
        try:
            return _bring_up(collection, batch, specs, replicas, stale, projection, filled)
        except NotFound:  # a point was deleted since it was looked up: it is a new one now
            continue
    return _bring_up(collection, batch, specs, replicas, stale, projection, filled)


def _bring_up(
    collection: ImageCollection,
    batch: Batch,
    specs: Mapping[str, VectorSpec],
    replicas: ReplicaLook,
    stale: StaleCodes,
    projection: StoredMap | None,
    filled: str | None,
) -> Tally:
    store, name = collection.store, collection.name
    page = store.retrieve(name, batch.points, vectors=list(batch.vectors), payload=True)
    places = {point: place for place, point in enumerate(batch.points)}
    rows = np.array([places.pop(point) for point in page.ids], dtype=np.intp)
    _add(collection, batch, list(places.values()))
    if not len(rows):
        return Tally(written=len(batch.points), points=batch.points)
    batch = _with_stored_labels(batch, page, rows, projection, filled)
    differs = _differing(batch, page, rows, specs)
    for vector, is_other in differs.items():
        behind = replicas.lacking(vector, page.ids)
        is_other |= np.array([point in behind for point in page.ids], dtype=bool)
        changed = rows[is_other]
        if len(changed):
            points = [batch.points[row] for row in changed]
            store.update_vectors(name, vector, points, batch.vectors[vector][changed])
    relabelled = _relabel(collection, batch, page, rows, stale)
    rewritten = np.logical_or.reduce(list(differs.values()))
    return Tally(
        written=len(batch.points) - len(rows) + int(rewritten.sum()),
        skipped=int((~rewritten & ~relabelled).sum()),
        updated=int((~rewritten & relabelled).sum()),
        points=[
            *(batch.points[place] for place in places.values()),
            *(page.ids[row] for row in np.flatnonzero(rewritten)),
        ],
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


def _with_stored_labels(
    batch: Batch,
    page: Page,
    rows: NDArray[np.intp],
    projection: StoredMap | None,
    filled: str | None,
) -> Batch:
    """Return a batch whose codes are certain of labels that only the stored payload knows, too."""
    if projection is None or filled is None or known_field(projection) is None:
        return batch
    pairs = zip(rows, page.payloads, strict=True)
    wholes = [{**known, **batch.payloads[row]} for row, known in pairs]
    codes = batch.vectors[filled].copy()
    codes[rows] = with_known(projection, codes[rows], wholes)
    return replace(batch, vectors={**batch.vectors, filled: codes})


def _relabel(
    collection: ImageCollection,
    batch: Batch,
    page: Page,
    rows: NDArray[np.intp],
    stale: StaleCodes,
) -> NDArray[np.bool_]:
    """Set the payload keys that differ; returns of which of the stored points."""
    pairs = zip(rows, page.payloads, strict=True)
    changes = [changed_keys(batch.payloads[row], known) for row, known in pairs]
    stale.before(changes)
    set_payloads(collection, page.ids, changes)
    return np.array([bool(change) for change in changes], dtype=bool)


@dataclass
class RowReader:
    """Rows of ready vectors as steps, one a block; each write looks up what is stored of it."""

    ready: ReadyVectors
    collection: ImageCollection
    vector: str
    filled: str | None
    """Vector of the projection."""
    projection: StoredMap | None
    batch_size: int
    stale: StaleCodes
    """Gets the labels that change."""

    def steps(self, storing: Threads) -> Generator[Step, None, None]:
        """Yield a step for each block."""
        specs, replicas = self.collection.vectors, ReplicaLook(self.collection)
        for number, block in enumerate(self.ready.blocks(self.batch_size)):
            if number == 0:
                index_payload(self.collection, block.payloads)
            batch, failures = self._usable(block)
            how = (specs, replicas, self.stale, self.projection, self.filled)
            write = partial(bring_up, self.collection, batch, *how)
            writes = [write] if batch.points else []
            yield Step(len(block.names), Tally(failures=failures), writes)

    def rest(self) -> Iterator[Step]:
        """Yield nothing: every step writes its own rows."""
        return iter(())

    def _usable(self, block: Block) -> tuple[Batch, list[FailureRecord]]:
        """Return what can be stored of a block, and why the rest cannot."""
        X = self._storable(block.X)
        problems = {**_bad_rows(X), **block.problems}
        failures = [
            FailureRecord(block.names[place], "read", problems[place])
            for place in sorted(problems)
        ]
        failures += [
            FailureRecord(block.names[place], "metadata", reason)
            for place, reason in block.left_out.items()
            if place not in problems
        ]
        points, payloads = block.points, block.payloads
        if problems:
            rows = [place for place in range(len(points)) if place not in problems]
            X = X[rows]
            points = [points[row] for row in rows]
            payloads = [payloads[row] for row in rows]
        vectors = {self.vector: X}
        if self.projection is not None and self.filled is not None and points:
            vectors[self.filled] = mapped(self.projection, X, payloads)
        return Batch(points, vectors, payloads), failures

    def _storable(self, X: Floats) -> Floats:
        """Return rows (n, d) as they are written: unit ones of any length for a cosine vector."""
        if X.dtype == np.float32:
            return X
        if self.collection.vectors[self.vector].distance == "Cosine":
            return unit_rows(X)
        with np.errstate(over="ignore"):  # listed as not finite
            return X.astype(np.float32)


def _bad_rows(X: Floats) -> dict[int, str]:
    # One number a row tells: it is not finite if a component is not, and zero if all are.
    sizes = np.abs(X).max(axis=1)
    bad = {int(row): "the vector is zero" for row in np.flatnonzero(sizes == 0)}
    for row in np.flatnonzero(~np.isfinite(sizes)):
        bad[int(row)] = "the vector is missing, of another length, or not finite"
    return bad
