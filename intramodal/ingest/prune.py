"""Points whose images have left the source: found, and deleted."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from intramodal.errors import InputError
from intramodal.ingest.failures import MOST_LISTED
from intramodal.ingest.payload import index_payload
from intramodal.ingest.sources.base import is_text, spelled
from intramodal.store.base import Filter, Page
from intramodal.store.collection import ImageCollection
from intramodal.types import ImageRecord, KeyedId, PointId, point_id, short_repr

_DELETED_AT_ONCE = 1000

_PRUNED_FREELY = 10
"""Up to this many points are deleted without `yes`, however small the data set."""


@short_repr
@dataclass(frozen=True)
class PrunePlan:
    """Which points a pruning deletes.

    Parameters
    ----------
    collection, dataset : str
    n_gone : int
        Points of the data set whose image has left the source.
    n_dataset : int
        Points of the data set that an ingest has written, without those that this one has added.
    paths : list of str
        Of the points that go, sorted; at most 10,000.
    gap : str or None
        Why nothing goes: the source may hold more than it has yielded.
    """

    collection: str
    dataset: str
    n_gone: int
    n_dataset: int
    paths: list[str] = field(default_factory=list)
    gap: str | None = None

    @property
    def needs_yes(self) -> bool:
        """Whether so much goes that the source may be the wrong one."""
        return self.n_gone > _PRUNED_FREELY and 10 * self.n_gone > self.n_dataset

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "collection": self.collection,
            "dataset": self.dataset,
            "would_prune": self.paths,
            "n_would_prune": self.n_gone,
            "n_dataset": self.n_dataset,
            "needs_yes": self.needs_yes,
            "gap": self.gap,
        }


def plan_prune(
    source: Iterable[ImageRecord], collection: ImageCollection, *, dataset: str | None = None
) -> PrunePlan:
    """Return what an ingest of the source with `prune` would delete; changes nothing.

    Only the keys of the source are read, no image, and no model is needed.

    Parameters
    ----------
    source : iterable of ImageRecord
        For example from `open_source`; iterated over once.
    collection : ImageCollection
    dataset : str, optional
        Namespace of the point ids; the collection's name by default.

    Raises
    ------
    SourceError
        If the source cannot be read as a whole.
    """
    name = collection.name if dataset is None else dataset
    with closing(Seen()) as seen:
        for record in source:
            key = record.key if is_text(record.key) else spelled(record.key)
            seen.add(point_id(name, key))
        return find_gone(source, collection, name, seen)


def count_dataset(collection: ImageCollection, dataset: str) -> int:
    """Return how many points carry the data set's name; makes the index for it."""
    index_payload(collection, [{"dataset": dataset}])
    return collection.count(Filter(equals={"dataset": dataset}))


def find_gone(
    source: Iterable[ImageRecord],
    collection: ImageCollection,
    dataset: str,
    seen: Seen,
    *,
    n_before: int | None = None,
) -> PrunePlan:
    """Find the points of the data set whose pictures were not seen, and note them in `seen`.

    Only points whose id follows from the data set and their path: whatever else carries the same
    data set's name was not written by an ingest.
    """
    where = Filter(equals={"dataset": dataset})
    if gap := _gap(source, seen):
        n = collection.count(where) if n_before is None else n_before
        return PrunePlan(collection.name, dataset, n_gone=0, n_dataset=n, gap=gap)
    n_points = n_dataset = n_gone = 0
    paths: list[str] = []
    for page in collection.scroll(payload=["path"], where=where):
        _check_key(collection, page)
        n_points += len(page.ids)
        owned = [
            (str(point), path)
            for point, payload in zip(page.ids, page.payloads, strict=True)
            if point == point_id(dataset, path := str(payload.get("path")))
        ]
        gone = [(point, path) for point, path in owned if point not in seen]
        seen.note_gone(point for point, _ in gone)
        n_dataset, n_gone = n_dataset + len(owned), n_gone + len(gone)
        paths += [path for _, path in gone[: MOST_LISTED - len(paths)]]
    n_added = 0 if n_before is None else max(n_points - n_before, 0)
    return PrunePlan(collection.name, dataset, n_gone, n_dataset - n_added, sorted(paths))


def _check_key(collection: ImageCollection, page: Page) -> None:
    """Raise `InputError` where the source may be that of another shard key than a point's."""
    if page.ids and isinstance(page.ids[0], KeyedId):
        raise InputError(
            f"{collection.name!r} has shard keys, and the images of one may be gone under another "
            f"only; prune one key at a time: open the store for it (shard_key), nothing was "
            f"deleted"
        )


def _gap(source: Iterable[ImageRecord], seen: Seen) -> str | None:
    """Return why there may be images that were not seen."""
    if not getattr(source, "is_complete", True):
        return getattr(source, "gap", None) or "parts of it could not be read"
    return None if seen else "it has yielded none"


def prune(collection: ImageCollection, plan: PrunePlan, seen: Seen, *, yes: bool = False) -> int:
    """Delete the points that `find_gone` has noted; returns how many."""
    if plan.needs_yes and not yes:
        raise InputError(
            f"{plan.n_gone:,} of {plan.n_dataset:,} points of data set {plan.dataset!r} are no "
            f"longer in the source, more than a tenth: the images of the source were written, "
            f"nothing was deleted; list the points first (`dry_run`; in Python plan_prune), then "
            f"confirm with `yes`"
        )
    for points in seen.gone(_DELETED_AT_ONCE):
        collection.store.delete(collection.name, points)
    return plan.n_gone


class Seen:
    """A set of point ids whose memory is bounded; used by one thread, and closed.

    It also takes the ids of points that are gone, for the same reason.

    SQLite keeps it in a temporary file as soon as it outgrows 32 MB, with about a million ids.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA cache_size = -32768")  # kilobytes
        self._database.execute("CREATE TABLE seen (id BLOB PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("CREATE TABLE gone (id BLOB)")

    def add(self, point: PointId) -> bool:
        """Add an id; returns whether it is new."""
        inserted = self._database.execute(
            "INSERT OR IGNORE INTO seen VALUES (?)", [_packed(point)]
        )
        return inserted.rowcount == 1

    def __contains__(self, point: PointId) -> bool:
        """Return whether the id was added."""
        found = self._database.execute("SELECT 1 FROM seen WHERE id = ?", [_packed(point)])
        return found.fetchone() is not None

    def __bool__(self) -> bool:
        """Return whether any id was added."""
        return self._database.execute("SELECT 1 FROM seen LIMIT 1").fetchone() is not None

    def note_gone(self, points: Iterable[str]) -> None:
        """Keep ids of points that are gone, each given once."""
        rows = [(uuid.UUID(point).bytes,) for point in points]
        self._database.executemany("INSERT INTO gone VALUES (?)", rows)

    def gone(self, size: int) -> Iterator[list[PointId]]:
        """Yield the noted ids, `size` at a time."""
        found = self._database.execute("SELECT id FROM gone ORDER BY rowid")
        while rows := found.fetchmany(size):
            yield [str(uuid.UUID(bytes=row)) for (row,) in rows]

    def close(self) -> None:
        """Delete it."""
        self._database.close()


def _packed(point: PointId) -> bytes:
    """Return an id as 8 bytes, or the 16 of a UUID."""
    return point.to_bytes(8, "big") if isinstance(point, int) else uuid.UUID(point).bytes
