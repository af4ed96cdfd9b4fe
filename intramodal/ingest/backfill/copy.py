"""A new collection with everything of the old one and the projected vector; then the switch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import Conflict, InputError, ManifestMismatchError, StoreError, Unsupported
from intramodal.ingest.backfill.in_place import rebuild_index
from intramodal.ingest.backfill.new_vector import NewVector, Storing, as_source
from intramodal.ingest.backfill.points import (
    MOST_PASSES,
    Replicas,
    VectorFill,
    absent_ids,
    check_pace,
    in_points,
    log_projection,
    on_writers,
    paced,
    project_rows,
    sample_ids,
)
from intramodal.ingest.backfill.verify import deviations, storage_error
from intramodal.ingest.failures import Failures
from intramodal.ingest.payload import is_same
from intramodal.progress import foretold, progress
from intramodal.projection.stored_map import StoredMap
from intramodal.runs.records import FailureRecord
from intramodal.runs.run import Run
from intramodal.store.base import Filter, Page, VectorSpec
from intramodal.store.checks import check_name
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import own_vector
from intramodal.store.manifest import Manifest, VectorOrigin, foreign_metadata
from intramodal.store.origins import check_projectable, projected_origin
from intramodal.store.own_name import under_own_name
from intramodal.store.pages import PageSize
from intramodal.types import Floats, PointId, short_repr

log = logging.getLogger(__name__)

COPY_KEY = "intramodal_copy"
"""Top-level key of the new collection's metadata that says where it came from."""

_VERSION = 1
_NAME_OF_UNNAMED = "raw"


@dataclass(frozen=True)
class CopyRecord:
    """Where a collection was copied from, so that the copy can go on and be undone."""

    collection: str
    """The old collection."""
    source: str
    """Name of the projected vector's source in the old collection."""
    vector: str
    projection: str
    """The projected vector, and the fingerprint of what made it."""
    aliases: tuple[str, ...] = field(default=())
    """Aliases that were switched."""
    is_complete: bool = False
    """Whether all was copied and compared."""

    def to_metadata(self) -> dict[str, Any]:
        """Return the collection metadata that holds this record."""
        return {COPY_KEY: {"version": _VERSION, **asdict(self), "aliases": list(self.aliases)}}

    def is_of(self, other: CopyRecord) -> bool:
        """Return whether both records are of the same copy, however far it is."""
        return replace(self, aliases=(), is_complete=False) == replace(
            other, aliases=(), is_complete=False
        )

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> CopyRecord | None:
        """Read a record back; None where there is none."""
        stored = metadata.get(COPY_KEY)
        if stored is None:
            return None
        try:
            if stored["version"] != _VERSION:
                raise ValueError(f"version {stored['version']!r}")
            texts = {key: str(stored[key]) for key in ("collection", "source", "vector")}
            return cls(
                **texts,
                projection=str(stored["projection"]),
                aliases=tuple(str(alias) for alias in stored["aliases"]),
                is_complete=bool(stored["is_complete"]),
            )
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ManifestMismatchError(
                f"the collection's metadata key {COPY_KEY!r} does not say in version {_VERSION} "
                f"where it was copied from ({error}); upgrade intramodal, or repair or remove it"
            ) from error


