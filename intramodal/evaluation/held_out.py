"""Rows that a map was fitted on never judge it: they leave before anything is evaluated.

They leave the queries and the gallery, with their near-copies, whatever the evaluation and however
its points were chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.labels import require_read
from intramodal.fit_rows import FitRows, LabelFit, bare_id
from intramodal.projection.stored_map import StoredMap
from intramodal.store.base import Page
from intramodal.store.collection import ImageCollection, tabled
from intramodal.store.fields import has_one_of, value_at
from intramodal.types import FittedVector, Floats, HeldOut, PointId, VectorTable

NEAR_COPY = 0.97
"""Cosine of the encoder's own vectors above which an image is a copy of a labelled one."""
_BLOCK = 2048
_MOST_BITS, _LEAST_BITS = 256, 64
_MOST_APART = 0.05
"""Share of the bits of a signature that rounding may change; other images differ in a fifth."""
_LEAST_SEEN = 2

Mask = NDArray[np.bool_]


def fit_mask(table: VectorTable, rules: Iterable[FitRows]) -> Mask:
    """Return which rows (n,) of a table are for fitting by one of some rules."""
    found = np.zeros(len(table), dtype=bool)
    for rule in dict.fromkeys(rules):
        if rule.where is None:
            found |= np.fromiter(map(rule.holds, table.ids), bool, len(table))
        else:
            field, values = rule.where
            require_read(table, fields=[field])
            found |= np.fromiter(map(has_one_of(values), table.payload[field]), bool, len(table))
    return found


def fitted_by(
    maps: Iterable[StoredMap], names: Iterable[str], source: str
) -> dict[str, FittedVector]:
    """Return those of some maps of a vector that have seen labels, by what they are called."""
    return {
        name: FittedVector(one.labels, source, one.distance)
        for name, one in zip(names, maps, strict=True)
        if one.labels is not None
    }


def rules_of(fitted: Mapping[str, FittedVector]) -> list[FitRows]:
    """Return which rows each map was fitted on."""
    return [one.labels.rows for one in fitted.values()]


def fields_needed(fitted: Mapping[str, FittedVector]) -> list[str]:
    """Return the payload fields that rules and labels of maps are told by."""
    rules = [rule.field for rule in rules_of(fitted) if rule.field is not None]
    return list(dict.fromkeys([*rules, *(one.labels.field for one in fitted.values())]))


def sources_of(fitted: Mapping[str, FittedVector]) -> list[str]:
    """Return the vectors that maps took."""
    return list(dict.fromkeys(one.source for one in fitted.values()))


def read_fit_rows(
    collection: ImageCollection, table: VectorTable, fitted: Mapping[str, FittedVector]
) -> tuple[VectorTable, VectorTable]:
    """Return all rows for fitting of a collection, and those that have every vector of a table.

    The first have the vectors that maps took alone: a row that lacks another was fitted to, too.
    """
    vectors, payload, sources = list(table.vectors), list(table.payload), sources_of(fitted)

    def parts() -> Iterator[Page]:
        for page in collection.scan(vectors=vectors, payload=payload or False):
            columns = {field: [value_at(p, field) for p in page.payloads] for field in payload}
            held = fit_mask(VectorTable(page.ids, page.vectors, columns), rules_of(fitted))
            rows = np.flatnonzero(held)
            yield replace(
                page,
                ids=[page.ids[row] for row in rows],
                vectors={name: X[rows] for name, X in page.vectors.items()},
                payloads=[page.payloads[row] for row in rows] if payload else page.payloads,
            )

    read = list(parts())
    taken = [
        replace(page, vectors={name: page.vectors[name] for name in sources}) for page in read
    ]
    complete = replace(tabled(read, vectors, payload), fitted=table.fitted)
    return tabled(taken, sources, payload), complete


def without_fit_rows(
    table: VectorTable,
    fitted: Mapping[str, FittedVector],
    read: tuple[VectorTable, VectorTable] | None = None,
) -> VectorTable:
    """Return the rows of a table that may judge maps, and in `held_out` what has left.

    Parameters
    ----------
    table : VectorTable
        With the vectors that these maps took, and the fields that tell their rows.
    fitted : dict of str to FittedVector
    read : tuple of two VectorTable, optional
        All rows for fitting, see `read_fit_rows`; those of the table where it holds all points.

    Raises
    ------
    InputError
        If no row is left, nothing tells which may judge, or a vector holds known labels.
    """
    for name, one in fitted.items():
        if one.labels.known:
            raise InputError(
                f"{name!r} holds labels of {one.labels.field!r} themselves, where the payload "
                f"knows them, so that nothing can be judged by it; fit the same map without known "
                f"labels, and judge that"
            )
    require_read(table, vectors=sources_of(fitted))
    is_fit = fit_mask(table, rules_of(fitted))
    own = table.take(np.flatnonzero(is_fit))
    told, complete = (own, own) if read is None else read
    for name, one in fitted.items():
        _require_told(name, one.labels.rows, told)
        _check_witnesses(name, one, table, told)
    is_copy = np.zeros(len(table), dtype=bool)
    others = np.flatnonzero(~is_fit)
    for source in sources_of(fitted):
        near = near_copies(table.unit(source, others), told.unit(source))
        is_copy[others] |= near
    kept = ~(is_fit | is_copy)
    if not kept.any():
        raise InputError(_nothing_left(len(table), fitted))
    ids = frozenset(table.ids[row] for row in np.flatnonzero(~kept))
    rows = complete if len(complete) else told
    held_out = HeldOut(fitted, rows, ids, int(is_fit.sum()), int(is_copy.sum()), kept)
    return replace(table.take(np.flatnonzero(kept)), held_out=held_out)


