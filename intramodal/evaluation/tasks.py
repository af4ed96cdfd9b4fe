"""Which rows of a table ask, which answer, and what is relevant."""

from __future__ import annotations

import difflib
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.held_out import (
    fields_needed,
    fit_mask,
    fitted_names,
    read_fit_rows,
    rules_of,
    sources_of,
    without_fit_rows,
)
from intramodal.evaluation.labels import (
    LabelCodes,
    labels_of,
    require_read,
    warn_of_look_alikes,
)
from intramodal.evaluation.ranking import Lists, Relevance, Reranking, as_lists
from intramodal.store.base import Filter, spelled, value_text, values_of
from intramodal.store.checks import canonical_names
from intramodal.store.collection import ImageCollection
from intramodal.store.fields import fields_of, has_one_of, items_of, value_at
from intramodal.store.filters import parse_filter
from intramodal.store.origins import refuse_texts
from intramodal.types import (
    FittedVector,
    Floats,
    PointId,
    VectorTable,
    listed,
    short_repr,
    unkeyed,
)

log = logging.getLogger(__name__)

Mask = NDArray[np.bool_]


@short_repr
@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """Which rows of a table ask, which answer, and what is relevant: the same for every vector."""

    field: str
    """The payload field that says what is relevant: equal values, or a shared one."""
    protocol: str
    codes: LabelCodes
    query_rows: NDArray[np.intp]
    gallery_rows: NDArray[np.intp]
    """(n_queries,) and (n_gallery,): Rows of the table. Every query has something relevant in the
    gallery."""
    query_at: NDArray[np.int64]
    """(n_queries,): Where the query itself stands in the gallery; -1 if it does not."""
    relevance: Relevance
    n_without_positives: int
    """Queries left out because nothing is relevant to them."""
    answered_by: Mapping[str, str] = dataclass_field(default_factory=dict)
    """Vectors that only ask, as texts do, and the vector of the gallery that answers each."""
    reranked_by: Mapping[str, tuple[str, int]] = dataclass_field(default_factory=dict)
    """Vectors whose first places, so many, are put in the order of the cosines of another."""

    @classmethod
    def from_table(
        cls,
        table: VectorTable,
        field: str,
        *,
        split: tuple[Mask, Mask] | None = None,
        min_class_size: int = 2,
        max_queries: int | None = None,
        seed: int = 0,
    ) -> RetrievalTask:
        """Return the task of one label field.

        Shapes: `split` (n,).
        """
        check_max_queries(max_queries)
        codes = labels_of(table, field, min_class_size=min_class_size)
        asks, answers = (_positions(codes, mask) for mask in split or (None, None))
        members = _members(codes, answers)
        n_found = _n_relevant(codes, asks, answers, members)
        able = asks[n_found > 0]
        kept = np.sort(np.random.default_rng(seed).permutation(able)[:max_queries])
        if not len(kept):
            raise InputError(
                f"no query has a relevant image by field {field!r}; choose another field, or "
                f"check the split"
            )
        place = np.full(len(codes), -1, dtype=np.int64)
        place[answers] = np.arange(len(answers))
        asks_all = not codes.is_multi and np.array_equal(kept, answers)
        return cls(
            field=field,
            protocol="leave-one-out" if split is None else "query-gallery",
            codes=codes,
            query_rows=codes.rows[kept],
            gallery_rows=codes.rows[answers],
            query_at=place[kept],
            relevance=Relevance(
                positives=_positives(codes, kept, place, members),
                ignored=itself(place[kept]),
                n_queries=len(kept),
                classes=codes.codes[kept] if asks_all else None,
            ),
            n_without_positives=len(asks) - len(able),
        )

    @classmethod
    def of_all(
        cls,
        table: VectorTable,
        field: str,
        *,
        split: tuple[Mask, Mask] | None = None,
        min_class_size: int = 2,
        max_queries: int | None = None,
        seed: int = 0,
    ) -> RetrievalTask:
        """Return the task that is built once a table; see `from_table`.

        The table remembers one task a field and its settings, so that it has one split at most.
        """
        drawn = None if max_queries is None else (max_queries, seed)
        key = ("task", field, split is not None, min_class_size, drawn)
        build = partial(cls.from_table, table, field, split=split, min_class_size=min_class_size)
        return table.remember(key, partial(build, max_queries=max_queries, seed=seed))

    def vectors(self, table: VectorTable, vector: str) -> tuple[Floats, Floats]:
        """Return unit queries (n_queries, d) and unit gallery (n_gallery, d).

        One array where they are the same rows.
        """
        answering = self.answered_by.get(vector, vector)
        require_read(table, vectors=[vector, answering])
        G = _rows(table.unit(answering), self.gallery_rows)
        if answering == vector and np.array_equal(self.query_rows, self.gallery_rows):
            return G, G
        return _rows(table.unit(vector), self.query_rows), G

    def stored(self, table: VectorTable, vector: str) -> tuple[Floats, Floats]:
        """Return queries (n_queries, d) and gallery (n_gallery, d) at the length they have."""
        X, G = (table.vectors[name] for name in (vector, self.answered_by.get(vector, vector)))
        return _rows(X, self.query_rows), _rows(G, self.gallery_rows)

    def reranking(self, table: VectorTable, vector: str) -> Reranking | None:
        """Return how the first places by a vector are put in another order; None if they stay."""
        if vector not in self.reranked_by:
            return None
        other, n_first = self.reranked_by[vector]
        Q, G = self.vectors(table, other)
        return Reranking(Q, G, n_first, self.relevance.ignored)

    def only(self, rows: NDArray[np.intp]) -> RetrievalTask:
        """Return the task of those of its queries that are among a few rows of the table."""
        kept = np.flatnonzero(np.isin(self.query_rows, rows))
        return replace(
            self,
            query_rows=self.query_rows[kept],
            query_at=self.query_at[kept],
            relevance=self.relevance.only(kept),
        )

    def counts(self) -> dict[str, int]:
        """Return who takes part, and who is left out and why."""
        return {
            "n_queries": len(self.query_rows),
            "n_gallery": len(self.gallery_rows),
            "n_without_positives": self.n_without_positives,
            "n_classes": len(self.codes.names),
            "n_missing": self.codes.n_missing,
            "n_dropped": self.codes.n_dropped,
        }

    def query_labels(self) -> list[Any]:
        """Return the label of each query; a tuple for a multi-valued field."""
        label = dict(zip(self.codes.rows.tolist(), self.codes.labels(), strict=True))
        return [label[row] for row in self.query_rows.tolist()]


