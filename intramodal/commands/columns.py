"""Columns of tables, and how wide each is: numbers and ids stay whole, texts wrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "number", "id", "state"]

GAP = 2
"""Spaces between two columns."""

_LONGEST_WORD = 36
"""A longer word of a text may be cut, a shorter one not: that of a UUID is whole."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    heading : str
        It wraps at spaces and before ``@``.
    kind : {"text", "number", "id", "state"}
        Texts wrap; numbers and ids do not. A state is a text that has a colour.
    is_wide : bool
        Whether it is shown with ``--wide`` only.
    """

    heading: str
    kind: Kind = "text"
    is_wide: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether its cells are never folded."""
        return self.kind in ("number", "id")

    def broken(self, width: int) -> str:
        """Return the heading with the places where it may wrap into `width` columns."""
        return self.heading if len(self.heading) <= width else self.heading.replace("@", " @")


def column(heading: str | Column) -> Column:
    """Return a column of text, or of numbers if the heading ends in ``>``.

    Examples
    --------
    >>> column("mAP>")
    Column(heading='mAP', kind='number', is_wide=False)
    """
    if isinstance(heading, Column):
        return heading
    return Column(heading.removesuffix(">"), "number" if heading.endswith(">") else "text")


def wide(heading: str) -> Column:
    """Return a column that ``--wide`` adds."""
    of = column(heading)
    return Column(of.heading, of.kind, is_wide=True)


def id_column(heading: str) -> Column:
    """Return a column of ids: whole, so that they can be copied."""
    return Column(heading, "id")


def state_column(heading: str) -> Column:
    """Return a column of states or verdicts, in their colours."""
    return Column(heading, "state")


@dataclass(frozen=True)
class Need:
    """How much room a column needs.

    Parameters
    ----------
    whole : int
        Without any wrapping.
    least : int
        The narrowest that it may be.
    """

    whole: int
    least: int


def need(of: Column, cells: Sequence[str], length: Callable[[str], int]) -> Need:
    """Return the room for a column with these cells; `length` is that on a terminal."""
    of_heading = max(map(length, of.broken(0).split()), default=0)
    whole = max(map(length, cells), default=0)
    words = [length(word) for cell in cells for word in cell.split()]
    least = whole if of.is_whole else min(max(words, default=0), _LONGEST_WORD)
    return Need(max(length(of.heading), whole), max(of_heading, least))


def fitted(needs: Sequence[Need], width: int) -> list[int] | None:
    """Return the widths of columns that fit beside each other; None where they cannot.

    The widest column that may shrink is narrowed first.

    Examples
    --------
    >>> fitted([Need(30, 8), Need(6, 6)], 24)
    [16, 6]
    >>> fitted([Need(30, 30), Need(6, 6)], 24)
    """
    room = width - GAP * (len(needs) - 1)
    if sum(need.least for need in needs) > room:
        return None
    widths = [need.whole for need in needs]
    while sum(widths) > room:
        slack = [(w, at) for at, w in enumerate(widths) if w > needs[at].least]
        widths[max(slack)[1]] -= 1
    return widths
