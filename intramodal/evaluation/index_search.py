"""What production gets: the store's own top-k answers, against the exact ranking."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.index_recall import recall_of, rows_of
from intramodal.evaluation.index_scores import Rows, judge, map_at_k_interval
from intramodal.evaluation.inference import Interval
from intramodal.evaluation.labels import require_read
from intramodal.evaluation.population import interval_population
from intramodal.evaluation.results import (
    class_means,
    data_frame,
    html_table,
    interval_values,
    json_values,
)
from intramodal.evaluation.retrieval_task import Mask, RetrievalTask
from intramodal.store.base import Distance, Filter, Hits
from intramodal.store.collection import ImageCollection
from intramodal.types import PointId, VectorTable

Denominator = Literal["relevant", "min"]
DENOMINATORS: dict[Denominator, str] = {"relevant": "all relevant", "min": "min(k, relevant)"}

N_TIMED = 200
_N_WARM = 5
_BATCH = 100
_CANDIDATES_AN_ANSWER = 4


@dataclass(frozen=True)
class IndexSearch:
    """How the store is asked.

    Parameters
    ----------
    vector : str
        Ranks the answers.
    k : int
        Answers a query.
    prefetch : str, optional
        Two stages: this vector gives the candidates, `vector` ranks them.
    fuse : str, optional
        The rankings by `vector` and by this one are fused by their places.
    candidates : int, optional
        Length of the lists of a two-stage or fused search; four times `k` by default.
    exact : bool
        Without the index.
    params : dict
        Search parameters: ``hnsw_ef``, ``indexed_only``, ``quantization``.
    where : Filter, optional
        Which points may answer.
    """

    vector: str
    k: int = 100
    prefetch: str | None = None
    fuse: str | None = None
    candidates: int | None = None
    exact: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    where: Filter | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be asked."""
        if self.prefetch and self.fuse:
            raise InputError("a search is either fused or has a prefetch; give one of the two")

    @property
    def name(self) -> str:
        """What the search is called in tables."""
        if self.prefetch:
            return f"{self.prefetch} > {self.vector}"
        return f"{self.vector} + {self.fuse}" if self.fuse else self.vector

    def ask(self, collection: ImageCollection, table: VectorTable, rows: NDArray[np.intp]) -> Hits:
        """Return the answers to the table's rows, never the row itself."""
        return collection.store.query_batch(  # `search` would ask for the vectors' names each time
            collection.name,
            table.vectors[self.vector][rows],
            using=self.vector,
            k=self.k,
            exact=self.exact,
            exclude=[table.ids[row] for row in rows],
            where=self.where,
            params={**self.params, **self._stages(table, rows)},
        )

    def _stages(self, table: VectorTable, rows: NDArray[np.intp]) -> dict[str, Any]:
        other = self.prefetch or self.fuse
        if other is None:
            return {}
        limit = self.candidates or self.k * _CANDIDATES_AN_ANSWER
        stage = {"using": other, "limit": limit, "Q": table.vectors[other][rows]}
        return {"prefetch" if self.prefetch else "fuse": stage}


@dataclass(frozen=True, eq=False, repr=False)
class IndexResult:
    """Quality of the store's answers for one label field.

    Parameters
    ----------
    search : IndexSearch
    field : str
    query_ids : list of str or int
        Queries that have at least one relevant gallery item, ascending.
    labels : list
        Label of each query (a tuple for multi-valued fields).
    ap : ndarray of shape (n_queries,)
        Sum of the precisions at the relevant answers, over the denominator: over *all* relevant
        items it is what of the average precision the k answers are sure to give.
    lower, upper : ndarray of shape (n_queries,)
        Least and most average precision of any full ranking that begins with these answers.
        With ``exact=True`` that is the exact ranking, ties in the order of the ids.
    recall : ndarray of shape (n_queries,)
        Share of the answers that belong to the exact top k, by the collection's own distance; NaN
        for a fused search, which has none.
    n_relevant, n_answers : ndarray of shape (n_queries,)
    n_outside : int
        Answers taken out because they have no label or are of a class too small.
    latency_ms : ndarray of shape (n_timed,)
        Of single searches, as this process sees them.
    distance : {"Cosine", "Dot", "Euclid", "Manhattan"}
        By which the collection compares the vector; the exact mAP is by cosine.
    denominator : {"relevant", "min"}
        Of `ap`: all R relevant items, or min(k, R).
    interval : Interval or None
        95% interval of the mean of `ap`, the mAP@k.
    """

    search: IndexSearch
    field: str
    query_ids: list[PointId]
    labels: list[Any]
    ap: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    recall: NDArray[np.float64]
    n_relevant: NDArray[np.int64]
    n_answers: NDArray[np.int64]
    n_outside: int
    latency_ms: NDArray[np.float64]
    distance: Distance = "Cosine"
    denominator: Denominator = "relevant"
    interval: Interval | None = None

    def class_mean(self) -> dict[Any, tuple[float, int]]:
        """Return the mean AP@k and the number of queries of every class, by label."""
        return class_means(self.labels, self.ap)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values, without the per-query arrays."""
        p50, p95, p99 = np.percentile(self.latency_ms, [50, 95, 99])
        values: dict[str, Any] = json_values(
            {
                "search": self.search.name,
                "distance": self.distance,
                "field": self.field,
                "k": self.search.k,
                "map_at_k": self.ap.mean(),
                "denominator": DENOMINATORS[self.denominator],
                **interval_values(self.interval),
                "map_interval": [self.lower.mean(), self.upper.mean()],
                "recall": self.recall.mean(),
                "n_queries": len(self.ap),
                "n_outside": self.n_outside,
                "latency_ms": {"p50": p50, "p95": p95, "p99": p99, "n": len(self.latency_ms)},
            }
        )
        return values

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a query; needs the extra ``notebook``."""
        about = {"search": self.search.name, "field": self.field}
        return data_frame({**about, "query": self.query_ids, "label": self.labels, **self.scores})

    @property
    def scores(self) -> dict[str, NDArray[Any]]:
        """Figures of every query by name, as a run keeps them."""
        k = self.search.k
        return {
            "n_relevant": self.n_relevant,
            "n_answers": self.n_answers,
            # trec_eval's map_cut is over all relevant items.
            f"ap@{k}" if self.denominator == "relevant" else f"ap@{k}_of_min": self.ap,
            "ap_least": self.lower,
            "ap_most": self.upper,
            f"exact_recall@{k}": self.recall,
        }

    def _repr_html_(self) -> str:
        plain = self.to_dict()
        return html_table(list(plain), [[str(value) for value in plain.values()]])

    def __repr__(self) -> str:
        """Return search, field and the figures."""
        return (
            f"IndexResult({self.search.name!r} by {self.field!r}, mAP@{self.search.k} "
            f"{self.ap.mean():.4f}, full mAP within [{self.lower.mean():.4f}, "
            f"{self.upper.mean():.4f}], recall {self.recall.mean():.4f})"
        )