@dataclass(frozen=True)
class Copy:
    """A collection, and the new one that gets everything of it and the projected vector."""

    collection: ImageCollection
    """The old one."""
    projection: StoredMap
    new_name: str
    source: str
    vector: str
    """Names in the old collection, and of the new vector."""
    storing: Storing = field(default=Storing())
    """How the new vector is stored."""

    @classmethod
    def of(
        cls,
        collection: ImageCollection,
        projection: StoredMap,
        new_name: str,
        *,
        source: str | None,
        vector: str | None,
        storing: Storing,
    ) -> Copy:
        """Return the copy that is meant, of a collection or an alias; see `check_copyable`."""
        old = original_of(collection, new_name)
        name = vector or projection.default_vector
        copy = cls(old, projection, new_name, own_vector(old, source), name, storing)
        check_copyable(copy)
        return copy

    @cached_property
    def renamed(self) -> dict[str, str]:
        """New names of the vectors that are copied: all but the projected one, if it is there."""
        names = self.collection.vectors
        return {old: old or _NAME_OF_UNNAMED for old in names if old != self.vector}

    @property
    def new_source(self) -> str:
        """Name of the source vector in the new collection."""
        return self.source or _NAME_OF_UNNAMED

    @property
    def record(self) -> CopyRecord:
        """What the new collection remembers when it begins."""
        return CopyRecord(
            self.collection.name, self.source, self.vector, self.projection.fingerprint
        )

    def specs(self) -> dict[str, VectorSpec]:
        """Return the vectors of the new collection."""
        old = self.collection.vectors
        copied = {new: old[name] for name, new in self.renamed.items()}
        return {**copied, self.vector: self.new_vector.spec}

    @cached_property
    def new_vector(self) -> NewVector:
        """How the new vector is defined and set up: as its source, if not wanted otherwise."""
        old = self.collection
        return as_source(
            old.vectors[self.source],
            self.source,
            self.vector,
            self.projection,
            settings=old.described.settings,
            storing=self.storing,
        )

    def settings(self) -> dict[str, Any]:
        """Return how the new collection is set up."""
        found = self.collection.store.settings(self.collection.name)
        own = found.pop("vectors", {})
        vectors = {new: own[old] for old, new in self.renamed.items() if old in own}
        if self.new_vector.settings:
            vectors[self.vector] = self.new_vector.settings
        return {**found, "vectors": vectors} if vectors else found

    def manifest(self) -> Manifest:
        """Return what is known of the new collection's vectors; the new one is incomplete."""
        old = self.collection.manifest
        known = {
            new: replace(origin, source=self.renamed.get(origin.source, origin.source))
            if origin.projection
            else origin
            for name, new in self.renamed.items()
            if (origin := old.vectors.get(name)) is not None
        }
        return Manifest(known, old.dataset)

    def origin(self) -> VectorOrigin:
        """Return the origin of the new vector; incomplete."""
        known = self.collection.origin(self.source)
        return replace(
            projected_origin(self.projection, known, self.new_source), is_complete=False
        )

    def aliases(self) -> list[str]:
        """Return the aliases that mean the old collection now, sorted."""
        known = self.collection.store.aliases()
        return sorted(alias for alias, name in known.items() if name == self.collection.name)


def original_of(collection: ImageCollection, new_name: str) -> ImageCollection:
    """Return the collection that is copied: after the switch, an alias of it means the copy."""
    collection = under_own_name(collection)
    known = CopyRecord.from_metadata(collection.info().metadata)
    if collection.name != new_name or known is None:
        return collection
    if not collection.store.exists(known.collection):
        raise InputError(
            f"{new_name!r} is the copy of {known.collection!r}, which is gone; leave out "
            f"`new_collection` to fill what it lacks"
        )
    return ImageCollection.open(collection.store, known.collection)


def is_switched(copy: Copy) -> bool:
    """Return whether clients were sent to the complete copy by an alias, and still are."""
    store = copy.collection.store
    known = CopyRecord.from_metadata(store.info(copy.new_name).metadata)
    meant = set(store.aliases().values())
    is_meant = copy.new_name in meant and copy.collection.name not in meant
    return known is not None and known.is_complete and is_meant


def check_copyable(copy: Copy) -> None:
    """Raise unless the copy can be made without losing anything."""
    collection = copy.collection
    check_name(copy.new_name)
    check_projectable(collection, copy.projection, copy.source, copy.vector)
    if copy.vector in collection.vectors:
        collection.origin(copy.vector)  # known to be of this projection, or it would be lost
    names = [*copy.renamed.values(), copy.vector]
    if len(set(names)) != len(names):
        raise InputError(
            f"the unnamed vector of {collection.name!r} becomes {_NAME_OF_UNNAMED!r}, which is "
            f"another vector's name already; give that one another name first, or "
            f"another `vector`"
        )
    _check_carried(copy)
    _check_new_name(copy)


