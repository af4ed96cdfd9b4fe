"""Which rows of a table ask, which answer, and what is relevant."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.labels import LabelCodes, encode_labels, require_read
from intramodal.evaluation.ranking import Lists, Relevance, as_lists
from intramodal.types import Floats, VectorTable, unit_rows

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
