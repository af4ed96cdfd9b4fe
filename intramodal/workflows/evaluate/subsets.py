"""Which points ask and which answer, by a payload field."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.types import VectorTable

Mask = NDArray[np.bool_]

_MOST_NAMED = 5


@dataclass(frozen=True)
class FieldFilter:
    """Points whose payload field has one of some values.

    Parameters
    ----------
    field : str
    values : frozenset of str
        As text: ``2012`` finds the number and the text, ``true`` the boolean.
    """

    field: str
    values: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> FieldFilter:
        """Read ``FIELD=VALUE[,VALUE...]``.

        Examples
        --------
        >>> FieldFilter.parse("split=test").field
        'split'
        """
        field, separator, values = text.partition("=")
        wanted = frozenset(value.strip() for value in values.split(",")) - {""}
        if not separator or not field.strip() or not wanted:
            raise InputError(
                f"a filter has the form FIELD=VALUE[,VALUE...], for example split=test, "
                f"got {text!r}"
            )
        return cls(field.strip(), wanted)

    def mask(self, table: VectorTable) -> Mask:
        """Return which rows of a table match.

        Raises
        ------
        InputError
            If none does; the closest values are named.
        """
        column = [_texts(value) for value in table.payload[self.field]]
        found = np.array([not self.values.isdisjoint(texts) for texts in column], dtype=bool)
        if not found.any():
            raise InputError(self._no_match(column))
        return found

    def stored_values(self, table: VectorTable) -> list[Any]:
        """Return the values that match, of the kinds that the payload holds."""
        found: dict[tuple[type, Any], Any] = {}
        for value in table.payload[self.field]:
            for item in value if isinstance(value, list | tuple) else [value]:
                if item is not None and _text(item) in self.values:
                    found[type(item), item] = item
        return list(found.values())

    def _no_match(self, column: Sequence[set[str]]) -> str:
        there = sorted(set().union(*column))
        wanted = ",".join(sorted(self.values))
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


def _texts(value: Any) -> set[str]:
    items = value if isinstance(value, list | tuple) else [value]
    return {_text(item) for item in items if item is not None}


def _text(item: Any) -> str:
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, float) and item.is_integer():
        return str(int(item))  # 2012.0 is 2012, as it is in labels
    return str(item)
