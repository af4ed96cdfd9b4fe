"""Images into points: looked up, decoded, encoded and written, all at the same time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import ImageError, InputError
from intramodal.ingest.augmentation import AugmentedView, augmented
from intramodal.ingest.backfill.points import (
    ReplicaLook,
    known_field,
    mapped,
    project_rows,
    says_label,
)
from intramodal.ingest.decode import decode_image
from intramodal.ingest.payload import (
    Notes,
    changed_keys,
    index_payload,
    json_payload,
    set_payloads,
    storable_columns,
    without_none,
)
from intramodal.ingest.pixel_budget import PixelBudget, default_budget
from intramodal.ingest.prune import Seen
from intramodal.ingest.reader import Step, Tally, Write
from intramodal.ingest.sources.base import check_dataset, is_text, spelled, unreadable
from intramodal.ingest.stale_codes import StaleCodes
from intramodal.ingest.workers import Pace, Threads
from intramodal.projection.stored_map import StoredMap
from intramodal.runs.records import FailureRecord
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import ingested_vectors, source_and_projection
from intramodal.store.manifest import AUGMENTED, VectorOrigin
from intramodal.store.origins import check_fitted_for, projected_origin
from intramodal.types import (
    Encoder,
    Floats,
    ImageRecord,
    Payload,
    PointId,
    point_id,
    unkeyed,
)

RESERVED = ("path", "sha256", "dataset")
"""Payload keys that the ingest itself writes."""

HASH = "sha256"
"""The payload key that says which file the stored vectors were made of."""

_LOOKED_UP_AT_ONCE = 256

_MOST_HELD = 32 * 2**20
"""Bytes of images that are looked up at once, where their records hold them."""

_AT_ONCE = 256
"""Stored pictures that are relabelled or projected in one go."""


def encoder_origin(encoder: Encoder) -> VectorOrigin:
    """Return the origin of an encoder's own output."""
    return VectorOrigin(encoder.name, encoder.fingerprint, precision=encoder.precision)


def check_projection(
    collection: ImageCollection, raw: VectorOrigin, projection: StoredMap | None
) -> None:
    """Raise unless new points would have the projected vectors that the others have."""
    if projection is not None:
        check_fitted_for(projection, raw)
        own, filled = source_and_projection(collection, projection)
        collection.require(filled, projected_origin(projection, raw, own), projection.dim_out)
        return
    projected = sorted(v for v, origin in collection.manifest.vectors.items() if origin.projection)
    if projected:
        raise InputError(
            f"collection {collection.name!r} has the projected vector {projected[0]!r} and new "
            f"images would lack it; give `projection`, the one it was made with"
        )


def check_view(collection: ImageCollection, view: AugmentedView | None) -> None:
    """Raise unless new points would have the augmented view that the others have."""
    if view is not None:
        return
    origins = collection.manifest.vectors
    views = sorted(v for v, origin in origins.items() if origin.method == AUGMENTED)
    if views:
        raise InputError(
            f"collection {collection.name!r} has augmented views in {views[0]!r} and new images "
            f"would lack theirs; augment these, too, with the same seed"
        )


def written_vectors(
    encoder: Encoder,
    projection: StoredMap | None = None,
    view: AugmentedView | None = None,
    *,
    collection: ImageCollection | None = None,
) -> dict[str, tuple[int, VectorOrigin]]:
    """Return size and origin of all vectors that an ingest of images writes; own, views, maps."""
    own, filled = ingested_vectors(collection, projection)
    origins = {own: encoder_origin(encoder)}
    if view is not None:
        origins[augmented(own)] = view.origin()
    found = {name: (encoder.dim, origin) for name, origin in origins.items()}
    if projection is not None and filled is not None:
        check_fitted_for(projection, origins[own])
        for of, origin in origins.items():
            made = projected_origin(projection, origin, of)
            name = filled if of == own else augmented(filled)
            found[name] = (projection.dim_out, made)
    return found


@dataclass(frozen=True)
class Stored:
    """What the collection holds of a picture."""

    payload: Payload
    lacks: frozenset[str] = frozenset()
    """Those of the vectors which this ingest writes that it has not."""


@dataclass(frozen=True)
class Encodable:
    """A picture to encode: new, changed, or stored without the encoder's vector."""

    point: str
    key: str
    payload: Payload
    """Of a new point all, of a known one the keys to set (None removes one)."""
    pixels: NDArray[np.uint8]
    """(side, side, 3)."""
    seconds: float
    """What reading and decoding it took."""
    view: NDArray[np.uint8] | None = None
    """Its augmented view, (side, side, 3), if there is to be one."""
    stored: Payload | None = None
    """The payload of the point, if the collection has it: what others have added to it stays."""

    @property
    def whole(self) -> Payload:
        """The payload that the point will have."""
        return {**(self.stored or {}), **self.payload}


