"""Which points ask and which answer, by a payload field."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.tasks import RetrievalTask
from intramodal.store.base import Filter
from intramodal.store.filters import parse_filter
from intramodal.types import VectorTable

Mask = NDArray[np.bool_]

_MOST_NAMED = 5


@dataclass(frozen=True)
class FieldFilter:
    """Points whose payload field has one of some values.

    Parameters
    ----------
    field : str
    values : tuple
        As `parse_filter` reads them: ``2012`` is the text and the number.
    """

    field: str
    values: tuple[Any, ...]

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
        """Return which rows of a table match.

        Raises
        ------
        InputError
            If none does; the closest values are named.
        """
        wanted = {_kind(value) for value in self.values}
        column = [_items(value) for value in table.payload[self.field]]
        found = np.array([not wanted.isdisjoint(map(_kind, items)) for items in column], bool)
        if not found.any():
            raise InputError(self._no_match(column))
        return found

    def _no_match(self, column: Sequence[Sequence[Any]]) -> str:
        there = sorted({_text(item) for items in column for item in items})
        wanted = ",".join(value for value in self.values if isinstance(value, str))
        close = difflib.get_close_matches(wanted, there, n=3) or there[:_MOST_NAMED]
        named = " or ".join(repr(value) for value in close) or "none"
        return f"no point has {self.field}={wanted}; its values are {named}"


@dataclass(frozen=True)
class Sides:
    """The two sides of an evaluation: queries and gallery, or test and training pictures."""

    queries: FieldFilter | None = None
    gallery: FieldFilter | None = None

    @classmethod
    def parse(cls, queries: str | None, gallery: str | None, split: str | None) -> Sides:
        """Read the options: two filters, or a field whose values are ``test`` and ``train``."""
        if split is not None and (queries is not None or gallery is not None):
            raise InputError("--split already says what asks and what answers; leave out the rest")
        if split is not None:
            queries, gallery = f"{split}=test", f"{split}=train"
        return cls(*(FieldFilter.parse(side) if side else None for side in (queries, gallery)))

    @property
    def fields(self) -> list[str]:
        """Payload fields that must be read."""
        return [side.field for side in (self.queries, self.gallery) if side]

    def apply(self, table: VectorTable) -> tuple[VectorTable, tuple[Mask, Mask] | None]:
        """Return the rows of either side and the two masks over them; None for leave-one-out."""
        if self.queries is None and self.gallery is None:
            return table, None
        everything = np.ones(len(table), dtype=bool)
        asks, answers = (
            side.mask(table) if side else everything for side in (self.queries, self.gallery)
        )
        rows = np.flatnonzero(asks | answers)
        return table.take(rows), (asks[rows], answers[rows])

    def tasks(
        self, table: VectorTable, labels: Sequence[str], **options: Any
    ) -> tuple[VectorTable, list[RetrievalTask]]:
        """Return the rows of either side, and the task of every label field over them.

        `options` are those of `RetrievalTask.from_table`.
        """
        rows, split = self.apply(table)
        return rows, [RetrievalTask.from_table(rows, x, split=split, **options) for x in labels]


def _items(value: Any) -> list[Any]:
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, str | int | float)]


def _kind(item: Any) -> tuple[str, Any]:
    """Return what tells values apart: ``True`` and 1 are equal in Python, not in a payload."""
    return ("bool" if isinstance(item, bool) else "", item)


def _text(item: Any) -> str:
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, float) and item.is_integer():
        return str(int(item))  # 2012.0 is 2012, as it is in labels
    return str(item)