def evaluate_index(  # noqa: PLR0913  settings with defaults
    collection: ImageCollection,
    table: VectorTable,
    search: IndexSearch,
    *,
    field: str,
    split: tuple[Mask, Mask] | None = None,
    min_class_size: int = 2,
    max_queries: int | None = None,
    denominator: Denominator = "relevant",
    cluster: str | None = None,
    n_timed: int = N_TIMED,
    seed: int = 0,
) -> IndexResult:
    """Ask the store as production does, and judge its answers.

    What the model loses and what the index or quantisation loses are two figures: the first is
    the exact mAP of `evaluate_retrieval`, the second is `recall` and the distance of the two.

    Parameters
    ----------
    collection : ImageCollection
    table : VectorTable
        Of `collection`, with the vectors of the search and the payload `field`.
    search : IndexSearch
    field, split, min_class_size, max_queries, cluster
        As in `evaluate_retrieval`. Give ``search.where`` the filter of the second mask, else
        answers outside of it take up places and are taken out.
    denominator : {"relevant", "min"}
        Of the mAP@k: all R relevant items, as trec_eval's; or min(k, R), as Cross-the-Gap's.
    n_timed : int
        Queries asked one by one for the latency.
    seed : int
        Chooses those, drawn queries, and the resampling behind the interval.

    Raises
    ------
    InputError
        If the field cannot serve as a label.
    """
    if denominator not in DENOMINATORS:
        raise InputError(
            f"the denominator of mAP@k is {' or '.join(DENOMINATORS)}, got {denominator!r}"
        )
    task = RetrievalTask.from_table(
        table,
        field,
        split=split,
        min_class_size=min_class_size,
        max_queries=max_queries,
        seed=seed,
    )
    population = interval_population(table, task, cluster, seed=seed)
    require_read(table, vectors=[v for v in (search.vector, search.prefetch, search.fuse) if v])
    rows = task.query_rows
    answers = _asked(collection, table, search, rows)
    most = search.k if denominator == "min" else None
    judged = judge(task, table, answers, most)
    may_answer = split[1] if split is not None and search.where is not None else None
    distance = collection.info().vectors[search.vector].distance
    timed = np.random.default_rng(seed).permutation(rows)[:n_timed]
    return IndexResult(
        search=search,
        field=field,
        query_ids=[table.ids[row] for row in rows],
        labels=task.query_labels(),
        recall=recall_of(table, search, rows, answers, may_answer=may_answer, distance=distance),
        n_outside=sum(map(len, answers)) - int(judged["n_answers"].sum()),
        latency_ms=time_searches(collection, table, search, timed),
        distance=distance,
        denominator=denominator,
        interval=map_at_k_interval(task, table, answers, judged["ap"], population, most),
        **judged,
    )


def _asked(
    collection: ImageCollection, table: VectorTable, search: IndexSearch, rows: NDArray[np.intp]
) -> list[Rows]:
    """Return the rows of the table that answer each query, best first; -1 for others."""
    row_of = {point: row for row, point in enumerate(table.ids)}
    answers: list[Rows] = []
    for start in range(0, len(rows), _BATCH):
        found = search.ask(collection, table, rows[start : start + _BATCH])
        answers += [rows_of(ids, row_of) for ids in found.ids]
    return answers


def time_searches(
    collection: ImageCollection, table: VectorTable, search: IndexSearch, rows: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return milliseconds of single searches, after a few that are not timed."""
    for row in rows[:_N_WARM]:
        search.ask(collection, table, np.array([row]))
    seconds = []
    for row in rows:
        started = time.perf_counter()
        search.ask(collection, table, np.array([row]))
        seconds.append(time.perf_counter() - started)
    return np.asarray(seconds) * 1e3