@dataclass(frozen=True)
class Unprojected:
    """A stored picture, unchanged, that lacks the projected vector alone."""

    point: str
    key: str
    payload: Payload
    """The keys to set; None removes one."""
    whole: Payload
    """The payload that the point will have."""


@dataclass(frozen=True)
class Relabelled:
    """A stored picture whose payload alone has changed."""

    point: str
    payload: Payload
    """The keys to set; None removes one."""
    whole: Payload
    """The payload that the point will have."""


@dataclass(frozen=True)
class Unchanged:
    """A stored picture with nothing to do."""


Outcome = Encodable | Unprojected | Relabelled | Unchanged | FailureRecord


Admitted = tuple[ImageRecord, str]
"""A picture and the id of its point."""

LookedUp = tuple[list[Admitted], dict[PointId, Stored]]


def _next_chunk(admitted: Iterator[Admitted]) -> Iterator[Admitted]:
    """Yield the images to look up next: fewer where their records hold their bytes."""
    n_held = 0
    for record, point in islice(admitted, _LOOKED_UP_AT_ONCE):
        yield record, point
        n_held += record.held_bytes
        if n_held >= _MOST_HELD:
            return


def look_up(
    collection: ImageCollection,
    vectors: Sequence[str],
    points: Sequence[str],
    replicas: ReplicaLook,
) -> dict[PointId, Stored]:
    """Return what the collection holds of `points`; absent ones are left out.

    Vectors themselves are not read: which ones are missing is asked by filters.
    """
    page = collection.store.retrieve(collection.name, points, payload=True)
    lacking: dict[PointId, set[str]] = {point: set() for point in page.ids}
    for vector in vectors if page.ids else ():
        where = Filter(ids=page.ids, lacks_vector=vector)
        for found in collection.scroll(where=where):
            for point in found.ids:  # named with their key, where there are shard keys
                lacking[unkeyed(point)].add(vector)
        for point in replicas.lacking(vector, page.ids):
            lacking[point].add(vector)
    return {
        point: Stored(payload, frozenset(lacking[point]))
        for point, payload in zip(page.ids, page.payloads, strict=True)
    }


def prepare(  # noqa: PLR0913  all that decides what becomes of an image
    record: ImageRecord,
    point: str,
    stored: Stored | None,
    *,
    dataset: str,
    encoder: Encoder,
    projected: str | None = None,
    view: AugmentedView | None = None,
    budget: PixelBudget,
    text_images: bool = False,
) -> Outcome:
    """Read a picture, and decode it unless the collection holds it already."""
    started = time.perf_counter()
    try:
        data = record.read()
        payload = _storable(record.payload)
    except (OSError, InputError, ImageError) as error:
        return FailureRecord(record.key, "read", _reason(error))
    digest = hashlib.sha256(data).hexdigest()
    payload |= {"path": record.key, HASH: digest, "dataset": dataset}
    if stored is not None:
        payload = changed_keys(payload, stored.payload)
        if HASH not in payload and stored.lacks <= {projected}:
            return _unencoded(record.key, point, payload, stored)
        payload[HASH] = digest
    try:
        with budget.share() as share:
            image = decode_image(
                data, target=encoder.image_size, text_images=text_images, reserve=share.take
            )
            pixels = encoder.preprocess(image)
            cut = None if view is None else view.crop(image, point)
            del image  # before others may take its memory
    except ImageError as error:
        return FailureRecord(record.key, "decode", _reason(error))
    seconds = time.perf_counter() - started
    if stored is None:
        return Encodable(point, record.key, without_none(payload), pixels, seconds, cut)
    return Encodable(point, record.key, payload, pixels, seconds, cut, stored.payload)


def _unencoded(key: str, point: str, payload: Payload, stored: Stored) -> Outcome:
    whole = {**stored.payload, **payload}
    if stored.lacks:
        return Unprojected(point, key, payload, whole)
    return Relabelled(point, payload, whole) if payload else Unchanged()


def _storable(payload: Mapping[str, Any]) -> Payload:
    """Return the payload as `json_payload`; a column named like a `RESERVED` key is renamed.

    It is kept as ``source_<name>``.
    """
    plain = json_payload(payload)
    renamed = {f"source_{key}": plain.pop(key) for key in RESERVED if key in plain}
    return {**renamed, **plain}


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