def check_max_queries(max_queries: int | None) -> None:
    """Raise `InputError` unless it is a number of queries, or None for all."""
    is_number = isinstance(max_queries, int | np.integer) and not isinstance(max_queries, bool)
    if max_queries is not None and (not is_number or max_queries < 1):
        raise InputError(
            f"max_queries must be a whole number from 1, got {max_queries!r}; leave it out to "
            f"take all queries"
        )


def _positions(codes: LabelCodes, mask: Mask | None) -> NDArray[np.intp]:
    """Return which of the kept rows a mask over the table means."""
    if mask is None:
        return np.arange(len(codes), dtype=np.intp)
    return np.flatnonzero(np.asarray(mask, dtype=bool)[codes.rows])


def _members(codes: LabelCodes, answers: NDArray[np.intp]) -> list[NDArray[np.int64]]:
    """Return the gallery places of every class, ascending."""
    lengths = np.diff(codes.indptr)
    owner = np.repeat(np.arange(len(codes)), lengths)
    place = np.full(len(codes), -1, dtype=np.int64)
    place[answers] = np.arange(len(answers))
    order = np.argsort(codes.indices, kind="stable")
    classes, places = codes.indices[order], place[owner[order]]
    bounds = np.searchsorted(classes, np.arange(len(codes.names) + 1))
    parts = [places[a:b] for a, b in itertools.pairwise(bounds)]
    return [np.sort(part[part >= 0]) for part in parts]


