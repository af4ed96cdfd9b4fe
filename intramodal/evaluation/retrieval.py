"""Exact retrieval quality of a named vector, by any payload field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, MissingDependencyError
from intramodal.evaluation.index import IndexResult, IndexSearch, evaluate_index
from intramodal.evaluation.intervals import Interval
from intramodal.evaluation.ranking import DEFAULT_KS, Ranking, Ties, rank
from intramodal.evaluation.resampling import UNITS, interval_population
from intramodal.evaluation.results import (
    class_means,
    data_frame,
    html_table,
    interval_values,
    json_values,
)
from intramodal.evaluation.tasks import SIDES, Mask, RetrievalTask, split_masks
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, PointId, VectorTable


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


def evaluate_retrieval(  # noqa: PLR0913  settings with defaults
    source: VectorTable | ImageCollection,
    *,
    vector: str,
    field: str,
    split: str | tuple[Mask, Mask] | None = None,
    ks: Sequence[int] = DEFAULT_KS,
    ties: Ties = "expected",
    min_class_size: int = 2,
    max_queries: int | None = None,
    device: str | None = None,
    through: Literal["exact", "index"] | IndexSearch = "exact",
    k: int = 100,
    cluster: str | None = None,
    seed: int = 0,
) -> RetrievalResult:
    """Return exact retrieval figures over the full ranking (paper, section 6).

    Parameters
    ----------
    source : ImageCollection or VectorTable
        A collection is read once; or what `ImageCollection.table` has read.
    vector : str
        The named vector; compared by cosine.
    field : str
        Payload field: relevant is what shares a value. A query never finds itself.
    split : str or pair of ndarray of shape (n,), bool, optional
        Query set against gallery: a payload field whose values are ``test`` for what asks and
        ``train`` for what answers, or two masks over the points in the order of their ids. By
        default every picture asks all others (leave-one-out).
    ks : sequence of int
    ties : {"expected", "sklearn", "best", "worst", "id"}
        See `rank`.
    min_class_size : int
        Classes with fewer images are left out.
    max_queries : int, optional
        Where more could ask, so many are drawn; the gallery stays whole.
    device : str, optional
        A torch device to rank on, for example ``"cuda"``; without it numba does, on the CPU.
    through : {"exact", "index"} or IndexSearch
        ``"index"`` also asks the collection's store for the top `k`, as production does: the
        result's `index` has what it answers, the other figures stay those of the exact ranking.
        An `IndexSearch` says more: two stages, fusion, search parameters, its own k.
    k : int
        Answers a query, for ``through="index"``.
    cluster : {"class", "image", "iid", "none"} or the name of a payload field, optional
        What is resampled for the interval of the mAP: see `choose_population`; by default
        classes from 20 on, else pictures, for which a CPU works some three times as long as for
        the ranking. ``"none"`` leaves the interval out.
    seed : int
        Of drawn queries, resampling, and which queries are timed.

    Raises
    ------
    InputError
        If the field cannot serve as a label, nothing is relevant to any query, the class or
        picture units are too few, or a table is to be searched through an index.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1, 0], [0, 1], [1, 0.1], [0.1, 1]], dtype=np.float32)
    >>> table = VectorTable([1, 2, 3, 4], {"raw": X}, {"kind": ["a", "b", "a", "b"]})
    >>> evaluate_retrieval(table, vector="raw", field="kind").map
    1.0
    """
    search = _search(source, vector, through, k, split)
    table = _table(source, vector, search, [field, split, cluster])
    masks = split_masks(table, split)
    task = RetrievalTask.from_table(
        table,
        field,
        split=masks,
        min_class_size=min_class_size,
        max_queries=max_queries,
        seed=seed,
    )
    result = run_task(task, table, vector, ks=ks, ties=ties, device=device)
    result = with_interval(result, task, table, cluster=cluster, seed=seed)
    if search is None or not isinstance(source, ImageCollection):
        return result
    index = evaluate_index(
        source,
        table,
        search,
        field=field,
        split=masks,
        min_class_size=min_class_size,
        max_queries=max_queries,
        cluster=cluster,
        seed=seed,
    )
    return replace(result, index=index)


def with_interval(
    result: RetrievalResult,
    task: RetrievalTask,
    table: VectorTable,
    *,
    cluster: str | None = None,
    seed: int = 0,
) -> RetrievalResult:
    """Return the result of a task with the interval of its mAP; see `evaluate_retrieval`."""
    population = interval_population(table, task, cluster, seed=seed)
    if population is None:
        return result
    # Groups are left out with ties in expectation; another rule moves the figure, not its width.
    plain = result if result.ties == "expected" else run_task(task, table, result.vector, ks=())
    found = population.retrieval_interval(table, task, plain)
    return replace(result, interval=found and found.shifted(result.map - plain.map))


def run_task(
    task: RetrievalTask,
    table: VectorTable,
    vector: str,
    *,
    ks: Sequence[int] = DEFAULT_KS,
    ties: Ties = "expected",
    device: str | None = None,
) -> RetrievalResult:
    """Return the figures of one vector for a task that several vectors share."""
    Q, G = (_moved(X, device) for X in task.vectors(table, vector))
    return result_of(task, table, rank(Q, G, task.relevance, ks=ks, ties=ties), vector, ties=ties)


def result_of(
    task: RetrievalTask,
    table: VectorTable,
    ranking: Ranking,
    vector: str,
    *,
    ties: Ties = "expected",
) -> RetrievalResult:
    """Return the ranking of a task's queries as the result of the vector of that name."""
    return RetrievalResult(
        vector=vector,
        field=task.field,
        protocol=task.protocol,
        query_ids=[table.ids[row] for row in task.query_rows],
        labels=task.query_labels(),
        ap=ranking.ap,
        metrics=ranking.figures,
        n_relevant=ranking.n_relevant,
        n_gallery=len(task.gallery_rows),
        n_without_positives=task.n_without_positives,
        tie_width=float(ranking.tie_width.mean()),
        ties=ties,
    )


