"""The projected vector, added to and changed in the collection that clients search."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from intramodal.errors import AccessDenied
from intramodal.ingest.backfill.new_vector import Storing, new_vector
from intramodal.ingest.backfill.points import (
    Replicas,
    VectorFill,
    check_pace,
    in_points,
    known_field,
    log_projection,
    on_writers,
    require_matches,
    with_ids,
)
from intramodal.ingest.backfill.verify import on_others, stale_ids
from intramodal.ingest.failures import Failures
from intramodal.projection.stored_map import StoredMap
from intramodal.runs.run import Run
from intramodal.store.base import Filter, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import source_and_projection
from intramodal.store.origins import check_in_place, check_made_by
from intramodal.store.own_name import writes_under_own_name
from intramodal.types import PointId, VectorMap, short_repr

log = logging.getLogger(__name__)


@short_repr
@dataclass(frozen=True)
class BackfillSummary:
    """What a backfill or a recomputation did.

    Parameters
    ----------
    collection, source, vector : str
    projected, skipped, unprojectable : int
        Points whose vector was computed and sent (one that another writer gave it meanwhile
        keeps the writer's, unless it is recomputed); that had it when this began and were left
        alone, on a server about so many; that cannot have it: their source vector is missing,
        zero or not finite.
    late, lacking : int
        Points that a writer brought without the vector meanwhile, or brought again: those of
        `projected` that got it after the first pass had gone by, and those that lack it still.
    failures : list of dict
        "item", "stage" and "reason" of each that cannot; the first 10,000.
    seconds, reindex_seconds : float
        Until all was written; until the index was rebuilt after that.
    notes : list of str
        What the vector takes from its source, and what changes for clients, if this run added it;
        an index that is not built yet, or never will be; what the key could not do.
    replicas : Replicas
        In a cluster, what single replicas lack and which nodes were not asked.
    """

    collection: str
    source: str
    vector: str
    projected: int
    skipped: int
    unprojectable: int
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
        done = f"{in_points(self.projected)} of {self.collection!r} got {self.vector!r}"
        done = done if self.projected else "nothing to do"
        done = f"{done}, {in_points(self.unprojectable)} cannot be projected"
        rest = on_writers(self.vector, self.late, self.lacking)
        return "; ".join([done, *rest, *self.replicas.sentences(self.vector)])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "sentence": self.sentence}

    def record(self, run: Run) -> None:
        """Write the figures to a run."""
        counts = ("projected", "skipped", "unprojectable", "late", "lacking")
        for figure in (*counts, "seconds", "reindex_seconds"):
            run.log_metric(figure, getattr(self, figure), vector=self.vector)


@writes_under_own_name
def backfill(  # noqa: PLR0913  a job with many settings, each with a default
    collection: ImageCollection,
    projection: VectorMap,
    *,
    vector: str | None = None,
    source: str | None = None,
    only: Sequence[PointId] | None = None,
    batch_size: int = 1000,
    throttle: float | None = None,
    reindex: bool = True,
    on_disk: bool | None = None,
    quantize: str | None = None,
    datatype: str | None = None,
    yes: bool = False,
    run: Run | None = None,
) -> BackfillSummary:
    """Add the projected vector to all points that lack it; everything else stays untouched.

    Killed at any moment, the same call goes on; once complete, it writes nothing. Others may
    write to the collection meanwhile. All points that are there when it begins get the vector;
    the manifest calls it complete only if no point that can have it lacks it at the end, which
    writers that do not know it may prevent: see `BackfillSummary.lacking`.

    Where an ingest has changed labels that codes hold, and therefore called their vector
    incomplete, these codes are computed anew.

    Parameters
    ----------
    collection : ImageCollection
    projection : VectorMap
        A `Projection`, a `PosteriorMap`, or another map of stored vectors.
    vector : str, optional
        Name of the new vector; by default that of the vector which this projection is filling or
        has filled already, else the projection's own.
    source : str, optional
        Name of the stored vector that is projected; the encoder's own by default.
    only : sequence of str or int, optional
        Ids of the points that get the vector. What the manifest calls it stays as it is, as
        nobody looks whether others lack it: a new vector is incomplete, a complete one complete.
    batch_size : int
        Points a request.
    throttle : float, optional
        Most points a second.
    reindex : bool
        Wait until a server has rebuilt its index, `PATIENCE_S` at most and only where something
        was written, or rebuild that of an embedded collection if it had one.
    on_disk : bool, optional
        Whether searches read the vector from disk; as its source by default.
    quantize : {"none", "scalar", "binary", "turbo"}, optional
        What is kept in memory for searches; as its source, but never "product", by default.
    datatype : str, optional
        Of the vector's numbers: "float32", "float16" or another one that the store knows; that of
        the source if it is one of the two, by default.
    yes : bool
        Use a vector's name again that a server below 1.19 has removed, which may bring its old
        vectors back.
    run : Run, optional
        Takes the failures and figures.

    Raises
    ------
    ManifestMismatchError
        If the projection was fitted for another encoder, or the name is taken by other vectors,
        at the beginning or while this runs.
    Conflict
        If the name was removed by a server below 1.19, unless `yes`; if somebody has removed the
        vector while this ran.
    InputError
        If the source vector has another length, or the vector cannot be stored so.
    Unsupported
        If the server is too old to add a vector.
    AccessDenied
        If the vector has to be added, or its origin to be declared, and the key may not.
    """
    started = time.perf_counter()
    run = run or Run()
    log_projection(run, projection)
    source, vector = source_and_projection(collection, projection, source, vector)
    check_pace(batch_size, throttle)
    origin = check_in_place(collection, projection, source, vector, yes=yes)
    _warn_of_faults(collection, vector)
    storing = Storing(on_disk, quantize, datatype)
    new = new_vector(collection, source, vector, projection, storing)
    check_space(collection, vector, new.spec, only, reindex=reindex)
    new.add_to(collection, vector, origin)
    was_indexed = collection.described.n_indexed > 0  # as it was seen before
    wanted = [Filter()] if only is None else with_ids(only)
    n_skipped = _n_filled(collection, vector, wanted, exact=only is not None)
    failures = Failures(run, None)
    fill = VectorFill(collection, projection, source, vector, batch_size, throttle, failures)
    n_unprojectable = fill.lacking(*wanted) if wanted else 0
    n_recoded = _recoded(fill) if only is None and n_skipped else 0
    replicas, notes = Replicas(), new.notes
    if only is None:
        replicas = fill.on_replicas(replaces=n_recoded > 0)
        notes = [*notes, *_finished(fill, replicas)]
    else:
        collection.info()
    seconds = round(time.perf_counter() - started, 3)
    needs_index = reindex and _needs_index(collection, fill.n_projected, was_indexed)
    reindex_seconds, unbuilt = rebuild_index(collection, needed=needs_index)
    summary = BackfillSummary(
        collection=collection.name,
        source=source,
        vector=vector,
        projected=fill.n_projected,
        skipped=n_skipped - n_recoded,
        unprojectable=n_unprojectable,
        failures=failures.listed,
        late=fill.n_late,
        lacking=fill.n_lacking,
        replicas=replicas,
        notes=[*notes, *unbuilt],
        seconds=seconds,
        reindex_seconds=reindex_seconds,
    )
    run.keep(summary)
    return summary


def _n_filled(
    collection: ImageCollection, vector: str, wanted: Sequence[Filter], *, exact: bool
) -> int:
    """Return how many of the points that match have the vector already."""
    with_vector = [replace(where, has_vector=vector) for where in wanted]
    return sum(collection.count(where, exact=exact) for where in with_vector)


@writes_under_own_name
def recompute(  # noqa: PLR0913  as `backfill`
    collection: ImageCollection,
    projection: VectorMap,
    *,
    where: Filter,
    vector: str | None = None,
    source: str | None = None,
    batch_size: int = 1000,
    throttle: float | None = None,
    run: Run | None = None,
) -> BackfillSummary:
    """Compute the projected vector of the matching points anew, whether they have it or not.

    In a cluster every replica of these points is asked at the end whether it has the new one. If
    one has not, the manifest calls the vector incomplete, and the same call tries again.

    Parameters
    ----------
    collection : ImageCollection
    projection : VectorMap
        The one that made the vector.
    where : Filter
        Which points.
    vector, source, batch_size, throttle, run
        As in `backfill`.

    Raises
    ------
    NotFound
        If the collection has no vector that this projection has made.
    ManifestMismatchError, InputError
        As in `backfill`; also `InputError` if no point matches.
    """
    started = time.perf_counter()
    run = run or Run()
    log_projection(run, projection)
    source, vector = source_and_projection(collection, projection, source, vector)
    check_pace(batch_size, throttle)
    check_made_by(collection, projection, source, vector)
    failures = Failures(run, None)
    fill = VectorFill(collection, projection, source, vector, batch_size, throttle, failures)
    collection.index_for(where)
    n_matching = require_matches(collection, where)
    written = {vector: collection.vectors[vector]}
    collection.store.check_space(collection.name, written, n_matching, is_whole=False)
    n_unprojectable = fill.matching(where, replaces=True)
    replicas = fill.on_replicas(where, replaces=True)
    notes = on_behind(collection, vector, replicas)
    summary = BackfillSummary(
        collection=collection.name,
        source=source,
        vector=vector,
        projected=fill.n_projected,
        skipped=0,
        unprojectable=n_unprojectable,
        failures=failures.listed,
        replicas=replicas,
        notes=notes,
        seconds=round(time.perf_counter() - started, 3),
    )
    run.keep(summary)
    return summary


def check_space(
    collection: ImageCollection,
    vector: str,
    spec: VectorSpec,
    only: Sequence[PointId] | None = None,
    *,
    reindex: bool = True,
) -> None:
    """Raise `StoreError` where the disk has no room for what the points lack of a vector."""
    if not collection.store.is_embedded:
        return
    lacks = Filter(lacks_vector=vector) if vector in collection.vectors else Filter()
    collection.store.check_space(
        collection.name,
        {vector: spec},
        collection.count(lacks) if only is None else len(only),
        is_whole=False,
        reindexes=reindex and collection.described.n_indexed > 0,
    )


def _warn_of_faults(collection: ImageCollection, vector: str) -> None:
    risk = collection.store.risk_of_adding_vectors()
    if risk and vector not in collection.vectors:
        log.warning("%s", risk)
    for sentence in on_optimizer(collection):
        log.warning("%s", sentence)


def on_optimizer(collection: ImageCollection) -> list[str]:
    """Return what has stopped a collection's optimizer, as a sentence, if something has."""
    found = collection.described
    if found.status != "red":
        return []
    why = found.problem or "red, without a reason"
    return [f"the optimizer of {collection.name!r} has stopped: {why}"]


def _finished(fill: VectorFill, replicas: Replicas) -> list[str]:
    """Mark a vector as complete, or not; returns why not, and what could not be marked."""
    is_filled = fill.is_complete(replicas)
    mixed = _mixed(fill) if is_filled else []
    is_complete = is_filled and not mixed
    marked = mark_vector(fill.collection, fill.vector, is_complete=is_complete)
    return [*mixed, *marked, *_other_keys(fill)]


def _recoded(fill: VectorFill) -> int:
    """Compute codes anew whose labels have changed, where some may have; returns how many.

    An ingest without their map has called the vector incomplete, or a backfill was interrupted.
    """
    collection, projection = fill.collection, fill.projection
    if known_field(projection) is None or not isinstance(projection, StoredMap):
        return 0
    if collection.origin(fill.vector).is_complete:
        return 0
    n_before = fill.n_projected
    for ids in stale_ids(collection, projection, fill.source, fill.vector):
        fill.matching(*with_ids(ids), replaces=True)
    return fill.n_projected - n_before


def _other_keys(fill: VectorFill) -> list[str]:
    """Return what completes a vector that was filled for one shard key."""
    key = fill.collection.store.shard_key
    if key is None or fill.collection.origin(fill.vector).is_complete:
        return []
    return [
        f"this was done for the shard key {key!r} alone: {fill.vector!r} is called complete after "
        f"a backfill without a shard key, which fills what the other keys lack"
    ]


def _mixed(fill: VectorFill) -> list[str]:
    """Return what to do if a vector that is filled now holds what another projection made.

    One that was removed and declared anew meanwhile may hold what its first writer still wrote.
    """
    collection, projection = fill.collection, fill.projection
    # A map that is no file, as a textual inversion, may give other numbers each time.
    if collection.origin(fill.vector).is_complete or not isinstance(projection, StoredMap):
        return []
    return on_others(collection, projection, fill.source, fill.vector, n_own=fill.n_projected)


def on_behind(collection: ImageCollection, vector: str, replicas: Replicas) -> list[str]:
    """Mark a vector as incomplete if a replica may lack some of it; returns what follows."""
    if replicas.has_all:
        return []
    marked = mark_vector(collection, vector, is_complete=False)
    return marked or [f"{vector!r} is called incomplete until all replicas are found to have it"]


def mark_vector(collection: ImageCollection, vector: str, *, is_complete: bool) -> list[str]:
    """Mark a vector as complete, or not; returns what was not marked for want of a right."""
    try:
        collection.finish_vector(vector, is_complete=is_complete)
    except AccessDenied as error:
        state = "complete" if is_complete else "incomplete"
        return [
            f"all of this is written, but the manifest does not call {vector!r} {state}: {error}; "
            f"let somebody whose key may run the same command once"
        ]
    return []


def _needs_index(collection: ImageCollection, n_projected: int, was_indexed: bool) -> bool:
    """Return whether there is an index to build, or to wait for."""
    if n_projected:
        return was_indexed or collection.described.status == "yellow"
    # A server goes on by itself, and somebody who has changed nothing has nothing to wait for.
    return was_indexed and not collection.store.indexes_by_itself and _is_half_indexed(collection)


def _is_half_indexed(collection: ImageCollection) -> bool:
    """Return whether vectors are in no index, as after a kill while it was rebuilt.

    A few that were added since the last build are not, either: looking for work costs little.
    """
    info = collection.described
    return info.n_indexed < info.n_points * len(info.vectors)


PATIENCE_S = 600.0
"""How long an index is waited for that a server builds: it goes on by itself after that."""


def rebuild_index(
    collection: ImageCollection, *, needed: bool, patience_s: float = PATIENCE_S
) -> tuple[float, list[str]]:
    """Rebuild the index, or wait until a server has; returns the seconds, and what is left."""
    if not needed:
        return 0.0, []
    started = time.perf_counter()
    if not collection.store.indexes_by_itself:
        collection.store.optimize(collection.name)
        return round(time.perf_counter() - started, 3), []
    unbuilt = collection.store.optimize(collection.name, deadline_s=patience_s)
    return round(time.perf_counter() - started, 3), [unbuilt] if unbuilt else []
