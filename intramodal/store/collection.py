"""`ImageCollection`: a collection of pictures whose vectors are known by their origin."""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import (
    AccessDenied,
    Conflict,
    InputError,
    ManifestMismatchError,
    NotFound,
    Unsupported,
)
from intramodal.progress import foretold, progress
from intramodal.store.base import (
    CollectionInfo,
    Filter,
    Hits,
    IndexKind,
    Page,
    SearchLimits,
    Slice,
    Store,
    VectorSpec,
)
from intramodal.store.checks import check_new_vector
from intramodal.store.fields import paths, value_at
from intramodal.store.manifest import Manifest, VectorOrigin, claims, new_claim
from intramodal.store.samples import draw_from_slices, draw_ids
from intramodal.types import FittedVector, Floats, Payload, PointId, VectorTable, unit_rows

log = logging.getLogger(__name__)

SCROLL_BATCH = 1000
"""Points a page."""

_IDS_A_PAGE = 10_000
"""Where nothing else of the points is read."""

MANY_POINTS = 100_000
"""From so many on a sample is drawn from slices: reading all ids is no longer a few seconds."""

_MOST_TRIES = 3

_CLAIM_S, _CLAIM_POLL_S = 5.0, 0.1
"""How long a claim is believed to be of somebody who lives: two requests lie between the claim and
the declaration; and how often one looks meanwhile."""