@dataclass
class ImageReader:
    """Images as steps: looked up and decoded in threads, encoded in the thread of the pipeline."""

    source: Iterable[ImageRecord]
    collection: ImageCollection
    encoder: Encoder
    projection: StoredMap | None
    dataset: str
    """Namespace of the ids."""
    batch_size: int
    workers: int | None
    """Threads that read and decode; None: as many as keep up with the encoder."""
    seen: Seen
    """Gets the ids of all images."""
    stale: StaleCodes
    """Gets the labels that change."""
    view: AugmentedView | None = None
    budget: PixelBudget = field(default_factory=lambda: PixelBudget(default_budget()))
    text_images: bool = False
    """Whether formats that hold pixels as text are read."""
    own: str = field(init=False)
    """Vector of the encoder."""
    filled: str | None = field(init=False)
    """Vector of the projection."""
    _replicas: ReplicaLook = field(init=False)
    _batch: list[Encodable] = field(default_factory=list, init=False)
    _relabelled: list[Relabelled] = field(default_factory=list, init=False)
    _unprojected: list[Unprojected] = field(default_factory=list, init=False)
    _left_out: list[FailureRecord] = field(default_factory=list, init=False)
    _notes: Notes = field(default_factory=Notes, init=False)

    def __post_init__(self) -> None:
        """Take the collection's names; ask single replicas as long as they answer."""
        self.own, self.filled = ingested_vectors(self.collection, self.projection)
        self._replicas = ReplicaLook(self.collection)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors that are written, in one upsert."""
        return tuple(self._written(self.view))

    @property
    def views(self) -> tuple[str, ...]:
        """Those of them that hold augmented views."""
        plain = self._written(None)
        return tuple(name for name in self.vectors if name not in plain)

    def _written(self, view: AugmentedView | None) -> dict[str, tuple[int, VectorOrigin]]:
        return written_vectors(self.encoder, self.projection, view, collection=self.collection)

    def check(self) -> None:
        """Raise unless the collection takes these vectors, and settings and names can be used."""
        if self.workers is not None and self.workers < 0:
            raise InputError(f"workers must be at least 0, got {self.workers}")
        check_dataset(self.dataset)
        if self.batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {self.batch_size}")
        origin = encoder_origin(self.encoder)
        self.collection.require(self.own, origin, self.encoder.dim)
        check_projection(self.collection, origin, self.projection)
        check_view(self.collection, self.view)
        for vector, (size, made) in self._written(self.view).items():
            self.collection.require(vector, made, size)

    def steps(self, storing: Threads) -> Generator[Step, None, None]:
        """Yield a step for each image that needs no encoder, and for each batch of the others."""
        with Threads(1 if self.workers is None else self.workers, "decode") as decoding:
            pace = Pace(decoding, is_fixed=self.workers is not None)
            # While one batch is encoded, the next one is decoded.
            prepared = self._prepared(storing, decoding)
            for outcome in decoding.in_order(prepared, ahead=self.batch_size):
                yield from self._metadata()
                if not isinstance(outcome, Encodable):
                    yield from self._unencoded(outcome)
                    continue
                self._batch.append(outcome)
                if len(self._batch) == self.batch_size:
                    yield from self._encoded(pace)
            yield from self._encoded(pace)
            yield from self._metadata()

    def _metadata(self) -> Iterator[Step]:
        """Yield what is wrong with the metadata of images, which costs none of them."""
        left_out, self._left_out = self._left_out, []
        if left_out:
            yield Step(tally=Tally(failures=left_out))

    def rest(self) -> Iterator[Step]:
        """Yield the writes of stored images with other payload or without their projection."""
        collection, projection = self.collection, self.projection
        relabelled, self._relabelled = self._relabelled, []
        unprojected, self._unprojected = self._unprojected, []
        self.stale.before(one.payload for one in relabelled)
        self.stale.before(one.payload for one in unprojected)
        if relabelled:
            yield Step(writes=list(self._relabels(relabelled)))
        if unprojected and projection is not None:
            yield Step(writes=[partial(_project, collection, projection, unprojected)])

    def _relabels(self, relabelled: list[Relabelled]) -> Iterator[Write]:
        """Yield the writes of other payload; codes that know the label are written with it."""
        field = None if self.projection is None else known_field(self.projection)
        knows = [field is not None and says_label(one.payload, field) for one in relabelled]
        coded = [one for one, is_coded in zip(relabelled, knows, strict=True) if is_coded]
        others = [one for one, is_coded in zip(relabelled, knows, strict=True) if not is_coded]
        if coded and self.projection is not None:
            yield partial(_recode, self.collection, self.projection, self._projected, coded)
        if others:
            yield partial(_relabel, self.collection, others)

    def _prepared(self, storing: Threads, decoding: Threads) -> Iterator[Future[Outcome]]:
        given: dict[str, Any] = {
            "dataset": self.dataset,
            "encoder": self.encoder,
            "projected": self.filled,
            "view": self.view,
            "budget": self.budget,
            "text_images": self.text_images,
        }
        for chunk, stored in storing.in_order(self._looked_up(storing), ahead=0):
            for record, point in chunk:
                yield decoding.submit(prepare, record, point, stored.get(point), **given)

    def _looked_up(self, storing: Threads) -> Iterator[Future[LookedUp]]:
        admitted, is_first = map(self._admit, self.source), True
        while chunk := list(_next_chunk(admitted)):
            yield storing.submit(self._look_up, chunk, is_first)
            is_first = False

    def _look_up(self, chunk: list[Admitted], is_first: bool) -> LookedUp:
        if is_first:
            payloads = [{"dataset": self.dataset, **record.payload} for record, _ in chunk]
            index_payload(self.collection, payloads)
        points = [point for _, point in chunk]
        return chunk, look_up(self.collection, self.vectors, points, self._replicas)

    def _admit(self, record: ImageRecord) -> Admitted:
        if not is_text(record.key):
            record = unreadable(spelled(record.key), "the key is not UTF-8")
        point = point_id(self.dataset, record.key)
        if not self.seen.add(point):
            twice = unreadable(record.key, "occurs twice in the source; give it once")
            record = replace(record, read=twice.read)
        payload, problem = storable_columns(record.payload, self._notes)
        if problem is not None:
            self._left_out.append(FailureRecord(record.key, "metadata", problem))
        return replace(record, payload=payload), point

    def _unencoded(self, outcome: Outcome) -> Iterator[Step]:
        if isinstance(outcome, FailureRecord):
            yield Step(1, Tally(failures=[outcome]))
        elif isinstance(outcome, Relabelled):
            self._relabelled.append(outcome)
            yield Step(1)
        elif isinstance(outcome, Unprojected):
            self._unprojected.append(outcome)
            yield Step(1)
        else:
            yield Step(1, Tally(skipped=1))
        if max(len(self._relabelled), len(self._unprojected)) == _AT_ONCE:
            yield from self.rest()

    def _encoded(self, pace: Pace) -> Iterator[Step]:
        batch, self._batch = self._batch, []
        if not batch:
            return
        started = time.perf_counter()
        made = self._made(batch)
        pace.encoded(sum(one.seconds for one in batch), time.perf_counter() - started)
        usable = np.all(
            [np.isfinite(X).all(axis=1) & X.any(axis=1) for X in made.values()], axis=0
        )
        some = [batch[row] for row in np.flatnonzero(usable)]
        yield Step(
            len(batch), writes=list(self._writes(some, {n: X[usable] for n, X in made.items()}))
        )
        for row in np.flatnonzero(~usable):
            reason = "the model gives zeros, NaN or infinity for this image"
            yield Step(tally=Tally(failures=[FailureRecord(batch[row].key, "encode", reason)]))

    def _made(self, batch: Sequence[Encodable]) -> dict[str, Floats]:
        """Return the encoder's output of the images, and of their views if there are any."""
        encode = self.encoder.encode_pixels
        made = {self.own: encode(np.stack([one.pixels for one in batch]))}
        if self.view is not None:
            views = [one.view for one in batch if one.view is not None]
            made[augmented(self.own)] = encode(np.stack(views))
        return made

    def _writes(self, batch: list[Encodable], made: Mapping[str, Floats]) -> Iterator[Write]:
        self.stale.before(one.payload for one in batch if one.stored is not None)
        for is_stored, write in ((False, _add), (True, _renew)):
            rows = [row for row, one in enumerate(batch) if (one.stored is not None) is is_stored]
            if rows:
                some = [batch[row] for row in rows]
                payloads = [one.whole for one in some]
                vectors = self._vectors({name: X[rows] for name, X in made.items()}, payloads)
                yield partial(write, self.collection, some, vectors)

    def _vectors(
        self, made: Mapping[str, Floats], payloads: Sequence[Payload]
    ) -> dict[str, Floats]:
        if self.projection is None:
            return dict(made)
        names = self._projected
        new = {names[of]: mapped(self.projection, X, payloads) for of, X in made.items()}
        return {**made, **new}

    @property
    def _projected(self) -> dict[str, str]:
        """Names of the projected vectors by those that they are made of."""
        if self.filled is None:
            return {}
        views = {} if self.view is None else {augmented(self.own): augmented(self.filled)}
        return {self.own: self.filled, **views}


