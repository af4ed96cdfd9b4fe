"""Points that get a projected vector, page by page; those that cannot are listed."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from intramodal.errors import InputError, StoreUnavailable, Unsupported
from intramodal.ingest.failures import Failures
from intramodal.ingest.workers import Threads
from intramodal.progress import LONG_S, LongRead, about, foretold, progress
from intramodal.projection.posterior import PosteriorMap
from intramodal.runs.records import FailureRecord
from intramodal.runs.run import Run
from intramodal.store.base import Filter, Page
from intramodal.store.collection import ImageCollection
from intramodal.store.fields import value_at
from intramodal.types import Floats, Payload, PointId, VectorMap

log = logging.getLogger(__name__)

_IDS_A_PAGE = 10_000
_IDS_A_FILTER = 1000
_LOOKED_AT = 256
"""Points from which a refusal names fields or values."""

_MOST_SHOWN, _LONGEST_SHOWN = 10, 60
_READ_PATIENCE_S = 2.0
"""How long a page that nobody wants any more may still be read: it changes nothing, and whoever
presses Ctrl-C because a server does not answer need not wait for it."""


@dataclass(frozen=True)
class ProjectedRows:
    """What a projection makes of an array of stored vectors."""

    rows: NDArray[np.intp]
    """(m,): The rows that can be projected."""
    Z: Floats
    """(m, dim_out): float32."""
    refused: dict[int, str]
    """Why each other row cannot."""
    missing: list[int]
    """Those among them without any number: the vector is absent, or nothing but NaN."""


def known_field(projection: VectorMap) -> str | None:
    """Return the payload field whose labels a map takes as known; None for most maps."""
    labels = projection.labels
    return labels.field if labels is not None and labels.known else None


def payload_needed(projection: VectorMap) -> list[str] | bool:
    """Return what of the payload has to be read beside the vectors."""
    field = known_field(projection)
    return False if field is None else [field]


def mapped(projection: VectorMap, X: Floats, payloads: Sequence[Payload]) -> Floats:
    """Return the new vectors (n, dim_out) of `X` (n, dim_in), of points with these payloads."""
    return with_known(projection, projection.apply(X), payloads)


def with_known(projection: VectorMap, Z: Floats, payloads: Sequence[Payload]) -> Floats:
    """Return vectors (n, dim_out) that are certain of the labels which their payloads know."""
    field = known_field(projection)
    if field is None or not isinstance(projection, PosteriorMap):
        return Z
    return projection.with_known(Z, [value_at(payload, field) for payload in payloads])


def says_label(change: Payload, field: str) -> bool:
    """Return whether payload keys that are set may change the label of a field."""
    return any(key == field or field.startswith((f"{key}.", f'"{key}"')) for key in change)


def project_rows(
    projection: VectorMap, X: Floats, name: str, payloads: Sequence[Payload] = ()
) -> ProjectedRows:
    """Project the rows of `X` (n, dim_in), the vectors called `name`, that can be projected."""
    is_missing = np.isnan(X).all(axis=1)
    is_finite = np.isfinite(X).all(axis=1)
    is_zero = is_finite & ~X.any(axis=1)
    rows = np.flatnonzero(is_finite & ~is_zero)
    Z = np.empty((0, projection.dim_out), np.float32)
    if len(rows):
        Z = mapped(projection, X[rows], [payloads[int(row)] for row in rows] if payloads else ())
    lives = Z.any(axis=1)
    refused = {
        **dict.fromkeys(np.flatnonzero(is_missing).tolist(), f"it has no vector {name!r}"),
        **dict.fromkeys(np.flatnonzero(is_zero).tolist(), f"its vector {name!r} is zero"),
        **dict.fromkeys(
            np.flatnonzero(~is_finite & ~is_missing).tolist(), f"its vector {name!r} is not finite"
        ),
        **dict.fromkeys(rows[~lives].tolist(), f"the projection of its {name!r} is zero"),
    }
    missing = np.flatnonzero(is_missing).tolist()
    return ProjectedRows(rows[lives], Z[lives], refused, missing)


def log_projection(run: Run, projection: VectorMap) -> None:
    """Record a projection with how it was made."""
    run.log_fingerprint("projection", projection.method, projection.fingerprint, projection.recipe)


def check_pace(batch_size: int, throttle: float | None) -> None:
    """Raise `InputError` for numbers that cannot be meant."""
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if throttle is not None and not throttle > 0:
        raise InputError(f"throttle must be more than 0 points per second, got {throttle}")


def read_ahead(pages: Iterable[Page], reading: Threads) -> Iterator[Page]:
    """Yield pages in order; where there is a thread, it reads the next one while one is used."""
    each = iter(pages)
    futures = (reading.submit(next, each, None) for _ in itertools.count())
    for page in reading.in_order(futures, ahead=0):
        if page is None:
            return
        yield page


def paced(pages: Iterable[Page], throttle: float | None) -> Iterator[Page]:
    """Yield pages, at most `throttle` points a second, whatever is done with them meanwhile."""
    for page in pages:
        started = time.monotonic()
        yield page
        if throttle:
            time.sleep(max(0.0, len(page.ids) / throttle - (time.monotonic() - started)))


_TIMED_S = 1.0


def timed(
    collection: ImageCollection,
    projection: VectorMap,
    source: str,
    n: int,
    *,
    where: Filter | None = None,
    vectors: Sequence[str] | None = None,
) -> LongRead | None:
    """Return what reading and projecting the n (matching) points takes, by the first of them.

    They are read with the given `vectors` and all payload; else with the source alone.
    """
    names, is_whole = vectors or [source], vectors is not None
    started, n_read = time.perf_counter(), 0
    for page in collection.scroll(vectors=names, payload=is_whole, where=where):
        project_rows(projection, page.vectors[source], source)
        n_read += len(page.ids)
        took_s = time.perf_counter() - started
        if took_s > _TIMED_S:
            break
    return LongRead(n, took_s * n / n_read) if n and n_read else None


def on_time(read: LongRead | None) -> list[str]:
    """Return what a long backfill takes, as far as that is known before it has written."""
    if read is None or read.seconds <= LONG_S:
        return []
    return [
        f"reading and projecting {in_points(read.n)} takes {about(read.seconds)}, by the first of "
        f"them; writing comes on top"
    ]


def require_matches(collection: ImageCollection, where: Filter) -> int:
    """Return how many points match; `InputError` names fields or values where none does."""
    n = collection.count(where)
    if n or not where.conditions:
        return n
    unmet = next((one for one in where.conditions if not collection.count(one)), where)
    sentence = f"no point of {collection.name!r} has {unmet}"
    page = next(iter(collection.scroll(payload=True, batch_size=_LOOKED_AT)), None)
    payloads = page.payloads if page else []
    for name in unmet.equals:
        values = [value_at(payload, name) for payload in payloads]
        there = sorted({str(value) for value in values if value is not None})
        if there:
            raise InputError(f"{sentence}; some of its values are {_listed(there)}")
    fields = sorted({name for payload in payloads for name in payload})
    raise InputError(f"{sentence}; its payload fields are {_listed(fields)}")


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name[:_LONGEST_SHOWN]) for name in names[:_MOST_SHOWN]) or "none"


def sample_ids(
    collection: ImageCollection, n: int, seed: int, where: Filter | None = None
) -> list[PointId]:
    """Return `n` ids of (matching) points, or all if there are fewer; same seed, same sample."""
    if collection.can_draw_slices(where):
        return collection.draw(n, seed=seed, where=where)[0]
    total = collection.count(where)
    chosen = np.random.default_rng(seed).choice(total, size=min(n, total), replace=False)
    chosen.sort()
    found: list[PointId] = []
    start = 0
    for page in collection.scroll(where=where, batch_size=_IDS_A_PAGE):
        end = start + len(page.ids)
        low, high = np.searchsorted(chosen, [start, end])
        found += [page.ids[row - start] for row in chosen[low:high]]
        if high == len(chosen):
            break
        start = end
    return found


def with_ids(ids: Sequence[PointId]) -> list[Filter]:
    """Return filters for some points, so many ids each as a request may well carry."""
    return [
        Filter(ids=ids[start : start + _IDS_A_FILTER])
        for start in range(0, len(ids), _IDS_A_FILTER)
    ]


def in_points(n: int) -> str:
    """Return a number of points as a person reads it.

    Examples
    --------
    >>> in_points(1), in_points(1200)
    ('1 point', '1,200 points')
    """
    return f"{n:,} point" if n == 1 else f"{n:,} points"


def absent_ids(collection: ImageCollection, ids: list[PointId]) -> list[PointId]:
    """Return those of `ids` that the collection does not hold."""
    there = set(collection.store.retrieve(collection.name, ids).ids)
    return [point for point in ids if point not in there]


_FEW, _CAREFUL_WRITES = 50, 100
"""Points of a write to replicas while others delete points, and for how many writes after one."""

LOOK_EVERY_S = 10.0
"""How often a fill looks whether the vector is still the one that it began to write."""

MOST_PASSES = 10
"""A live writer adds points while a pass goes on; each pass takes up what the last one missed."""


def on_writers(vector: str, n_late: int, n_lacking: int) -> list[str]:
    """Return what to do about writers that do not know the vector, if points came without it."""
    if not n_late + n_lacking:
        return []
    came = f"{in_points(n_late + n_lacking)} came meanwhile without {vector!r}"
    return [
        f"{came}, {n_lacking:,} of them lack it still: let their writer write both vectors, then "
        f"run the same command again"
    ]


@dataclass(frozen=True)
class Replicas:
    """What is known of a vector on the replicas and nodes of a cluster.

    Parameters
    ----------
    mended, behind : int
        Points that lacked it on some replica only: those that were sent again and have
        it now, and those that lack it there still.
    by_node : dict of str to int
        How many points lack it by each node that answers, where some are behind.
    unverified : str
        Why not every replica could be asked; empty where all were.
    silent_nodes : tuple of str
        Nodes that were to be asked whether they know the vector, and did not answer.
    """

    mended: int = 0
    behind: int = 0
    by_node: Mapping[str, int] = field(default_factory=dict)
    unverified: str = ""
    silent_nodes: tuple[str, ...] = ()

    @property
    def has_all(self) -> bool:
        """Return whether every replica has the vector, as far as points can."""
        return not (self.behind or self.unverified)

    def sentences(self, vector: str) -> list[str]:
        """Return what to do about them, if anything."""
        found = []
        if self.mended:
            found.append(
                f"{in_points(self.mended)} lacked {vector!r} on a replica and got it there"
            )
        if self.behind:
            nodes = ", ".join(f"{url}: {n:,}" for url, n in self.by_node.items())
            by_node = f" (without one, by node: {nodes})" if nodes else ""
            found.append(
                f"{in_points(self.behind)} still lack the current {vector!r} on a replica"
                f"{by_node}: run the same command again"
            )
        if self.unverified:
            found.append(
                f"whether every replica has {vector!r} is unknown ({self.unverified}): run the "
                f"same command again when all are active and the key may read them"
            )
        if self.silent_nodes:
            found.append(f"no response from {', '.join(self.silent_nodes)}")
        return found


@dataclass
class ReplicaQuestions:
    """Asks all replicas whether they have a vector of points that were written.

    An update that a replica has missed is found only by asking all of them. Where there is one
    replica alone, nothing is asked.

    Parameters
    ----------
    collection : ImageCollection
    vector : str
    mend : callable, optional
        Writes it again for some points; returns how many were sent.
    alike : bool
        Whether each replica has to have the same numbers, too.
    excused : set of str
        Points that cannot have it; may grow.
    """

    collection: ImageCollection
    vector: str
    mend: Callable[[list[PointId]], int] | None = None
    alike: bool = False
    excused: Set[str] = frozenset()
    _n_mended: int = field(default=0, init=False)
    _n_behind: int = field(default=0, init=False)
    _unverified: str = field(default="", init=False)
    _written: list[PointId] = field(default_factory=list, init=False)

    @property
    def has_replicas(self) -> bool:
        """Return whether there is more than one to ask."""
        return self.collection.store.n_replicas(self.collection.name) > 1

    def wrote(self, ids: Sequence[PointId]) -> None:
        """Take note of points that were written; asks when they are many."""
        self._written += ids if self.has_replicas else ()
        if len(self._written) >= _IDS_A_PAGE:
            written, self._written = self._written, []
            self.ask([written])

    def ask_all(self, where: Filter | None = None) -> None:
        """Ask for all (matching) points."""
        pages = self.collection.scroll(where=where, batch_size=_IDS_A_PAGE)
        self.ask((page.ids for page in pages), are_all=where is None)

    def ask(self, pages: Iterable[list[PointId]], *, are_all: bool = False) -> None:
        """Ask for some points, and mend what is behind; never again after a refusal."""
        if self._unverified:
            return
        try:
            for ids in pages:
                self._ask(ids, is_page=are_all)
        except (StoreUnavailable, Unsupported) as error:  # dead, or not allowed by strict mode
            self._unverified = str(error)

    def answer(self) -> Replicas:
        """Ask for the rest of the points that were written; returns what is known of all."""
        store, name = self.collection.store, self.collection.name
        if self._written:
            self.ask([self._written])
        n = self._n_behind
        by_node = store.lacking_by_node(name, self.vector) if n else {}
        silent = tuple(store.silent_nodes)
        return Replicas(self._n_mended, n, by_node, self._unverified, silent)

    def _ask(self, ids: list[PointId], *, is_page: bool) -> None:
        behind = self._behind(ids, is_page=is_page)
        n_sent = self.mend(behind) if self.mend and behind else 0
        if n_sent:
            behind = self._behind(behind)
        # Those that were deleted meanwhile have no vector anywhere.
        n_behind = len(behind) - len(absent_ids(self.collection, behind)) if behind else 0
        self._n_behind += n_behind
        self._n_mended += max(0, n_sent - n_behind)

    def _behind(self, ids: list[PointId], *, is_page: bool = False) -> list[PointId]:
        store, name = self.collection.store, self.collection.name
        how = {"alike": self.alike, "is_page": is_page}
        there = set(store.with_vector_everywhere(name, self.vector, ids, **how))
        return [point for point in ids if point not in there and str(point) not in self.excused]


@dataclass
class ReplicaLook:
    """Finds the points that a single replica lacks, where an earlier run has left some behind."""

    collection: ImageCollection
    _may_ask: bool = field(default=True, init=False)

    def lacking(self, vector: str, ids: Sequence[PointId]) -> set[PointId]:
        """Return which points lack an incomplete vector on a replica, as far as one may ask."""
        store, name = self.collection.store, self.collection.name
        is_whole = self.collection.origin(vector).is_complete or store.n_replicas(name) == 1
        if is_whole or not ids or not self._may_ask:
            return set()
        try:
            return set(ids) - set(store.with_vector_everywhere(name, vector, ids))
        except (StoreUnavailable, Unsupported) as error:
            self._may_ask = False  # it takes seconds, and nothing else hangs on it
            log.warning("%s; what one replica alone lacks is not looked for", error)
            return set()


@dataclass
class VectorFill:
    """Projects the vector `source` of points into `vector`, page by page."""

    collection: ImageCollection
    projection: VectorMap
    source: str
    vector: str
    batch_size: int
    """Points a page."""
    throttle: float | None
    """Most points a second."""
    failures: Failures
    """Takes each point that cannot be projected, once."""
    n_projected: int = field(default=0, init=False)
    """Points whose vector was sent, over all passes; the store does not tell how many of them had
    got one from another writer meanwhile, and kept that."""
    n_late: int = field(default=0, init=False)
    """Those of them that came without the vector after the first pass had gone by."""
    n_lacking: int = field(default=0, init=False)
    """Points that lack it although they can have it: they came when the last pass had gone by."""
    _looked_at: float = field(default_factory=time.monotonic, init=False)
    _n_careful: int = field(default=0, init=False)
    _n_found: int = field(default=0, init=False)
    _listed: set[str] = field(default_factory=set, init=False)

    def matching(self, *wheres: Filter, replaces: bool = False) -> int:
        """Project the points that match one of the filters; returns how many cannot be.

        No point may match two of them. A vector that a point has when it is written stays, unless
        this call `replaces` it: a writer of both vectors knows better than what was read before.
        """
        collection, n_unprojectable = self.collection, 0
        # What is slowed down need not be read early: it would only be older when it is written.
        reads_ahead = collection.store.is_remote and self.throttle is None
        n_points = sum(collection.count(where, exact=False) for where in wheres)
        pages = itertools.chain.from_iterable(
            collection.scroll(where=where, batch_size=self.batch_size, **self._needed)
            for where in wheres
        )
        with (
            # A batch's product is short: more threads would spin beside the engine's between them.
            threadpool_limits(1, "blas"),
            progress(n_points, f"project {collection.name}", unit="points") as bar,
            Threads(1 if reads_ahead else 0, "read", patience_s=_READ_PATIENCE_S) as reading,
        ):
            try:
                read = paced(read_ahead(pages, reading), self.throttle)
                for page in foretold(read, lambda page: len(page.ids), lambda: n_points):
                    n_unprojectable += self._take(page, replaces=replaces)
                    bar.update(len(page.ids))
            finally:
                self.failures.flush()
        return n_unprojectable

    def lacking(self, *wheres: Filter) -> int:
        """Project all (matching) points that lack the vector; returns how many cannot be.

        The first pass fills what was there when it began. Passes go on until one finds nothing to
        project: only points that cannot have the vector lacked it then. A writer that does not
        know the vector may bring others faster than that: after `MOST_PASSES` they are counted.
        """
        lacks = [replace(where, lacks_vector=self.vector) for where in wheres or (Filter(),)]
        n_unprojectable = self.matching(*lacks)
        n_before, n_first = 0, self.n_projected
        n_unwritten = self._n_found - n_first
        for _ in range(MOST_PASSES - 1):
            if self._n_found == n_before:
                break
            n_before = self._n_found
            n_unprojectable = self.matching(*lacks)
        else:
            self.n_lacking = max(0, sum(map(self.collection.count, lacks)) - n_unprojectable)
        # What deletions kept the first pass from writing is no news.
        self.n_late = max(0, self.n_projected - n_first - n_unwritten)
        return n_unprojectable

    def is_complete(self, replicas: Replicas) -> bool:
        """Return whether the manifest may call the vector complete."""
        # Other shard keys than the one that was filled may lack it.
        store = self.collection.store
        is_whole = store.shard_key is None or self.collection.origin(self.vector).is_complete
        return is_whole and not self.n_lacking and replicas.has_all

    def on_replicas(self, where: Filter | None = None, *, replaces: bool = False) -> Replicas:
        """Fill what single replicas lack of the (matching) points, and count what they lack still.

        Where the fill `replaces` vectors, a replica that has kept another one is behind, too.
        """
        questions = self.questions(replaces=replaces)
        if questions.has_replicas:
            questions.ask_all(where)
        return questions.answer()

    def questions(self, *, replaces: bool = False) -> ReplicaQuestions:
        """Return what asks the replicas for the vector, and fills what is behind."""
        mend = partial(self._mended, replaces=replaces)
        return ReplicaQuestions(
            self.collection, self.vector, mend, alike=replaces, excused=self._listed
        )

    def _mended(self, ids: list[PointId], *, replaces: bool = False) -> int:
        """Write the vector of some points again; returns how many were sent.

        The filter of the write is met by each replica that lacks the vector, and by no other.
        """
        n_before = self.n_projected
        try:
            for where in with_ids(ids):
                for page in self.collection.scroll(where=where, **self._needed):
                    self._take(page, replaces=replaces)
        finally:
            self.failures.flush()
        n_sent, self.n_projected = self.n_projected - n_before, n_before
        return n_sent

    @property
    def _needed(self) -> dict[str, Any]:
        """What has to be read of each point."""
        return {"vectors": [self.source], "payload": payload_needed(self.projection)}

    def _look_now_and_then(self) -> None:
        """Raise if somebody has removed the vector or declared it otherwise since."""
        if time.monotonic() - self._looked_at > LOOK_EVERY_S:
            self.collection.check_unchanged(self.vector)
            self._looked_at = time.monotonic()

    def _take(self, page: Page, *, replaces: bool) -> int:
        self._look_now_and_then()
        X = page.vectors[self.source]
        found = project_rows(self.projection, X, self.source, page.payloads)
        self._refuse(page, found)
        self._n_found += len(found.rows)
        if len(found.rows):
            ids = [page.ids[row] for row in found.rows]
            self.n_projected += self._write(ids, found.Z, replaces=replaces)
        return len(found.refused)

    def _write(self, ids: list[PointId], Z: Floats, *, replaces: bool) -> int:
        """Write the vectors of the points that are still there; returns how many those were.

        Where they are deleted faster than one can look, the next pass takes up the others.
        """
        if self.collection.store.n_replicas(self.collection.name) == 1:
            return self._write_existing(ids, Z, replaces=replaces)
        # A replica that lacks a point of a write is deactivated, and may stay behind others.
        n_written, start = 0, 0
        while start < len(ids):
            end = start + (_FEW if self._n_careful else len(ids))
            there = set(self.collection.store.retrieve(self.collection.name, ids[start:end]).ids)
            rows = [n for n, point in enumerate(ids[start:end], start) if point in there]
            n = self._write_existing([ids[row] for row in rows], Z[rows], replaces=replaces)
            is_hit = len(rows) < len(ids[start:end]) or n < len(rows)
            self._n_careful = _CAREFUL_WRITES if is_hit else max(0, self._n_careful - 1)
            n_written, start = n_written + n, end
        return n_written

    def _write_existing(self, ids: list[PointId], Z: Floats, *, replaces: bool) -> int:
        store, name, vector = self.collection.store, self.collection.name, self.vector

        def write(rows: list[int]) -> None:
            which = [ids[row] for row in rows]
            store.update_vectors(name, vector, which, Z[rows], only_lacking=not replaces)

        return len(self.collection.with_existing(ids, write)) if ids else 0

    def _refuse(self, page: Page, found: ProjectedRows) -> None:
        new = {str(page.ids[row]): why for row, why in found.refused.items()}
        if found.missing:
            # A page holds NaN for absent vectors: the store knows which ones are NaN themselves.
            asked = Filter(ids=[page.ids[row] for row in found.missing], has_vector=self.source)
            for part in self.collection.scroll(where=asked):
                for point in part.ids:
                    new[str(point)] = f"its vector {self.source!r} is not finite"
        for point, why in new.items():
            if point not in self._listed:
                self._listed.add(point)
                self.failures.add(FailureRecord(point, "project", why))
