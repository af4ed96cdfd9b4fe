"""Labels that are in no payload: a table of them, and a collection that is read with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from intramodal.errors import InputError, Unsupported
from intramodal.store.base import Filter, Page, values_of
from intramodal.store.checks import is_canonical_id, typed_id
from intramodal.store.collection import SCROLL_BATCH, ImageCollection, tabled
from intramodal.store.fields import has_one_of, head_of, value_at
from intramodal.types import (
    Floats,
    KeyedId,
    Payload,
    PointId,
    VectorTable,
    key_text,
    point_id,
)

MOST_SENT = 10_000
"""Ids that a search names at most: each query carries all of them."""


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Fields of points by the ids of these points; see `read_labels`.

    Parameters
    ----------
    name : str
        Of the file, for people.
    fingerprint : str
        SHA-256 of its bytes.
    rows : dict of str or int to int
        Place of each id in the columns: a whole number, a UUID in its canonical text, ``KEY/ID``,
        or other text, which names a point as that of an ingest does.
    columns : dict of str to list
        One value (JSON) a row; None where there is none.
    """

    name: str
    fingerprint: str
    rows: Mapping[PointId, int]
    columns: Mapping[str, Sequence[Any]]

    def column_of(self, field: str) -> str | None:
        """Return the column that holds a field, itself or as a part of its objects."""
        return next((name for name in (field, head_of(field)) if name in self.columns), None)

    def values(self, field: str) -> Callable[[int | None], Any]:
        """Return what tells the value of a row in a field; None without a row."""
        name = self.column_of(field)
        if name is None:
            return lambda row: None
        column = self.columns[name]
        if name == field:
            return lambda row: None if row is None else column[row]
        return lambda row: None if row is None else value_at({name: column[row]}, field)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __repr__(self) -> str:
        """Return file, number of rows and columns."""
        return f"LabelTable({self.name!r}, {len(self):,} rows, {', '.join(self.columns)})"