def _search(
    source: VectorTable | ImageCollection,
    vector: str,
    through: str | IndexSearch,
    k: int,
    split: str | tuple[Mask, Mask] | None,
) -> IndexSearch | None:
    """Return how the store is to be asked; None if it is not."""
    if through == "exact":
        return None
    search = IndexSearch(vector, k) if through == "index" else through
    if not isinstance(search, IndexSearch):
        raise InputError(f"through is 'exact', 'index' or an IndexSearch, got {through!r}")
    if not isinstance(source, ImageCollection):
        raise InputError(
            "an index is asked through a collection, not a table; give the collection"
        )
    if search.vector != vector:
        raise InputError(f"the search ranks by {search.vector!r}, not by {vector!r}; name one")
    if search.where is None and isinstance(split, str):
        return replace(search, where=Filter(equals={split: [SIDES[1]]}))
    return search


def _table(
    source: VectorTable | ImageCollection,
    vector: str,
    search: IndexSearch | None,
    fields: Sequence[Any],
) -> VectorTable:
    """Return the table, or read it: the vectors, and of `fields` what is the name of one."""
    if isinstance(source, VectorTable):
        return source
    stages = (search.prefetch, search.fuse) if search else ()
    vectors = dict.fromkeys(name for name in (vector, *stages) if name)
    names = {name: None for name in fields if isinstance(name, str) and name not in UNITS}
    return source.table(list(vectors), payload=list(names))


def _moved(X: Floats, device: str | None) -> Any:
    """Return the array, or the tensor of it on a device."""
    if device is None:
        return X
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"ranking on {device!r} needs the package 'torch'; pip install 'intramodal[encoders]'"
        ) from error
    try:
        return torch.from_numpy(X).to(device)
    except (RuntimeError, AssertionError) as error:  # the latter: torch without CUDA
        raise InputError(
            f"cannot rank on {device!r}: {str(error).splitlines()[0]}; leave the device out to "
            f"rank on the CPU"
        ) from error
