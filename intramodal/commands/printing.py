"""Tables, sentences, data and log lines for people; the only place that imports rich."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TextIO

import click

from intramodal.commands.columns import GAP, Column, column, fitted, need
from intramodal.commands.streams import is_encodable
from intramodal.terminal import ungated, visible

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_PIPE_WIDTH = 160
"""A pipe or a log has no width: rich would assume 80 columns and cut words for it."""

_NARROWEST = 20
_LONGEST_HEADING = 18

WIDE = "intramodal.wide"
"""Key of the context's meta: whether tables have all their columns."""


def print_table(
    columns: Iterable[str | Column], rows: Iterable[Sequence[object]], *, title: str | None = None
) -> None:
    """Print rows under column headings, or one block per row where they do not fit.

    Numbers and ids are never folded or shortened; texts wrap. Columns of `wide` are left out
    unless ``--wide`` is given.
    """
    if sys.stdout is None:  # closed by who called: like click.echo, say nothing
        return
    from rich.cells import cell_len
    from rich.console import Console, Group

    every = [replace(of, heading=printable(of.heading)) for of in map(column, columns)]
    kept = [at for at, of in enumerate(every) if not of.is_wide or is_wide()]
    shown = [every[at] for at in kept]
    cells = [[_cell(row[at], every[at]) for at in kept] for row in map(tuple, rows)]
    width = width_of(sys.stdout) or _PIPE_WIDTH
    parts: list[Text | Table] = [] if title is None else [_text(title, style="italic")]
    needs = [need(of, [row[at].plain for row in cells], cell_len) for at, of in enumerate(shown)]
    widths = fitted(needs, width)
    parts += _blocks(shown, cells) if widths is None else [_table(shown, cells, widths)]
    # Rich's own colours must reach the terminal; all text of the table is printable.
    Console(file=ungated(sys.stdout), width=width).print(Group(*parts))


def width_of(stream: TextIO) -> int | None:
    """Return the columns of a terminal, or those in COLUMNS; None for a pipe or a log."""
    if stream.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return max(shutil.get_terminal_size().columns, _NARROWEST)
    return None


def is_wide() -> bool:
    """Return whether ``--wide`` was given to the command that runs."""
    context = click.get_current_context(silent=True)
    return context is not None and context.meta.get(WIDE, False)


