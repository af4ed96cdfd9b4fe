"""`EdgeStore`: the embedded engine, a directory on disk. Beta upstream: known only here."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import metadata as distributions
from pathlib import Path
from typing import Any, cast

import qdrant_edge as edge

from intramodal.errors import (
    Conflict,
    IntramodalError,
    Locked,
    ManifestMismatchError,
    NotFound,
    StoreError,
)
from intramodal.store.base import (
    CollectionInfo,
    Filter,
    Hits,
    IndexKind,
    Page,
    Store,
    VectorSpec,
    page_of,
)
from intramodal.store.checks import (
    canonical_ids,
    check_aliases,
    check_index_kind,
    check_name,
    check_points,
    check_spec,
    check_specs,
    check_vector,
    checked_payload,
    require_vectors,
    says,
)
from intramodal.store.edge import arrival, engine, repair, space
from intramodal.store.edge.catalogue import Catalogue, Contents, Entry
from intramodal.store.fields import paths, selection
from intramodal.store.filters import spell
from intramodal.store.manifest import Manifest
from intramodal.store.pages import PageSize
from intramodal.store.queries import Answer, plan_search, rank
from intramodal.types import Floats, Payload, PointId

log = logging.getLogger(__name__)

# Points an engine call: the interpreter is held meanwhile, so that Ctrl-C waits for its end.
_WRITE_BATCH = 1000
_UNSAVED = 25_000
"""Points after which the engine saves what it holds pending, 120 bytes of memory for each."""
_QUERY_BATCH = 100
_MOST_TRIES = 3


class EdgeStore(Store):
    """Collections in a directory, searched by Qdrant's engine in this process.

    A collection belongs to the process that has it open; others get `Locked`. The directory is
    created if absent.

    Parameters
    ----------
    location : str
        The directory.
    """

    is_embedded = True

    def __init__(self, location: str) -> None:
        self.location = location
        self._folder = Path(location)
        self._catalogue = Catalogue(self._folder)
        self._shards: dict[str, edge.EdgeShard] = {}
        self._specs: dict[str, dict[str, VectorSpec]] = {}
        self._n_unsaved = 0
        self._rooms: dict[str, space.Room] = {}
        # The engine holds the interpreter in every call, so one lock costs no concurrency.
        self._guard = threading.RLock()
        self._is_closed = False
        self._make_folder()
        self._clear_discarded()

    def __repr__(self) -> str:
        """Return the directory."""
        return f"EdgeStore({self.location!r})"

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot keep a store in {self.location}: {error.strerror or error}; "
                f"give a directory that can be written to"
            ) from error

    def _clear_discarded(self) -> None:
        """Delete what a killed `create` or `drop` has left, and undo a killed `take_shard`."""
        try:
            left = [*self._catalogue.temporaries(), *arrival.left_waiting(self._folder)]
            if not (self._catalogue.read().discarded or left):
                return
            with self._catalogue.change() as contents:
                arrival.undo_killed(self._catalogue, contents)
                for path in self._catalogue.temporaries():
                    path.unlink(missing_ok=True)
                kept = {entry.folder for entry in contents.collections.values()}
                for folder in set(contents.discarded) - kept:
                    shutil.rmtree(self._folder / folder, ignore_errors=True)
                    shutil.rmtree(self._trash_of(folder), ignore_errors=True)
                contents.discarded.clear()
        except StoreError as error:  # a read-only directory can be searched all the same
            log.info("leftovers of an interrupted change are kept: %s", error)

    def describe(self) -> dict[str, Any]:
        """Return backend, version, location and limits."""
        return {
            "backend": "edge",
            "location": self.location,
            "version": distributions.version("qdrant-edge-py"),
            "limits": {"processes": 1},
        }

    def close(self) -> None:
        """Flush and release all files; calling it twice is fine."""
        with self._guard:
            self._is_closed = True
            for folder in list(self._shards):
                self._release(folder)
            self._catalogue.keep_ballast()

    def collections(self) -> list[str]:
        """Return the names of all collections, sorted."""
        return sorted(self._catalogue.read().collections)

    def exists(self, name: str) -> bool:
        """Return whether the collection (or an alias of that name) exists."""
        contents = self._catalogue.read()
        return contents.resolve(name) in contents.collections

    def create(
        self,
        name: str,
        vectors: Mapping[str, VectorSpec],
        *,
        metadata: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Create a collection; `Conflict` if the name is taken."""
        check_name(name)
        check_specs(vectors)
        with self._guard, self._catalogue.change() as contents:
            if name in contents.collections or name in contents.aliases:
                raise Conflict(f"there is a collection or an alias {name!r} already")
            # A fresh folder each time: a half-deleted predecessor can never be mistaken for it.
            folder = self._catalogue.new_folder(name)
            contents.discarded.append(folder)
            self._catalogue.save(contents)
            try:
                space.require(self._folder, space.of_collection(vectors), f"create {name!r}")
                with engine.translated(f"create {name!r}"):
                    shard = engine.create_shard(self._folder / folder, vectors, options or {})
                self._keep(folder, shard)
            except BaseException:
                shutil.rmtree(self._folder / folder, ignore_errors=True)
                contents.discarded.remove(folder)
                self._catalogue.save(contents)
                raise
            contents.discarded.remove(folder)
            contents.collections[name] = Entry(
                folder, dict(vectors), dict(metadata or {}), is_reconciled=True
            )
        self._catalogue.keep_ballast()

    def take_shard(self, name: str, folder: Path, *, moves: bool = False) -> int:
        """Make a collection of a shard that another program has made; returns its points."""
        check_name(name)
        with self._guard, engine.translated(f"take the shard {folder}"):
            return arrival.take(self._catalogue, name, arrival.examined(folder), moves=moves)

    def info(self, name: str) -> CollectionInfo:
        """Return counts, vector definitions, metadata and status; `NotFound` if absent."""
        with self._opened(name, "read") as (entry, shard):
            about = shard.info()
            return CollectionInfo(
                name, about.points_count, entry.vectors, entry.metadata, "green",
                entry.indexes, about.indexed_vectors_count,
                engine.settings(self._folder / entry.folder),
            )  # fmt: skip

    def check_space(
        self,
        name: str,
        vectors: Mapping[str, VectorSpec],
        n_points: int,
        *,
        is_whole: bool = True,
        reindexes: bool = False,
    ) -> None:
        """Raise `StoreError` where the disk has no room for so many points, or vectors of them."""
        if not n_points:
            return
        with self._opened(name, "read") as (entry, shard):
            folder, n_there = self._folder / entry.folder, shard.info().points_count
        new = {v: spec for v, spec in vectors.items() if is_whole or v not in entry.vectors}
        needs = [space.of_job(list(vectors.values()), list(new.values()), n_points, is_whole)]
        if reindexes:
            copied = 0 if is_whole else n_points * space.moved_bytes(folder, n_there)
            n_indexed = n_there if not is_whole else max(n_there, n_points)
            every = {**entry.vectors, **vectors}
            needs += [space.Need(copied), space.of_optimizing(folder, n_indexed, every)]
        total = space.Need(sum(need.now for need in needs))
        space.require(self._folder, total, f"write {n_points:,} points of {name!r}")

    def settings(self, name: str) -> dict[str, Any]:
        """Return how the engine is set up for a collection, as `create`'s options."""
        with self._opened(name, "read") as (entry, _):
            return engine.settings(self._folder / entry.folder)

    def set_metadata(self, name: str, metadata: Mapping[str, Any]) -> None:
        """Merge top-level keys into the collection's metadata; None removes one."""
        with self._catalogue.change() as contents:
            kept = self._entry(contents, name).metadata
            for key, value in metadata.items():
                if value is None:
                    kept.pop(key, None)
                else:
                    kept[key] = value

    def drop(self, name: str) -> None:
        """Delete the collection and its aliases; `NotFound` if absent.

        The collection is not opened: a damaged one can be dropped, too.
        """
        with self._guard:
            with self._catalogue.change() as contents:
                if name in contents.aliases:
                    raise NotFound(f"{name!r} is an alias; delete the alias, or drop its target")
                folder = self._entry(contents, name).folder
                self._release(folder)
                with engine.held(self._folder / folder, f"delete {name!r} in {self.location}"):
                    del contents.collections[name]
                    contents.aliases = {a: c for a, c in contents.aliases.items() if c != name}
                    contents.discarded.append(folder)
                    try:
                        self._catalogue.save(contents)
                    except space.DiskFullError:  # only what is dropped can make room
                        self._hide(folder)
                        shutil.rmtree(self._trash_of(folder), ignore_errors=True)
                        self._catalogue.save(contents)
                    else:
                        self._hide(folder)
            shutil.rmtree(self._trash_of(folder), ignore_errors=True)
            with self._catalogue.change() as contents:
                contents.discarded = [left for left in contents.discarded if left != folder]

    def _hide(self, folder: str) -> None:
        """Rename a folder: who was about to open it finds none, rather than half of it."""
        try:
            (self._folder / folder).rename(self._trash_of(folder))
        except FileNotFoundError:  # what damaged it has taken all
            log.info("the folder %s is gone already", folder)

    def _trash_of(self, folder: str) -> Path:
        return self._folder / f".{folder}.discarded"

    def optimize(self, name: str, *, deadline_s: float = 3600.0) -> str:
        """Build the indexes in a child process; other threads that use the collection wait."""
        with self._opened(name, "optimize") as (entry, shard):
            folder = self._folder / entry.folder
            need = space.of_optimizing(folder, shard.info().points_count, entry.vectors)
            self._release(entry.folder)
            space.require(self._folder, need, f"build the indexes of {name!r}")
            try:
                engine.optimize_in_child(folder, deadline_s)
            except space.DiskFullError:
                with engine.held(folder, f"clear {folder}"):
                    repair.clear_unfinished(folder)  # what has filled the disk
                raise
        return ""

    def add_vector(
        self,
        name: str,
        vector: str,
        spec: VectorSpec,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a named vector to a collection that holds points; repeating it does nothing."""
        check_spec(vector, spec)
        wanted = engine.as_written(vector, spec, settings) if settings else {}
        self._add_vector(name, vector, spec)
        if wanted:
            self._set_up(name, vector, wanted)

    def check_storable(self, vector: str, spec: VectorSpec) -> None:
        """Raise `InputError` or `Unsupported` where the engine could not add such a vector."""
        check_spec(vector, spec)
        engine.datatype(vector, spec)

    def _set_up(self, name: str, vector: str, wanted: dict[str, Any]) -> None:
        """Give a vector settings: the engine (0.9) takes none with a new name.

        It reads them when it opens a collection. They are written as it has written them itself,
        and what it does not open with them is put back.
        """
        with self._opened(name, "set up a vector of") as (entry, _):
            folder = self._folder / entry.folder
            before = engine.own_settings(folder, vector)
            if says(before, wanted):
                return
            self._release(entry.folder)
            what = f"set up the vector {vector!r} of {name!r} in {self.location}"
            with engine.held(folder, what):
                repair.set_up(folder, vector, {**before, **wanted})
            try:
                self._keep(entry.folder, engine.load_shard(folder, what))
            except Locked:
                raise
            except StoreError:
                with engine.held(folder, what):
                    repair.set_up(folder, vector, before)
                raise

    def _add_vector(self, name: str, vector: str, spec: VectorSpec) -> None:
        with self._opened(name, "add a vector to") as (entry, shard):
            if entry.vectors.get(vector) == spec:
                return
            if vector in engine.settings(self._folder / entry.folder).get("sparse_vectors", {}):
                raise Conflict(f"{name!r} has a sparse vector {vector!r}; choose another name")
            if vector in entry.vectors:
                raise Conflict(
                    f"{name!r} has a vector {vector!r} already, defined as "
                    f"{entry.vectors[vector]}; choose another name, or delete that vector"
                )
            need = partial(space.of_new_vector, spec, shard.info().points_count)
            self._rooms[entry.folder].require(need, f"add the vector {vector!r} to {name!r}")
            operation = edge.UpdateOperation.create_dense_vector(
                vector, spec.size, engine.distance(spec), None, engine.datatype(vector, spec)
            )
            self._change_vectors(name, vector, shard, operation, becomes=spec)

    def delete_vector(self, name: str, vector: str) -> None:
        """Remove a named vector from the collection and all its points; `NotFound` if absent."""
        with self._opened(name, "delete a vector from") as (entry, shard):
            if vector not in entry.vectors:
                raise NotFound(f"the collection {name!r} has no vector {vector!r}")
            self._remove_vector(name, vector, shard)

    def _remove_vector(self, name: str, vector: str, shard: edge.EdgeShard) -> None:
        operation = edge.UpdateOperation.delete_vector_name(vector)
        self._change_vectors(name, vector, shard, operation, becomes=None)

    def _change_vectors(
        self,
        name: str,
        vector: str,
        shard: edge.EdgeShard,
        operation: edge.UpdateOperation,
        *,
        becomes: VectorSpec | None,
    ) -> None:
        """Add or remove a vector so that whoever opens the collection after a kill can tell.

        It is pending, and none of the collection's vectors, until all is done.
        """
        # The log then holds nothing that names a vector which is gone when it is applied.
        shard.flush()
        with self._catalogue.change() as contents:
            entry = self._entry(contents, name)
            entry.vectors.pop(vector, None)
            entry.pending = vector
        try:
            shard.update(operation)
            shard.flush()
            with self._catalogue.change() as contents:
                changed = self._entry(contents, name)
                changed.pending = None
                if becomes is not None:
                    changed.vectors[vector] = becomes
            self._specs[entry.folder] = engine.specs_of(self._folder / entry.folder)
        except BaseException:
            self._release(entry.folder)  # opening it again finishes or undoes the change
            raise

    def ensure_index(self, name: str, field: str, kind: IndexKind) -> None:
        """Create a payload index unless it is there."""
        with self._opened(name, "index") as (entry, shard):
            check_index_kind(kind)
            wanted = [path for path in paths(field) if entry.indexes.get(path) != kind]
            if not wanted:
                return
            schema = engine.INDEX_TYPES[kind]
            n_points = shard.info().points_count
            need = partial(space.of_index, self._folder / entry.folder, n_points)
            self._rooms[entry.folder].require(need, f"index {field!r} of {name!r}")
            for path in wanted:
                shard.update(edge.UpdateOperation.create_field_index(path, schema))
            with self._catalogue.change() as contents:
                self._entry(contents, name).indexes.update(dict.fromkeys(wanted, kind))

    def copy_indexes(self, source: str, target: str) -> None:
        """Create the payload indexes of one collection in another, those that are absent."""
        there = self.info(target).indexes
        for field, kind in self.info(source).indexes.items():
            if field not in there:
                self.ensure_index(target, field, cast(IndexKind, kind))

    def aliases(self) -> dict[str, str]:
        """Return alias -> collection."""
        return dict(self._catalogue.read().aliases)

    def set_aliases(self, targets: Mapping[str, str]) -> None:
        """Point aliases at collections, all of them in one atomic step."""
        with self._catalogue.change() as contents:
            check_aliases(targets, list(contents.collections))
            contents.aliases.update(targets)

    def delete_alias(self, alias: str) -> None:
        """Remove an alias; `NotFound` if absent."""
        with self._catalogue.change() as contents:
            if contents.aliases.pop(alias, None) is None:
                raise NotFound(f"there is no alias {alias!r}")

    def _write(
        self,
        name: str,
        ids: Sequence[PointId],
        vectors: Mapping[str, Floats],
        payloads: Sequence[Payload],
        *,
        only_absent: bool,
    ) -> None:
        mode = edge.UpdateMode.InsertOnly if only_absent else edge.UpdateMode.Upsert
        with self._opened(name, "write to") as (entry, shard):
            points = canonical_ids(ids, unique=True)
            checked = check_points(entry.vectors, points, vectors, payloads)
            payloads = list(map(checked_payload, payloads, points))
            names, columns = list(checked), list(checked.values())
            room = self._rooms[entry.folder]
            for start in range(0, len(points), _WRITE_BATCH):
                part = slice(start, start + _WRITE_BATCH)
                vectors_of = [engine.buffers(X[part]) for X in columns]
                rows = zip(points[part], payloads[part], *vectors_of, strict=True)
                batch = [
                    edge.Point(i, dict(zip(names, row, strict=True)), payload)
                    for i, payload, *row in rows
                ]
                written = [entry.vectors[vector] for vector in names]
                need = partial(space.of_points, written, payloads[part], len(entry.indexes))
                room.require(need, f"write {len(batch):,} points to {name!r}")
                shard.update(edge.UpdateOperation.upsert_points(batch, update_mode=mode))
                self._n_unsaved += len(batch)
                if self._n_unsaved >= _UNSAVED:
                    shard.flush()
                    self._n_unsaved = 0

    def update_vectors(
        self,
        name: str,
        vector: str,
        ids: Sequence[PointId],
        X: Floats,
        *,
        wait: bool = True,
        only_lacking: bool = False,
    ) -> None:
        """Set one named vector of existing points; everything else stays untouched.

        `wait` changes nothing here: the engine has always written when it returns.
        """
        replaced = spell(engine.EDGE, Filter(lacks_vector=vector)) if only_lacking else None
        with self._opened(name, "update") as (entry, shard):
            points = canonical_ids(ids, unique=True)
            X = check_vector(entry.vectors, vector, X, len(points))
            room = self._rooms[entry.folder]
            for start in range(0, len(points), _WRITE_BATCH):
                part = slice(start, start + _WRITE_BATCH)
                batch = [
                    edge.PointVectors(i, {vector: row})
                    for i, row in zip(points[part], engine.buffers(X[part]), strict=True)
                ]
                spec = entry.vectors[vector]
                need = partial(self._vectors_need, entry.folder, shard, spec, len(batch))
                room.require(need, f"write {vector!r} of {len(batch):,} points of {name!r}")
                shard.update(edge.UpdateOperation.update_vectors(batch, replaced))

    def _vectors_need(
        self, folder: str, shard: edge.EdgeShard, spec: VectorSpec, n: int
    ) -> space.Need:
        """Return what a vector of stored points takes: those that are indexed are copied first."""
        about = shard.info()
        is_copied = about.indexed_vectors_count > 0
        n_points = about.points_count
        moved = space.moved_bytes(self._folder / folder, n_points) if is_copied else 0
        return space.of_vectors(spec, n, moved)

    def _payload_need(
        self, folder: str, shard: edge.EdgeShard, payload: Payload, n: int
    ) -> space.Need:
        """Return what payload keys of stored points take."""
        n_points = shard.info().points_count
        return space.of_payload(payload, n, space.moved_bytes(self._folder / folder, n_points))

    def set_payload(self, name: str, ids: Sequence[PointId], payload: Payload) -> None:
        """Merge the same payload keys into the given points."""
        payload = checked_payload(payload)
        with self._opened(name, "set payload in") as (entry, shard):
            need = partial(self._payload_need, entry.folder, shard, payload, len(ids))
            what = f"set payload of {len(ids):,} points of {name!r}"
            self._rooms[entry.folder].require(need, what)
            shard.update(edge.UpdateOperation.set_payload(canonical_ids(ids), payload))

    def delete(self, name: str, ids: Sequence[PointId]) -> None:
        """Delete points; absent ids are ignored."""
        with self._opened(name, "delete from") as (entry, shard):
            need = partial(space.of_deletion, len(ids))
            what = f"delete {len(ids):,} points of {name!r}"
            self._rooms[entry.folder].require(need, what, reserve=0)
            shard.update(edge.UpdateOperation.delete_points(canonical_ids(ids)))

    def scroll(
        self,
        name: str,
        *,
        vectors: Sequence[str] = (),
        payload: Sequence[str] | bool = False,
        where: Filter | None = None,
        batch_size: int = 1000,
        offset: PointId | None = None,
    ) -> Iterator[Page]:
        """Yield all (matching) points in id order; `payload=True` means every key."""
        start = None if offset is None else canonical_ids([offset])[0]
        size: PageSize | None = None
        while True:
            with self._opened(name, "read") as (entry, shard):
                require_vectors(entry.vectors, vectors)
                width = sum(entry.vectors[vector].size for vector in vectors)
                size = size or PageSize(batch_size, width, payload)
                records, following = shard.scroll(
                    edge.ScrollRequest(
                        offset=start,
                        limit=size(),
                        filter=spell(engine.EDGE, where),
                        with_payload=selection(payload),
                        with_vector=list(vectors) or False,
                    )
                )
                page = page_of(records, entry.vectors, vectors, payload, following)
            if payload:
                size.learn(page.payloads)
            if page.ids:
                yield page
            start = page.next_offset
            if start is None:
                return

    def retrieve(
        self,
        name: str,
        ids: Sequence[PointId],
        *,
        vectors: Sequence[str] = (),
        payload: Sequence[str] | bool = False,
    ) -> Page:
        """Return the points that exist among `ids`, in the order of `ids`."""
        with self._opened(name, "read") as (entry, shard):
            require_vectors(entry.vectors, vectors)
            wanted = list(vectors) or False
            records = shard.retrieve(canonical_ids(ids), selection(payload), wanted)
            return page_of(records, entry.vectors, vectors, payload)

    def query_batch(
        self,
        name: str,
        Q: Floats,
        *,
        using: str,
        k: int,
        exact: bool = True,
        exclude: Sequence[PointId | None] | None = None,
        where: Filter | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Hits:
        """Return the k nearest points of every row of `Q` (n, d)."""
        with self._opened(name, "search") as (entry, shard):
            plan = plan_search(
                entry.vectors, Q, using=using, k=k, exact=exact, exclude=exclude, params=params
            )
            filters = [spell(engine.EDGE, where, i) for i in plan.exclude]

            def search(rows: Sequence[int], limit: int) -> list[Answer]:
                answers: list[Answer] = []
                for start in range(0, len(rows), _QUERY_BATCH):
                    part = rows[start : start + _QUERY_BATCH]
                    conditions = [filters[row] for row in part]
                    answers += engine.search(shard, plan, part, conditions, limit)
                return answers

            distance = plan.distance(entry.vectors)
            return rank(search, len(plan.Q), k, distance=distance, most=plan.most(None))

    def count(self, name: str, where: Filter | None = None, *, exact: bool = True) -> int:
        """Return the number of (matching) points: counting is cheap here, `exact` or not."""
        with self._opened(name, "count") as (_, shard):
            return engine.count(shard, spell(engine.EDGE, where))

    def problems(self) -> dict[str, str]:
        """Open every collection; return what cannot be opened, and folders of no collection."""
        orphans = {
            folder: f"the folder {self._folder / folder} belongs to no collection"
            for folder in self._orphans()
        }
        return {**super().problems(), **orphans}

    def repair(self) -> dict[str, bool]:
        """Set damaged logs aside, and remove folders of no collection that hold nothing."""
        done = dict(said for name in self.collections() for said in self._repair(name))
        with self._catalogue.locked():  # nobody makes a collection meanwhile
            return done | dict(self._repair_orphan(folder) for folder in self._orphans())

    def _repair(self, name: str) -> Iterator[tuple[str, bool]]:
        try:
            self.settings(name)
        except engine.DamagedLogError:
            folder = self._folder / self._entry(self._catalogue.read(), name).folder
            with engine.held(folder, f"repair {name!r}"):
                aside = repair.set_log_aside(folder)
            yield (
                f"the log of {name!r} could not be read and lies in {aside} now; the collection "
                f"opens with {self.count(name):,} points, and what was written last may lack: run "
                f"the last command again",
                True,
            )
        except Locked:
            yield f"{name!r} is open in another process, and was not looked at", True
        except IntramodalError as error:
            yield f"{name!r} is left as it is: {error}", False

    def _orphans(self) -> list[str]:
        """Return folders that the engine has written to and that the catalogue does not know."""
        there = list(self._folder.iterdir())  # first: what is made from now on is known by then
        contents = self._catalogue.read()
        known = {entry.folder for entry in contents.collections.values()}
        for folder in contents.discarded:
            known |= {folder, self._trash_of(folder).name}
        return sorted(
            path.name
            for path in there
            if path.name not in known and repair.looks_like_a_collection(path)
        )

    def _repair_orphan(self, name: str) -> tuple[str, bool]:
        """Delete a folder of no collection that certainly holds nothing."""
        folder = self._folder / name
        n_points = engine.count_points(folder)
        if n_points == 0:
            shutil.rmtree(folder)
            return f"{folder} belonged to no collection and held no points: it is deleted", True
        held = "may hold points" if n_points is None else f"holds {n_points:,} points"
        return f"{folder} belongs to no collection and {held}: it is left as it is", False

    @contextmanager
    def _opened(self, name: str, what: str) -> Iterator[tuple[Entry, edge.EdgeShard]]:
        """Yield a collection and its open shard; the engine's errors become ours."""
        with self._guard, engine.translated(f"{what} {name!r} in {self.location}"):
            if self._is_closed:
                raise StoreError(f"the store {self.location} is closed; open it again")
            entry = self._open(name)
            specs = self._specs[entry.folder]
            yield replace(entry, vectors=specs), self._shards[entry.folder]

    def _open(self, name: str) -> Entry:
        """Open a collection unless it is; finish or undo what a kill has interrupted in it."""
        for _ in range(_MOST_TRIES - 1):
            entry = self._entry(self._catalogue.read(), name)
            try:
                return self._open_entry(name, entry)
            except Locked:
                raise
            except StoreError as error:  # dropped or changed by another process while we read it
                log.info("opening %r once more: %s", name, error)
                self._clear_ghost(entry.folder)
        entry = self._entry(self._catalogue.read(), name)
        return self._open_entry(name, entry)

    def _open_entry(self, name: str, entry: Entry) -> Entry:
        if entry.folder in self._shards:
            return entry
        folder, what = self._folder / entry.folder, f"open {name!r} in {self.location}"
        try:
            shard = engine.load_shard(folder, what)
        except Locked:
            raise
        except StoreError:
            if not self._reconcile_files(name, folder):
                raise
            shard = engine.load_shard(folder, what)
        self._keep(entry.folder, shard)
        try:
            # Read again: another process may have completed its change while we waited for it.
            now = self._entry(self._catalogue.read(), name)
            if now.folder != entry.folder:
                raise StoreError(f"{name!r} was dropped, or means another one, since it was read")
            repair.clear_unfinished(folder)
            self._finish_changes(name, now, shard)
        except BaseException:
            self._release(entry.folder)
            raise
        return now

    def _is_known(self, folder: str) -> bool:
        entries = self._catalogue.read().collections.values()
        return any(entry.folder == folder for entry in entries)

    def _clear_ghost(self, folder: str) -> None:
        """Delete what the engine has made anew of a folder that was dropped meanwhile."""
        path = self._folder / folder
        if path.is_dir() and not self._is_known(folder) and engine.count_points(path) == 0:
            shutil.rmtree(path, ignore_errors=True)

    def _reconcile_files(self, name: str, folder: Path) -> bool:
        """Make the engine's files name the same vectors; returns whether they did not."""
        with engine.held(folder, f"open {name!r} in {self.location}"):
            try:
                half_known = repair.half_known(folder)
            except (StoreError, OSError):  # what the engine says of such files is the better error
                return False
            known = self._entry(self._catalogue.read(), name).vectors
            if not half_known or half_known & set(known):
                return False
            log.warning(
                "a change of the vectors of %r was interrupted: %s is removed; run the same "
                "command again to complete it",
                name,
                ", ".join(sorted(half_known)),
            )
            repair.take_out(folder, half_known)
        return True

    def _finish_changes(self, name: str, entry: Entry, shard: edge.EdgeShard) -> None:
        """Remove a vector whose addition or removal was interrupted."""
        if entry.pending is None and entry.is_reconciled:
            return
        there = engine.specs_of(self._folder / entry.folder)
        for vector in {entry.pending, *self._unsaid(entry, shard, there)} & set(there):
            self._remove_vector(name, str(vector), shard)
        with self._catalogue.change() as contents:
            changed = self._entry(contents, name)
            changed.pending, changed.is_reconciled = None, True

    def _unsaid(
        self, entry: Entry, shard: edge.EdgeShard, there: Mapping[str, VectorSpec]
    ) -> set[str]:
        """Return what versions before 0.2 were adding or removing when they were killed.

        The catalogue did not know the vector before it was whole and forgot it first; the manifest
        named it first and forgot it last. What others have added is never named by both.
        """
        if entry.is_reconciled:
            return set()
        try:
            manifest = Manifest.from_metadata(entry.metadata).vectors
        except ManifestMismatchError:  # somebody else's: whoever needs the manifest says so
            return set()
        return {
            vector
            for vector in set(there) & set(manifest) - set(entry.vectors)
            if manifest[vector].projection or not engine.has_any(shard, vector)
        }

    def _keep(self, folder: str, shard: edge.EdgeShard) -> None:
        self._shards[folder] = shard
        self._specs[folder] = engine.specs_of(self._folder / folder)
        self._rooms[folder] = space.Room(self._folder / folder, shard.flush)

    def _release(self, folder: str) -> None:
        """Close a collection if it is open here."""
        shard = self._shards.pop(folder, None)
        self._specs.pop(folder, None)
        self._rooms.pop(folder, None)
        if shard is not None:
            shard.close()

    def _entry(self, contents: Contents, name: str) -> Entry:
        try:
            return contents.collections[contents.resolve(name)]
        except KeyError:
            there = ", ".join(repr(known) for known in sorted(contents.collections)) or "none"
            raise NotFound(
                f"there is no collection {name!r} in {self.location}; it has {there}"
            ) from None
