"""Codes that hold a label of their point, when an ingest gives that point another label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from intramodal.errors import Conflict, ManifestMismatchError
from intramodal.ingest.backfill.in_place import mark_vector
from intramodal.ingest.backfill.points import in_points, says_label
from intramodal.store.collection import ImageCollection
from intramodal.types import Payload


class StaleCodes:
    """Counts codes that an ingest makes stale: it changes their labels, and has not their map.

    Before the first of these labels is changed their vector is called incomplete, and at the end
    again, as a backfill may have finished meanwhile. So the next backfill with that map looks at
    all codes, whatever has become of this ingest.

    Parameters
    ----------
    collection : ImageCollection
    written : collection of str
        Vectors that the ingest writes itself: it keeps their codes true.
    """

    def __init__(self, collection: ImageCollection, written: Collection[str]) -> None:
        self._collection = collection
        self._fields = {
            vector: origin.labels.field
            for vector, origin in collection.manifest.vectors.items()
            if origin.labels is not None and origin.labels.known and vector not in written
        }
        self._counts: Counter[str] = Counter()

    def before(self, changes: Iterable[Payload]) -> None:
        """Take note of the payload keys that stored points are about to get."""
        if not self._fields:
            return
        changes = list(changes)
        for vector, field in self._fields.items():
            n = sum(says_label(change, field) for change in changes)
            if n and not self._counts[vector]:
                self._mark(vector)
            self._counts[vector] += n

    def settle(self) -> tuple[dict[str, int], list[str]]:
        """Return the number of stale codes by vector, and what to do about them."""
        found = {vector: n for vector, n in self._counts.items() if n}
        notes = []
        for vector, n in found.items():
            notes += self._mark(vector)
            notes.append(
                f"{in_points(n)} got another {self._fields[vector]!r}, and their codes in "
                f"{vector!r} still hold the old one: run the backfill of {vector!r} again, which "
                f"computes these anew"
            )
        return found, notes

    def _mark(self, vector: str) -> list[str]:
        """Call a vector incomplete; returns why it cannot be called so."""
        try:
            return mark_vector(self._collection, vector, is_complete=False)
        except (Conflict, ManifestMismatchError):  # somebody has removed it meanwhile
            return []
