"""Pictures into a collection: decode, encode and write, all at the same time."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from intramodal.errors import InputError
from intramodal.ingest.backfill.points import project_rows
from intramodal.ingest.failures import Failures
from intramodal.ingest.lookup import Seen, count_dataset, ensure_indexes, find_gone, look_up
from intramodal.ingest.lookup import prune as prune_points
from intramodal.ingest.outcomes import (
    HASH,
    Encodable,
    Outcome,
    Relabelled,
    Stored,
    Unprojected,
    prepare,
)
from intramodal.ingest.payload import by_payload
from intramodal.ingest.sources.base import is_text, spelled, unreadable
from intramodal.ingest.workers import Threads, counted
from intramodal.progress import progress
from intramodal.projection.projection import Projection
from intramodal.runs.records import FailureRecord
from intramodal.runs.run import Run
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.origins import check_fitted_for, projected_origin
from intramodal.types import Encoder, Floats, ImageRecord, Payload, PointId, point_id

MOST_WORKERS = 16

# The first forward pass allocates, and on a GPU compiles: it says nothing about the others.
_MEASURED_BATCH = 2


def workers_for(decode_s: float, forward_s: float) -> int:
    """Return how many threads keep up with the encoder.

    Parameters
    ----------
    decode_s, forward_s : float
        Seconds that reading and decoding a batch takes in one thread, and encoding it.

    Returns
    -------
    int
        One for every forward pass that decoding would fill; at most one a core and
        `MOST_WORKERS`. At least one: what decoding costs is hidden, and a file that never comes
        is given up after a while.
    """
    most = min(MOST_WORKERS, os.cpu_count() or 1)
    return most if decode_s >= most * forward_s else max(1, math.ceil(decode_s / forward_s))


class Pace:
    """Measures the second batch, and sets the number of threads by it.

    Parameters
    ----------
    decoding : Threads
    is_fixed : bool
        Whether the number of threads is the caller's, and stays.
    """

    def __init__(self, decoding: Threads, *, is_fixed: bool) -> None:
        self._decoding = decoding
        self._n_left = 0 if is_fixed else _MEASURED_BATCH

    def encoded(self, batch: Sequence[Encodable], forward_s: float) -> None:
        """Take note of a batch and of what its forward pass took."""
        self._n_left -= 1
        if self._n_left == 0:
            self._decoding.grow(workers_for(sum(one.seconds for one in batch), forward_s))


RAW = "raw"
"""Name of the vector that holds the encoder's output."""


@dataclass(frozen=True)
class Plan:
    """Where to, with what, and how.

    Parameters
    ----------
    collection : ImageCollection
    encoder : Encoder
    projection : Projection or None
    dataset : str
        Namespace of the ids.
    batch_size : int
    """

    collection: ImageCollection
    encoder: Encoder
    projection: Projection | None
    dataset: str
    batch_size: int

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors that are written, in one upsert."""
        return (RAW, self.projection.default_vector) if self.projection else (RAW,)

    def check(self) -> None:
        """Raise unless the collection takes these vectors under these names.

        Raises
        ------
        ManifestMismatchError
            If a vector is absent or was made by another model, preprocessing or projection.
        InputError
            If the collection has projected vectors which the new points would lack, or a
            number or name cannot be used.
        """
        check_dataset(self.dataset)
        if self.batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {self.batch_size}")
        origin = encoder_origin(self.encoder)
        self.collection.require(RAW, origin, self.encoder.dim)
        check_projection(self.collection, origin, self.projection)


def encoder_origin(encoder: Encoder) -> VectorOrigin:
    """Return the origin of an encoder's own output."""
    return VectorOrigin(encoder.name, encoder.fingerprint, precision=encoder.precision)


def check_dataset(dataset: str) -> None:
    """Raise `InputError` for names under which two pictures could get one id."""
    if not dataset or "/" in dataset:
        raise InputError(
            f"a data set cannot be named {dataset!r}: give at least one character and no slash, "
            f"which separates it from the path within the id"
        )


def check_projection(
    collection: ImageCollection, raw: VectorOrigin, projection: Projection | None
) -> None:
    """Raise unless new points would have the projected vectors that the others have."""
    if projection is not None:
        check_fitted_for(projection, raw)
        origin = projected_origin(projection, raw, RAW)
        collection.require(projection.default_vector, origin, projection.dim_out)
        return
    projected = sorted(v for v, origin in collection.manifest.vectors.items() if origin.projection)
    if projected:
        raise InputError(
            f"collection {collection.name!r} has the projected vector {projected[0]!r} and new "
            f"pictures would lack it; give --projection FILE, the one it was made with"
        )