# What the storing threads do.


def _add(
    collection: ImageCollection, batch: Sequence[Encodable], vectors: dict[str, Floats]
) -> Tally:
    """Write new pictures, whole; a point that somebody has added meanwhile stays as it is.

    It counts as written: without our hash, the next run brings it up.
    """
    points = [one.point for one in batch]
    collection.insert(points, vectors, [one.payload for one in batch])
    return Tally(written=len(batch), points=points)


def _renew(
    collection: ImageCollection, batch: Sequence[Encodable], vectors: dict[str, Floats]
) -> Tally:
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
        set_payloads(collection, points, payloads)

    rows = set(collection.with_existing([one.point for one in batch], write))
    gone = [_deleted(one.key) for row, one in enumerate(batch) if row not in rows]
    there = [one.point for row, one in enumerate(batch) if row in rows]
    return Tally(written=len(rows), failures=gone, points=there)


def _relabel(collection: ImageCollection, batch: Sequence[Relabelled]) -> Tally:
    """Set the payload keys that differ; of points that were deleted meanwhile nothing is left."""
    points: list[PointId] = [one.point for one in batch]

    def write(rows: list[int]) -> None:
        payloads = [batch[row].payload for row in rows]
        set_payloads(collection, [points[row] for row in rows], payloads)

    collection.with_existing(points, write)
    return Tally(updated=len(batch))