def _check_carried(copy: Copy) -> None:
    collection = copy.collection
    settings = collection.store.settings(collection.name)
    multi = [name for name, spec in collection.vectors.items() if spec.is_multivector]
    lost = sorted([*multi, *settings.get("sparse_vectors", {})])
    if lost:
        raise Unsupported(
            f"{collection.name!r} has the sparse or multi vector {lost[0]!r}, which a copy would "
            f"lose; upgrade the server to 1.18.2 or later and backfill in place"
        )
    if settings.get("sharding_method") == "custom":
        raise Unsupported(
            f"{collection.name!r} puts points into shards by key, which a copy would lose; "
            f"upgrade the server to 1.18.2 or later and backfill in place"
        )


def _check_new_name(copy: Copy) -> None:
    store, new = copy.collection.store, copy.new_name
    if new == copy.collection.name:
        raise InputError(f"{new!r} cannot be copied into itself; give another `new_collection`")
    if not store.exists(new):
        return
    known = CopyRecord.from_metadata(store.info(new).metadata)
    if new in store.aliases() or known is None or not known.is_of(copy.record):
        raise Conflict(
            f"there is a collection or an alias {new!r} already, and it is not a copy of "
            f"{copy.collection.name!r} with {copy.vector!r} through this projection; give another "
            f"`new_collection`, or drop that one"
        )


N_COMPARED = 200
"""Points of the sample."""

_LOOKS, _PAUSE_S = 5, 0.3
"""How often what differs is looked at before it counts, and the pause between: a second in all."""

RENORMALIZED = 1e-6
"""A cosine store may divide a float32 row by its length once more, which is 1 up to rounding."""


def compare_collections(
    copy: Copy, new: ImageCollection, uncopied: Set[PointId], seed: int
) -> tuple[int, int]:
    """Compare the collections, payload and vectors, the projected one with a recomputation.

    A writer to both collections is between its two writes now and then: what differs is looked
    at again before it counts. Returns how many points the new one alone has, and how many were
    compared; `uncopied` are those that it cannot hold. `StoreError` if they differ.
    """
    n_only = _count_only_in_new(copy, new, uncopied)
    ids = [i for i in sample_ids(copy.collection, N_COMPARED, seed) if i not in uncopied]
    differing = _lasting_differences(copy, new, ids)
    if differing:
        point, what = next(iter(differing.items()))
        raise StoreError(
            f"point {point} of {new.name!r} differs from that of {copy.collection.name!r} in "
            f"{what} ({len(differing)} of {in_points(len(ids))} compared do): it was changed "
            f"during the copy; pause the writers or let them upsert to both, drop {new.name!r}, "
            f"then run the same command again"
        )
    return n_only, len(ids)


def _count_only_in_new(copy: Copy, new: ImageCollection, uncopied: Set[PointId]) -> int:
    """Return how many points the new collection alone has; `StoreError` if it lacks some.

    Writers to both add and delete between two counts: the old one is counted before and after,
    and may not have had more at both times.
    """
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE_S)
        before, n_new, after = copy.collection.count(), new.count(), copy.collection.count()
        n_lacking = min(before, after) - len(uncopied) - n_new
        if n_lacking <= 0:
            return max(0, n_new + len(uncopied) - max(before, after))
    raise StoreError(
        f"{new.name!r} lacks {in_points(n_lacking)} of {copy.collection.name!r}: they were "
        f"written meanwhile; pause the writers, then run the same command again"
    )


def _lasting_differences(
    copy: Copy, new: ImageCollection, ids: Sequence[PointId]
) -> dict[PointId, str]:
    """Return in what points differ, look after look."""
    differing = _compared(copy, new, ids)
    for _ in range(_LOOKS - 1):
        if differing:
            time.sleep(_PAUSE_S)
            differing = _compared(copy, new, list(differing))
    return differing


