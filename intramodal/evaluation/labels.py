"""The classes of the rows of a payload field, and labels that look alike."""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.types import VectorTable, short_repr

log = logging.getLogger(__name__)

Key = tuple[str, str | int | float | bool]
"""Kind and value of a class; the kind keeps ``True``, ``1`` and ``"1"`` apart."""


@short_repr
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

    def at_least(self, min_class_size: int, field: str = "label") -> LabelCodes:
        """Return the classes of so many rows; the others are dropped.

        Raises `InputError` where fewer than two are left.
        """
        sizes = self.class_sizes
        is_kept = sizes >= min_class_size
        _require_two(self.values, sizes, int(is_kept.sum()), min_class_size, field)
        if is_kept.all():
            return self
        names = _names([self.values[i] for i in np.flatnonzero(is_kept)])
        order = np.argsort(np.array(names, dtype=object), kind="stable")
        place = np.full(len(sizes), -1, dtype=np.int64)
        place[np.flatnonzero(is_kept)[order]] = np.arange(len(order))
        owner = np.repeat(np.arange(len(self)), np.diff(self.indptr))
        member = is_kept[self.indices]
        owner, classes = owner[member], place[self.indices[member]]
        classes = classes[np.lexsort((classes, owner))]
        lengths = np.bincount(owner, minlength=len(self))
        rows = self.rows[lengths > 0]
        return LabelCodes(
            rows=rows,
            codes=classes[:0] if self.is_multi else classes,
            names=[names[i] for i in order],
            values=[self.values[i] for i in np.flatnonzero(is_kept)[order]],
            n_missing=self.n_missing,
            n_dropped=self.n_dropped + len(self) - len(rows),
            is_multi=self.is_multi,
            indptr=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[lengths > 0])]),
            indices=classes,
        )

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

    Classes of fewer rows than `min_class_size` are left out; messages name the column `field`.
    Raises `InputError` for values that are no labels (a dict, a nested list), a column without
    any value, or fewer than two classes.

    Examples
    --------
    >>> found = encode_labels(["dog", "cat", None, "dog"])
    >>> found.names, found.codes, found.n_missing
    (['cat', 'dog'], array([1, 0, 1]), 1)
    """
    if min_class_size < 1:
        raise InputError(f"min_class_size must be a whole number from 1, got {min_class_size}")
    found = _all_keys(column, field)
    keys = list({key for row in found for key in row})
    names = dict(zip(keys, _names([key[1] for key in keys]), strict=True))
    order = sorted(keys, key=names.__getitem__)
    code = {key: i for i, key in enumerate(order)}
    codes_of = {row: sorted(code[key] for key in row) for row in set(found)}
    classes = [codes_of[row] for row in found]
    rows = np.array([row for row, codes in enumerate(classes) if codes], dtype=np.intp)
    is_multi = any(len(row) > 1 for row in codes_of)
    indptr, indices = _csr([codes for codes in classes if codes])
    return LabelCodes(
        rows=rows,
        codes=indices[:0] if is_multi else indices,
        names=[names[key] for key in order],
        values=[key[1] for key in order],
        n_missing=len(found) - len(rows),
        n_dropped=0,
        is_multi=is_multi,
        indptr=indptr,
        indices=indices,
    ).at_least(min_class_size, field)


def labels_of(table: VectorTable, field: str, *, min_class_size: int = 1) -> LabelCodes:
    """Return the classes of a field of a table, whose column is encoded once.

    As `encode_labels`; raises `InputError` also for a field that was not read.
    """
    require_read(table, fields=[field])
    encode = partial(encode_labels, table.payload[field], field=field)
    return table.remember(("labels", field), encode).at_least(min_class_size, field)


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


_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
_MOST_GROUPS = 3
_MOST_ALIKE = 4
_MOST_SHOWN = 60
"""Characters of a label in a sentence."""


def look_alikes(values: Iterable[Any]) -> list[list[Any]]:
    """Return the groups of different labels that a reader may take for the same.

    They differ only in case, spaces, Unicode form (composed or not, invisible characters) or kind
    (number, text, bool). Nothing is merged: such labels are different classes. `values` are
    different labels, such as `LabelCodes.values`.

    Examples
    --------
    >>> look_alikes(["Red", 1, "blue", "red ", "1.0"])
    [['Red', 'red '], [1, '1.0']]
    """
    groups: dict[str | Decimal, list[Any]] = {}
    for value in values:
        groups.setdefault(_folded(value), []).append(value)
    return [group for group in groups.values() if len(group) > 1]


def _folded(value: Any) -> str | Decimal:
    """Return what labels that look alike have in common: a number, or text without spaces."""
    if not isinstance(value, str | bool):
        return Decimal(repr(value))  # 0.1, as it prints
    text = str(value).casefold()
    if not text.isascii():
        # Of compatible forms (2 and its superscript) a reader sees the difference.
        text = unicodedata.normalize("NFD", unicodedata.normalize("NFD", str(value)).casefold())
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = "".join(text.split())
    return Decimal(text) if _NUMBER.fullmatch(text) else text


def warn_of_look_alikes(column: Sequence[Any], field: str) -> None:
    """Log a warning if labels of a payload column look alike; see `look_alikes`."""
    groups = look_alikes(_labels_in(column))
    if groups:
        named = [_named(group) for group in groups[:_MOST_GROUPS]]
        if len(groups) > _MOST_GROUPS:
            named.append(f"and {len(groups) - _MOST_GROUPS:,} more")
        log.warning(
            "field %r has labels that look alike and count as different (%s %s): %s; write them "
            "alike in the payload if they mean the same",
            *(field, f"{len(groups):,}", "group" if len(groups) == 1 else "groups"),
            "; ".join(named),
        )


def _labels_in(column: Sequence[Any]) -> list[Any]:
    """Return the different labels of a payload column, in the order of their text."""
    rows = (value if isinstance(value, list | tuple) else (value,) for value in column)
    there = dict.fromkeys(
        (type(item), item)  # hashed once a row: the rest is done once a label
        for row in rows
        for item in row
        if isinstance(item, str | int | float | np.integer | np.bool_)
    )
    keys = dict.fromkeys(_key(item, 0, "") for _, item in there)
    return sorted((key[1] for key in keys if key), key=lambda label: (str(label), _kind_of(label)))


def _named(group: Sequence[Any]) -> str:
    """Return labels that look alike so that one sees what differs."""
    shown = [repr(value) for value in group]
    if len({unicodedata.normalize("NFC", text) for text in shown}) < len(shown):
        shown = [ascii(value) for value in group]
    some = [text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..." for text in shown]
    return ", ".join(some[:_MOST_ALIKE]) + (", ..." if len(some) > _MOST_ALIKE else "")


def _require_two(
    values: Sequence[Any], sizes: NDArray[np.int64], n_kept: int, least: int, field: str
) -> None:
    if not len(sizes):
        raise InputError(
            f"no point has a value in field {field!r}; choose a payload field that holds labels"
        )
    if len(sizes) == 1:
        raise InputError(
            f"field {field!r} has one class only, {str(values[0])!r} in {sizes[0]} points; choose "
            f"a field with at least two"
        )
    if n_kept < 2:
        raise InputError(
            f"field {field!r} has {n_kept} classes of at least {least} points, of "
            f"{len(sizes)} in all (the largest has {sizes.max()}); lower the least class "
            f"size or choose a field with larger classes"
        )


def _names(values: Sequence[Any]) -> list[str]:
    """Return one text a class, all different."""
    plain = [str(value) for value in values]
    if len(set(plain)) == len(plain):
        return plain
    return [f"{text} ({_kind_of(value)})" for text, value in zip(plain, values, strict=True)]


def _kind_of(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    return "bool" if isinstance(value, bool) else "number"


def _csr(lists: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lengths = np.fromiter((len(codes) for codes in lists), dtype=np.int64, count=len(lists))
    indices = np.fromiter((c for codes in lists for c in codes), dtype=np.int64)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]), indices


def share_label(a: Any, b: Any) -> bool:
    """Return whether two labels, or lists of labels, share a value.

    Examples
    --------
    >>> share_label(["red", "blue"], "red"), share_label(None, None)
    (True, False)
    """
    first, second = (set(v if isinstance(v, list) else [v]) - {None} for v in (a, b))
    return bool(first & second)
