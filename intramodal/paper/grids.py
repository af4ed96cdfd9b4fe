"""From what became of the cells to the tables that show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from intramodal.paper.base import Cell, Entry, Layout
from intramodal.paper.outcomes import Outcome
from intramodal.reports.grid import Grid, Place, State

Outcomes = Mapping[Cell, Outcome]

_FEWER = "*: the mean over fewer than all"


def grid_of(layout: Layout, outcomes: Outcomes, *, banner: str = "") -> Grid:
    """Return a table with our figures, the paper's, and why any is missing."""
    places = {
        at: place_of(entry, outcomes, percent=layout.percent)
        for at, entry in layout.entries.items()
    }
    cells = {
        cell for entry in layout.entries.values() for cell, _ in (*entry.sources, *entry.minus)
    }
    return Grid(
        layout.title,
        layout.row_heads,
        layout.column_heads,
        places,
        head_names=layout.head_names,
        decimals=1 if layout.percent else 3,
        caption=layout.caption,
        notes=notes_of({cell: outcomes[cell] for cell in sorted(cells)}),
        banner=banner,
        bold=layout.best,
    )


def place_of(entry: Entry, outcomes: Outcomes, *, percent: bool) -> Place:
    """Return what stands in a place, in percent if the table is."""
    scale = 100.0 if percent else 1.0
    pairs = list(zip(entry.sources, entry.minus or entry.sources, strict=True))
    done = [
        scale * (figure - (other if entry.minus else 0.0))
        for source, beside in pairs
        for figure, other in [(_figure(source, outcomes), _figure(beside, outcomes))]
        if figure is not None and other is not None
    ]
    cells = dict.fromkeys(cell for cell, _ in (*entry.sources, *entry.minus))
    failed = [outcomes[cell] for cell in cells if outcomes[cell].state == "failed"]
    value = fmean(done) if done else None
    if len(done) == len(pairs):
        return Place(value, entry.published)
    if len(pairs) > 1:  # why each is missing stands in its own place
        reason = _FEWER if done else ""
    else:
        reason = "; ".join(f"{_named(one.cell)}: {one.reason}" for one in failed)
    state: State = "partial" if done else "failed" if failed else "missing"
    return Place(value, entry.published, state=state, reason=reason)


def _figure(source: tuple[Cell, str], outcomes: Outcomes) -> float | None:
    cell, name = source
    return outcomes[cell].figures.get(name)


def _named(cell: Cell) -> str:
    return f"{cell.dataset}, {cell.model}, {cell.method}"


def notes_of(outcomes: Outcomes) -> Sequence[str]:
    """Return what a reader must know of the cells, each note once."""
    notes = (
        f"{cell.dataset}, {cell.model}: {note}"
        for cell, outcome in outcomes.items()
        for note in outcome.notes
    )
    return list(dict.fromkeys(notes))