def _compared(copy: Copy, new: ImageCollection, ids: Sequence[PointId]) -> dict[PointId, str]:
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
    specs = new.vectors
    for name, new_name in copy.renamed.items():
        tolerance = storage_error(specs[new_name]) + RENORMALIZED
        is_off = differs(old_page.vectors[name], new_page.vectors[new_name], tolerance)
        yield from ((old_page.ids[row], f"the vector {name!r}") for row in np.flatnonzero(is_off))
    X, stored = old_page.vectors[copy.source], new_page.vectors[copy.vector]
    pair = specs[copy.new_source], specs[copy.vector]
    rows, off, allowed = deviations(copy.projection, X, stored, pair, old_page.payloads)
    yield from ((old_page.ids[row], f"the vector {copy.vector!r}") for row in rows[off > allowed])


def differs(was: Floats, now: Floats, tolerance: float) -> NDArray[np.bool_]:
    """Return which rows differ; one that is not finite was not copied and must be absent."""
    is_finite = np.isfinite(was).all(axis=1)
    largest = np.abs(was).max(axis=1, initial=0.0)
    is_off = ~(np.abs(was - now).max(axis=1, initial=0.0) <= tolerance * largest)
    return np.asarray(np.where(is_finite, is_off, np.isfinite(now).any(axis=1)))