def _n_relevant(
    codes: LabelCodes,
    asks: NDArray[np.intp],
    answers: NDArray[np.intp],
    members: list[NDArray[np.int64]],
) -> NDArray[np.int64]:
    """Return an upper bound of each query's relevant items that is zero only where they are."""
    sizes = np.array([len(part) for part in members], dtype=np.int64)
    is_there = np.zeros(len(codes), dtype=np.int64)
    is_there[answers] = 1
    others = sizes[codes.indices] - np.repeat(is_there, np.diff(codes.indptr))
    totals = np.concatenate([[0], np.cumsum(others)])
    return np.asarray(totals[codes.indptr[1:]] - totals[codes.indptr[:-1]])[asks]


def _positives(
    codes: LabelCodes,
    kept: NDArray[np.intp],
    place: NDArray[np.int64],
    members: list[NDArray[np.int64]],
) -> Callable[[int, int], Lists]:
    if codes.is_multi:

        def lists(start: int, stop: int) -> Lists:
            return as_lists([_sharing(codes, row, place, members) for row in kept[start:stop]])

        return lists
    return _of_one_class(codes.codes[kept], place[kept], members)


def _sharing(
    codes: LabelCodes, row: int, place: NDArray[np.int64], members: list[NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Return the gallery places that share a class with a row, but for its own."""
    classes = codes.indices[codes.indptr[row] : codes.indptr[row + 1]]
    found = np.unique(np.concatenate([members[c] for c in classes]))
    return np.asarray(found[found != place[row]])


def _of_one_class(
    classes: NDArray[np.int64], itself: NDArray[np.int64], members: list[NDArray[np.int64]]
) -> Callable[[int, int], Lists]:
    """Return the lists where each query has one class: for whole blocks, without a loop."""
    pointers, places = as_lists(members)

    def lists(start: int, stop: int) -> Lists:
        asked, own = classes[start:stop], itself[start:stop]
        sizes = pointers[asked + 1] - pointers[asked]
        ends = np.cumsum(sizes)
        found = places[np.repeat(pointers[asked] - ends + sizes, sizes) + np.arange(sizes.sum())]
        kept = found != np.repeat(own, sizes)
        # A query is among its class at most once: that is one place fewer where it answers, too.
        ends -= np.cumsum(own >= 0)
        return np.concatenate([[0], ends]), found[kept]

    return lists


def _rows(X: Floats, rows: NDArray[np.intp]) -> Floats:
    """Return those rows (ascending); all of them are no copy."""
    return X if len(rows) == len(X) else X[rows]


def itself(query_at: NDArray[np.int64]) -> Callable[[int, int], Lists]:
    """Return lists of each query's own place in the gallery, -1 where it has none."""

    def lists(start: int, stop: int) -> Lists:
        at = query_at[start:stop]
        return np.concatenate([[0], np.cumsum(at >= 0)]), at[at >= 0]

    return lists


_MOST_NAMED = 5
_N_LOOKED_AT = 200
"""Points whose payload says which fields there are."""


@dataclass(frozen=True)
class FieldFilter:
    """Points whose payload field has one of some values."""

    field: str
    values: tuple[Any, ...]
    """As `parse_filter` reads them: ``2012`` is the text and the number."""

    @classmethod
    def parse(cls, text: str) -> FieldFilter:
        """Read ``FIELD=VALUE[,VALUE...]``.

        Examples
        --------
        >>> FieldFilter.parse("split=test")
        FieldFilter(field='split', values=('test',))
        """
        fields = parse_filter([text]).equals
        if len(fields) != 1:
            raise InputError(
                f"queries and gallery are chosen by a payload field, for example split=test, got "
                f"{text!r}"
            )
        ((field, values),) = fields.items()
        return cls(field, tuple(values))

    @property
    def where(self) -> Filter:
        """The same in the store's words."""
        return Filter(equals={self.field: list(self.values)})

    def mask(self, table: VectorTable) -> Mask:
        """Return which rows of a table match; `InputError` names close values where none does."""
        column = table.payload[self.field]
        is_wanted = has_one_of(self.values)
        found = [is_wanted(value) for value in column]
        if not any(found):
            raise InputError(self.no_match(column))
        return np.array(found, bool)

    def no_match(self, column: Iterable[Any], of: str = "") -> str:
        """Return the sentence that no point has the value; close ones of the column are named."""
        there = sorted({value_text(item) for value in column for item in items_of(value)})
        wanted = spelled(self.values)
        close = difflib.get_close_matches(wanted, there, n=3) or there[:_MOST_NAMED]
        named = " or ".join(repr(value) for value in close) or "none"
        some = "some of its" if len(close) < len(there) else "its"
        sentence = f"no point{of} has {self.field}={wanted}; {some} values are {named}"
        comma = next((value for value in close if "," in value), None)
        if comma is None:
            return sentence
        return f"{sentence}; write a value with a comma in double quotes: {listed(comma)}"


Side = FieldFilter | Mask


@dataclass(frozen=True, eq=False)
class Sides:
    """The queries and the gallery of an evaluation, or the test images and the shots.

    Parameters
    ----------
    queries, gallery : FieldFilter or ndarray of shape (n,), bool, optional
        Which rows of a table are on that side; by default all.

    Examples
    --------
    >>> Sides.of("split")
    Sides(split=test | split=train)
    """

    queries: Side | None = None
    gallery: Side | None = None

    @classmethod
    def of(cls, value: Sides | str | tuple[Mask, Mask] | None) -> Sides:
        """Return the sides that two masks, or a field's values ``test`` and ``train``, mean."""
        if isinstance(value, Sides):
            return value
        if isinstance(value, str):
            return cls(*(FieldFilter(value, (side,)) for side in ("test", "train")))
        return cls(*(np.asarray(mask) for mask in value)) if value is not None else cls()

    @classmethod
    def parse(cls, queries: str | None, gallery: str | None, split: str | None = None) -> Sides:
        """Read two filters, ``FIELD=VALUE[,VALUE...]``, or the name of a field; see `of`."""
        if split is not None and (queries is not None or gallery is not None):
            raise InputError("a split already selects queries and gallery; leave out the rest")
        if split is not None:
            queries, gallery = f"{split}=test", f"{split}=train"
        return cls(*(FieldFilter.parse(side) if side else None for side in (queries, gallery)))

    @property
    def fields(self) -> list[str]:
        """Payload fields that must be read."""
        return [s.field for s in (self.queries, self.gallery) if isinstance(s, FieldFilter)]

    @property
    def split(self) -> str | None:
        """The field whose values ``test`` and ``train`` are the two sides, if they are."""
        queries, gallery = self.queries, self.gallery
        if not isinstance(queries, FieldFilter) or not isinstance(gallery, FieldFilter):
            return None
        is_split = (queries.values, gallery.values) == (("test",), ("train",))
        return queries.field if is_split and queries.field == gallery.field else None

    def named(self, table: VectorTable) -> tuple[VectorTable, list[str] | None]:
        """Return the rows of either side, and "test" or "train" for each; None without sides."""
        rows, masks = self.apply(table)
        return rows, None if masks is None else np.where(masks[0], "test", "train").tolist()

    def apply(self, table: VectorTable) -> tuple[VectorTable, tuple[Mask, Mask] | None]:
        """Return the rows of either side and the two masks over them; None for leave-one-out."""
        if self.queries is None and self.gallery is None:
            return table, None
        require_read(table, fields=self.fields)
        asks, answers = _mask(table, self.queries, "query"), _mask(table, self.gallery, "gallery")
        rows = np.flatnonzero(asks | answers)
        return table.take(rows), (asks[rows], answers[rows])

    @property
    def spelled(self) -> str | None:
        """The two filters, a mask by its number of rows; None where all ask all others."""
        if self.queries is None and self.gallery is None:
            return None
        return f"{_spelled(self.queries)} | {_spelled(self.gallery)}"

    def __repr__(self) -> str:
        """Return the two filters; a mask by its number of rows."""
        return f"Sides({_spelled(self.queries)} | {_spelled(self.gallery)})"


def tasks_of(
    table: VectorTable,
    fields: Sequence[str],
    split: tuple[Mask, Mask] | None,
    *,
    min_class_size: int = 2,
    max_queries: int | None = None,
    seed: int = 0,
) -> list[RetrievalTask]:
    """Return the task of every label field; see `RetrievalTask.from_table`."""
    return [
        RetrievalTask.from_table(
            table,
            field,
            split=split,
            min_class_size=min_class_size,
            max_queries=max_queries,
            seed=seed,
        )
        for field in fields
    ]


def _mask(table: VectorTable, side: Side | None, name: str) -> Mask:
    if side is None:
        return np.ones(len(table), dtype=bool)
    if isinstance(side, FieldFilter):
        _require_judges(table, side)
        return side.mask(table)
    gone = table.held_out
    if gone is not None and side.shape == gone.kept.shape:
        side = side[gone.kept]  # the points that took part before rows for fitting left
    if side.shape != (len(table),) or not side.any():
        raise InputError(
            f"the {name} side of the split is true for {np.sum(side):,} of {np.size(side):,} "
            f"rows and the table has {len(table):,}; give two masks over its rows, or a "
            f"payload field with the values test and train"
        )
    return side


def _require_judges(table: VectorTable, side: FieldFilter) -> None:
    """Raise `InputError` for a side of nothing but rows that a map was fitted on."""
    gone = table.held_out
    if gone is None or side.field not in gone.rows.payload:
        return
    is_wanted = has_one_of(side.values)
    n_gone = sum(map(is_wanted, gone.rows.payload[side.field]))
    if n_gone and not any(map(is_wanted, table.payload[side.field])):
        raise InputError(
            f"all {n_gone:,} points with {side.field}={spelled(side.values)} are rows that "
            f"{fitted_names(gone.fitted)}, and such rows never judge it; give other queries and "
            f"gallery"
        )


def _spelled(side: Side | None) -> str:
    if side is None:
        return "all"
    if isinstance(side, FieldFilter):
        return f"{side.field}={spelled(side.values)}"
    return f"{np.sum(side):,} of {len(side):,} rows"


def read_labelled(  # noqa: PLR0913  one reader of all jobs
    source: VectorTable | ImageCollection,
    vectors: Sequence[str],
    fields: Sequence[str],
    *,
    optional: Sequence[str] = (),
    where: Filter | None = None,
    sample: int | None = None,
    seed: int = 0,
    warns: bool = True,
    fitted: Mapping[str, FittedVector] | None = None,
) -> VectorTable:
    """Return vectors and payload fields of a collection, read once; a table as it is.

    Of a collection with more than `sample` points so many are drawn; no point need have one of
    the `optional` fields. With `where`, the points are those that match. Warns of labels that
    look alike, unless a job that reads the same points again has done so. Rows that maps were
    fitted on have left, see `read_points`. Raises `NotFound` for a
    vector that is not there, and `InputError` for a field in which no point has a value (the
    closest are named), a vector that holds texts, or where no point matches.
    """
    vectors = list(dict.fromkeys(vectors))
    if isinstance(source, VectorTable):
        require_read(source, vectors=vectors, fields=fields)
        table = read_points(source, vectors, where=where, fitted=fitted)
    else:
        names = list(dict.fromkeys([*fields, *optional]))
        refuse_texts(source, vectors)
        how: Any = {"where": where, "sample": sample, "seed": seed, "fitted": fitted}
        table = read_points(source, vectors, payload=names, **how)
        for field in fields:
            if all(value is None for value in table.payload[field]):
                raise InputError(_absent(source, field, len(table), where))
    for field in dict.fromkeys(fields if warns else ()):
        warn_of_look_alikes(table.payload[field], field)
    return table


def read_points(
    source: VectorTable | ImageCollection,
    vectors: Sequence[str],
    *,
    payload: Sequence[str] = (),
    where: Filter | None = None,
    sample: int | None = None,
    seed: int = 0,
    fitted: Mapping[str, FittedVector] | None = None,
) -> VectorTable:
    """Return the points of a source that match a filter; `InputError` where none does.

    Without the rows that maps of some of the vectors were fitted on, which never judge them, and
    those of further maps, `fitted`; with the vectors that these maps take.
    """
    if isinstance(source, VectorTable):
        return _of_table(source, vectors, where, fitted or {})
    fitted = {**source.fitted(vectors), **(fitted or {})}
    vectors = list(dict.fromkeys([*vectors, *sources_of(fitted)]))
    payload = list(dict.fromkeys([*payload, *fields_needed(fitted)]))
    table = source.table(vectors, payload=payload, where=where, sample=sample, seed=seed)
    if where is not None and where.conditions and not len(table):
        raise InputError(_no_match(source, where, vectors))
    if not fitted or not len(table):
        return table
    is_all = where is None and sample is None and not table.n_incomplete
    read = None if is_all else read_fit_rows(source, table, fitted)
    return without_fit_rows(table, fitted, read)


def _of_table(
    table: VectorTable,
    vectors: Sequence[str],
    where: Filter | None,
    fitted: Mapping[str, FittedVector],
) -> VectorTable:
    """Return the rows of a table that match a filter and may judge its vectors."""
    fitted = {name: table.fitted[name] for name in vectors if name in table.fitted} | {**fitted}
    gone = {} if table.held_out is None else table.held_out.fitted
    found = table if where is None else _matching(table, where)
    if all(name in gone and gone[name].labels == one.labels for name, one in fitted.items()):
        return found
    if table.n_incomplete or table.drawn_from is not None:
        log.warning(
            "the table is a part of its collection: near-copies of rows for fitting that it lacks "
            "judge %s, too; give the collection itself",
            ", ".join(map(repr, fitted)),
        )
    rows = table.take(np.flatnonzero(fit_mask(table, rules_of(fitted))))
    return without_fit_rows(found, fitted, (rows, rows))


def _matching(table: VectorTable, where: Filter) -> VectorTable:
    """Return the rows of a table that match a filter."""
    if table.drawn_from is not None and table.drawn_from > len(table) + table.n_incomplete:
        raise InputError(
            f"the table is a random sample of {table.drawn_from:,} points, and how many of those "
            f"have {where} is unknown; filter when you read it: collection.table(..., where=...)"
        )
    found = np.ones(len(table), dtype=bool)
    for one in where.conditions:
        found &= _condition_mask(table, one)
    if where.conditions and not found.any():
        raise InputError(_never_together(where))
    return replace(table.take(np.flatnonzero(found)), drawn_from=None, is_drawn_from_about=False)


def _condition_mask(table: VectorTable, one: Filter) -> Mask:
    """Return which rows of a table meet a single condition; `InputError` where none does."""
    for field, wanted in one.equals.items():
        require_read(table, fields=[field])
        return FieldFilter(field, tuple(values_of(wanted))).mask(table)
    if one.ids is None:
        raise InputError(
            f"a table is filtered by payload fields and ids, got: {one}; leave it out"
        )
    ids = set(canonical_names(one.ids))
    found = np.array([point in ids or unkeyed(point) in ids for point in table.ids], dtype=bool)
    _check_unique_ids([point for point in table.ids if unkeyed(point) in ids])
    if not found.any():
        raise InputError(f"no point has {one}; give ids of the table")
    return found


def _check_unique_ids(points: Sequence[PointId]) -> None:
    """Raise `InputError` where bare ids mean points under several shard keys."""
    by_id: dict[PointId, PointId] = {}
    for point in points:
        other = by_id.setdefault(unkeyed(point), point)
        if other != point:
            raise InputError(
                f"{other} and {point} have the same id under different shard keys; write which "
                f"one is meant"
            )


def _no_match(collection: ImageCollection, where: Filter, vectors: Sequence[str]) -> str:
    """Return the sentence that no point with these vectors matches, and which condition fails."""
    n = collection.count(where)
    if n:
        return (
            f"none of the {n:,} points with {where} has all of the vectors {', '.join(vectors)}; "
            f"fill them by a backfill, or name other vectors"
        )
    for one in where.conditions:
        if not collection.count(one):
            return _unmet(collection, one)
    return _never_together(where)


def _unmet(collection: ImageCollection, one: Filter) -> str:
    """Return the sentence that no point of a collection meets a single condition."""
    of = f" of {collection.name!r}"
    for field, wanted in one.equals.items():
        pages = collection.scroll(payload=[field])
        column = [value_at(payload, field) for page in pages for payload in page.payloads]
        if not any(map(items_of, column)):
            return _absent(collection, field, len(column), None)
        return FieldFilter(field, tuple(values_of(wanted))).no_match(column, of)
    return f"no point{of} has {one}; leave that condition out, or correct it"


def _never_together(where: Filter) -> str:
    return (
        f"no point has {where}: each condition holds for some points, but never all at once; "
        f"leave one out"
    )


@dataclass(frozen=True)
class Points:
    """The points that an evaluation read: of which collection (None for a table), how many.

    `sample` says how many were drawn of how many, and by which seed; None where all were read.
    `where` is the filter that all of them match, as a person writes it; None without one.
    `labels_from` says how a file of labels and the points belong together; None without one.
    `held_out` says which maps have seen labels, and how many rows have left for that.
    """

    collection: str | None
    n_points: int
    n_incomplete: int
    sample: Mapping[str, int] | None
    where: str | None = None
    labels_from: Mapping[str, Any] | None = None
    held_out: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        source: VectorTable | ImageCollection,
        table: VectorTable,
        seed: int,
        where: Filter | None = None,
    ) -> Points:
        """Describe the table that was read from a source, of the points that match a filter."""
        name = None if isinstance(source, VectorTable) else source.name
        n, of = len(table), table.drawn_from
        sample = None
        n_read = n if table.held_out is None else len(table.held_out.kept)
        if of is not None and of > n_read + table.n_incomplete:
            sample = {"n_points": n, "of": of, "seed": seed}
            sample |= {"is_estimate": True} if table.is_drawn_from_about else {}
        spelled_out = None if where is None else str(where)
        gone = None if table.held_out is None else table.held_out.to_dict()
        return cls(name, n, table.n_incomplete, sample, spelled_out, table.labels_from, gone)


def _absent(collection: ImageCollection, field: str, n_points: int, where: Filter | None) -> str:
    if n_points == 0:
        return f"collection {collection.name!r} has no point with these vectors; ingest some first"
    pages = collection.scroll(payload=True, where=where, batch_size=_N_LOOKED_AT)
    some = itertools.islice((p for page in pages for p in page.payloads), _N_LOOKED_AT)
    there = sorted({name for payload in some for name in fields_of(payload)})
    close = difflib.get_close_matches(field, there, n=3) or there[:_MOST_NAMED]
    hint = " or ".join(repr(name) for name in close) or "nothing: its points carry no payload"
    among = "" if where is None else f" with {where}"
    return f"no point{among} has a value in field {field!r}; {collection.name!r} has {hint}"
