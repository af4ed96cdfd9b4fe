"""Collections of qdrant-client's local mode, streamed into a store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from intramodal.errors import Conflict, InputError, StoreError, Unsupported
from intramodal.ingest.backfill.copy import RENORMALIZED, alike, differs
from intramodal.ingest.backfill.verify import storage_error
from intramodal.ingest.failures import Failures
from intramodal.ingest.payload import Notes, is_same, storable_columns
from intramodal.ingest.prune import Seen
from intramodal.progress import progress
from intramodal.runs.records import FailureRecord
from intramodal.runs.run import Run
from intramodal.store.base import Page, Store, VectorSpec
from intramodal.store.checks import check_name, check_specs, checked_payload
from intramodal.store.collection import ImageCollection
from intramodal.store.local_mode import LocalCollection, LocalMode, Problem
from intramodal.store.manifest import CLAIM_KEY, Manifest
from intramodal.types import Payload, PointId, short_repr

IMPORT_KEY = "intramodal_import"
"""Top-level key of the metadata of a collection that was imported: only such a one goes on."""

_VERSION = 1


@dataclass(frozen=True)
class ImportedCollection:
    """What became of one collection.

    Parameters
    ----------
    collection : str
    written : int
        Points that the store lacked.
    skipped : int
        Points that were there.
    differing : int
        Those of them that are not as in local mode; they are left as they are.
    vectors : list of str
    left_out : dict of str to str
        Vectors and indexes that were not imported, and what they are.
    """

    collection: str
    written: int
    skipped: int
    differing: int
    vectors: list[str]
    left_out: Mapping[str, str]


@short_repr
@dataclass(frozen=True)
class ImportSummary:
    """What an import did.

    Parameters
    ----------
    folder : str
    collections : list of ImportedCollection
    written, failed : int
        Points of all collections; failed are points, vectors and payload columns that could not
        be read or kept.
    failures : list of dict
        "item", "stage" and "reason" of the first of these.
    aliases : list of str
        Those that were set.
    notes : list of str
    seconds : float
    """

    folder: str
    collections: list[ImportedCollection]
    written: int
    failed: int
    failures: list[dict[str, str]]
    aliases: list[str]
    notes: list[str]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    def record(self, run: Run) -> None:
        """Write the counts to a run."""
        for found in self.collections:
            run.log_metric(f"{found.collection}: written"[:100], found.written)
            run.log_metric(f"{found.collection}: skipped"[:100], found.skipped)
        run.log_metric("failed", self.failed)


@short_repr
@dataclass(frozen=True)
class PlannedCollection:
    """What an import would do with one collection.

    Parameters
    ----------
    collection : str
    points : int
    vectors : dict of str to dict
        "size", "distance" and "datatype" of those that would be imported.
    left_out : dict of str to str
    is_there : bool
        Whether the store has it, so that the import resumes.
    problem : str
        What keeps it from being imported; "" if nothing does.
    """

    collection: str
    points: int
    vectors: Mapping[str, Mapping[str, Any]]
    left_out: Mapping[str, str]
    is_there: bool
    problem: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def plan_import_local(
    folder: Path, store: Store | None = None, *, collections: Sequence[str] | None = None
) -> list[PlannedCollection]:
    """Return what `import_local` would do; reads no point and writes nothing.

    Parameters
    ----------
    folder : Path
        What ``QdrantClient(path=...)`` was given.
    store : Store, optional
        None for one that is not there yet.
    collections : sequence of str, optional
        By default all.
    """
    local = LocalMode(folder)
    with local.held():
        return [_planned(source, store) for source in _chosen(local, collections)]


def _planned(source: LocalCollection, store: Store | None) -> PlannedCollection:
    problem = ""
    try:
        _check(source, store)
    except (InputError, StoreError) as error:
        problem = str(error)
    specs = {
        name: {"size": spec.size, "distance": spec.distance, "datatype": spec.datatype}
        for name, spec in source.vectors.items()
    }
    is_there = store is not None and store.exists(source.name)
    n = source.n_rows()
    return PlannedCollection(source.name, n, specs, source.left_out, is_there, problem)


def import_local(
    folder: Path,
    store: Store,
    *,
    collections: Sequence[str] | None = None,
    batch_size: int = 1000,
    run: Run | None = None,
) -> ImportSummary:
    """Stream collections of qdrant-client's local mode into a store.

    Ids, vectors of one row a point, payload, metadata and aliases are imported under the same
    names; sparse vectors, multivectors and text indexes are listed. Points that the store has are
    compared and never overwritten. Killed at any moment, the same call resumes. Nothing is
    written to the folder, and no pickle in it is run.

    Parameters
    ----------
    folder : Path
        What ``QdrantClient(path=...)`` was given; no client may have it open.
    store : Store
        Any other place.
    collections : sequence of str, optional
        By default all.
    batch_size : int
        Most points read and written at once.
    run : Run, optional
        Takes the failures and counts.

    Raises
    ------
    InputError
        If the folder is no storage of local mode, or a name or definition cannot be kept.
    Locked
        If a client has it open.
    NotFound, Unsupported, Conflict
        If there is no such collection, it has no vector of one row per point, or the store has
        another one of that name; nothing is written then.
    StoreError
        If a collection cannot be read, or the store lacks points in the end.
    """
    started = time.perf_counter()
    run = run or Run()
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    local = LocalMode(folder)
    failures = Failures(run, None, "points")
    with local.held():
        sources = _chosen(local, collections)
        names = {source.name for source in sources}
        aliases = {alias: name for alias, name in local.aliases.items() if name in names}
        for source in sources:
            _check(source, store)
        for alias in aliases:
            check_name(alias, "alias")
        done = [_Import(source, store, batch_size, failures).whole() for source in sources]
    set_now, notes = _set_aliases(store, aliases)
    found = ImportSummary(
        folder=str(folder),
        collections=done,
        written=sum(one.written for one in done),
        failed=failures.n,
        failures=failures.listed,
        aliases=set_now,
        notes=notes,
        seconds=round(time.perf_counter() - started, 3),
    )
    run.keep(found)
    return found


def _chosen(local: LocalMode, names: Sequence[str] | None) -> list[LocalCollection]:
    wanted = local.names() if names is None else list(dict.fromkeys(names))
    if not wanted:
        raise InputError(f"{local.folder} holds no collection; there is nothing to import")
    return [local.collection(name) for name in wanted]


def _check(source: LocalCollection, store: Store | None) -> None:
    """Raise unless a collection can be imported, as new or on top of what was."""
    name, specs = source.name, source.vectors
    check_name(name)
    if not specs:
        there = ", ".join(f"{what} {one!r}" for one, what in source.left_out.items()) or "none"
        raise Unsupported(
            f"{name!r} has no vector of one row per point (it has {there}) and cannot be "
            f"imported; import the other collections by name"
        )
    check_specs(specs)
    Manifest.from_metadata(_metadata(source))
    if store is None:
        return
    for vector, spec in specs.items():
        store.check_storable(vector, spec)
    if store.exists(name):
        _check_same(source, ImageCollection.open(store, name))


def _check_same(source: LocalCollection, target: ImageCollection) -> None:
    """Raise `Conflict` unless the target was imported from such a collection."""
    there = target.vectors
    is_same = all(there.get(name) == spec for name, spec in source.vectors.items())
    if target.described.metadata.get(IMPORT_KEY) != _marker(source) or not is_same:
        what = "with other vectors" if not is_same else "which was not imported from local mode"
        raise Conflict(
            f"there is a collection {source.name!r} already, {what}; import into another store, "
            f"or import the other collections by name"
        )


def _marker(source: LocalCollection) -> dict[str, Any]:
    return {"version": _VERSION, "collection": source.name}


def _metadata(source: LocalCollection) -> dict[str, Any]:
    """Return what the new collection's metadata holds: all of it but claims, and our mark."""
    kept = {k: v for k, v in source.metadata.items() if not str(k).startswith(CLAIM_KEY)}
    return checked_payload({**kept, IMPORT_KEY: _marker(source)})


