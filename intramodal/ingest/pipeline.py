"""Images, or ready vectors, into a collection: two readers of one pipeline."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from intramodal.errors import InputError
from intramodal.ingest.augmentation import AugmentedView
from intramodal.ingest.backfill.in_place import mark_vector, on_behind
from intramodal.ingest.backfill.points import (
    ReplicaQuestions,
    Replicas,
    VectorFill,
    log_projection,
)
from intramodal.ingest.failures import Failures
from intramodal.ingest.images import ImageReader, written_vectors
from intramodal.ingest.pixel_budget import PixelBudget, default_budget
from intramodal.ingest.prune import Seen, count_dataset, find_gone
from intramodal.ingest.prune import prune as prune_points
from intramodal.ingest.reader import Reader, Step, Tally
from intramodal.ingest.stale_codes import StaleCodes
from intramodal.ingest.vectors.load import RowReader, Vectors, check_target, vectors_of
from intramodal.ingest.vectors.ready import ReadyVectors
from intramodal.ingest.workers import Threads, counted
from intramodal.model_names import warn_of_custom_name
from intramodal.progress import progress
from intramodal.projection.stored_map import StoredMap
from intramodal.runs.run import Run
from intramodal.store.base import Filter, Store
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import ingested_vectors
from intramodal.store.manifest import VectorOrigin
from intramodal.store.own_name import under_own_name, writes_under_own_name
from intramodal.types import (
    Encoder,
    ImageRecord,
    PointId,
    declared_fingerprint,
    short_repr,
)

DEFAULT_BATCH = 1000

log = logging.getLogger(__name__)


@short_repr
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
    replicas : dict of str to Replicas
        In a cluster, for each vector what single replicas lack of the points that were written.
    notes : list of str
        What to do about that, and about stale codes.
    stale : dict of str to int
        For each vector of known labels that this ingest has no map for, how many of its codes
        hold a label that was changed: the next backfill with that map computes these anew.
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
    replicas: dict[str, Replicas] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    stale: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def images_collection(  # noqa: PLR0913  a job has as many knobs as it has
    store: Store,
    name: str,
    *,
    encoder: Encoder,
    projection: StoredMap | None = None,
    augment: bool = False,
    augment_seed: int = 0,
    dataset: str | None = None,
    options: Mapping[str, int] | None = None,
) -> ImageCollection:
    """Open the collection of an encoder's images, or make it; with a projection, both vectors.

    The vectors of augmented views are added where they are not there yet.

    Parameters
    ----------
    store : Store
    name : str
    encoder : Encoder
    projection : Projection or PosteriorMap, optional
    augment, augment_seed
        As in `ingest_images`.
    dataset : str, optional
        Namespace of the point ids; the collection's name by default.
    options : mapping, optional
        "shard_number", "replication_factor" and "write_consistency_factor" of a new collection.

    Raises
    ------
    ManifestMismatchError
        If its vectors were made by another model or projection.
    """
    view = _view(encoder, augment, augment_seed)
    vectors = written_vectors(encoder, projection, view)
    made = ImageCollection.create_unless_there(
        store, name, vectors, dataset=dataset, options=options or {}
    )
    if made is not None:
        return made
    found = ImageCollection.open(store, name)
    plain = written_vectors(encoder, projection, collection=found)
    vectors = written_vectors(encoder, projection, view, collection=found)
    for vector, (size, origin) in vectors.items():
        if vector in found.vectors or vector in plain:
            found.require(vector, origin, size)
            continue
        found.check_reusable(vector)
        found.add_vector(vector, size, origin)
    return found


def _budget(decode_mb: int | None) -> PixelBudget:
    if decode_mb is None:
        return PixelBudget(default_budget())
    if decode_mb < 1:
        raise InputError(f"decode_mb must be at least 1, got {decode_mb}")
    return PixelBudget(decode_mb * 2**20)


def _view(encoder: Encoder, augment: bool, seed: int) -> AugmentedView | None:
    return AugmentedView(encoder, seed) if augment else None


def vectors_collection(
    store: Store,
    name: str,
    vectors: Vectors,
    *,
    vector: str | None = None,
    dataset: str | None = None,
    options: Mapping[str, int] | None = None,
) -> ImageCollection:
    """Open the collection of ready vectors, or make it, or add the vector that it lacks.

    Parameters
    ----------
    store : Store
    name : str
    vectors : dict of str to (int, VectorOrigin)
        As `vectors_of` gives them.
    vector : str, optional
        The one that the rows are; by default the first.
    dataset : str, optional
        Namespace of the point ids; the collection's name by default.
    options : mapping, optional
        "shard_number", "replication_factor" and "write_consistency_factor" of a new collection.

    Raises
    ------
    ManifestMismatchError, InputError
        As `check_target`.
    """
    made = ImageCollection.create_unless_there(
        store, name, vectors, dataset=dataset, options=options or {}
    )
    if made is not None:
        return made
    known = ImageCollection.open(store, name)
    vector = next(iter(vectors)) if vector is None else vector
    if check_target(known, vector, vectors):
        known.check_reusable(vector)
        known.add_vector(vector, *vectors[vector])
    return known


def ingest_images(  # noqa: PLR0913  a job has as many knobs as it has
    source: Iterable[ImageRecord],
    collection: ImageCollection,
    *,
    encoder: Encoder,
    projection: StoredMap | None = None,
    augment: bool = False,
    augment_seed: int = 0,
    dataset: str | None = None,
    batch_size: int = 32,
    workers: int | None = None,
    decode_mb: int | None = None,
    text_images: bool = False,
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
        With the vector of this encoder, ``raw`` unless it was adopted under another name, and,
        with a projection, its vector.
    encoder : Encoder
    projection : Projection or PosteriorMap, optional
        Its vector is written with the encoder's; new pictures get both in one write.
    augment : bool
        Also encode one augmented view of each image (a random crop of half the area and more, and
        a flip), as few-shot papers do with shots, into ``raw_augmented`` and, with a projection,
        the projection's vector with that ending. A stored image without its view is encoded
        again, both ways.
    augment_seed : int
        With the id of its point it decides an image's view; another seed is another vector.
    dataset : str, optional
        Namespace of the point ids; the collection's name by default.
    batch_size : int
        Pictures encoded and written at once.
    workers : int, optional
        Threads that read and decode; 0 does it between the batches. By default one, and after the
        second batch as many as keep up with the encoder; see `workers_for`.
    decode_mb : int, optional
        Megabytes that decoded images may take in all threads together; a larger image is decoded
        alone. By default a quarter of what is free, between 256 and 2048.
    text_images : bool
        Also read formats that hold pixels as text: XPM, XBM and ASCII PNM.
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
    view = _view(encoder, augment, augment_seed)
    _log_identities(run, encoder, projection, view)
    name = collection.name if dataset is None else dataset  # of ids: an alias stays what it is
    collection = under_own_name(collection)
    written = written_vectors(encoder, projection, view, collection=collection)
    stale = StaleCodes(collection, written)
    with closing(Seen()) as seen:
        read = (source, collection, encoder, projection, name, batch_size, workers, seen)
        how: Any = {"budget": _budget(decode_mb), "text_images": text_images}
        reader = ImageReader(*read, stale=stale, view=view, **how)
        reader.check()
        failures = Failures(run, max_failures)
        n_before = count_dataset(collection, name) if prune else 0
        replicas = WrittenReplicas(
            *(collection, reader.own, reader.filled, projection, failures),
            all_have_it=True,
            views=reader.views,
        )
        n_streams = collection.store.upload_streams(collection.name)
        with (
            progress(None, f"ingest into {collection.name}", unit="images") as bar,
            counted(source, bar),
            Threads(n_streams, "store") as storing,
        ):
            tally = Pipeline(reader, storing, failures, replicas, bar).run()
        for figure in ("written", "skipped", "updated", "projected"):
            run.log_metric(figure, getattr(tally, figure))  # they hold also if pruning is refused
        run.log_metric("failed", failures.n)
        n_pruned = _pruned(reader, n_before, yes=yes) if prune else 0
    run.log_metric("pruned", n_pruned)
    found = replicas.settle()
    return _summary(collection, tally, failures, started, found, stale, n_pruned=n_pruned)


@writes_under_own_name
def ingest_vectors(  # noqa: PLR0913  a job has as many knobs as it has
    ready: ReadyVectors,
    collection: ImageCollection,
    *,
    vector: str | None = None,
    made_by: str | None = None,
    projection: StoredMap | None = None,
    batch_size: int = DEFAULT_BATCH,
    max_failures: int | None = None,
    run: Run | None = None,
) -> IngestSummary:
    """Bring a collection up to ready vectors.

    A row whose vector and payload are stored already is not written again. A stored vector is
    the row's where no component of the unit vectors differs by more than 1e-6 (1e-5 for the
    projected one, 1e-3 for float16); vectors of lossier datatypes are always written again.
    Killed at any moment, the same call goes on. Other vectors of the points, and payload keys
    that the rows do not name, stay as they are.

    Parameters
    ----------
    ready : ReadyVectors
    collection : ImageCollection
        With the vectors that `vectors_of` names.
    vector : str, optional
        Named vector of the rows; by default the encoder's own, as the collection says.
    made_by : str, optional
        The model that made them, for the record; by default as the collection says.
    projection : Projection or PosteriorMap, optional
        Its vector is written beside, in the same upsert.
    batch_size : int
        Rows read and written at once.
    max_failures : int, optional
        Stop when more rows have failed; by default never.
    run : Run, optional
        Takes failures and figures.

    Raises
    ------
    ManifestMismatchError
        If the collection's vectors were made by another model or projection.
    InputError
        If a setting cannot be used, or too many rows have failed.
    StoreError
        If the store fails for longer than its deadline.
    """
    started = time.perf_counter()
    run = run or Run()
    vector, filled = ingested_vectors(collection, projection, vector)
    known = collection.origin(vector)
    origin = known if made_by is None else VectorOrigin(made_by, declared_fingerprint(made_by))
    names = vectors_of(ready, origin, vector, projection, filled=filled)
    if made_by is not None:
        warn_of_custom_name(made_by)
    for name, (size, made) in names.items():
        collection.require(name, made, size)
    log_declared(run, origin.encoder)
    if projection is not None:
        log_projection(run, projection)
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if collection.store.is_embedded:
        written = {name: collection.vectors[name] for name in names}
        n_new = max(0, ready.matrix.n_rows - collection.count())
        collection.store.check_space(collection.name, written, n_new)
    failures = Failures(run, max_failures, "rows")
    stale = StaleCodes(collection, names)
    reader = RowReader(ready, collection, vector, filled, projection, batch_size, stale)
    replicas = WrittenReplicas(collection, vector, filled, projection, failures)
    with (
        progress(ready.matrix.n_rows, f"ingest into {collection.name}", unit="vectors") as bar,
        Threads(1, "store") as storing,
    ):
        tally = Pipeline(reader, storing, failures, replicas, bar).run()
    for figure in ("written", "skipped", "updated"):
        run.log_metric(figure, getattr(tally, figure))
    run.log_metric("failed", failures.n)
    return _summary(collection, tally, failures, started, replicas.settle(), stale)


def log_declared(run: Run, made_by: str) -> None:
    """Record the model that ready vectors are said to be made by."""
    run.log_fingerprint("encoder", made_by, declared_fingerprint(made_by), {"declared": True})


def _log_identities(
    run: Run, encoder: Encoder, projection: StoredMap | None, view: AugmentedView | None
) -> None:
    """Record the encoder, the device and precision it ran with, the projection and the views."""
    facts = {**encoder.identity, "precision": encoder.precision, "device": encoder.device}
    run.log_fingerprint("encoder", encoder.name, encoder.fingerprint, facts)
    if view is not None:
        run.log_fingerprint("encoder", view.name, view.fingerprint, view.identity)
    if projection is not None:
        log_projection(run, projection)


class WrittenReplicas:
    """Asks every replica for the vectors of the points that an ingest has written.

    What a replica lacks of the projected vector is projected again; what it lacks of the other
    one, the next ingest writes again (see `ReplicaLook`), as its numbers are gone here.

    Parameters
    ----------
    collection, vector, filled, projection, failures
        As the ingest has them; `vector` is the one that it is about, `filled` its projection's.
    all_have_it : bool
        Whether it is complete only if all points of the collection have it, not those of this
        ingest alone.
    views : sequence of str
        Vectors of augmented views, which are asked for likewise.
    """

    def __init__(
        self,
        collection: ImageCollection,
        vector: str,
        filled: str | None,
        projection: StoredMap | None,
        failures: Failures,
        *,
        all_have_it: bool = False,
        views: Sequence[str] = (),
    ) -> None:
        self._collection = collection
        self._vector = vector
        self._all_have_it = all_have_it
        self._views = tuple(views)
        self._questions = {v: ReplicaQuestions(collection, v) for v in (vector, *views)}
        if projection is not None and filled is not None:
            how = (DEFAULT_BATCH, None, failures)
            fill = VectorFill(collection, projection, vector, filled, *how)
            self._questions[filled] = fill.questions()

    def wrote(self, points: Sequence[PointId]) -> None:
        """Take note of points that were written; asks now and then."""
        for questions in self._questions.values():
            questions.wrote(points)

    def settle(self) -> tuple[dict[str, Replicas], list[str]]:
        """Ask for the rest, and say in the manifest what is complete; returns what is known."""
        found = {vector: questions.answer() for vector, questions in self._questions.items()}
        notes = []
        for vector, replicas in found.items():
            notes += [*replicas.sentences(vector), *on_behind(self._collection, vector, replicas)]
        for vector in (self._vector, *self._views):
            notes += self._finished(vector) if found[vector].has_all else []
        is_alone = not self._questions[self._vector].has_replicas
        return {} if is_alone else found, list(dict.fromkeys(notes))

    def _finished(self, vector: str) -> list[str]:
        """Mark a vector as complete if it was not, and is."""
        questions = ReplicaQuestions(self._collection, vector)
        if self._collection.origin(vector).is_complete:
            return []
        is_view = vector in self._views
        if is_view and self._is_lacked(vector):
            return []
        if self._all_have_it:
            if not is_view and not questions.has_replicas:
                return []  # nobody has asked, so nobody has found it incomplete
            questions.ask_all()
            if not questions.answer().has_all:
                return []
        return mark_vector(self._collection, vector, is_complete=True)

    def _is_lacked(self, vector: str) -> bool:
        """Return whether an image that was there before has no such vector yet."""
        where = Filter(has_vector=self._vector, lacks_vector=vector)
        return any(page.ids for page in self._collection.scroll(where=where))


class Pipeline:
    """Takes the steps of a reader, writes in threads while the next ones are read, and counts."""

    def __init__(
        self,
        reader: Reader,
        storing: Threads,
        failures: Failures,
        replicas: WrittenReplicas,
        bar: Any,
    ) -> None:
        self._reader = reader
        self._storing = storing
        self._failures = failures
        self._replicas = replicas
        self._bar = bar
        self._tally = Tally()

    def run(self) -> Tally:
        """Return what became of all; `InputError` once too many have failed.

        What was encoded until then is written first.
        """
        try:
            with closing(self._sent()) as sent:
                # As many writes as there are threads, and one that waits while a batch is encoded.
                for tally in self._storing.in_order(sent, ahead=1, is_eager=True):
                    self._count(tally)
        finally:
            self._failures.flush()
        if self._failures.error is not None:
            raise self._failures.error
        return self._tally

    def _sent(self) -> Generator[Future[Tally], None, None]:
        with closing(self._reader.steps(self._storing)) as steps:
            for step in steps:
                yield from self._taken(step)
                if self._failures.error is not None:
                    break
        for step in self._reader.rest():
            yield from self._taken(step)

    def _taken(self, step: Step) -> Iterator[Future[Tally]]:
        for write in step.writes:
            yield self._storing.submit(write)
        self._bar.update(step.n_items)
        self._count(step.tally)

    def _count(self, tally: Tally) -> None:
        self._tally += tally
        self._failures.add(*tally.failures)
        self._replicas.wrote(tally.points)


def _summary(
    collection: ImageCollection,
    tally: Tally,
    failures: Failures,
    started: float,
    settled: tuple[dict[str, Replicas], list[str]],
    stale: StaleCodes,
    *,
    n_pruned: int = 0,
) -> IngestSummary:
    (replicas, notes), (n_stale, on_stale) = settled, stale.settle()
    return IngestSummary(
        collection=collection.name,
        written=tally.written,
        skipped=tally.skipped,
        updated=tally.updated,
        projected=tally.projected,
        failed=failures.n,
        pruned=n_pruned,
        failures=failures.listed,
        seconds=round(time.perf_counter() - started, 3),
        replicas=replicas,
        notes=[*notes, *on_stale],
        stale=n_stale,
    )


def _pruned(reader: ImageReader, n_before: int, *, yes: bool) -> int:
    collection = reader.collection
    found = find_gone(reader.source, collection, reader.dataset, reader.seen, n_before=n_before)
    if found.gap is not None:
        log.warning("nothing is pruned, as the source may hold more images: %s", found.gap)
        return 0
    return prune_points(collection, found, reader.seen, yes=yes)
