"""Which rows of a table ask, which answer, and what is relevant."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.ranking import Lists, Relevance, as_lists
from intramodal.types import Floats, VectorTable, unit_rows

Key = tuple[str, str | int | float | bool]
"""Kind and value of a class; the kind keeps ``True``, ``1`` and ``"1"`` apart."""


@dataclass(frozen=True, eq=False)
class LabelCodes:
    """The classes of the rows of one payload column.

    Parameters
    ----------
    rows : ndarray of shape (n,), intp
        Rows of the column that are kept, ascending.
    codes : ndarray of shape (n,), int64
        Class of each kept row, an index into `names`; of shape (0,) for a multi-valued field,
        so that it cannot be mistaken for one class a row.
    names : list of str
        The classes as text, ascending and all different. Where two classes print alike, every
        name says its kind: ``"1 (text)"``, ``"1 (number)"``, ``"True (bool)"``.
    values : list
        The payload value of each class.
    n_missing : int
        Rows without a value: None, NaN, blank text, an empty list.
    n_dropped : int
        Rows with a value, none of which belongs to a class that was large enough.
    is_multi : bool
        Whether some row has several values.
    indptr, indices : ndarray of shape (n + 1,) and (nnz,), int64
        Classes of kept row i are ``indices[indptr[i]:indptr[i + 1]]``, ascending. Valid for
        single-valued fields as well.
    """

    rows: NDArray[np.intp]
    codes: NDArray[np.int64]
    names: list[str]
    values: list[Any]
    n_missing: int
    n_dropped: int
    is_multi: bool
    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of kept rows."""
        return len(self.rows)

    @property
    def class_sizes(self) -> NDArray[np.int64]:
        """Number of kept rows in each class, of shape (n_classes,)."""
        return np.bincount(self.indices, minlength=len(self.names)).astype(np.int64)

    def labels(self) -> list[Any]:
        """Return the name of each kept row's class; a tuple of names for a multi-valued field."""
        if not self.is_multi:
            return [self.names[code] for code in self.codes]
        parts = np.split(self.indices, self.indptr[1:-1])
        return [tuple(self.names[code] for code in part) for part in parts]

    def __repr__(self) -> str:
        """Return counts of rows, classes, and rows left out."""
        return (
            f"LabelCodes({len(self):,} rows, {len(self.names):,} classes, "
            f"{self.n_missing:,} missing, {self.n_dropped:,} dropped)"
        )


def require_read(
    table: VectorTable, *, vectors: Sequence[str] = (), fields: Sequence[str] = ()
) -> None:
    """Raise `InputError` for a vector or a payload field that a table was read without."""
    for kind, names, found in (
        ("vector", vectors, table.vectors),
        ("field", fields, table.payload),
    ):
        for name in names:
            if name not in found:
                raise InputError(
                    f"the table was read without the {kind} {name!r}, only with "
                    f"{', '.join(sorted(found)) or 'none'}; read it, too"
                )


def encode_labels(
    column: Sequence[Any], *, min_class_size: int = 1, field: str = "label"
) -> LabelCodes:
    """Return the classes of one payload column.

    Values of different kinds are different classes, even if they print alike: ``True``, ``1`` and
    ``"1"`` are three. Whole floats are integers (``2012.0`` is ``2012``), as in JSON. A list whose
    rows never hold two different values is a single-valued field.

    Parameters
    ----------
    column : sequence
        Text, numbers, booleans, lists of those, or None.
    min_class_size : int
        Classes of fewer rows are left out.
    field : str
        Name of the column, for messages.

    Raises
    ------
    InputError
        For values that are no labels (a dict, a nested list), a column without any value, or
        fewer than two classes.

    Examples
    --------
    >>> found = encode_labels(["dog", "cat", None, "dog"])
    >>> found.names, found.codes, found.n_missing
    (['cat', 'dog'], array([1, 0, 1]), 1)
    """
    if min_class_size < 1:
        raise InputError(f"min_class_size must be a whole number from 1, got {min_class_size}")
    found = _all_keys(column, field)
    sizes: Counter[Key] = Counter()
    for keys, n in Counter(found).items():
        sizes.update(dict.fromkeys(keys, n))
    kept = {key for key, size in sizes.items() if size >= min_class_size}
    _require_two(kept, sizes, min_class_size, field)
    names = _names(kept)
    order = sorted(kept, key=names.__getitem__)
    code = {key: i for i, key in enumerate(order)}
    codes_of = {keys: sorted(code[key] for key in keys & kept) for keys in set(found)}
    classes = [codes_of[keys] for keys in found]
    rows = np.array([row for row, codes in enumerate(classes) if codes], dtype=np.intp)
    n_missing = sum(not keys for keys in found)
    is_multi = any(len(keys) > 1 for keys in found)
    indptr, indices = _csr([codes for codes in classes if codes])
    return LabelCodes(
        rows=rows,
        codes=indices[:0] if is_multi else indices,
        names=[names[key] for key in order],
        values=[key[1] for key in order],
        n_missing=n_missing,
        n_dropped=len(found) - n_missing - len(rows),
        is_multi=is_multi,
        indptr=indptr,
        indices=indices,
    )