T = TypeVar("T")

_LOOKED_UP_AT_ONCE = 256

Admitted = tuple[ImageRecord, str]
"""A picture and the id of its point."""

LookedUp = tuple[list[Admitted], dict[PointId, Stored]]


class Reading:
    """Reads and decodes in threads, ahead of whoever takes the outcomes.

    Parameters
    ----------
    plan : Plan
    seen : Seen
        Gets the ids of all pictures.
    decoding, storing : Threads
    """

    def __init__(self, plan: Plan, seen: Seen, decoding: Threads, storing: Threads) -> None:
        self._plan = plan
        self._seen = seen
        self._decoding = decoding
        self._storing = storing

    def outcomes(self, source: Iterable[ImageRecord]) -> Iterator[Outcome]:
        """Yield one outcome a picture, in the order of the source."""
        # While one batch is encoded, the next one is decoded.
        return self._decoding.in_order(self._prepared(source), ahead=self._plan.batch_size)

    def _prepared(self, source: Iterable[ImageRecord]) -> Iterator[Future[Outcome]]:
        plan = self._plan
        given: dict[str, Any] = {
            "dataset": plan.dataset,
            "encoder": plan.encoder,
            "projected": plan.projection and plan.projection.default_vector,
        }
        for chunk, stored in self._storing.in_order(self._looked_up(source), ahead=0):
            for record, point in chunk:
                yield self._decoding.submit(prepare, record, point, stored.get(point), **given)

    def _looked_up(self, source: Iterable[ImageRecord]) -> Iterator[Future[LookedUp]]:
        is_first = True
        for chunk in _chunks(self._admitted(source), _LOOKED_UP_AT_ONCE):
            yield self._storing.submit(self._look_up, chunk, is_first)
            is_first = False

    def _look_up(self, chunk: list[Admitted], is_first: bool) -> LookedUp:
        plan = self._plan
        if is_first:
            ensure_indexes(plan.collection, [record for record, _ in chunk])
        return chunk, look_up(plan.collection, plan.vectors, [point for _, point in chunk])

    def _admitted(self, source: Iterable[ImageRecord]) -> Iterator[Admitted]:
        for given in source:
            record = given
            if not is_text(record.key):
                record = unreadable(spelled(record.key), "the key is not UTF-8")
            point = point_id(self._plan.dataset, record.key)
            if not self._seen.add(point):
                twice = unreadable(record.key, "occurs twice in the source; give it once")
                record = replace(record, read=twice.read)
            yield record, point


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


_AT_ONCE = 256
"""Stored pictures that are relabelled or projected in one go."""


@dataclass(frozen=True)
class Wrote:
    """What a write did."""

    n_written: int = 0
    n_projected: int = 0
    failures: list[FailureRecord] = field(default_factory=list)


