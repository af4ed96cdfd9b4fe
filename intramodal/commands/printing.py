"""Tables, sentences, data and log lines for people; the only place that imports rich."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click

from intramodal.commands.streams import is_encodable
from intramodal.terminal import ungated, visible

if TYPE_CHECKING:
    from rich.text import Text

_PIPE_WIDTH = 160


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Print rows under column headings; numbers are right-aligned."""
    if sys.stdout is None:  # closed by who called: like click.echo, say nothing
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=None if title is None else _text(title), title_justify="left", header_style="bold"
    )
    for column in columns:
        is_number = column.endswith(">")
        heading = _text(column.rstrip(">"))
        table.add_column(heading, justify="right" if is_number else "left")
    for row in rows:
        cells = (named(c) if head == "vector" else c for head, c in zip(columns, row, strict=True))
        table.add_row(*map(_text, cells))
    # A pipe or a log has no width: rich would assume 80 columns and cut words for it.
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    # Rich's own colours must reach the terminal; all text of the table is printable.
    Console(file=ungated(sys.stdout), width=width).print(table)


def _text(cell: object) -> Text:
    """Return a cell that is neither markup nor anything that a terminal obeys."""
    from rich.text import Text

    return Text(printable(str(cell)))


def named(vector: object) -> str:
    """Return the name of a vector as options write it: ``''`` for one that has none."""
    return str(vector) or "''"


def printable(text: str, *, limit: int = 200) -> str:
    """Return untrusted text as one visible line, shortened in the middle."""
    clean = visible(text if len(text) <= limit else _shortened(text, limit))
    return clean if len(clean) <= limit else _shortened(clean, limit)


def _shortened(text: str, limit: int) -> str:
    return f"{text[: limit // 2]} … {text[-limit // 2 :]}"


def say(sentence: str) -> None:
    """Print one line on stdout, whatever names it repeats."""
    click.echo(visible(sentence))


def note(text: str) -> None:
    """Print a remark, one line, on stderr."""
    click.echo(visible(text), err=True)


def print_state(state: str, text: str, *, colour: str) -> None:
    """Print a line that begins with a word in colour."""
    if sys.stdout is not None:
        click.echo(f"{click.style(state, fg=colour)} {visible(text)}", file=ungated(sys.stdout))


def print_data(text: str) -> None:
    """Print what a program may read: as it is, but on a terminal as everything else."""
    if sys.stdout is None or sys.stdout.isatty():
        click.echo(text, nl=False)
    else:
        ungated(sys.stdout).write(text)


def json_line(result: Mapping[str, Any]) -> str:
    """Return one line of JSON: for a program the same values, for a terminal only text.

    What a terminal would obey is escaped as JSON does it; other letters are themselves.
    """
    text = json.dumps(result, ensure_ascii=False, allow_nan=False)
    if not is_encodable(text):  # an escape of the stream's would be none of JSON's
        text = json.dumps(result, allow_nan=False)
    return text if text.isprintable() else "".join(map(_json_escaped, text))


def _json_escaped(character: str) -> str:
    """Escape one character of a JSON text if it is not visible; only strings have such."""
    shown = visible(character)
    if shown == character:
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at that moment: a process may print to several."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        pass

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is not None:
            super().emit(record)


class _OneLine(logging.Formatter):
    """Lets no message begin a line of its own; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        return visible(super().formatMessage(record))


def log_to_stderr(level: int) -> None:
    """Print log records of `level` and above, if nothing handles them yet."""
    handler = _Stderr()
    handler.setFormatter(_OneLine("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


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
    """Say on stderr which points the figures are of, where that is not all, and whose labels."""
    if result["where"] is not None:
        note(f"only points with {printable(result['where'])} (--where)")
    if result["labels_from"] is not None:
        _note_labels(result["labels_from"])


def _note_labels(found: Mapping[str, Any]) -> None:
    """Say what of a file of labels belongs to no point, and which points it does not name."""
    file, n_unknown = printable(found["file"]), found["n_unknown"]
    unknown = "" if n_unknown is None else f" ({n_unknown:,} without a point)"
    note(
        f"labels from {file}: {found['n_rows']:,} rows{unknown}, {found['n_without_row']:,} "
        f"points without a row (--labels-from)"
    )
    for field, n in found["also_in_payload"].items():
        note(f"{printable(field)!r} is taken from {file}, not from the payload of {n:,} points")


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