def _all_keys(column: Sequence[Any], field: str) -> list[frozenset[Key]]:
    """Return the classes of each value; equal values share one set, which is hashed once."""
    known: dict[tuple[type, Any], frozenset[Key]] = {}
    found = []
    for row, value in enumerate(column):
        if not isinstance(value, str | int | float):
            found.append(_keys(value, row, field))
            continue
        name = (type(value), value)
        if name not in known:
            known[name] = _keys(value, row, field)
        found.append(known[name])
    return found


def _keys(value: Any, row: int, field: str) -> frozenset[Key]:
    """Return the classes of one payload value; empty if it says nothing."""
    items: Iterable[Any] = value if isinstance(value, list | tuple) else (value,)
    return frozenset(key for item in items if (key := _key(item, row, field)) is not None)


def _key(item: Any, row: int, field: str) -> Key | None:
    if isinstance(item, np.generic):
        item = item.item()
    if isinstance(item, str):
        return ("text", item) if item.strip() else None
    if isinstance(item, bool):  # before numbers: True is an int, and equals 1
        return ("bool", item)
    if isinstance(item, int):
        return ("number", item)
    if isinstance(item, float):
        if math.isnan(item):
            return None
        return ("number", int(item) if item.is_integer() else item)
    if item is None:
        return None
    raise InputError(
        f"row {row} of field {field!r} holds a {type(item).__name__}, which is no label; labels "
        f"are text, numbers, booleans or lists of those: choose another field"
    )


def _require_two(kept: set[Key], sizes: Counter[Key], least: int, field: str) -> None:
    if not sizes:
        raise InputError(
            f"no point has a value in field {field!r}; choose a payload field that holds labels"
        )
    if len(sizes) == 1:
        (only, n), *_ = sizes.items()
        raise InputError(
            f"field {field!r} has one class only, {str(only[1])!r} in {n} points; choose a field "
            f"with at least two"
        )
    if len(kept) < 2:
        raise InputError(
            f"field {field!r} has {len(kept)} classes of at least {least} points, of "
            f"{len(sizes)} in all (the largest has {max(sizes.values())}); lower the least class "
            f"size or choose a field with larger classes"
        )


def _names(keys: Iterable[Key]) -> dict[Key, str]:
    """Return one text a class, all different."""
    plain = {key: str(key[1]) for key in keys}
    if len(set(plain.values())) == len(plain):
        return plain
    return {key: f"{text} ({key[0]})" for key, text in plain.items()}


def _csr(lists: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lengths = np.fromiter((len(codes) for codes in lists), dtype=np.int64, count=len(lists))
    indices = np.fromiter((c for codes in lists for c in codes), dtype=np.int64)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]), indices


Mask = NDArray[np.bool_]

