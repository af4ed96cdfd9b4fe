"""A table of recorded figures: any of their dimensions as rows and columns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from intramodal.errors import InputError
from intramodal.reports.grid import Best, Grid, Place
from intramodal.runs.dimensions import DIMENSIONS
from intramodal.runs.interchange import metric_rows
from intramodal.runs.ledger import RunLedger

PIVOTS = (*DIMENSIONS, "vector", "field", "metric", "kind")
"""What rows and columns can be."""

_PERCENT = frozenset({"mAP", "accuracy"})
"""Fractions that papers print in percent."""

_OF_ROWS = ("method", "vector", "classifier", "model")
_OF_COLUMNS = ("field", "shots", "dataset", "collection")
"""Figures that differ in one of these are of different things, whichever is later: of different
methods, a row each, or of different tasks, a column each, so that the best are of one task."""

_HIGHER = re.compile(r"(mAP|mP@|accuracy|hit@|precision|recall|nDCG|recovery (pearson|spearman))")
_LOWER = re.compile(r"(latency|recovery rms)")

Row = Mapping[str, Any]


def tabulate_runs(  # noqa: PLR0913  a job has as many knobs as it has
    ledger: RunLedger,
    *,
    rows: Sequence[str] = ("model", "method"),
    columns: Sequence[str] = ("dataset",),
    metric: str = "mAP",
    where: Mapping[str, str] | None = None,
    best: Best | None = None,
    average: bool = False,
    intervals: bool = False,
) -> Grid:
    """Return the figures of all complete runs as one table.

    Where several runs have the same figure, the latest counts, and a note says how many do not.
    Where figures of one place differ in something that is neither row nor column, the table is
    split by that, too, and a note says so: methods become rows, label fields become columns.
    Different figures never stand for one another.

    Parameters
    ----------
    ledger : RunLedger
    rows, columns : sequence of str
        Of `PIVOTS`; several are put together.
    metric : str
        As runs record it: ``"mAP"``, ``"accuracy"``, ``"hit@1"``, ...; mAP and accuracies are
        shown in percent.
    where : mapping of str to str, optional
        Only figures of which these of `PIVOTS` have these values.
    best : {"highest", "lowest", "none"}, optional
        Which figure of a column is printed in bold; by default the highest of measures of
        quality, the lowest of latencies and errors, none of others.
    average : bool
        Add a column with the mean of each row.
    intervals : bool
        Show the intervals that runs have recorded beneath the figures.

    Returns
    -------
    Grid

    Raises
    ------
    InputError
        If a dimension is unknown, or no run has such a figure.
    """
    where = dict(where or {})
    for name in (*rows, *columns, *where):
        _check(name)
    found = [
        row
        for row in metric_rows(ledger, ledger.runs(status="COMPLETE"))
        if row["value"] is not None
        and row["metric"] == metric
        and all(str(row[name]) == value for name, value in where.items())
    ]
    if not found:
        raise InputError(_nothing(ledger, metric, where))
    split = _splits(found, (*rows, *columns))
    grid = _grid(
        found,
        [*rows, *(name for name in split if name in _OF_ROWS)],
        [*columns, *(name for name in split if name in _OF_COLUMNS)],
        metric,
    )
    if split:
        note = f"split by {' and '.join(split)}, too, because figures of one place differ in it"
        grid = replace(grid, notes=[note, *grid.notes])
    grid = replace(grid, bold=best or _best_of(metric), with_intervals=intervals)
    return grid.with_average() if average else grid


def _splits(found: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Return what else must be told apart, so that each place has figures of one thing only."""
    split: list[str] = []
    for name in (*_OF_ROWS, *_OF_COLUMNS):
        if name in names:
            continue
        seen: dict[tuple[Any, ...], Any] = {}
        if any(seen.setdefault(_key(r, (*names, *split)), r[name]) != r[name] for r in found):
            split.append(name)
    return split


def _best_of(metric: str) -> Best:
    if _HIGHER.match(metric):
        return "highest"
    return "lowest" if _LOWER.match(metric) else "none"


def _check(name: str) -> None:
    if name not in PIVOTS:
        close = difflib.get_close_matches(name, PIVOTS, n=1) or PIVOTS
        raise InputError(f"figures have no {name!r}; did you mean {' or '.join(close)}?")


def _nothing(ledger: RunLedger, metric: str, where: Mapping[str, str]) -> str:
    recorded = metric_rows(ledger, ledger.runs(status="COMPLETE"))
    known = sorted({str(row["metric"]) for row in recorded if row["metric"]})
    if metric not in known:
        close = difflib.get_close_matches(metric, known, n=3) or known[:8]
        return (
            f"no complete run has a figure {metric!r}; there are "
            f"{', '.join(close) or 'no figures at all'}"
        )
    asked = ", ".join(f"{name}={value}" for name, value in where.items())
    return f"no complete run has a figure {metric!r} with {asked}; leave a condition out"


def _grid(found: Sequence[Row], rows: Sequence[str], columns: Sequence[str], metric: str) -> Grid:
    heads, tops = (_keys(found, names) for names in (rows, columns))
    row_at, column_at = ({key: n for n, key in enumerate(keys)} for keys in (heads, tops))
    scale = 100 if metric in _PERCENT else 1
    every = product(range(len(heads)), range(len(tops)))
    places = {at: Place(None, state="missing") for at in every}
    n_older = 0
    for row in found:  # the latest run first
        at = row_at[_key(row, rows)], column_at[_key(row, columns)]
        is_older = places[at].state == "done"
        n_older += is_older
        if not is_older:
            value, low, high = (_scaled(row[name], scale) for name in ("value", "low", "high"))
            places[at] = Place(value, low=low, high=high)
    older = "figure of the same place is" if n_older == 1 else "figures of the same places are"
    notes = [f"{n_older:,} older {older} not shown: the latest run counts"] if n_older else []
    return Grid(
        metric,
        [tuple(map(_shown, head)) for head in heads],
        [" ".join(map(_shown, top)) for top in tops],
        places,
        head_names=tuple(rows),
        decimals=1 if scale == 100 else 3,
        caption="In percent." if scale == 100 else "",
        notes=notes,
    )


def _scaled(value: float | None, scale: int) -> float | None:
    return None if value is None else scale * value


def _key(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _keys(found: Sequence[Row], names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the different keys: numbers by size, texts by the alphabet, None last."""
    keys = {_key(row, names) for row in found}
    return sorted(keys, key=lambda key: [_order(part) for part in key])


def _order(part: Any) -> tuple[bool, float, str]:
    is_number = isinstance(part, int | float)
    return part is None, float(part) if is_number else 0.0, "" if is_number else str(part)


def _shown(part: Any) -> str:
    return "–" if part is None else str(part)