class LabelledCollection(ImageCollection):
    """A collection as a table of labels describes it: for evaluations, which take it as a source.

    The columns of the table are fields of the points, in filters, too. A column takes the place
    of the payload's field of that name, for points without a row as well: half of a field from
    one source and half from the other would be neither. Nothing is written.

    Conditions on the table are applied here, to points as they are read. A search sends them as
    ids.

    Parameters
    ----------
    collection : ImageCollection
    labels : LabelTable
    """

    def __init__(self, collection: ImageCollection, labels: LabelTable) -> None:
        described = collection.described
        super().__init__(collection.store, collection.name, collection.manifest, described)
        self.labels = labels
        self._plain = collection
        self._sent: tuple[Filter, Filter] | None = None
        self._shards: dict[str, bool] = {}

    def scroll(
        self,
        *,
        vectors: Sequence[str] = (),
        payload: Sequence[str] | bool = False,
        where: Filter | None = None,
        batch_size: int = SCROLL_BATCH,
    ) -> Iterator[Page]:
        """Yield all (matching) points, page by page, in id order."""
        return self._joined(self._plain.scroll, vectors, payload, where, batch_size)

    def scan(
        self,
        *,
        vectors: Sequence[str] = (),
        payload: Sequence[str] | bool = False,
        where: Filter | None = None,
        batch_size: int = SCROLL_BATCH,
    ) -> Iterator[Page]:
        """Yield the same as `scroll`, to its end."""
        return self._joined(self._plain.scan, vectors, payload, where, batch_size)

    def _joined(
        self,
        read: Callable[..., Iterator[Page]],
        vectors: Sequence[str],
        payload: Sequence[str] | bool,
        where: Filter | None,
        batch_size: int,
    ) -> Iterator[Page]:
        """Yield the pages of a reader of the plain collection, with the labels."""
        sent, join = self._parted(where, payload)
        return join.over(read(vectors=vectors, payload=payload, where=sent, batch_size=batch_size))

    def table(
        self,
        vectors: Sequence[str],
        *,
        payload: Sequence[str] = (),
        where: Filter | None = None,
        sample: int | None = None,
        seed: int = 0,
    ) -> VectorTable:
        """Read vectors and fields of all (matching) points, once; see `ImageCollection.table`.

        The table says in `labels_from` what of the labels belongs to no point, and how many
        points have none.

        Raises
        ------
        InputError
            If no id of the labels is in the collection.
        """
        self._require_names(vectors)
        sent, join = self._parted(where, payload)
        wanted: dict[str, Any] = {"vectors": vectors, "payload": list(payload) or False}
        if sample is None:
            read = tabled(join.over(self._plain.scan(**wanted, where=sent)), vectors, payload)
            n_unknown = self._n_unknown(join, is_whole=sent is None)
            counts = join.counts(n_unknown)
            return replace(read, labels_from=counts, fitted=self.fitted(vectors))
        ids, n_there, is_about = self.draw(sample, seed=seed, where=where)
        read = tabled(join.over(self._plain.retrieve(ids, **wanted)), vectors, payload)
        drawn: dict[str, Any] = {"drawn_from": n_there, "is_drawn_from_about": is_about}
        fitted = self.fitted(vectors)
        return replace(read, labels_from=join.counts(None), fitted=fitted, **drawn)

    def count(self, where: Filter | None = None, *, exact: bool = True) -> int:
        """Return the number of (matching) points; an estimate is enough without `exact`."""
        if not self._split(where)[1]:
            return super().count(where, exact=exact)
        return sum(len(page.ids) for page in self.scroll(where=where))

    def can_draw_slices(self, where: Filter | None = None) -> bool:
        """Return whether a sample need not read the ids of all points."""
        return super().can_draw_slices(self._split(where)[0])

    def index_for(self, where: Filter | None) -> None:
        """Index the payload fields of a filter, as `ImageCollection.index_for`."""
        super().index_for(self._split(where)[0])

    def sendable(self, where: Filter | None) -> Filter | None:
        """Return a filter with the ids that its conditions on the labels mean in their place.

        Raises `Unsupported` where that are more than `MOST_SENT`, or points without a label.
        """
        if where is None:
            return None
        if self._sent is None or self._sent[0] is not where:
            sent, own = self._split(where)
            with_ids = (sent or Filter()) & Filter(ids=self._ids_of(own)) if own else where
            self._sent = where, with_ids
        return self._sent[1]

    def write(
        self, ids: Sequence[PointId], vectors: Mapping[str, Floats], payloads: Sequence[Payload]
    ) -> None:
        """Refuse it: labels of a file would get into the payload."""
        self._refuse_writing()

    def insert(
        self, ids: Sequence[PointId], vectors: Mapping[str, Floats], payloads: Sequence[Payload]
    ) -> None:
        """Refuse it, as `write`."""
        self._refuse_writing()

    def _refuse_writing(self) -> NoReturn:
        raise InputError(
            f"{self.name!r} with the labels of {self.labels.name} is for reading; write to the "
            f"collection itself"
        )

    def _split(self, where: Filter | None) -> tuple[Filter | None, list[Filter]]:
        """Return what of a filter the store can be asked for, and the conditions on the labels."""
        sent, own = Filter(), list[Filter]()
        for one in [] if where is None else where.conditions:
            if any(map(self.labels.column_of, one.equals)):
                own.append(one)
            else:
                sent = sent & one
        if not own:
            return where, own
        return (sent if sent.conditions else None), own

    def _parted(
        self, where: Filter | None, payload: Sequence[str] | bool = False
    ) -> tuple[Filter | None, _Join]:
        """Return what of a filter the store is asked for, and what does the rest here."""
        sent, own = self._split(where)
        return sent, _Join(self, payload, own)

    def _matching(self, own: Sequence[Filter]) -> Callable[[int | None], bool]:
        """Return what tells whether a row of the labels meets all of some conditions."""
        tests = [
            (self.labels.values(field), has_one_of(values_of(wanted)))
            for one in own
            for field, wanted in one.equals.items()
        ]
        return lambda row: all(is_wanted(value(row)) for value, is_wanted in tests)

    def _ids_of(self, own: Sequence[Filter]) -> list[PointId]:
        matches = self._matching(own)
        if matches(None):
            raise Unsupported(
                f"a search cannot look for points without a value in {self.labels.name}, as "
                f"{' and '.join(map(str, own))} does: the store does not hold these fields"
            )
        found = [point for point, row in self.rows.items() if matches(row)]
        if len(found) > MOST_SENT:
            raise Unsupported(
                f"{' and '.join(map(str, own))} is in {self.labels.name} and not in the store, "
                f"and a search would have to send the ids of {len(found):,} points with each "
                f"query; {MOST_SENT:,} is the most: write that field into the payload, or choose "
                f"the points by another one"
            )
        return found

    @cached_property
    def rows(self) -> Mapping[PointId, int]:
        """The rows of the labels by the ids that the collection's points have or would have."""
        if all(map(is_canonical_id, self.labels.rows)):
            return self.labels.rows
        named = ((self._named(key), row) for key, row in self.labels.rows.items())
        return {point: row for point, row in named if point is not None}

    def _named(self, key: PointId) -> PointId | None:
        """Return what the collection calls the point of an id of the labels; None: it cannot."""
        if not isinstance(key, str) or is_canonical_id(key):
            return key
        shard, _, bare = key.rpartition("/")
        point = typed_id(bare)
        if shard and is_canonical_id(point):
            if self.store.shard_key is not None and shard == key_text(self.store.shard_key):
                return point
            if self._is_keyed:
                return key if self._has_shard(shard) else None
        return point_id(self.manifest.dataset or self.name, key)

    def _has_shard(self, shard: str) -> bool:
        """Return whether a text is one of the shard keys: asked once, by a point of any id."""
        if shard not in self._shards:
            try:
                self.store.retrieve(self.name, [f"{shard}/0"])
                self._shards[shard] = True
            except InputError:
                self._shards[shard] = False
        return self._shards[shard]

    @cached_property
    def _is_keyed(self) -> bool:
        """Whether points are named by the key of their shard, too."""
        first = next(self._plain.scroll(batch_size=1), None)
        return first is not None and any(isinstance(point, KeyedId) for point in first.ids)

    def _n_unknown(self, join: _Join, *, is_whole: bool) -> int:
        """Return how many ids of the labels the collection lacks; raise if it has none of them."""
        n_there = sum(join.seen)
        if not is_whole:
            unseen = [point for point, row in self.rows.items() if not join.seen[row]]
            n_there += sum(len(page.ids) for page in self._plain.retrieve(unseen))
        if join.example is not None and not n_there:
            given = next(iter(self.labels.rows))
            raise InputError(
                f"none of the {len(self.labels):,} ids of {self.labels.name}, such as {given!r}, "
                f"is in collection {self.name!r}, whose ids are such as {join.example!r}; give "
                f"the column that holds the ids of the points"
            )
        return len(self.labels) - n_there


