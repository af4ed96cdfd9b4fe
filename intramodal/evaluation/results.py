"""What the results of evaluations share: JSON values, data frames, tables, intervals."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import MissingDependencyError
from intramodal.evaluation.intervals import Interval
from intramodal.evaluation.tasks import Points
from intramodal.runs.run import Run


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Results:
    """What an evaluation returns: figures that show, print and record themselves.

    Parameters
    ----------
    points : Points
        What was read.
    run_id : str or None
        The run that has recorded it.
    """

    points: Points
    run_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints: JSON values, without per-query or per-episode arrays."""
        raise NotImplementedError

    def to_frame(self) -> Any:
        """Return a pandas data frame; needs the extra ``notebook``."""
        raise NotImplementedError

    def record(self, run: Run) -> None:
        """Write the figures, and the arrays they rest on, to a run."""
        raise NotImplementedError


def log_figures(
    run: Run, figures: Mapping[str, Any], *, vector: str, field: str | None, n: int | None = None
) -> None:
    """Record several figures of one vector and field; None where there is none."""
    for name, value in figures.items():
        run.log_metric(name, value, vector=vector, field=field, n=n)


def class_means(labels: Sequence[Any], ap: NDArray[np.float64]) -> dict[Any, tuple[float, int]]:
    """Return the mean of `ap` (n_queries,) and the number of queries of every class, by label.

    A query of several labels, a tuple, counts in each of its classes.
    """
    found: dict[Any, list[float]] = defaultdict(list)
    for label, value in zip(labels, ap.tolist(), strict=True):
        for name in label if isinstance(label, tuple) else (label,):
            found[name].append(value)
    ordered = sorted(found, key=str)
    return {
        name: (math.fsum(found[name]) / len(found[name]), len(found[name])) for name in ordered
    }


def interval_values(found: Interval | None) -> dict[str, Any]:
    """Return "interval" and "population" as results show them; None where there is none."""
    if found is None:
        return {"interval": None, "population": None}
    return {"interval": [found.low, found.high], "population": found.population}


def json_values(value: Any) -> Any:
    """Return a value made of dicts, sequences, arrays and scalars as JSON values.

    NaN and infinity, which JSON does not have, become None.

    Examples
    --------
    >>> json_values({"ap": np.array([0.5, np.nan]), "n": np.int64(2)})
    {'ap': [0.5, None], 'n': 2}
    """
    if isinstance(value, Mapping):
        return {str(key): json_values(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return json_values(value.tolist())
    if isinstance(value, list | tuple):
        return [json_values(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def data_frame(columns: Mapping[str, Any]) -> Any:
    """Return a pandas data frame of columns; a single value fills its column.

    Raises
    ------
    MissingDependencyError
        Without pandas.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "a data frame needs the package 'pandas'; pip install 'intramodal[notebook]'"
        ) from error
    return pd.DataFrame(dict(columns))


def stacked_frames(frames: Iterable[Any]) -> Any:
    """Return pandas data frames below each other."""
    found = list(frames)
    import pandas as pd

    return pd.concat(found, ignore_index=True)


def html_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return an HTML table for notebooks; texts are untrusted and escaped."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4f}" if math.isfinite(value) else "–"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return escape(str(value))
