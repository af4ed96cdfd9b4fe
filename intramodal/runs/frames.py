"""What records and results are shown as: JSON values, data frames, HTML tables."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from html import escape
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any

from intramodal.errors import MissingDependencyError


def json_values(value: Any) -> Any:
    """Return a value made of mappings, sequences, arrays and scalars as JSON values.

    Examples
    --------
    >>> json_values({"ap": (0.5, math.nan), 1: {2, 3}})
    {'ap': [0.5, None], '1': [2, 3]}
    """
    value = plain(value)
    if isinstance(value, dict):
        return {str(key): json_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_values(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """Return the nearest plain JSON value of one object; containers' items stay as they are.

    Numbers that JSON lacks (NaN, infinities) become None: what cannot be computed. Unknown
    objects become text.
    """
    if hasattr(value, "tolist"):  # numpy arrays and scalars, without an import of numpy
        value = value.tolist()
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    for types, convert in _CONVERSIONS:
        if isinstance(value, types):
            return convert(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return str(value)


_CONVERSIONS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (Mapping, dict),
    (list, list),
    (tuple, list),
    ((set, frozenset), lambda items: sorted(items, key=str)),
    (PurePath, str),
    (date, lambda day: day.isoformat()),
    (bytes, lambda raw: raw.decode("utf-8", "backslashreplace")),
)


def data_frame(data: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Any:
    """Return a pandas data frame of columns, where a single value fills its column, or of rows."""
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "a data frame needs the package 'pandas'; pip install 'intramodal[notebook]'"
        ) from error
    return pd.DataFrame(dict(data) if isinstance(data, Mapping) else data)


def stacked_frames(frames: Iterable[Any]) -> Any:
    """Return pandas data frames below each other."""
    found = list(frames)
    import pandas as pd

    return pd.concat(found, ignore_index=True)


def csv_text(
    columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, line_end: str = "\n"
) -> str:
    r"""Return rows as CSV in which a spreadsheet finds no formula; texts are untrusted.

    Examples
    --------
    >>> csv_text(["label", "value"], [{"label": "=1+1", "value": -0.5}])
    "label,value\n'=1+1,-0.5\n"
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator=line_end)
    writer.writerow([_no_formula(column) for column in columns])
    writer.writerows([_no_formula(row.get(column)) for column in columns] for row in rows)
    return buffer.getvalue()


def _no_formula(value: Any) -> Any:
    """Return a text that a spreadsheet would compute with an apostrophe before it.

    Numbers stay as they are, also those that are text: a spreadsheet does nothing with them.
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA_BEGINS):
        return value
    return value if _NUMBER.fullmatch(value) else f"'{value}"


_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The last four are the wide forms, which some spreadsheets take for the first four."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


def html_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return an HTML table for notebooks; texts are untrusted and escaped."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Real):
        return f"{float(value):.4f}" if math.isfinite(value) else "–"
    return escape(str(value))