class Writing:
    """Takes outcomes and brings the collection up to them.

    Parameters
    ----------
    plan : Plan
    failures : Failures
    storing : Threads
        Each writes a batch of its own: no two batches hold the same point.
    pace : Pace
        Is told what the forward passes took.
    on_done : callable
        Is told how many further pictures are done with.

    Attributes
    ----------
    n_written, n_skipped, n_updated, n_projected : int
        Pictures encoded; left as they are; given other payload only; projected from their stored
        vector.
    """

    def __init__(
        self,
        plan: Plan,
        failures: Failures,
        storing: Threads,
        pace: Pace,
        on_done: Callable[[int], object],
    ) -> None:
        self.n_written = self.n_skipped = self.n_updated = self.n_projected = 0
        self._plan = plan
        self._failures = failures
        self._storing = storing
        self._pace = pace
        self._on_done = on_done
        self._batch: list[Encodable] = []
        self._relabelled: list[Relabelled] = []
        self._unprojected: list[Unprojected] = []
        self._writes: deque[Future[Wrote]] = deque()

    def take(self, outcome: Outcome) -> None:
        """Do what the outcome asks for, sooner or later.

        Raises
        ------
        InputError
            If more pictures failed than are allowed; all that was encoded is written then.
        """
        if isinstance(outcome, Encodable):
            self._batch.append(outcome)
            if len(self._batch) == self._plan.batch_size:
                self._encode()
            return
        self._on_done(1)
        if isinstance(outcome, FailureRecord):
            self._fail(outcome)
        elif isinstance(outcome, Relabelled):
            self._relabelled.append(outcome)
            self.n_updated += 1
        elif isinstance(outcome, Unprojected):
            self._unprojected.append(outcome)
        else:
            self.n_skipped += 1
        if max(len(self._relabelled), len(self._unprojected)) == _AT_ONCE:
            self._send_stored()

    def finish(self) -> None:
        """Encode and write what is left, and wait until all is written."""
        self._encode()
        self._send_stored()
        self._wait_for_writes(0)

    def _encode(self) -> None:
        batch, self._batch = self._batch, []
        if not batch:
            return
        started = time.perf_counter()
        X = self._plan.encoder.encode_pixels(np.stack([one.pixels for one in batch]))
        self._pace.encoded(batch, time.perf_counter() - started)
        usable = np.isfinite(X).all(axis=1) & X.any(axis=1)
        self._on_done(len(batch))
        self._write([batch[row] for row in np.flatnonzero(usable)], X[usable])
        for row in np.flatnonzero(~usable):
            reason = "the model gives zeros, NaN or infinity for this picture"
            self._fail(FailureRecord(batch[row].key, "encode", reason))

    def _write(self, batch: list[Encodable], X: Floats) -> None:
        for is_known, write in ((False, _add), (True, _renew)):
            rows = [row for row, one in enumerate(batch) if one.is_known is is_known]
            if rows:
                some = [batch[row] for row in rows]
                self._send(write, self._plan.collection, some, self._vectors(X[rows]))

    def _vectors(self, X: Floats) -> dict[str, Floats]:
        projection = self._plan.projection
        if projection is None:
            return {RAW: X}
        return {RAW: X, projection.default_vector: projection.apply(X)}

    def _send_stored(self) -> None:
        """Send what needs no encoder: pictures with other payload or without their projection."""
        collection, projection = self._plan.collection, self._plan.projection
        relabelled, self._relabelled = self._relabelled, []
        unprojected, self._unprojected = self._unprojected, []
        if relabelled:
            self._send(_relabel, collection, relabelled)
        if unprojected and projection is not None:
            self._send(_project, collection, projection, unprojected)

    def _send(self, write: Callable[..., Wrote], *arguments: Any) -> None:
        self._wait_for_writes(self._storing.n)
        self._writes.append(self._storing.submit(write, *arguments))

    def _wait_for_writes(self, n_left: int) -> None:
        """Wait until at most `n_left` writes are under way; an error of one is raised here."""
        while self._writes and (len(self._writes) > n_left or self._writes[0].done()):
            wrote = self._storing.result(self._writes.popleft())
            self.n_written += wrote.n_written
            self.n_projected += wrote.n_projected
            for failure in wrote.failures:
                self._fail(failure)

    def _fail(self, failure: FailureRecord) -> None:
        self._failures.add(failure)
        if self._failures.are_too_many():
            self._send_stored()
            self._wait_for_writes(0)
            raise self._failures.too_many()


# What the storing threads do.


def _add(
    collection: ImageCollection, batch: Sequence[Encodable], vectors: dict[str, Floats]
) -> Wrote:
    """Write new pictures, whole; a point that somebody has added meanwhile stays as it is.

    It counts as written: without our hash, the next run brings it up.
    """
    collection.insert([one.point for one in batch], vectors, [one.payload for one in batch])
    return Wrote(len(batch))


def _renew(
    collection: ImageCollection, batch: Sequence[Encodable], vectors: dict[str, Floats]
) -> Wrote:
    """Write the vectors and payload keys of known pictures; all else of their points stays.

    The hash goes first and comes last: after a kill in between, the picture is encoded again,
    whichever version of it is there by then. So it is where another ingest has set it meanwhile:
    nobody knows whose vectors are there.
    """
    store, name = collection.store, collection.name

    def write(rows: list[int]) -> None:
        points: list[PointId] = [batch[row].point for row in rows]
        store.set_payload(name, points, {HASH: None})
        for vector, X in vectors.items():
            store.update_vectors(name, vector, points, X[rows])
        hashes = store.retrieve(name, points, payload=[HASH])
        unclear = {i for i, found in zip(hashes.ids, hashes.payloads, strict=True) if found}
        payloads = [
            {**batch[row].payload, HASH: None}
            if batch[row].point in unclear
            else batch[row].payload
            for row in rows
        ]
        _set_payloads(collection, points, payloads)

    rows = set(collection.with_existing([one.point for one in batch], write))
    gone = [_deleted(one.key) for row, one in enumerate(batch) if row not in rows]
    return Wrote(len(rows), failures=gone)