class ImageCollection:
    """A named collection in a store, with the manifest that says what its vectors are.

    Use `open`, `create` or `ensure`; the constructor only stores.

    Opened by an alias, each call goes where the alias means at that moment, as that of every other
    client does; jobs that write (a backfill, an ingest, ...) take what it means as they begin.

    Parameters
    ----------
    store : Store
        Stays open and belongs to the caller.
    name : str
    manifest : Manifest
    described : CollectionInfo, optional
        What the store said; by default it is asked when that is needed.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        manifest: Manifest,
        described: CollectionInfo | None = None,
    ) -> None:
        self.store = store
        self.name = name
        self.manifest = manifest
        self._described = described

    @classmethod
    def open(cls, store: Store, name: str) -> ImageCollection:
        """Open an existing collection; `NotFound` names the closest ones."""
        if not store.exists(name):
            raise NotFound(_absent(name, store.collections()))
        found = store.info(name)
        return cls(store, name, Manifest.from_metadata(found.metadata), found)

    @classmethod
    def create(
        cls,
        store: Store,
        name: str,
        vectors: Mapping[str, tuple[int, VectorOrigin]],
        *,
        dataset: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ImageCollection:
        """Create a collection of vectors; `Conflict` if the name is taken.

        Parameters
        ----------
        vectors : dict of str to (int, VectorOrigin)
            Size and origin of each named vector.
        dataset : str, optional
            Namespace of the point ids; the collection's name by default.
        """
        for vector in vectors:
            check_new_vector(vector)
        manifest = Manifest({v: origin for v, (_, origin) in vectors.items()}, dataset or name)
        specs = {v: VectorSpec(size, origin.distance) for v, (size, origin) in vectors.items()}
        store.create(name, specs, metadata=manifest.to_metadata(), options=options)
        return cls(store, name, replace(manifest, is_stored=True))

    @classmethod
    def create_unless_there(
        cls,
        store: Store,
        name: str,
        vectors: Mapping[str, tuple[int, VectorOrigin]],
        *,
        dataset: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ImageCollection | None:
        """Create a collection as `create` does; None if there is one, made a moment ago or before.

        Of two processes that begin at once one makes it, and the other joins it.
        """
        if store.exists(name):
            return None
        try:
            return cls.create(store, name, vectors, dataset=dataset, options=options)
        except Conflict:
            if not store.exists(name):
                raise
            return None

    @classmethod
    def ensure(
        cls,
        store: Store,
        name: str,
        vectors: Mapping[str, tuple[int, VectorOrigin]],
        *,
        dataset: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ImageCollection:
        """Open the collection or create it, and make sure its vectors are of these origins.

        Raises
        ------
        ManifestMismatchError
            If it exists with another encoder, projection or size, or lacks one of the vectors.
        """
        made = cls.create_unless_there(store, name, vectors, dataset=dataset, options=options)
        if made is not None:
            return made
        collection = cls.open(store, name)
        for vector, (size, origin) in vectors.items():
            collection.require(vector, origin, size)
        return collection

    def require(self, vector: str, origin: VectorOrigin, size: int) -> None:
        """Raise `ManifestMismatchError` unless `vector` is there, of this origin and size."""
        specs = self._specs_with([vector])
        if vector not in specs:
            raise ManifestMismatchError(
                f"collection {self.name!r} has the vectors {_listed(specs)} but no {vector!r}; "
                f"add it with a backfill, or write without it"
            )
        self.origin(vector)
        self.manifest.check(vector, origin)
        if specs[vector].size != size:
            raise ManifestMismatchError(
                f"vector {vector!r} of {self.name!r} has {specs[vector].size} dimensions, "
                f"got {size}; use the model and projection that the collection was made with"
            )

    def origin(self, vector: str) -> VectorOrigin:
        """Return how `vector` was made; `ManifestMismatchError` if nobody has declared it."""
        if vector not in self.manifest.vectors:
            raise ManifestMismatchError(
                f"nothing says which model made the vector {vector!r} of {self.name!r} "
                f"(known: {_listed(self.manifest.vectors)}); declare it with `intramodal adopt`"
            )
        return self.manifest.vectors[vector]

    def declare(self, vector: str, origin: VectorOrigin) -> None:
        """Record the origin of a vector in the manifest; refused if it is known otherwise."""
        self.reread()
        self._save(vector, self.manifest.with_vector(vector, origin))

    def forget(self, vector: str) -> None:
        """Remove a vector from the collection and from the manifest.

        Where the store's version makes the name unsafe to use again, the manifest remembers it,
        from before the removal on.
        """
        found = self.reread()
        if vector in found.vectors:
            if self.store.risk_of_removing_vectors():
                version = str(self.store.describe()["version"])
                self._save(vector, self.manifest.with_removed(vector, version))
            self.store.delete_vector(self.name, vector)
            left = {name: spec for name, spec in found.vectors.items() if name != vector}
            self._described = replace(found, vectors=left)
        self._save(vector, self.manifest.without_vector(vector))

    def check_reusable(self, vector: str) -> None:
        """Raise `Conflict` if a server has removed the vector which may bring it back."""
        # From 1.19 on a server makes every new name from nothing, whatever older ones have left
        # of it on disk (qdrant#9317).
        version = self.manifest.removed.get(vector)
        if version is None or not self.store.risk_of_removing_vectors():
            return
        raise Conflict(
            f"{vector!r} was removed from {self.name!r} by Qdrant {version}, which can bring its "
            f"old vectors back under the same name (qdrant#9317); choose another `vector`, "
            f"upgrade the server to 1.19.0 or later, or give `yes`, and verify after the next "
            f"restart of the server"
        )

    def add_vector(
        self,
        vector: str,
        size: int,
        origin: VectorOrigin,
        *,
        datatype: str = "float32",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an empty named vector; its origin is declared first, as incomplete.

        In this order a kill between the two steps leaves a name without vectors, never vectors
        of unknown origin. `finish_vector` marks it complete.

        Of several who declare the same vector otherwise at the same moment one goes on, and the
        others are refused before they have changed anything.

        Raises
        ------
        ManifestMismatchError
            If the name is taken by vectors that were made otherwise, or that nobody declared.
        Conflict
            If others try to declare it all the time.
        InputError, Unsupported
            If no vector can have that name, or the store cannot keep such a one.
        AccessDenied
            If the key may not change the collection's description.
        """
        if vector not in self.vectors:
            check_new_vector(vector)
        spec = VectorSpec(size, origin.distance, datatype)
        self.store.check_storable(vector, spec)
        with self._claimed(vector, origin) as claims_to_remove:
            there = self._declared_new(vector, origin, claims_to_remove)
        self.store.add_vector(self.name, vector, spec, settings)
        self._described = replace(self.described, vectors={**there, vector: spec})

    def _declared_new(
        self, vector: str, origin: VectorOrigin, claims_to_remove: set[str]
    ) -> Mapping[str, VectorSpec]:
        """Declare a vector as incomplete, unless it is known; returns those that are there."""
        there = self.vectors
        self._check_may_add(vector)
        known = self.manifest.vectors.get(vector)
        if known is None and vector in there:
            raise ManifestMismatchError(
                f"collection {self.name!r} has a vector {vector!r} already and nothing says how "
                f"it was made; choose another vector name, or declare it with `intramodal adopt`"
            )
        is_complete = known is not None and known.is_complete
        origin = replace(origin, is_complete=is_complete)
        self._save(vector, self.manifest.with_vector(vector, origin), claims_to_remove)
        claims_to_remove.clear()
        return there

    @contextmanager
    def _claimed(self, vector: str, origin: VectorOrigin) -> Iterator[set[str]]:
        """Look at the collection, alone among those who would declare a new vector otherwise.

        Everybody first writes that he is about to declare it, and looks then: of two, one at least
        sees the other. The smaller claim goes first, when the others have stepped back or have
        declared the vector. Yields the claims that the declaration removes.
        """
        claim = self._claim(vector, origin)
        left = claims(self.described.metadata, vector, origin)[0] | ({claim} if claim else set())
        try:
            yield left
        finally:
            if claim in left:  # nothing was declared
                self.store.set_metadata(self.name, {claim: None})

    def _claim(self, vector: str, origin: VectorOrigin) -> str:
        """Return the claim that goes first, "" where the vector is known; has looked after it."""
        if vector in self.manifest.vectors or self.store.lacking_right(self.name):
            self.reread()
            if vector in self.manifest.vectors or self.store.lacking_right(self.name):
                return ""
        for _ in range(_MOST_TRIES):
            claim, started = new_claim(vector), time.monotonic()
            try:
                self.store.set_metadata(self.name, {claim: origin.to_dict()})
            except AccessDenied:
                self.reread()
                if vector in self.manifest.vectors:  # and no right is needed
                    return ""
                raise
            others = claims(self.reread().metadata, vector, origin)[1]
            is_slow = time.monotonic() - started > _CLAIM_S / 2  # others may think it is dead
            if not is_slow and claim < min(others, default=claim + "z"):
                self._wait_for(others)
                return claim
            self.store.set_metadata(self.name, {claim: None})
            self._wait_for(others)
        raise Conflict(
            f"others are about to add {vector!r} to {self.name!r}, made by another projection; "
            f"run the same command again when they are through, or choose another vector name"
        )

    def _wait_for(self, others: set[str]) -> None:
        """Wait until others have declared a vector or stepped back; remove claims of the dead."""
        deadline = time.monotonic() + _CLAIM_S
        while others and time.monotonic() < deadline:
            time.sleep(_CLAIM_POLL_S)
            others = {key for key in others if self.reread().metadata.get(key) is not None}
        if others:
            self.store.set_metadata(self.name, dict.fromkeys(others))
            self.reread()

    def finish_vector(self, vector: str, *, is_complete: bool = True) -> None:
        """Mark a vector as filled: completely, or with points that lack it still.

        Raises as `check_unchanged`.
        """
        origin = self.check_unchanged(vector)
        declared = replace(origin, is_complete=is_complete)
        self._save(vector, self.manifest.with_vector(vector, declared))

    def check_unchanged(self, vector: str) -> VectorOrigin:
        """Look again; raise unless a vector that is being written is there and made as before.

        Raises
        ------
        Conflict
            If somebody has removed it since.
        ManifestMismatchError
            If somebody has declared it otherwise since.
        """
        origin = self.origin(vector)
        found = self.reread()
        if vector not in found.vectors or vector not in self.manifest.vectors:
            raise Conflict(
                f"{vector!r} was removed from {self.name!r} while it was being written; run the "
                f"same command again if it is still wanted"
            )
        known = self.manifest.vectors[vector]
        if not known.agrees_with(origin):
            raise ManifestMismatchError(
                f"{vector!r} of {self.name!r} was made anew by {known} while it was being written "
                f"by {origin}, and may hold vectors of both; roll it back and run one backfill "
                f"alone, or recompute all points with the projection that made it anew"
            )
        return known

    def _check_may_add(self, vector: str) -> None:
        """Raise `AccessDenied` where a key is known to lack what adding a vector takes."""
        lacks = self.store.lacking_right(self.name)
        if lacks and not self.is_prepared_for(vector):
            raise AccessDenied(
                f"{vector!r} cannot be added to {self.name!r}: {self.who_may(lacks)}"
            )

    def who_may(self, lacks: str, *, asks: bool = False) -> str:
        """Return what a key lacks, and who must do it: once, if this key is enough after that."""
        if self.store.lacking_right(self.name, to_write=True, asks=asks):
            return f"{lacks}; it has to be done with a key that may change the collection"
        return (
            f"{lacks}; let somebody whose key may run the same command once, then this key is "
            f"enough for the points that come later"
        )

    def is_prepared_for(self, vector: str) -> bool:
        """Return whether a vector is there, and known to the manifest."""
        return vector in self.vectors and vector in self.manifest.vectors

    def info(self) -> CollectionInfo:
        """Ask the store what it says about the collection now, and remember it."""
        self._described = self.store.info(self.name)
        return self._described

    @property
    def described(self) -> CollectionInfo:
        """What the store said when it was last asked; `info` asks again."""
        return self.info() if self._described is None else self._described

    @property
    def vectors(self) -> Mapping[str, VectorSpec]:
        """The named vectors as last seen: `info` and what changes them look again."""
        return self.described.vectors

    @property
    def search_limits(self) -> SearchLimits:
        """What the store lets searches do."""
        return self.store.search_limits(self.name)

    def ensure_index(self, field: str, kind: IndexKind) -> None:
        """Create a payload index unless it is there."""
        self.store.ensure_index(self.name, field, kind)
        indexes = {**self.described.indexes, **dict.fromkeys(paths(field), kind)}
        self._described = replace(self.described, indexes=indexes)

    def index_for(self, where: Filter | None) -> None:
        """Create the payload indexes without which the store forbids a filter."""
        self.store.index_for(self.name, where)

    def vector_spec(self, vector: str) -> VectorSpec:
        """Return the definition of a named vector; `NotFound` if the collection lacks it."""
        self._require_names([vector])
        return self.vectors[vector]

    def count(self, where: Filter | None = None, *, exact: bool = True) -> int:
        """Return the number of (matching) points; an estimate is enough without `exact`."""
        return self.store.count(self.name, where, exact=exact)

    def write(
        self, ids: Sequence[PointId], vectors: Mapping[str, Floats], payloads: Sequence[Payload]
    ) -> None:
        """Write whole points, all vectors in one upsert; points with these ids are replaced."""
        self.store.upsert(self.name, ids, vectors, payloads)

    def insert(
        self, ids: Sequence[PointId], vectors: Mapping[str, Floats], payloads: Sequence[Payload]
    ) -> None:
        """Write whole points that are absent; those that exist stay untouched."""
        self.store.insert(self.name, ids, vectors, payloads)

    def with_existing(
        self, ids: Sequence[PointId], write: Callable[[list[int]], None]
    ) -> list[int]:
        """Call `write` with the rows of the points that still exist; returns these rows.

        `write` raises `NotFound` where a point was deleted meanwhile, and is called again without
        it; deleted faster than one can look, none is left. It must bear repetition.
        """
        rows = list(range(len(ids)))
        for _ in range(_MOST_TRIES):
            try:
                write(rows)
            except NotFound:
                there = set(self.store.retrieve(self.name, ids).ids)
                left = [row for row in rows if ids[row] in there]
                if len(left) == len(rows):  # something else is absent, the vector for example
                    raise
                rows = left
                if not rows:
                    break
            else:
                return rows
        return []

    def scroll(
        self,
        *,
        vectors: Sequence[str] = (),
        payload: Sequence[str] | bool = False,
        where: Filter | None = None,
        batch_size: int = SCROLL_BATCH,
    ) -> Iterator[Page]:
        """Yield all (matching) points, page by page, in id order."""
        return self.store.scroll(
            self.name, vectors=vectors, payload=payload, where=where, batch_size=batch_size
        )

    def scan(
        self,
        *,
        vectors: Sequence[str] = (),
        payload: Sequence[str] | bool = False,
        where: Filter | None = None,
        batch_size: int = SCROLL_BATCH,
    ) -> Iterator[Page]:
        """Yield the same as `scroll`, to its end; see `Store.scan`. A long read is foretold."""
        pages = self.store.scan(
            self.name, vectors=vectors, payload=payload, where=where, batch_size=batch_size
        )
        return self._foretold(pages, where)

    def _foretold(self, pages: Iterable[Page], where: Filter | None = None) -> Iterator[Page]:
        total = self.described.n_points if where is None else None
        with progress(total, f"read {self.name}", unit="points") as bar:
            for page in foretold(
                pages, lambda page: len(page.ids), lambda: self.count(where, exact=False)
            ):
                yield page
                bar.update(len(page.ids))

    def table(
        self,
        vectors: Sequence[str],
        *,
        payload: Sequence[str] = (),
        where: Filter | None = None,
        sample: int | None = None,
        seed: int = 0,
    ) -> VectorTable:
        """Read vectors and payload fields of all (matching) points, once.

        Points that lack one of the vectors are left out and counted in `n_incomplete`.

        Parameters
        ----------
        vectors, payload : sequence of str
        where : Filter, optional
        sample : int, optional
            Where there are more points, so many are drawn at random, see `draw`.
        seed : int
            Of the sample.

        Raises
        ------
        NotFound
            If the collection has no such vector.
        """
        self._require_names(vectors)
        wanted: dict[str, Any] = {"vectors": vectors, "payload": list(payload) or False}
        fitted = self.fitted(vectors)
        if sample is None:
            table = tabled(self.scan(**wanted, where=where), vectors, payload)
            return replace(table, fitted=fitted) if fitted else table
        ids, n_there, is_about = self.draw(sample, seed=seed, where=where)
        table = tabled(self.retrieve(ids, **wanted), vectors, payload)
        return replace(table, drawn_from=n_there, is_drawn_from_about=is_about, fitted=fitted)

    def fitted(self, vectors: Iterable[str]) -> dict[str, FittedVector]:
        """Return those of some vectors whose maps have seen labels, by the manifest."""
        origins = {name: self.manifest.vectors.get(name) for name in vectors}
        return {
            name: FittedVector(origin.labels, origin.source, origin.distance)
            for name, origin in origins.items()
            if origin is not None and origin.labels is not None
        }

    def retrieve(
        self,
        ids: Sequence[PointId],
        *,
        vectors: Sequence[str] = (),
        payload: Sequence[str] | bool = False,
    ) -> Iterator[Page]:
        """Yield the points of some ids, page by page, as far as they are there."""
        for start in range(0, len(ids), SCROLL_BATCH):
            some = ids[start : start + SCROLL_BATCH]
            yield self.store.retrieve(self.name, some, vectors=vectors, payload=payload)

    def draw(
        self, n: int, *, seed: int = 0, where: Filter | None = None
    ) -> tuple[list[PointId], int, bool]:
        """Draw n ids of (matching) points; return them, of how many, and if that is an estimate.

        Same points, same seed: same sample. From `can_draw_slices` about 8 to 16 times as many
        ids are read (`draw_from_slices`), elsewhere all of them (`draw_ids`).
        """
        if n < 1 or n >= self.described.n_points or not self.can_draw_slices(where):
            pages = self.scroll(where=where, batch_size=_IDS_A_PAGE)
            return *draw_ids(pages, n, seed=seed), False

        def read(part: Slice) -> Iterator[Page]:
            return self.scroll(
                where=(where or Filter()) & Filter(slice=part), batch_size=_IDS_A_PAGE
            )

        n_about = self.described.n_points
        ids, n_there, is_about = draw_from_slices(read, n, n_about=n_about, seed=seed)
        # Nothing is counted: of 100 million points in one shard no server counts in its time.
        return ids, n_about if is_about and where is None else n_there, is_about

    def can_draw_slices(self, where: Filter | None = None) -> bool:
        """Return whether a sample need not read the ids of all points: many, and in slices."""
        names_points = any(one.ids is not None for one in (where or Filter()).conditions)
        if names_points or self.described.n_points < MANY_POINTS:
            return False
        return self.store.can_slice(self.name, where)

    def center(self, vector: str, *, most: int | None = None) -> tuple[Floats, int]:
        """Return the mean of unit vectors (d,) and how many points it is of, from one stream.

        Points whose vector is missing, zero or not finite are left out.

        Parameters
        ----------
        vector : str
        most : int, optional
            Points that are read, in id order; all by default.

        Raises
        ------
        InputError
            If no point has such a vector.
        """
        total: Any = 0.0
        n = n_read = 0
        pages = self.scroll(vectors=[vector], batch_size=min(most or 1000, 1000))
        for page in pages if most is not None else self._foretold(pages):
            X = page.vectors[vector]
            X = unit_rows(X[np.isfinite(X).all(axis=1) & X.any(axis=1)])
            total = total + X.sum(axis=0, dtype=np.float64)
            n, n_read = n + len(X), n_read + len(page.ids)
            if most is not None and n_read >= most:
                break
        if n == 0:
            raise InputError(
                f"no point of {self.name!r} has a vector {vector!r} to average; ingest images "
                f"or name another vector"
            )
        return np.asarray(total / n, dtype=np.float32), n

    def neighbours(
        self,
        ids: Sequence[PointId],
        *,
        using: str,
        k: int = 10,
        exact: bool = True,
        where: Filter | None = None,
    ) -> Hits:
        """Return the k nearest points of stored points; none ever finds itself."""
        X = self.stored(ids, using)
        return self.search(X, using=using, k=k, exact=exact, exclude=ids, where=where)

    def stored(self, ids: Sequence[PointId], vector: str) -> Floats:
        """Return a vector (n, d) of some points; `NotFound` names one that is not there."""
        page = self.store.retrieve(self.name, ids, vectors=[vector])
        if len(page.ids) != len(ids):
            missing = sorted({str(i) for i in ids} - {str(i) for i in page.ids})
            raise NotFound(
                f"collection {self.name!r} has no point {missing[0]!r}; give a stored one's id"
            )
        return page.vectors[vector]

    def shown_neighbours(
        self,
        point: PointId,
        *,
        using: str,
        k: int = 10,
        where: Filter | None = None,
        without: Collection[PointId] = (),
    ) -> Hits:
        """Return neighbours of a point to show: as many and as exact as the store allows, or none.

        For pages and lists that go on without them; some points are not shown.
        """

        def find(k: int, exact: bool) -> Hits:
            return self.neighbours([point], using=using, k=k, exact=exact, where=where)

        return self.shown(find, k, without=without)

    def shown(
        self, find: Callable[[int, bool], Hits], k: int, *, without: Collection[PointId] = ()
    ) -> Hits:
        """Return what `find` gives for one query: as many and as exact as allowed, or nothing.

        `find` takes the number of results, and whether the search is exact; results `without`
        some points are made of more.
        """
        limits = self.search_limits
        most = self.described.n_points if limits.answers is None else limits.answers
        n = min(k, most)
        try:
            while True:
                found = find(n, limits.allows_exact)
                kept = [at for at, point in enumerate(found.ids[0]) if point not in without][:k]
                if len(kept) == k or n >= most or len(found.ids[0]) < n:
                    return Hits([[found.ids[0][at] for at in kept]], [found.scores[0][kept]])
                n = min(2 * n, most)
        except Unsupported as error:
            log.info("the neighbours of a point are not shown: %s", error)
            return Hits([[]], [np.empty(0, dtype=np.float32)])

    def search(
        self,
        Q: Floats,
        *,
        using: str,
        k: int = 10,
        exact: bool = False,
        exclude: Sequence[PointId | None] | None = None,
        where: Filter | None = None,
    ) -> Hits:
        """Return the k nearest points of each row of `Q` (n, d)."""
        self._require_names([using])
        where = self.sendable(where)
        return self.store.query_batch(
            self.name, Q, using=using, k=k, exact=exact, exclude=exclude, where=where
        )

    def sendable(self, where: Filter | None) -> Filter | None:
        """Return a filter as the store can be searched with: here, as it is."""
        return where

    def _save(self, vector: str, manifest: Manifest, removed: Iterable[str] = ()) -> None:
        """Write what the manifest now says of one vector; others may write other vectors.

        What was just read and does not change is not written: a key may lack the right. Other keys
        are `removed` in the same step.
        """
        change = {} if manifest == self.manifest else manifest.change_of(vector)
        change |= dict.fromkeys(removed)
        if not change:
            return
        self.store.set_metadata(self.name, change)
        self.manifest = replace(manifest, is_stored=True)

    def reread(self) -> CollectionInfo:
        """Look at the collection again, with its manifest; for what writes or judges by it.

        Hours may have passed since `open`: others may have declared other vectors meanwhile.
        """
        found = self.info()
        self.manifest = Manifest.from_metadata(found.metadata)
        return found

    def _specs_with(self, vectors: Sequence[str]) -> Mapping[str, VectorSpec]:
        """Return the definitions; looks again where one of `vectors` is not among them."""
        return self.vectors if set(vectors) <= set(self.vectors) else self.info().vectors

    def _require_names(self, vectors: Sequence[str]) -> None:
        specs = self._specs_with(vectors)
        for vector in vectors:
            if vector not in specs:
                raise NotFound(
                    f"collection {self.name!r} has no vector {vector!r}; it has {_listed(specs)}"
                )

    def __repr__(self) -> str:
        """Return name, count and vector sizes."""
        info = self.described
        sizes = ", ".join(f"{name or 'unnamed'}: {v.size}" for name, v in info.vectors.items())
        return f"ImageCollection({self.name!r}, {info.n_points:,} points, {sizes})"