SIDES = ("test", "train")
"""Values of a split's field: what asks, and what answers."""


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """Which rows of a table ask, which answer, and what is relevant: the same for every vector.

    Parameters
    ----------
    field : str
        The payload field that says what is relevant: equal values, or a shared one.
    protocol : {"leave-one-out", "query-gallery"}
    codes : LabelCodes
    query_rows, gallery_rows : ndarray of shape (n_queries,) and (n_gallery,)
        Rows of the table. Every query has something relevant in the gallery.
    query_at : ndarray of shape (n_queries,)
        Where the query itself stands in the gallery; -1 if it does not.
    relevance : Relevance
    n_without_positives : int
        Queries left out because nothing is relevant to them.
    answered_by : mapping of str to str
        Vectors that only ask, as texts do, and the vector of the gallery that answers each.
    """

    field: str
    protocol: str
    codes: LabelCodes
    query_rows: NDArray[np.intp]
    gallery_rows: NDArray[np.intp]
    query_at: NDArray[np.int64]
    relevance: Relevance
    n_without_positives: int
    answered_by: Mapping[str, str] = dataclass_field(default_factory=dict)

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

        Parameters
        ----------
        table : VectorTable
            With the payload column `field`.
        split : pair of ndarray of shape (n,), bool, optional
            Rows that ask and rows that answer; without it each row asks all others.
        min_class_size : int
            Classes with fewer images are left out, as queries and as gallery.
        max_queries : int, optional
            Where more could ask, so many are drawn at random; all still answer, so that the mean
            AP estimates that of all queries without bias.
        seed : int
            Of the drawing.

        Raises
        ------
        InputError
            If the field cannot serve as a label, or no query has anything relevant.
        """
        require_read(table, fields=[field])
        codes = encode_labels(table.payload[field], min_class_size=min_class_size, field=field)
        asks, answers = (_positions(codes, mask) for mask in split or (None, None))
        members = _members(codes, answers)
        n_found = _n_relevant(codes, asks, answers, members)
        able = asks[n_found > 0]
        kept = np.sort(np.random.default_rng(seed).permutation(able)[:max_queries])
        if not len(kept):
            raise InputError(
                f"no query has a relevant picture by field {field!r}; choose another field, or "
                f"check the split"
            )
        place = np.full(len(codes), -1, dtype=np.int64)
        place[answers] = np.arange(len(answers))
        return cls(
            field=field,
            protocol="leave-one-out" if split is None else "query-gallery",
            codes=codes,
            query_rows=codes.rows[kept],
            gallery_rows=codes.rows[answers],
            query_at=place[kept],
            relevance=Relevance(
                positives=_positives(codes, kept, place, members),
                ignored=_itself(place[kept]),
                n_queries=len(kept),
            ),
            n_without_positives=len(asks) - len(able),
        )

    def vectors(self, table: VectorTable, vector: str) -> tuple[Floats, Floats]:
        """Return unit queries (n_queries, d) and unit gallery (n_gallery, d)."""
        answering = self.answered_by.get(vector, vector)
        require_read(table, vectors=[vector, answering])
        X = unit_rows(table.vectors[vector])
        G = X if answering == vector else unit_rows(table.vectors[answering])
        return _rows(X, self.query_rows), _rows(G, self.gallery_rows)

    def query_labels(self) -> list[Any]:
        """Return the label of each query; a tuple for a multi-valued field."""
        label = dict(zip(self.codes.rows.tolist(), self.codes.labels(), strict=True))
        return [label[row] for row in self.query_rows.tolist()]


def split_masks(
    table: VectorTable, split: str | tuple[Mask, Mask] | None
) -> tuple[Mask, Mask] | None:
    """Return which rows of a table ask and which answer.

    Parameters
    ----------
    table : VectorTable
    split : str or pair of ndarray of shape (n,), bool, optional
        A payload field with the values ``test`` and ``train``, or two masks.

    Raises
    ------
    InputError
        If one side is empty, or a mask is of another length.
    """
    if split is None:
        return None
    if isinstance(split, str):
        require_read(table, fields=[split])
        split = _side(table, split, SIDES[0]), _side(table, split, SIDES[1])
    for mask, side in zip(split, ("query", "gallery"), strict=True):
        if np.shape(mask) != (len(table),) or not np.any(mask):
            raise InputError(
                f"the {side} side of the split is true for {np.sum(mask):,} of {np.size(mask):,} "
                f"rows and the table has {len(table):,}; give two masks over its rows, or a "
                f"payload field with the values {' and '.join(SIDES)}"
            )
    return split


def _side(table: VectorTable, field: str, side: str) -> Mask:
    column = (v if isinstance(v, list | tuple) else [v] for v in table.payload[field])
    return np.array([side in values for values in column], dtype=bool)


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


def _itself(query_at: NDArray[np.int64]) -> Callable[[int, int], Lists]:
    def lists(start: int, stop: int) -> Lists:
        at = query_at[start:stop]
        return np.concatenate([[0], np.cumsum(at >= 0)]), at[at >= 0]

    return lists