def _relabel(collection: ImageCollection, batch: Sequence[Relabelled]) -> Wrote:
    """Set the payload keys that differ; of points that were deleted meanwhile nothing is left."""
    points: list[PointId] = [one.point for one in batch]

    def write(rows: list[int]) -> None:
        payloads = [batch[row].payload for row in rows]
        _set_payloads(collection, [points[row] for row in rows], payloads)

    collection.with_existing(points, write)
    return Wrote()


def _project(
    collection: ImageCollection, projection: Projection, batch: Sequence[Unprojected]
) -> Wrote:
    """Project stored vectors, as a backfill does, and set the payload keys that differ."""
    store, name, vector = collection.store, collection.name, projection.default_vector
    by_point: dict[PointId, Unprojected] = {one.point: one for one in batch}
    page = store.retrieve(name, list(by_point), vectors=[RAW])
    found = project_rows(projection, page.vectors[RAW], RAW)
    points = [page.ids[row] for row in found.rows]

    def write(rows: list[int]) -> None:
        there = [points[row] for row in rows]
        store.update_vectors(name, vector, there, found.Z[rows])
        _set_payloads(collection, there, [by_point[point].payload for point in there])

    projected = {points[row] for row in collection.with_existing(points, write)}
    refused = {page.ids[row]: why for row, why in found.refused.items()}
    failures = [FailureRecord(by_point[i].key, "project", why) for i, why in refused.items()]
    gone = by_point.keys() - projected - refused.keys()
    failures += [_deleted(one.key) for point, one in by_point.items() if point in gone]
    return Wrote(n_projected=len(projected), failures=failures)


def _set_payloads(
    collection: ImageCollection, points: Sequence[PointId], payloads: Sequence[Payload]
) -> None:
    for payload, some in by_payload(points, payloads):
        if payload:
            collection.store.set_payload(collection.name, some, payload)


def _deleted(key: str) -> FailureRecord:
    reason = "its point was deleted meanwhile; run the same command again to add it"
    return FailureRecord(key, "write", reason)


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestSummary:
    """What an ingest did.

    Parameters
    ----------
    collection : str
    written, skipped, updated, projected, failed, pruned : int
        Pictures encoded and written; left as they were; given other payload only; given only the
        projection of their stored vector; not readable; points deleted because their picture has
        left the source.
    failures : list of dict
        "item", "stage" and "reason" of each failure; the first 10,000.
    seconds : float
    """

    collection: str
    written: int
    skipped: int
    updated: int
    projected: int
    failed: int
    pruned: int
    failures: list[dict[str, str]]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def images_collection(
    store: Store,
    name: str,
    *,
    encoder: Encoder,
    projection: Projection | None = None,
    dataset: str | None = None,
    options: Mapping[str, int] | None = None,
) -> ImageCollection:
    """Open the collection of an encoder's images, or make it; with a projection, both vectors.

    Parameters
    ----------
    store : Store
    name : str
    encoder : Encoder
    projection : Projection, optional
    dataset : str, optional
        Namespace of the point ids; the collection's name by default.
    options : mapping, optional
        "shard_number", "replication_factor" and "write_consistency_factor" of a new collection.

    Raises
    ------
    ManifestMismatchError
        If its vectors were made by another model or projection.
    """
    raw = encoder_origin(encoder)
    vectors = {RAW: (encoder.dim, raw)}
    if projection is not None:
        check_fitted_for(projection, raw)
        origin = projected_origin(projection, raw, RAW)
        vectors[projection.default_vector] = (projection.dim_out, origin)
    return ImageCollection.ensure(store, name, vectors, dataset=dataset, options=options or {})


