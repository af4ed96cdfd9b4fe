"""Frozen results of evaluations, with the per-query and per-episode arrays they rest on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import MissingDependencyError
from intramodal.evaluation.inference import Interval
from intramodal.types import PointId

if TYPE_CHECKING:
    from intramodal.evaluation.index_search import IndexResult


@dataclass(frozen=True, eq=False, repr=False)
class RetrievalResult:
    """Exact retrieval quality of one vector for one label field.

    Parameters
    ----------
    vector, field : str
        The named vector and the payload field that says what is relevant.
    protocol : str
        ``"leave-one-out"`` or ``"query-gallery"``.
    query_ids : list of str or int
        Queries that have at least one relevant gallery item, ascending.
    labels : list
        Label of each query (a tuple for multi-valued fields).
    ap : ndarray of shape (n_queries,)
        Average precision, expected over random orders of ties unless `ties` says otherwise.
    metrics : dict of str to ndarray of shape (n_queries,)
        Further per-query figures: "recall@1", "r_precision", "ap@r", "mrr", ...
    n_relevant : ndarray of shape (n_queries,)
    n_gallery : int
    n_without_positives : int
        Queries left out of the mean because nothing is relevant to them.
    tie_width : float
        mAP with best minus mAP with worst order of ties.
    ties : str
    interval : Interval or None
        95% interval of the mAP; None where it was not asked for, or units are too few.
    index : IndexResult or None
        The store's own answers to the same queries, where they were asked for.
    """

    vector: str
    field: str
    protocol: str
    query_ids: list[PointId]
    labels: list[Any]
    ap: NDArray[np.float64]
    metrics: Mapping[str, NDArray[np.float64]]
    n_relevant: NDArray[np.int64]
    n_gallery: int
    n_without_positives: int
    tie_width: float
    ties: str = "expected"
    interval: Interval | None = None
    index: IndexResult | None = None

    @property
    def map(self) -> float:
        """Mean average precision over the queries, a fraction."""
        return float(self.ap.mean()) if self.ap.size else float("nan")

    def class_mean(self) -> dict[Any, tuple[float, int]]:
        """Return the mean AP and the number of queries of every class, by label.

        A query of several labels counts in each of its classes.
        """
        return class_means(self.labels, self.ap)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values, without the per-query arrays; NaN becomes None."""
        means = {
            name: values.mean() if values.size else None for name, values in self.metrics.items()
        }
        values: dict[str, Any] = json_values(
            {
                **self._head(),
                "metrics": means,
                "tie_width": self.tie_width,
                "ties": self.ties,
                "index": self.index and self.index.to_dict(),
                "classes": {
                    name: {"ap": ap, "n_queries": n} for name, (ap, n) in self.class_mean().items()
                },
            }
        )
        return values

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a query; needs the extra ``notebook``."""
        return data_frame(
            {
                "vector": self.vector,
                "field": self.field,
                "query": self.query_ids,
                "label": self.labels,
                "n_relevant": self.n_relevant,
                "ap": self.ap,
                **self.metrics,
            }
        )

    def _head(self) -> dict[str, Any]:
        return {
            "vector": self.vector,
            "field": self.field,
            "protocol": self.protocol,
            "map": self.map,
            **interval_values(self.interval),
            "n_queries": len(self.query_ids),
            "n_gallery": self.n_gallery,
            "n_without_positives": self.n_without_positives,
        }

    def _repr_html_(self) -> str:
        head = self._head()
        return html_table(list(head), [list(head.values())])

    def __repr__(self) -> str:
        """Return vector, field, mAP with its interval, and the number of queries."""
        found = self.interval
        within = f" [{found.low:.4f}, {found.high:.4f}]" if found else ""
        return (
            f"RetrievalResult({self.vector!r} by {self.field!r}, mAP {self.map:.4f}{within}, "
            f"{len(self.query_ids):,} queries, {self.protocol})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class FewshotResult:
    """Few-shot accuracy of one vector for one label field.

    Parameters
    ----------
    vector, field : str
    classifier : str
        ``"prototype"``, ``"lda"``, ...
    shots : tuple of int
        Labelled images a class, ascending.
    accuracy : ndarray of shape (n_shots, n_episodes)
        Share of all test images of an episode that were classified right; NaN for a number of
        shots that fewer than two classes can serve.
    class_names : list of str
    class_accuracy : ndarray of shape (n_shots, n_classes)
        Mean over episodes; NaN for a class that does not take part.
    n_test : ndarray of shape (n_shots,)
        Mean number of test images an episode.
    seed : int
        Seed of the episodes: same points and same seed, same episodes, whatever the vector.
    ids : list of str or int
        The images that can be tested.
    labels : list of str
        Class of each.
    n_correct, n_tested : ndarray of shape (n_shots, n_images), int64
        In how many episodes each image was classified right, and tested at all.
    n_pool : ndarray of shape (n_shots,)
        Mean number of images a class that the shots were drawn from.
    extra : dict
        Further facts: "n_classes" a number of shots, "n_missing", "n_dropped", ...
    """

    vector: str
    field: str
    classifier: str
    shots: tuple[int, ...]
    accuracy: NDArray[np.float64]
    class_names: list[str]
    class_accuracy: NDArray[np.float64]
    n_test: NDArray[np.float64]
    seed: int
    ids: list[PointId]
    labels: list[str]
    n_correct: NDArray[np.int64]
    n_tested: NDArray[np.int64]
    n_pool: NDArray[np.float64]
    extra: Mapping[str, Any] = dataclass_field(default_factory=dict)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean accuracy over the episodes, a fraction, of shape (n_shots,)."""
        return np.asarray(self.accuracy.mean(axis=1))

    @property
    def standard_error(self) -> NDArray[np.float64]:
        """Standard error of `mean` over the draw of the episodes, of shape (n_shots,).

        It says how well the number of episodes pins the mean down on *these* images, not what
        other images would give. NaN for a single episode.
        """
        n_episodes = self.accuracy.shape[1]
        if n_episodes < 2:
            return np.full(len(self.shots), np.nan)
        return np.asarray(self.accuracy.std(axis=1, ddof=1) / np.sqrt(n_episodes))

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values, without the per-image arrays; NaN becomes None."""
        rows = zip(self.mean, self.standard_error, self.n_test, self.n_pool, strict=True)
        names = ("accuracy", "standard_error", "n_test", "n_pool")
        values: dict[str, Any] = json_values(
            {
                "vector": self.vector,
                "field": self.field,
                "classifier": self.classifier,
                "seed": self.seed,
                "n_episodes": self.accuracy.shape[1],
                "n_images": len(self.ids),
                "shots": {
                    str(s): dict(zip(names, row, strict=True))
                    for s, row in zip(self.shots, rows, strict=True)
                },
                "classes": dict(zip(self.class_names, self.class_accuracy.T, strict=True)),
                "extra": self.extra,
            }
        )
        return values

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row an episode; needs the extra ``notebook``."""
        n_shots, n_episodes = self.accuracy.shape
        return data_frame(
            {
                "vector": self.vector,
                "field": self.field,
                "classifier": self.classifier,
                "shots": np.repeat(self.shots, n_episodes),
                "episode": np.tile(np.arange(n_episodes), n_shots),
                "accuracy": self.accuracy.ravel(),
            }
        )

    def _repr_html_(self) -> str:
        rows = zip(self.shots, self.mean, self.standard_error, self.n_test, strict=True)
        title = f"{self.classifier} on {self.vector} by {self.field}"
        return f"<p>{escape(title)}</p>" + html_table(
            ["shots", "accuracy", "standard error", "test images"], [list(row) for row in rows]
        )

    def __repr__(self) -> str:
        """Return classifier, vector, field and the mean accuracy by shots."""
        means = ", ".join(f"{s}: {m:.4f}" for s, m in zip(self.shots, self.mean, strict=True))
        return (
            f"FewshotResult({self.classifier} on {self.vector!r} by {self.field!r}, {{{means}}}, "
            f"{self.accuracy.shape[1]} episodes)"
        )


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