def _recode(
    collection: ImageCollection,
    projection: StoredMap,
    projected: Mapping[str, str],
    batch: Sequence[Relabelled],
) -> Tally:
    """Set payload keys that change a label, and before them the codes that are certain of it.

    After a kill in between the payload still differs, and the next run does both again.
    `projected` names the vector of codes by the one that they are made of.
    """
    store, name = collection.store, collection.name
    by_point: dict[PointId, Relabelled] = {one.point: one for one in batch}
    page = store.retrieve(name, list(by_point), vectors=list(projected))
    wholes = [by_point[point].whole for point in page.ids]
    found = {of: project_rows(projection, page.vectors[of], of, wholes) for of in projected}

    def write(rows: list[int]) -> None:
        for of, codes in found.items():
            there = np.isin(codes.rows, rows)
            points = [page.ids[row] for row in codes.rows[there]]
            if points:
                store.update_vectors(name, projected[of], points, codes.Z[there])
        points = [page.ids[row] for row in rows]
        set_payloads(collection, points, [by_point[point].payload for point in points])

    rows = collection.with_existing(page.ids, write)
    return Tally(updated=len(batch), points=[page.ids[row] for row in rows])


def _project(
    collection: ImageCollection, projection: StoredMap, batch: Sequence[Unprojected]
) -> Tally:
    """Project stored vectors, as a backfill does, and set the payload keys that differ."""
    store, name = collection.store, collection.name
    own, vector = source_and_projection(collection, projection)
    by_point: dict[PointId, Unprojected] = {one.point: one for one in batch}
    page = store.retrieve(name, list(by_point), vectors=[own])
    payloads = [by_point[point].whole for point in page.ids]
    found = project_rows(projection, page.vectors[own], own, payloads)
    points = [page.ids[row] for row in found.rows]

    def write(rows: list[int]) -> None:
        there = [points[row] for row in rows]
        store.update_vectors(name, vector, there, found.Z[rows], only_lacking=True)
        set_payloads(collection, there, [by_point[point].payload for point in there])

    projected = {points[row] for row in collection.with_existing(points, write)}
    refused = {page.ids[row]: why for row, why in found.refused.items()}
    failures = [FailureRecord(by_point[i].key, "project", why) for i, why in refused.items()]
    gone = by_point.keys() - projected - refused.keys()
    failures += [_deleted(one.key) for point, one in by_point.items() if point in gone]
    return Tally(projected=len(projected), failures=failures, points=list(projected))


def _deleted(key: str) -> FailureRecord:
    reason = "its point was deleted meanwhile; run the same command again to add it"
    return FailureRecord(key, "write", reason)
