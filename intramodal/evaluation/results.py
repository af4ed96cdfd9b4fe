"""What results of evaluations share: their base, class means, intervals as JSON values."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.intervals import Interval
from intramodal.evaluation.tasks import Points
from intramodal.runs.frames import stacked_frames
from intramodal.runs.run import Run
from intramodal.store.collection import ImageCollection
from intramodal.types import VectorTable, first_lines


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

    def __repr__(self) -> str:
        """Return the name of the class and what was read."""
        return f"{type(self).__name__}({self.points.n_points:,} points)"


class ShownResult(Protocol):
    """One of several results that are shown together."""

    def to_frame(self) -> Any:
        """Return a pandas data frame."""
        ...

    def _repr_html_(self) -> str: ...


R_co = TypeVar("R_co", bound=ShownResult, covariant=True)


class ResultList(Results, Generic[R_co]):
    """Results that iterate over others, one per field and vector for example, and show these."""

    def __iter__(self) -> Iterator[R_co]:
        """Iterate over the results."""
        raise NotImplementedError

    def to_frame(self) -> Any:
        """Return the data frames of the results, stacked; needs the extra ``notebook``."""
        return stacked_frames(result.to_frame() for result in self)

    def _repr_html_(self) -> str:
        return "".join(result._repr_html_() for result in self)

    def __repr__(self) -> str:
        """Return the repr of each result, one a line."""
        return first_lines(map(repr, self))


LABELS_FROM = "labels-from.json"
"""Artefact of a run: the file that fields are from, and what of it belongs to no point."""


def log_source(
    run: Run, source: VectorTable | ImageCollection, points: Points | None = None
) -> None:
    """Record what made the vectors of a collection, which data set it holds, and whose labels."""
    if isinstance(source, ImageCollection):
        about = source.manifest
        run.log_origins(about.vectors, collection=source.name, dataset=about.dataset)
    if points is not None and points.labels_from is not None:
        run.save_artefact(LABELS_FROM, points.labels_from)


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