def _table(columns: Sequence[Column], cells: Iterable[Sequence[Text]], widths: list[int]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        show_header=any(of.heading for of in columns),
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0),
        header_style="bold",
    )  # fmt: skip
    for of, width in zip(columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if of.kind == "number" else "left"
        heading = _text(of.broken(width))
        table.add_column(heading, justify=justify, width=width, overflow="fold")
    for row in cells:
        table.add_row(*row)
    return table


def _blocks(columns: Sequence[Column], cells: Iterable[Sequence[Text]]) -> list[Table]:
    """Return one block per row: a line for each column."""
    from rich.table import Table

    words = (len(word) for of in columns for word in of.heading.split())
    longest = max(_LONGEST_HEADING, *words)
    label = min(longest, max(len(of.heading) for of in columns))
    blocks = []
    for row in cells:
        block = Table.grid(padding=(0, GAP, 0, 0))
        block.add_column(style="bold", width=label)
        block.add_column(overflow="fold")
        for of, cell in zip(columns, row, strict=True):
            block.add_row(_text(of.heading), cell)
        block.add_row("")
        blocks.append(block)
    return blocks


def _cell(value: object, of: Column) -> Text:
    text = named(value) if of.heading == "vector" else str(value)
    if of.is_whole:  # a number or an id is itself or nothing
        return _text(text, limit=None)
    return _text(text, style=colour_of(text) if of.kind == "state" else "")


_COLOURS = {
    **dict.fromkeys(("adopt", "COMPLETE", "done", "ok"), "green"),
    **dict.fromkeys(("not settled", "INTERRUPTED", "RUNNING", "partial", "warning"), "yellow"),
    **dict.fromkeys(("do not adopt", "FAILED", "failed", "problem", "stale"), "red"),
}
"""Of states, and of verdicts up to their colon."""


def colour_of(state: str) -> str:
    """Return the colour of a state or a verdict; nothing for one that has none."""
    return _COLOURS.get(state.partition(":")[0], "")


def _text(cell: object, *, style: str = "", limit: int | None = 200) -> Text:
    """Return a cell that is neither markup nor anything that a terminal obeys."""
    from rich.text import Text

    text = visible(str(cell)) if limit is None else printable(str(cell), limit=limit)
    return Text(text, style=style)


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
    """Print one sentence on stdout, whatever names it repeats."""
    click.echo(_folded(visible(sentence), sys.stdout))


def note(text: str) -> None:
    """Print a remark on stderr."""
    click.echo(_folded(visible(text), sys.stderr), err=True)


def say_whole(line: str) -> None:
    """Print on stdout what is copied as it is, in one line: a terminal that folds it knows."""
    click.echo(visible(line))


def note_whole(line: str) -> None:
    """Print on stderr what is copied as it is, in one line."""
    click.echo(visible(line), err=True)


def print_state(state: str, text: str) -> None:
    """Print a sentence that begins with a state in its colour."""
    if sys.stdout is not None:
        is_plain = bool(os.environ.get("NO_COLOR"))
        folded = _folded(f"{state} {visible(text)}", sys.stdout, indent=len(state) + 1)
        line = click.style(state, fg=colour_of(state.strip()) or None) + folded[len(state) :]
        click.echo(line, file=ungated(sys.stdout), color=False if is_plain else None)


def _folded(text: str, stream: TextIO | None, *, indent: int | None = None) -> str:
    """Return visible text as a terminal shows it, folded between words; else as it is."""
    if stream is None or not stream.isatty():
        return text
    lead = len(text) - len(text.lstrip()) if indent is None else indent
    width = max((width_of(stream) or _PIPE_WIDTH) - 1, lead + _NARROWEST)
    return textwrap.fill(
        text,
        width,
        subsequent_indent=" " * lead,
        break_long_words=False,
        break_on_hyphens=False,
    )


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


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """Return a fraction for a table; a dash for what could not be computed.

    Examples
    --------
    >>> number(0.58614, 3), number(0.1, 2, sign=True), number(None)
    ('0.586', '+0.10', '–')
    """
    if value is None:
        return "–"
    rounded = round(value, digits) + 0.0  # never -0.000
    return f"{rounded:+.{digits}f}" if sign else f"{rounded:.{digits}f}"


def interval(ends: Sequence[float] | None, *, sign: bool = False) -> str:
    """Return an interval as tables show it."""
    return "–" if ends is None else f"[{', '.join(number(end, sign=sign) for end in ends)}]"


def with_interval(
    value: float | None, ends: Sequence[float | None] | None, *, sign: bool = False
) -> str:
    """Return a figure and how far its 95% interval reaches, on the side where it is longer.

    Examples
    --------
    >>> with_interval(0.646, [0.634, 0.657]), with_interval(0.5, None)
    ('0.646 ± 0.012', '0.500')
    """
    shown = number(value, sign=sign)
    reach = [abs(end - value) for end in ends or () if end is not None and value is not None]
    return f"{shown} ± {number(max(reach))}" if reach else shown


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
    """Say on stderr which points and queries took no part."""
    note_where(result)
    note_held_out(result)
    reasons = [(result["n_incomplete"], "points lack one of the vectors")]
    for field, counts in fields.items():
        reasons.append((counts["n_missing"], f"points have no value in {field!r}"))
        reasons.append((counts["n_dropped"], f"points are of classes of {field!r} too small"))
        alone = f"queries have no image of their class of {field!r} in the gallery"
        reasons.append((counts.get("n_without_positives", 0), alone))
    drawn = result.get("sample")
    if drawn:
        note(f"drawn at random: {drawn['n_points']:,} of {drawn['of']:,} points (--sample)")
    for n, reason in reasons:
        if n:
            note(f"left out: {n:,} {reason}")


def note_held_out(result: Mapping[str, Any]) -> None:
    """Say on stderr which rows took no part because a map was fitted on them."""
    gone = result.get("held_out")
    if not gone:
        return
    for vector, one in gone["vectors"].items():
        note(printable(f"{vector} was fitted on {one['fit_rows']}, to labels of {one['field']}"))
    copies = f" and {gone['n_near_copies']:,} near-copies" if gone["n_near_copies"] else ""
    note(f"left out: {gone['n_fit_rows']:,} rows for fitting{copies}, which never judge a map")


def say_label_evidence(figures: Iterable[tuple[str, Mapping[str, Any] | None]]) -> None:
    """Say what stands beside the figures, by field, of vectors whose maps have seen labels."""
    told = (f"{field}: {evidence['sentence']}." for field, evidence in figures if evidence)
    for sentence in dict.fromkeys(told):  # several searches may use one vector
        say(printable(sentence, limit=400))
