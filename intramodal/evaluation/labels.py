"""One payload column as class codes, with what was missing, dropped and ambiguous said."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.types import VectorTable

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