@short_repr
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
    late, lacking : int
        As in `BackfillSummary`.
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
    notes : list of str
        What the new vector takes from its source, if this run copied points.
    replicas : Replicas
        In a cluster, what single replicas lack.
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
    late: int = 0
    lacking: int = 0
    notes: list[str] = field(default_factory=list)
    replicas: Replicas = field(default_factory=Replicas)

    @property
    def sentence(self) -> str:
        """What a person needs to know."""
        done = f"{in_points(self.copied)} copied, {self.projected:,} projected"
        if not (self.copied or self.projected):
            done = "nothing to do"
        parts = [f"{done}, {in_points(self.unprojectable)} cannot be projected"]
        parts += on_writers(self.vector, self.late, self.lacking)
        parts += self.replicas.sentences(self.vector)
        if self.only_in_new:
            parts.append(
                f"{self.new_collection!r} holds {in_points(self.only_in_new)} that "
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

    def record(self, run: Run) -> None:
        """Write the figures to a run."""
        for figure in (
            "copied",
            "projected",
            "skipped",
            "unprojectable",
            "late",
            "lacking",
            "compared",
            "only_in_new",
        ):
            run.log_metric(figure, getattr(self, figure), vector=self.vector)


def copy_collection(  # noqa: PLR0913  a job has as many knobs as it has
    collection: ImageCollection,
    projection: StoredMap,
    *,
    new_collection: str,
    vector: str | None = None,
    source: str | None = None,
    batch_size: int = 1000,
    throttle: float | None = None,
    reindex: bool = True,
    on_disk: bool | None = None,
    quantize: str | None = None,
    datatype: str | None = None,
    seed: int = 0,
    run: Run | None = None,
) -> CopySummary:
    """Copy a collection into a new one that also has the projected vector, and switch aliases.

    Everything is copied: vectors (an unnamed one becomes ``raw``), payload, payload indexes and
    settings. Counts and a seeded sample are compared; then all aliases of the old collection
    mean the new one, in one step. The old collection is never changed. Killed at any moment, the
    same call resumes; what changes in the old collection after it was copied is not copied again.
    Points that the new collection has are never overwritten: writers may upsert whole points to
    both collections meanwhile (servers from 1.16 on).

    Parameters
    ----------
    collection : ImageCollection
        The one to be copied, or an alias of it, also after the switch.
    projection : Projection or PosteriorMap
    new_collection : str
        Made if absent; or an unfinished copy of the same kind.
    vector : str, optional
        Name of the new vector; the projection's own by default.
    source : str, optional
        Name of the stored vector that is projected; ``""`` for an unnamed one. The encoder's own
        by default.
    batch_size : int
        Points a request.
    throttle : float, optional
        Most points a second.
    reindex : bool
        Have the new collection indexed, if the old one is, before clients are switched.
    on_disk, quantize, datatype
        How the new vector is stored, as in `backfill`.
    seed : int
        Of the sample.
    run : Run, optional
        Takes the failures and figures.

    Raises
    ------
    Conflict, Unsupported, InputError, ManifestMismatchError
        As `check_copyable`, before anything is made.
    StoreError
        If the collections differ at the end: points were changed meanwhile. Nothing is switched.
    """
    started = time.perf_counter()
    run = run or Run()
    log_projection(run, projection)
    check_pace(batch_size, throttle)
    storing = Storing(on_disk, quantize, datatype)
    copy = Copy.of(
        collection, projection, new_collection, source=source, vector=vector, storing=storing
    )
    vector = copy.vector
    check_copy_space(copy, reindex=reindex)
    new, is_done = _open_or_create(copy)
    n_skipped = new.count(Filter(has_vector=vector), exact=False)
    failures = Failures(run, None)
    points = CopyFill(copy, new, batch_size, throttle, failures)
    vectors = VectorFill(new, projection, copy.new_source, vector, batch_size, throttle, failures)
    n_unprojectable = _fill(points, vectors, is_done=is_done)
    found = (0, 0) if is_done else compare_collections(copy, new, points.uncopied, seed)
    replicas = vectors.on_replicas()
    new.finish_vector(vector, is_complete=vectors.is_complete(replicas))
    seconds = round(time.perf_counter() - started, 3)
    reindex_seconds, unbuilt = _index(copy, new) if reindex and not is_done else (0.0, [])
    summary = CopySummary(
        collection=copy.collection.name,
        new_collection=new.name,
        source=copy.new_source,
        vector=vector,
        copied=points.n_copied,
        projected=points.n_projected + vectors.n_projected,
        skipped=n_skipped,
        unprojectable=n_unprojectable,
        compared=found[1],
        only_in_new=found[0],
        aliases=[] if is_done else _switch(copy, new),
        failures=failures.listed,
        seconds=seconds,
        reindex_seconds=reindex_seconds,
        late=vectors.n_late,
        lacking=vectors.n_lacking,
        notes=[*(copy.new_vector.notes if points.n_copied else ()), *unbuilt],
        replicas=replicas,
    )
    run.keep(summary)
    return summary


def _fill(points: CopyFill, vectors: VectorFill, *, is_done: bool) -> int:
    """Copy and project what is missing; return how many points cannot be projected."""
    if not is_done:
        points.fill()
    return vectors.lacking()


def _index(copy: Copy, new: ImageCollection) -> tuple[float, list[str]]:
    """Have the new collection indexed; returns the seconds, and why it is not after a while.

    No alias is switched to a collection without its index: that would be felt by clients. So
    where there are aliases, the wait goes on for as long as the server still builds.
    """
    needed = copy.collection.described.n_indexed > 0 and new.described.n_indexed == 0
    needs_look = needed or new.described.status in ("yellow", "red")
    seconds, unbuilt = rebuild_index(new, needed=needs_look)
    if not unbuilt or not copy.aliases():
        return seconds, unbuilt
    log.warning("%s; all is copied, and the aliases are switched then", unbuilt[0])
    more_seconds, unbuilt = rebuild_index(new, needed=True, patience_s=math.inf)
    if unbuilt:
        raise StoreError(
            f"{unbuilt[0]}; all is copied and no alias was switched: run the same command again "
            f"then, or switch without waiting for the index"
        )
    return seconds + more_seconds, []


def check_copy_space(copy: Copy, *, reindex: bool = True) -> None:
    """Raise `StoreError` where the disk has no room for the points that the copy lacks."""
    if not copy.collection.store.is_embedded:
        return
    old, store = copy.collection, copy.collection.store
    n_there = store.count(copy.new_name) if store.exists(copy.new_name) else 0
    n_lacking = max(0, old.count() - n_there)
    is_indexed = reindex and old.described.n_indexed > 0
    store.check_space(old.name, copy.specs(), n_lacking, reindexes=is_indexed)


def _open_or_create(copy: Copy) -> tuple[ImageCollection, bool]:
    """Return the new collection, and whether clients use it already: then nothing is copied."""
    store, name = copy.collection.store, copy.new_name
    if not store.exists(name):
        metadata = {
            **foreign_metadata(copy.collection.described.metadata),
            **copy.manifest().to_metadata(),
            **copy.record.to_metadata(),
        }
        store.create(name, copy.specs(), metadata=metadata, options=copy.settings())
    # Before the points: a later index would read them all.
    store.copy_indexes(copy.collection.name, name)
    new = ImageCollection.open(store, name)
    if copy.vector not in new.manifest.vectors:
        new.declare(copy.vector, copy.origin())
    return new, is_switched(copy)


def _switch(copy: Copy, new: ImageCollection) -> list[str]:
    """Let all aliases of the old collection mean the new one; returns them."""
    aliases = copy.aliases()
    record = replace(copy.record, aliases=tuple(aliases), is_complete=True)
    # First, so that a kill in between leaves a copy that can be switched, and then undone.
    new.store.set_metadata(new.name, record.to_metadata())
    new.store.set_aliases(dict.fromkeys(aliases, new.name))
    return aliases


@dataclass
class CopyFill:
    """Copies the points that the new collection lacks, in passes over the old one."""

    copy: Copy
    new: ImageCollection
    batch_size: int
    throttle: float | None
    failures: Failures
    n_copied: int = field(default=0, init=False)
    n_projected: int = field(default=0, init=False)
    """Those of the copied points that got the projected vector at once."""
    uncopied: set[PointId] = field(default_factory=set, init=False)
    """Points without any vector that can be stored."""
    doubtful: set[PointId] = field(default_factory=set, init=False)
    """Points that were changed after they were read and before they were written: a writer of a
    vector or of payload to both collections did not find them in the new one yet."""
    _listed: set[tuple[PointId, str]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        """Begin with a small page: nothing is known of the payloads yet."""
        specs = self.copy.collection.described.vectors
        width = sum(specs[name].size for name in self.copy.renamed)
        self._size = PageSize(self.batch_size, width, payload=True)

    def fill(self) -> None:
        """Copy what is absent, and again what writers have changed meanwhile."""
        self.absent()
        self.settle()

    def absent(self) -> None:
        """Copy all points that the new collection lacks; `StoreError` if that never ends."""
        for _ in range(MOST_PASSES):
            n_before = self.n_copied
            self._pass()
            if self.n_copied == n_before:
                return
        raise StoreError(
            f"after {MOST_PASSES} passes {self.copy.new_name!r} still lacks points of "
            f"{self.copy.collection.name!r}: they are written faster than they are copied; pause "
            f"the writers, then run the same command again"
        )

    def settle(self) -> None:
        """Copy doubtful points again that stay different; `StoreError` if that never ends."""
        old, names = self.copy.collection, list(self.copy.renamed)
        for _ in range(MOST_PASSES):
            doubtful = sorted(self.doubtful - self.uncopied, key=str)
            differing = _lasting_differences(self.copy, self.new, doubtful)
            if not differing:
                return
            again = old.store.retrieve(old.name, list(differing), vectors=names, payload=True)
            self._take(again, replaces=True)
        raise StoreError(
            f"{in_points(len(differing))} of {self.copy.new_name!r} differ from those of "
            f"{self.copy.collection.name!r} after {MOST_PASSES} copies: they are changed faster "
            f"than they are copied; pause the writers, then run the same command again"
        )

    def _pass(self) -> None:
        old = self.copy.collection
        pages = old.scroll(batch_size=self.batch_size)
        n_points = old.described.n_points
        with progress(n_points, f"copy {old.name}", unit="points") as bar:
            try:
                read = paced(pages, self.throttle)
                for page in foretold(read, lambda page: len(page.ids), lambda: n_points):
                    absent = absent_ids(self.new, page.ids)
                    wanted = [point for point in absent if point not in self.uncopied]
                    for whole in self._whole(wanted):
                        self._take(whole)
                    bar.update(len(page.ids))
            finally:
                self.failures.flush()

    def _whole(self, ids: Sequence[PointId]) -> Iterator[Page]:
        """Yield points with all that they have, so many at a time as memory bears."""
        old, names = self.copy.collection, list(self.copy.renamed)
        start = 0
        while start < len(ids):
            some = ids[start : start + self._size()]
            page = old.store.retrieve(old.name, some, vectors=names, payload=True)
            self._size.learn(page.payloads)
            start += len(some)
            yield page

    def _take(self, page: Page, *, replaces: bool = False) -> None:
        source = page.vectors[self.copy.source]
        found = project_rows(self.copy.projection, source, self.copy.source, page.payloads)
        Z = np.full((len(page.ids), self.copy.projection.dim_out), np.nan, dtype=np.float32)
        Z[found.rows] = found.Z
        self._list_infinite(page)
        columns = {new: page.vectors[old] for old, new in self.copy.renamed.items()}
        columns[self.copy.vector] = Z
        for names, rows in alike(columns):
            vectors = {name: columns[name][rows] for name in names}
            self._write(page, vectors, rows, replaces=replaces)
        self._doubt(page)

    def _doubt(self, page: Page) -> None:
        """Read the points of a page again, now that they are in the new collection.

        What is written from now on, its writer finds there.
        """
        old, names = self.copy.collection, list(self.copy.renamed)
        now = old.store.retrieve(old.name, page.ids, vectors=names, payload=True)
        self.doubtful.update(_changed(page, now))

    def _write(
        self,
        page: Page,
        vectors: Mapping[str, Floats],
        rows: NDArray[np.intp],
        *,
        replaces: bool,
    ) -> None:
        ids = [page.ids[row] for row in rows]
        if not vectors:
            self.uncopied.update(ids)
            for point in ids:
                self._list(point, "it has no vector that can be stored; it is not copied")
            return
        payloads = [page.payloads[row] for row in rows]
        if replaces:
            self.new.write(ids, vectors, payloads)
            return
        # Never over a point that a writer to both has brought there first: that one is newer.
        self.new.insert(ids, vectors, payloads)
        self.n_copied += len(ids)
        self.n_projected += len(ids) if self.copy.vector in vectors else 0

    def _list_infinite(self, page: Page) -> None:
        for name, X in page.vectors.items():
            is_infinite = ~np.isfinite(X).all(axis=1) & ~np.isnan(X).all(axis=1)
            for row in np.flatnonzero(is_infinite):
                self._list(page.ids[row], f"its vector {name!r} is not finite; it is not copied")

    def _list(self, point: PointId, why: str) -> None:
        if (point, why) not in self._listed:
            self._listed.add((point, why))
            self.failures.add(FailureRecord(str(point), "copy", why))


def _changed(was: Page, now: Page) -> Iterator[PointId]:
    """Yield the points of a page that are there still, and not as they were."""
    places = {point: row for row, point in enumerate(was.ids)}
    rows = np.array([places[point] for point in now.ids], dtype=np.intp)
    differs = np.array(
        [not is_same(was.payloads[row], p) for row, p in zip(rows, now.payloads, strict=True)],
        dtype=bool,
    )
    for name, X in now.vectors.items():
        # By their bits: an absent vector is NaN, and stays so.
        differs |= (was.vectors[name][rows].view(np.uint32) != X.view(np.uint32)).any(axis=1)
    yield from (now.ids[row] for row in np.flatnonzero(differs))


def alike(columns: Mapping[str, Floats]) -> Iterator[tuple[list[str], NDArray[np.intp]]]:
    """Yield the rows that have the same vectors, with the names of these."""
    there = np.stack([np.isfinite(X).all(axis=1) for X in columns.values()], axis=1)
    for pattern in np.unique(there, axis=0):
        names = [name for name, has in zip(columns, pattern, strict=True) if has]
        yield names, np.flatnonzero((there == pattern).all(axis=1))
