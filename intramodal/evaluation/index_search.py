"""What production gets: the store's own top-k answers, against the exact ranking."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.ranking import score_blocks
from intramodal.evaluation.results import html_table, json_values
from intramodal.evaluation.retrieval_task import Mask, RetrievalTask
from intramodal.store.base import Filter, Hits
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, VectorTable, unit_rows

N_TIMED = 200
_N_WARM = 5
_BATCH = 100
_CANDIDATES_AN_ANSWER = 4
# Two float32 implementations of a cosine differ by a few units in the last place.
_SAME_SCORE = 1e-6


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
    ap : ndarray of shape (n_queries,)
        Sum of the precisions at the relevant answers, over *all* relevant items: what of the
        average precision the k answers are sure to give.
    lower, upper : ndarray of shape (n_queries,)
        Least and most average precision of any full ranking that begins with these answers.
        With ``exact=True`` that is the exact ranking, ties in the order of the ids.
    recall : ndarray of shape (n_queries,)
        Share of the answers that belong to the exact top k; NaN for a fused search, which has
        none.
    n_relevant, n_answers : ndarray of shape (n_queries,)
    n_outside : int
        Answers taken out because they have no label or are of a class too small.
    latency_ms : ndarray of shape (n_timed,)
        Of single searches, as this process sees them.
    """

    search: IndexSearch
    field: str
    ap: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    recall: NDArray[np.float64]
    n_relevant: NDArray[np.int64]
    n_answers: NDArray[np.int64]
    n_outside: int
    latency_ms: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        p50, p95, p99 = np.percentile(self.latency_ms, [50, 95, 99])
        values: dict[str, Any] = json_values(
            {
                "search": self.search.name,
                "field": self.field,
                "k": self.search.k,
                "map_at_k": self.ap.mean(),
                "map_interval": [self.lower.mean(), self.upper.mean()],
                "recall": self.recall.mean(),
                "n_queries": len(self.ap),
                "n_outside": self.n_outside,
                "latency_ms": {"p50": p50, "p95": p95, "p99": p99, "n": len(self.latency_ms)},
            }
        )
        return values

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
    field, split, min_class_size
        As in `evaluate_retrieval`. Give ``search.where`` the filter of the second mask, else
        answers outside of it take up places and are taken out.
    n_timed : int
        Queries asked one by one for the latency.
    seed : int
        Chooses those.

    Raises
    ------
    InputError
        If the field cannot serve as a label.
    """
    task = RetrievalTask.from_table(table, field, split=split, min_class_size=min_class_size)
    rows, hits = task.query_rows, Hits([], [])
    for start in range(0, len(rows), _BATCH):
        found = search.ask(collection, table, rows[start : start + _BATCH])
        hits.ids.extend(found.ids)
        hits.scores.extend(found.scores)
    judged = _judge(task, table, hits)
    may_answer = split[1] if split is not None and search.where is not None else None
    timed = np.random.default_rng(seed).permutation(rows)[:n_timed]
    return IndexResult(
        search=search,
        field=field,
        recall=recall_at_k(table, search, rows, hits, may_answer=may_answer),
        n_outside=sum(map(len, hits.ids)) - int(judged["n_answers"].sum()),
        latency_ms=time_searches(collection, table, search, timed),
        **judged,
    )


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


def recall_at_k(
    table: VectorTable,
    search: IndexSearch,
    rows: NDArray[np.intp],
    hits: Hits,
    *,
    may_answer: Mask | None = None,
) -> NDArray[np.float64]:
    """Return the share of each query's answers that score as high as the exact k-th.

    Equal scores are equally right, whichever of them the store chose. Answers that are not in the
    table, because they lack one of its vectors, cannot be judged: they shorten both lists.

    Parameters
    ----------
    rows : ndarray of shape (n_queries,)
        Rows of the table that asked.
    hits : Hits
        Their answers.
    may_answer : ndarray of shape (n,), bool, optional
        Rows that may answer; all by default.

    Returns
    -------
    ndarray of shape (n_queries,)
        Over ``min(k, number of rows that may answer)``. NaN for a fused search.
    """
    if search.fuse:
        return np.full(len(rows), np.nan)
    X = unit_rows(table.vectors[search.vector])
    is_there = np.asarray(np.isfinite(X).all(axis=1))
    if may_answer is not None:
        is_there &= may_answer
    row_of = {point: row for row, point in enumerate(table.ids)}
    recall = np.full(len(rows), np.nan)
    for start, stop, S in score_blocks(X[rows], np.where(is_there[:, None], X, 0)):
        S[:, ~is_there] = -np.inf
        S[np.arange(stop - start), rows[start:stop]] = -np.inf
        for i in range(stop - start):
            given = hits.ids[start + i]
            answers = [row_of[point] for point in given if point in row_of]
            recall[start + i] = _share(S[i], answers, search.k - (len(given) - len(answers)))
    return recall


def _share(scores: Floats, answers: Sequence[int], k: int) -> float:
    wanted = min(k, int(np.isfinite(scores).sum()))
    if wanted == 0:
        return float("nan")
    least = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
    return float((scores[list(answers)] >= least - _SAME_SCORE).sum()) / wanted


def _judge(task: RetrievalTask, table: VectorTable, hits: Hits) -> dict[str, Any]:
    place_of = {table.ids[row]: place for place, row in enumerate(task.gallery_rows)}
    n = len(task.query_rows)
    pointers, positives = task.relevance.positives(0, n)
    figures = np.zeros((n, 3))
    n_answers = np.zeros(n, dtype=np.int64)
    for i in range(n):
        places = [place_of[point] for point in hits.ids[i] if point in place_of]
        relevant = positives[pointers[i] : pointers[i + 1]]
        n_others = len(task.gallery_rows) - (task.query_at[i] >= 0)
        n_answers[i] = len(places)
        figures[i] = certified_ap(np.isin(places, relevant), len(relevant), int(n_others))
    ap, lower, upper = figures.T
    return {
        "ap": ap,
        "lower": lower,
        "upper": upper,
        "n_relevant": np.diff(pointers),
        "n_answers": n_answers,
    }


def certified_ap(
    is_relevant: NDArray[np.bool_], n_relevant: int, n_gallery: int
) -> tuple[float, float, float]:
    """Return AP@k, and the least and most AP of any full ranking that begins so.

    With h of the R relevant items among the k answers, the others stand last in the worst case
    and at the places k + 1, ... in the best.

    Parameters
    ----------
    is_relevant : ndarray of shape (k,), bool
        The answers, best first.
    n_relevant, n_gallery : int
        R, and the number of items ranked.

    Examples
    --------
    >>> ap, least, most = certified_ap(np.array([True, False]), 2, 4)
    >>> ap, least, round(most, 3)
    (0.5, 0.75, 0.833)
    """
    found = np.flatnonzero(is_relevant) + 1.0
    sure = float((np.arange(1, len(found) + 1) / found).sum())
    missing = np.arange(1, n_relevant - len(found) + 1)
    hits = len(found) + missing
    least = float((hits / (n_gallery - len(missing) + missing)).sum())
    most = float((hits / (len(is_relevant) + missing)).sum())
    return sure / n_relevant, (sure + least) / n_relevant, (sure + most) / n_relevant
