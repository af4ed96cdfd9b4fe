"""What a collection already holds, asked for a few hundred pictures at a time."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence

from intramodal.ingest.prepare import Stored
from intramodal.store.base import Filter, IndexKind
from intramodal.store.collection import ImageCollection
from intramodal.types import ImageRecord, Payload, PointId, point_id

_DELETED_AT_ONCE = 1000


def look_up(
    collection: ImageCollection, vectors: Sequence[str], points: Sequence[str]
) -> dict[PointId, Stored]:
    """Return what the collection holds of `points`; absent ones are left out.

    Vectors themselves are not read: which ones are missing is asked by filters.
    """
    page = collection.store.retrieve(collection.name, points, payload=True)
    lacking: dict[PointId, set[str]] = {point: set() for point in page.ids}
    for vector in vectors if page.ids else ():
        where = Filter(ids=page.ids, lacks_vector=vector)
        for found in collection.scroll(where=where):
            for point in found.ids:
                lacking[point].add(vector)
    return {
        point: Stored(payload, frozenset(lacking[point]))
        for point, payload in zip(page.ids, page.payloads, strict=True)
    }


def ensure_indexes(collection: ImageCollection, records: Sequence[ImageRecord]) -> None:
    """Index what pictures are chosen by; see `index_payload`."""
    index_payload(collection, [{"dataset": "", **record.payload} for record in records])


def index_payload(collection: ImageCollection, payloads: Sequence[Payload]) -> None:
    """Index what points are chosen by, data set and label, where they have them.

    Before the load: a later index would read all points.

    The label's index takes whole numbers if the first labels are such; an index that somebody
    has made stays as it is.
    """
    labels = [payload["label"] for payload in payloads if "label" in payload]
    is_number = bool(labels) and isinstance(labels[0], int) and not isinstance(labels[0], bool)
    kinds: dict[str, IndexKind] = {
        "dataset": "keyword",
        "label": "integer" if is_number else "keyword",
    }
    there = collection.info().indexes
    for key, kind in kinds.items():
        if key not in there and any(key in payload for payload in payloads):
            collection.store.ensure_index(collection.name, key, kind)


def prune(collection: ImageCollection, dataset: str, seen: Seen) -> int:
    """Delete the points of the data set whose pictures were not seen; returns how many.

    Only points whose id follows from the data set and their path: whatever else carries the same
    data set's name was not written by an ingest.
    """
    n_deleted = 0
    where = Filter(equals={"dataset": dataset})
    for page in collection.scroll(payload=["path"], where=where, batch_size=_DELETED_AT_ONCE):
        gone = [
            point
            for point, payload in zip(page.ids, page.payloads, strict=True)
            if point == point_id(dataset, str(payload.get("path"))) and str(point) not in seen
        ]
        if gone:
            collection.store.delete(collection.name, gone)
            n_deleted += len(gone)
    return n_deleted


class Seen:
    """A set of point ids whose memory is bounded; used by one thread, and closed.

    SQLite keeps it in a temporary file as soon as it outgrows 32 MB, with about a million ids.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA cache_size = -32768")  # kilobytes
        self._database.execute("CREATE TABLE seen (id BLOB PRIMARY KEY) WITHOUT ROWID")

    def add(self, point: str) -> bool:
        """Add an id; returns whether it is new."""
        inserted = self._database.execute(
            "INSERT OR IGNORE INTO seen VALUES (?)", [uuid.UUID(point).bytes]
        )
        return inserted.rowcount == 1

    def __contains__(self, point: str) -> bool:
        """Return whether the id was added."""
        found = self._database.execute("SELECT 1 FROM seen WHERE id = ?", [uuid.UUID(point).bytes])
        return found.fetchone() is not None

    def close(self) -> None:
        """Delete it."""
        self._database.close()