def tabled(pages: Iterable[Page], vectors: Sequence[str], payload: Sequence[str]) -> VectorTable:
    """Return the points that have every vector, ascending by the text of their ids."""
    vectors = list(dict.fromkeys(vectors))
    read = list(pages)
    ids = [i for page in read for i in page.ids]
    none = [np.empty((0, 0), np.float32)]
    table = VectorTable(
        ids=ids,
        # Taken out of the pages, so that one copy of them is left.
        vectors={
            v: np.concatenate([page.vectors.pop(v) for page in read] or none) for v in vectors
        },
        payload={f: [value_at(p, f) for page in read for p in page.payloads] for f in payload},
    )
    keep = _in_order(table)
    is_all = np.array_equal(keep, np.arange(len(ids)))
    return table if is_all else replace(table.take(keep), n_incomplete=len(ids) - len(keep))


def _in_order(table: VectorTable) -> NDArray[np.intp]:
    """Return the rows of complete points, in the order of a table."""
    n = len(table)
    order = np.array(sorted(range(n), key=lambda row: str(table.ids[row])), dtype=np.intp)
    complete = [~np.isnan(X[:, 0]) for X in table.vectors.values() if len(X)]
    return order[np.logical_and.reduce(complete)[order]] if complete else order


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(repr(name) for name in names)) or "none"


def _absent(name: str, existing: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, existing, n=3) or sorted(existing)[:5]
    there = ", ".join(repr(c) for c in close) or "no collection at all"
    return f"there is no collection {name!r}; the store has {there}"