class _Import:
    """One collection on its way into a store."""

    def __init__(
        self, source: LocalCollection, store: Store, batch_size: int, failures: Failures
    ) -> None:
        self._source = source
        self._store = store
        self._batch_size = batch_size
        self._failures = failures
        self._notes = Notes()
        self._n_written = self._n_skipped = self._n_differing = 0

    def whole(self) -> ImportedCollection:
        """Write what the store lacks; returns what became of it."""
        source = self._source
        target = self._ensured()
        with (
            closing(Seen()) as seen,
            progress(source.n_rows(), f"import {source.name}", unit="points") as bar,
        ):
            try:
                for page, problems in source.pages(self._batch_size):
                    self._list(problems)
                    self._take(target, _first_of_each(page, seen))
                    bar.update(len(page.ids))
            finally:
                self._failures.flush()
        self._check_count(target)
        counts = self._n_written, self._n_skipped, self._n_differing
        return ImportedCollection(source.name, *counts, list(source.vectors), source.left_out)

    def _ensured(self) -> ImageCollection:
        source, store = self._source, self._store
        if not store.exists(source.name):
            try:
                store.create(source.name, source.vectors, metadata=_metadata(source))
            except Conflict:  # another import was faster
                _check_same(source, ImageCollection.open(store, source.name))
        return ImageCollection.open(store, source.name)

    def _list(self, problems: Sequence[Problem], stage: str = "read") -> None:
        name = self._source.name
        self._failures.add(
            *(FailureRecord(f"{name}/{item}", stage, reason) for item, reason in problems)
        )

    def _take(self, target: ImageCollection, page: Page) -> None:
        """Compare the points of a page that are there, and write the others."""
        names = list(self._source.vectors)
        page = replace(page, payloads=list(map(self._payload, page.ids, page.payloads)))
        known = self._store.retrieve(target.name, page.ids, vectors=names, payload=True)
        places = {point: row for row, point in enumerate(page.ids)}
        there = [places.pop(point) for point in known.ids]
        is_off = _differing(_rows_of(page, there), known, self._source.vectors)
        self._n_skipped += len(there)
        self._n_differing += int(is_off.sum())
        absent = _rows_of(page, list(places.values()))
        for vectors, rows in alike(absent.vectors) if absent.ids else ():
            self._write(target, vectors, _rows_of(absent, rows.tolist()))

    def _payload(self, point: PointId, payload: Payload) -> Payload:
        """Return what can be stored of a payload; the rest is listed."""
        found, problem = storable_columns(payload, self._notes)
        if problem is not None:
            self._list([(str(point), problem)], "metadata")
        return found

    def _write(self, target: ImageCollection, vectors: Sequence[str], page: Page) -> None:
        if not vectors:
            self._list([(str(i), "it has no vector that can be imported") for i in page.ids])
            return
        X = {name: page.vectors[name] for name in vectors}
        target.insert(page.ids, X, page.payloads)
        self._n_written += len(page.ids)

    def _check_count(self, target: ImageCollection) -> None:
        n_lacking = self._n_written + self._n_skipped - target.count()
        if n_lacking > 0:
            raise StoreError(
                f"{target.name!r} lacks {n_lacking:,} of the points that were imported: somebody "
                f"deletes from it; run the same import again"
            )


