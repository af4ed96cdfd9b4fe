"""Tables for people; the only place that imports rich."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

_PIPE_WIDTH = 160


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Print rows under column headings; numbers are right-aligned."""
    if sys.stdout is None:  # closed by who called: like click.echo, say nothing
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        is_number = column.endswith(">")
        table.add_column(column.rstrip(">"), justify="right" if is_number else "left")
    for row in rows:
        cells = (named(c) if head == "vector" else c for head, c in zip(columns, row, strict=True))
        table.add_row(*(Text(printable(str(cell))) for cell in cells))
    # A pipe or a log has no width: rich would assume 80 columns and cut words for it.
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


def named(vector: object) -> str:
    """Return the name of a vector as options write it: ``''`` for one that has none."""
    return str(vector) or "''"


def printable(text: str, *, limit: int = 200) -> str:
    """Return untrusted text without control characters, shortened in the middle."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    if len(clean) <= limit:
        return clean
    return f"{clean[: limit // 2]} … {clean[-limit // 2 :]}"


def note(text: str) -> None:
    """Print a remark on stderr."""
    click.echo(text, err=True)


def number(value: float | None, digits: int = 4, *, sign: bool = False) -> str:
    """Return a fraction for a table; a dash for what could not be computed.

    Examples
    --------
    >>> number(0.58614, 3), number(0.1, 2, sign=True), number(None)
    ('0.586', '+0.10', '–')
    """
    if value is None:
        return "–"
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def interval(ends: Sequence[float] | None) -> str:
    """Return an interval as tables show it."""
    return "–" if ends is None else f"[{number(ends[0])}, {number(ends[1])}]"


def print_by_distance(
    result: Mapping[str, Any], rows: Iterable[tuple[str, str, Mapping[str, Any]]]
) -> None:
    """Print where the collection does not rank by cosine: field, name, figures of each row."""
    if not result["distance_note"]:
        return
    cells = [
        (field, name, number(row["map"]), number(own["map"]))
        for field, name, row in rows
        if (own := row["by_distance"])
    ]
    if cells:
        print_table(("field", "vector", "mAP by cosine>", "as the store ranks>"), cells)
    note(result["distance_note"])


def note_populations(rows: Sequence[Mapping[str, Any]]) -> None:
    """Say on stderr what the intervals were resampled from."""
    names = dict.fromkeys(row["population"] for row in rows if row["population"])
    if names:
        note(f"95% intervals: other {' or '.join(names)} like these (--cluster)")


def note_where(result: Mapping[str, Any]) -> None:
    """Say on stderr which points the figures are of, where that is not all."""
    if result["where"] is not None:
        note(f"only points with {printable(result['where'])} (--where)")


def note_left_out(result: Mapping[str, Any], fields: Mapping[str, Mapping[str, int]]) -> None:
    """Say on stderr which points took no part."""
    note_where(result)
    reasons = [(result["n_incomplete"], "points lack one of the vectors")]
    for field, counts in fields.items():
        reasons.append((counts["n_missing"], f"points have no value in {field!r}"))
        reasons.append((counts["n_dropped"], f"points are of classes of {field!r} too small"))
    drawn = result.get("sample")
    if drawn:
        note(f"drawn at random: {drawn['n_points']:,} of {drawn['of']:,} points (--sample)")
    for n, reason in reasons:
        if n:
            note(f"left out: {n:,} {reason}")