def gone_from(table: VectorTable) -> frozenset[PointId]:
    """Return the points that have left a table because maps were fitted on them."""
    return frozenset() if table.held_out is None else table.held_out.ids


def is_seen(labels: LabelFit, point: PointId, payload: Mapping[str, Any]) -> bool:
    """Return whether a point is for fitting, or its vector may hold the label itself."""
    rule = labels.rows
    if rule.where is None:
        return labels.known or rule.holds(point)
    field, values = rule.where
    return labels.known or has_one_of(values)(value_at(payload, field))


def _require_told(name: str, rule: FitRows, table: VectorTable) -> None:
    """Raise `InputError` where the field that tells rows for fitting has no value anywhere."""
    if rule.field is not None and not fit_mask(table, [rule]).any():
        raise InputError(
            f"{name!r} was fitted on points with {rule}, and no point says that it is one: which "
            f"rows may judge it cannot be known; read the collection with the file of labels that "
            f"it was fitted with, or fit it anew"
        )


def _check_witnesses(
    name: str, one: FittedVector, table: VectorTable, fit_rows: VectorTable
) -> None:
    """Raise `InputError` where rows that a map was fitted on are here, and not for fitting.

    They are no longer told by their filter, or have other ids, as in another collection.
    """
    told, rule = one.labels.witnesses, one.labels.rows
    if not told:  # a map of before they were kept
        return
    held = {True: set[str](), False: set[str]()}
    for part in (table, fit_rows):
        for point, is_fit in zip(map(bare_id, part.ids), fit_mask(part, [rule]), strict=True):
            if point in told:
                held[bool(is_fit)].add(point)
    if moved := sorted(held[False] - held[True]):
        raise InputError(
            f"{name!r} was fitted on the point {moved[0]}, and {rule} no longer says so: rows "
            f"that it was fitted on would judge it; give the field the values that it had, or fit "
            f"it anew"
        )
    if not held[True] and _n_seen_again(one, table) >= _LEAST_SEEN:
        raise InputError(
            f"{name!r} was fitted on images that are here under other ids, so that those which "
            f"may judge it are not known; judge it in the collection that it was fitted in, or "
            f"fit it anew in this one"
        )


def _n_seen_again(one: FittedVector, table: VectorTable) -> int:
    """Return how many of the witnesses of a map have a row of the table with the same vector."""
    require_read(table, vectors=[one.source])
    own = signatures(table.vectors[one.source])
    n_bytes = own.shape[1]
    told = [bytes.fromhex(signature) for signature in one.labels.witnesses.values()]
    wanted = [np.frombuffer(part, np.uint8) for part in told if len(part) == n_bytes]
    if 8 * n_bytes < _LEAST_BITS:
        return 0
    apart = (
        np.unpackbits(own ^ part, axis=1).sum(axis=1).min(initial=own.size) for part in wanted
    )
    return sum(n < _MOST_APART * 8 * n_bytes for n in apart)


def signatures(X: Floats) -> NDArray[np.uint8]:
    """Return bits (n, n_bytes) that vectors (n, d) have in common with hardly another.

    Which of two neighbouring numbers is larger: the same after rounding, and at any length.
    """
    some = X[:, :_MOST_BITS]
    return np.packbits(some > np.roll(some, 1, axis=1), axis=1)


def near_copies(X: Floats, of: Floats) -> Mask:
    """Return which unit rows of `X` (n, d) are near-copies of one of some unit rows (m, d)."""
    found = np.zeros(len(X), dtype=bool)
    for start in range(0, len(X), _BLOCK):
        for first in range(0, len(of), _BLOCK):
            rows = slice(start, start + _BLOCK)
            cosines = X[rows] @ of[first : first + _BLOCK].T
            found[rows] |= (cosines > NEAR_COPY).any(axis=1)
    return found


def _nothing_left(n: int, fitted: Mapping[str, FittedVector]) -> str:
    return (
        f"all {n:,} points are rows that {fitted_names(fitted)}, or near-copies of them, and such "
        f"rows never judge it; fit on fewer rows, or judge by points that came later"
    )


def fitted_names(fitted: Mapping[str, FittedVector]) -> str:
    """Return which vectors were fitted on which rows, as a sentence goes on."""
    made = (f"{name!r} was fitted on ({one.labels.rows})" for name, one in fitted.items())
    return " and ".join(made)
