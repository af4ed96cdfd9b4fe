"""What a vector costs and what its searches give: bytes, latency, recall, the first results."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import Unsupported
from intramodal.evaluation.index import Rows, answers_of, judge, recall_at_k, time_searches
from intramodal.evaluation.index_search import IndexSearch, in_gallery
from intramodal.evaluation.tasks import FieldFilter, Mask, RetrievalTask, Sides
from intramodal.runs.frames import json_values
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.store.query_side import QuerySide
from intramodal.types import VectorTable

log = logging.getLogger(__name__)

N_PROBES = 50
"""Queries of each search: enough for a median, little beside the evaluation itself."""

_FEWEST_PROBES = 5

N_CANDIDATES = 40
"""Of a search in two stages; its second one ranks them."""

N_INDEX_PROBES = 200
"""Queries that measure what an index loses: a missed answer in a hundred shows."""

EF_TRIED: Mapping[str, Mapping[str, int]] = {
    "default": {},
    **{str(ef): {"hnsw_ef": ef} for ef in (128, 256, 512)},
}
ENOUGH_RECALL = 0.99
NO_INDEX = "no vector of the collection is in an index yet: every search compares all points"

_K = 10
_RAM_FACTOR = 1.5
# Vectors plus graph, Qdrant's own capacity planning: n * d * 4 bytes * 1.5.


def vector_costs(
    collection: ImageCollection,
    table: VectorTable,
    vectors: Sequence[str | QuerySide],
    tasks: Mapping[str, RetrievalTask | None] | None = None,
    *,
    sides: Sides | None = None,
    split: tuple[Mask, Mask] | None = None,
    where: Filter | None = None,
) -> dict[str, Any]:
    """Return what each vector costs, and two stages, by name: bytes, memory, latency, recall@10.

    "fields" holds, for the task of each label field, nDCG@10 and precision@10 of the store's own
    results for the probes among its queries; None where there are none.
    The table holds the points that match `where` and are on one of the `sides`, whose masks (n,)
    are `split`. Probes are queries, and searches carry the filters of the points and the gallery.
    Memory is then that of all points of the collection: all of them have the vector. A query
    side has that of the vector which it searches, and is in no search of two stages.
    """
    searches = [_search(vector) for vector in vectors]
    named = [vector for vector in vectors if isinstance(vector, str)]
    if len(named) == len(vectors) > 1:
        # The last vector finds the candidates, the first one ranks them: both are in memory.
        two = IndexSearch(named[0], prefetch=named[-1], candidates=N_CANDIDATES)
        searches.append(two)
    n_probes = _n_probes(collection, searches)
    probes = _probes(np.flatnonzero(split[0]) if split else np.arange(len(table)), n_probes)
    of_probes = {field: _of_probes(task, probes) for field, task in (tasks or {}).items()}
    is_whole = where is None and split is None
    n = (table.drawn_from or len(table)) if is_whole else collection.described.n_points
    sides = sides or Sides()
    may_answer = split[1] if split and isinstance(sides.gallery, FieldFilter) else None
    return {
        search.name: _size(table, n, search.vectors)
        | _measured(collection, table, filtered, probes, of_probes, may_answer)
        for search in searches
        for filtered in [in_gallery(search, sides).within(where)]
    }


def _search(vector: str | QuerySide) -> IndexSearch:
    """Return the search by a stored vector, or by a query side."""
    if isinstance(vector, str):
        return IndexSearch(vector)
    return IndexSearch(vector.vector, query_side=vector.projection, rerank=vector.rerank)


def index_recall(
    collection: ImageCollection,
    table: VectorTable,
    side: QuerySide,
    *,
    sides: Sides | None = None,
    split: tuple[Mask, Mask] | None = None,
    where: Filter | None = None,
) -> dict[str, Any]:
    """Return recall@10 of the index with stored and with projected queries, by size of its list.

    An index is built for queries that lie as the stored vectors do; projected ones do not.
    "recall_at_10" has, by the name of the search, the figure by ``hnsw_ef``: the collection's
    own ("default") and larger ones; "needs" the first of them that reaches "enough". They are
    empty, and "note" says why, where no vector is in an index. Shapes, sides and filters as in
    `vector_costs`.
    """
    found: dict[str, Any] = {"enough": ENOUGH_RECALL, "recall_at_10": {}, "needs": {}, "note": ""}
    if not collection.described.n_indexed:
        return found | {"note": NO_INDEX}
    plain = [_search(vector) for vector in (side.vector, side)]
    searches = [in_gallery(search, sides or Sides()).within(where) for search in plain]
    rows = np.flatnonzero(split[0]) if split else np.arange(len(table))
    n_probes = min(N_INDEX_PROBES, 4 * _n_probes(collection, plain))
    probes = _probes(rows, n_probes)
    filtered = sides is not None and isinstance(sides.gallery, FieldFilter)
    may_answer = split[1] if split and filtered else None
    for search in searches:
        recalls = {
            name: _recall(collection, table, replace(search, params=params), probes, may_answer)
            for name, params in EF_TRIED.items()
        }
        found["recall_at_10"][search.name] = recalls
        enough = (name for name, recall in recalls.items() if recall and recall >= ENOUGH_RECALL)
        found["needs"][search.name] = next(enough, None)
    return {**found, "n_probes": len(probes)}


def _recall(
    collection: ImageCollection,
    table: VectorTable,
    search: IndexSearch,
    rows: NDArray[np.intp],
    may_answer: Mask | None,
) -> float | None:
    """Return recall@10 of a search that some rows ask; None where the store does not allow it."""
    try:
        answers = answers_of(collection, table, search, rows, _K)
    except Unsupported as error:
        log.warning("the search %s is not measured: %s", search.name, error)
        return None
    distance = collection.vectors[search.vector].distance
    recall = recall_at_k(
        table, search, rows, answers, _K, may_answer=may_answer, distance=distance
    )
    return float(np.nanmean(recall)) if np.isfinite(recall).any() else None


def _n_probes(collection: ImageCollection, searches: Sequence[IndexSearch]) -> int:
    """Return how many queries are asked: about a minute's worth where their rate is limited."""
    a_minute = collection.search_limits.reads_a_minute
    # Once to be timed, once for the answers.
    cost = 2 * sum(search.n_reads for search in searches)
    if a_minute is None or N_PROBES * cost <= a_minute:
        return N_PROBES
    n_probes = max(_FEWEST_PROBES, a_minute // cost)
    log.warning(
        "strict mode allows %r %d reads a minute (read_rate_limit): searches are measured by %d "
        "queries instead of %d",
        *(collection.name, a_minute, n_probes, N_PROBES),
    )
    return n_probes


def _probes(rows: NDArray[np.intp], n_probes: int) -> NDArray[np.intp]:
    """Return a few of the rows, at equal distances."""
    return rows[np.linspace(0, len(rows) - 1, num=min(len(rows), n_probes)).astype(np.intp)]


def two_stages(a: str, b: str) -> str:
    """Return what a search in two stages, by vector B and then by A, keeps and saves."""
    a, b = a or "''", b or "''"
    return (
        f"{b} > {a}: {b} finds {N_CANDIDATES} candidates and {a} ranks them, so its results have "
        f"about the quality of {a}, not that of {b}. It needs the memory of both vectors, or of "
        f"{b} alone if {a} is kept on disk."
    )


def _of_probes(task: RetrievalTask | None, probes: NDArray[np.intp]) -> RetrievalTask | None:
    """Return the task of the probes among its queries; None where there are none."""
    found = task and task.only(probes)
    return found if found and len(found.query_rows) else None


def _size(table: VectorTable, n: int, vectors: Sequence[str]) -> dict[str, Any]:
    """Return bytes and memory estimates of the vectors of n points."""
    dims = [int(table.vectors[vector].shape[1]) for vector in vectors]
    n_values = n * sum(dims)
    return {
        "dim": dims[0] if len(dims) == 1 else None,
        "bytes_per_vector": 4 * sum(dims),
        "ram_bytes": int(4 * n_values * _RAM_FACTOR),
        "ram_bytes_int8": int(n_values * _RAM_FACTOR),
    }


def _measured(
    collection: ImageCollection,
    table: VectorTable,
    search: IndexSearch,
    rows: NDArray[np.intp],
    tasks: Mapping[str, RetrievalTask | None],
    may_answer: Mask | None,
) -> dict[str, Any]:
    """Return latency, recall and the quality by every task of a search that some rows ask.

    They are None, and a warning says why, where the store does not allow such a search.
    """
    try:
        return _searched(collection, table, search, rows, tasks, may_answer)
    except Unsupported as error:
        log.warning("the search %s is not measured: %s", search.name, error)
    unknown = dict.fromkeys(("latency_ms_p50", "latency_ms_p95", "recall_at_10"))
    return {**unknown, "n_probes": 0, "fields": dict.fromkeys(tasks)}


def _searched(
    collection: ImageCollection,
    table: VectorTable,
    search: IndexSearch,
    rows: NDArray[np.intp],
    tasks: Mapping[str, RetrievalTask | None],
    may_answer: Mask | None,
) -> dict[str, Any]:
    # Of single searches as this process sees them, the network included.
    latency = time_searches(collection, table, search, rows, _K)
    distance = collection.vectors[search.vector].distance
    answers = answers_of(collection, table, search, rows, _K)
    recall = recall_at_k(
        table, search, rows, answers, _K, may_answer=may_answer, distance=distance
    )
    answer_of = dict(zip(rows.tolist(), answers, strict=True))
    p50, p95 = np.percentile(latency, [50, 95])
    found: dict[str, Any] = json_values(
        {
            "latency_ms_p50": p50,
            "latency_ms_p95": p95,
            "recall_at_10": np.nanmean(recall) if np.isfinite(recall).any() else None,
            "n_probes": len(rows),
            "fields": {
                field: None if task is None else _first_results(table, task, answer_of)
                for field, task in tasks.items()
            },
        }
    )
    return found


def _first_results(
    table: VectorTable, task: RetrievalTask, answers: Mapping[int, Rows]
) -> dict[str, Any]:
    """Return how good the answers to the rows of the table are by the labels of a task."""
    judged = judge(task, table, [answers[row] for row in task.query_rows.tolist()], _K, None)
    return {
        "ndcg_at_10": judged["ndcg"].mean(),
        "precision_at_10": judged["precision"].mean(),
        "n_queries": len(task.query_rows),
    }