class _Join:
    """Gives points the fields of their rows, leaves out those that no condition lets through."""

    def __init__(
        self, collection: LabelledCollection, payload: Sequence[str] | bool, own: Sequence[Filter]
    ) -> None:
        self._collection = collection
        self._labels = collection.labels
        wanted = list(self._labels.columns) if payload is True else payload or ()
        columns = map(self._labels.column_of, wanted)
        self._columns = list(dict.fromkeys(name for name in columns if name is not None))
        self._matches = collection._matching(own) if own else None
        # A path is looked for in the payload's objects, too, which takes its time.
        self._paths = {name for name in self._columns if head_of(name) != name}
        self.seen = bytearray(len(self._labels))
        self.example: PointId | None = None
        """Some point that was read."""
        self._n_without_row = 0
        self._in_payload: Counter[str] = Counter()

    def over(self, pages: Iterator[Page]) -> Iterator[Page]:
        """Yield the pages with what belongs to their points."""
        row_of = self._collection.rows
        for page in pages:
            rows = [row_of.get(point) for point in page.ids]
            self._count(page, rows)
            payloads = page.payloads
            if self._columns:
                payloads = list(map(self._joined, payloads, rows))
            yield self._matching(replace(page, payloads=payloads), rows)

    def counts(self, n_unknown: int | None) -> dict[str, Any]:
        """Return what belongs together and what does not, as results show it."""
        return {
            "file": self._labels.name,
            "fingerprint": self._labels.fingerprint,
            "n_rows": len(self._labels),
            "n_unknown": n_unknown,
            "n_without_row": self._n_without_row,
            "also_in_payload": dict(self._in_payload),
        }

    def _count(self, page: Page, rows: Sequence[int | None]) -> None:
        if page.ids:
            self.example = page.ids[0]
        for row in rows:
            if row is None:
                self._n_without_row += 1
            else:
                self.seen[row] = 1

    def _joined(self, payload: Payload, row: int | None) -> Payload:
        found = dict(payload)
        for name in self._columns:
            there = value_at(payload, name) if name in self._paths else payload.get(name)
            if there is not None:
                self._in_payload[name] += 1
            found[name] = None if row is None else self._labels.columns[name][row]
        return found

    def _matching(self, page: Page, rows: Sequence[int | None]) -> Page:
        """Return the points of a page that meet the conditions."""
        if self._matches is None:
            return page
        kept = [place for place, row in enumerate(rows) if self._matches(row)]
        return replace(
            page,
            ids=[page.ids[place] for place in kept],
            vectors={name: X[np.array(kept, np.intp)] for name, X in page.vectors.items()},
            payloads=[page.payloads[place] for place in kept],
        )