def ingest_images(  # noqa: PLR0913  a job has as many knobs as it has
    source: Iterable[ImageRecord],
    collection: ImageCollection,
    *,
    encoder: Encoder,
    projection: Projection | None = None,
    dataset: str | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    max_failures: int | None = None,
    prune: bool = False,
    yes: bool = False,
    run: Run | None = None,
) -> IngestSummary:
    """Bring a collection up to a source of pictures.

    A picture whose file is stored already, by the hash of its bytes, is not encoded again; if
    its payload has changed, that alone is written, and if it lacks the projected vector alone,
    that is made of the stored one. Of points that exist only these vectors and payload keys are
    set: other vectors and keys stay as they are. Killed at any moment, the same call resumes.

    Parameters
    ----------
    source : iterable of ImageRecord
        For example from `open_source`; iterated over once.
    collection : ImageCollection
        With the vector ``raw`` of this encoder and, with a projection, its vector.
    encoder : Encoder
    projection : Projection, optional
        Its vector is written with ``raw``; new pictures get both in one write.
    dataset : str, optional
        Namespace of the point ids; the collection's name by default.
    batch_size : int
        Pictures encoded and written at once.
    workers : int, optional
        Threads that read and decode; 0 does it between the batches. By default one, and after the
        second batch as many as keep up with the encoder; see `workers_for`.
    max_failures : int, optional
        Stop when more pictures have failed; by default never.
    prune : bool
        Delete the data set's points whose image has left the source. Nothing is deleted if the
        source may hold more than it yields, as with a folder that cannot be listed, or yields
        nothing. `plan_prune` lists the points without deleting them.
    yes : bool
        Delete them also where they are more than a tenth of the data set and more than 10 points.
    run : Run, optional
        Takes failures and figures, and who made the vectors.

    Raises
    ------
    ManifestMismatchError
        If the collection's vectors were made by another model, preprocessing or projection.
    InputError
        If a setting cannot be used, too many pictures have failed, or `prune` would delete more
        than it may without `yes`; in the last case all pictures were written.
    StoreError
        If the store fails for longer than its deadline.
    """
    started = time.perf_counter()
    run = run or Run()
    _log_identities(run, encoder, projection)
    if workers is not None and workers < 0:
        raise InputError(f"workers must be at least 0, got {workers}")
    name = collection.name if dataset is None else dataset
    plan = Plan(collection, encoder, projection, name, batch_size)
    plan.check()
    failures = Failures(run, max_failures)
    with closing(Seen()) as seen:
        n_before = count_dataset(collection, name) if prune else 0
        writing = _load(source, plan, failures, seen, workers)
        counts = {
            "written": writing.n_written,
            "skipped": writing.n_skipped,
            "updated": writing.n_updated,
            "projected": writing.n_projected,
            "failed": failures.n,
        }
        for figure, n in counts.items():  # they hold also where pruning is refused
            run.log_metric(figure, n)
        n_pruned = _pruned(source, plan, seen, n_before, yes=yes) if prune else 0
    run.log_metric("pruned", n_pruned)
    return IngestSummary(
        collection=collection.name,
        **counts,
        pruned=n_pruned,
        failures=failures.listed,
        seconds=round(time.perf_counter() - started, 3),
    )


def _log_identities(run: Run, encoder: Encoder, projection: Projection | None) -> None:
    """Record the encoder, the device and precision it ran with, and the projection."""
    facts = {**encoder.identity, "precision": encoder.precision, "device": encoder.device}
    run.log_fingerprint("encoder", encoder.name, encoder.fingerprint, facts)
    if projection is not None:
        log_projection(run, projection)


def log_projection(run: Run, projection: Projection) -> None:
    """Record a projection with how it was made."""
    run.log_fingerprint("projection", projection.method, projection.fingerprint, projection.recipe)


def _load(
    source: Iterable[ImageRecord],
    plan: Plan,
    failures: Failures,
    seen: Seen,
    workers: int | None,
) -> Writing:
    collection = plan.collection
    with (
        progress(None, "ingest", unit="img") as bar,
        counted(source, bar),
        Threads(collection.store.upload_streams(collection.name), "store") as storing,
        Threads(1 if workers is None else workers, "decode") as decoding,
    ):
        reading = Reading(plan, seen, decoding, storing)
        pace = Pace(decoding, is_fixed=workers is not None)
        writing = Writing(plan, failures, storing, pace, bar.update)
        try:
            for outcome in reading.outcomes(source):
                writing.take(outcome)
            writing.finish()
        finally:
            failures.flush()
        return writing


def _pruned(
    source: Iterable[ImageRecord], plan: Plan, seen: Seen, n_before: int, *, yes: bool
) -> int:
    collection = plan.collection
    found = find_gone(source, collection, plan.dataset, seen, n_before=n_before)
    if found.gap is not None:
        log.warning("nothing is pruned, as the source may hold more images: %s", found.gap)
        return 0
    return prune_points(collection, found, seen, yes=yes)
