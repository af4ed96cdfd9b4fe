"""A table of recorded figures: any of their dimensions as rows and columns."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from intramodal.errors import InputError
from intramodal.reports.grid import Grid, Place
from intramodal.runs.dimensions import DIMENSIONS
from intramodal.runs.interchange import metric_rows
from intramodal.runs.ledger import RunLedger

PIVOTS = (*DIMENSIONS, "vector", "field", "metric", "kind")
"""What rows and columns can be."""

_PERCENT = frozenset({"mAP", "accuracy"})
"""Fractions that papers print in percent."""

Row = Mapping[str, Any]


def tabulate_runs(
    ledger: RunLedger,
    *,
    rows: Sequence[str] = ("model", "method"),
    columns: Sequence[str] = ("dataset",),
    metric: str = "mAP",
    where: Mapping[str, str] | None = None,
) -> Grid:
    """Return the figures of all complete runs as one table.

    Where several runs have a figure for the same place, the latest counts, and a note says how
    many do not.

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
    return _grid(found, rows, columns, metric)


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
    scale = 100 if metric in _PERCENT else 1
    places: dict[tuple[int, int], Place] = {}
    n_older = 0
    for row in found:  # the latest run first
        at = heads.index(_key(row, rows)), tops.index(_key(row, columns))
        n_older += at in places
        places.setdefault(at, Place(scale * row["value"]))
    notes = [f"{n_older:,} older figures of the same places are not shown"] if n_older else []
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