def _first_of_each(page: Page, seen: Seen) -> Page:
    """Return the points whose ids were not seen; rows of older versions may repeat one."""
    return _rows_of(page, [row for row, point in enumerate(page.ids) if seen.add(point)])


def _rows_of(page: Page, rows: Sequence[int]) -> Page:
    return Page(
        ids=[page.ids[row] for row in rows],
        vectors={name: X[list(rows)] for name, X in page.vectors.items()},
        payloads=[page.payloads[row] for row in rows],
    )


def _differing(given: Page, known: Page, specs: Mapping[str, VectorSpec]) -> Any:
    """Return which stored points (n,) are not as they were given."""
    pairs = zip(given.payloads, known.payloads, strict=True)
    is_off = np.array([not is_same(was, now) for was, now in pairs], dtype=bool)
    for name, spec in specs.items():
        is_off |= differs(
            given.vectors[name], known.vectors[name], storage_error(spec) + RENORMALIZED
        )
    return is_off


def _set_aliases(store: Store, wanted: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Set aliases that mean nothing yet; returns them, and why the others are not."""
    known = store.aliases() if wanted else {}
    taken = {alias for alias in wanted if alias in known or store.exists(alias)}
    new = {alias: name for alias, name in wanted.items() if alias not in taken}
    if new:
        store.set_aliases(new)
    notes = [
        f"the alias {alias!r} is taken here and is left as it is"
        for alias in sorted(taken)
        if known.get(alias) != wanted[alias]
    ]
    return sorted(new), notes
