"""What a vector costs: bytes, memory, measured latency and the index's recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intramodal.evaluation.index import IndexSearch, answers_of, recall_at_k, time_searches
from intramodal.runs.frames import json_values
from intramodal.store.base import Filter
from intramodal.store.collection import ImageCollection
from intramodal.types import VectorTable

N_PROBES = 50
"""Queries timed a search: enough for a median, little beside the evaluation itself."""

_K = 10
_RAM_FACTOR = 1.5
# Vectors plus graph, Qdrant's own capacity planning: n * d * 4 bytes * 1.5.


def vector_costs(
    collection: ImageCollection,
    table: VectorTable,
    vectors: Sequence[str],
    where: Filter | None = None,
) -> dict[str, Any]:
    """Return bytes, memory estimates, latency and recall@10 of each vector, and of two stages.

    With a filter the table holds the points that match, and searches are filtered by it; memory
    is that of all points of the collection: all of them have the vector.
    """
    searches = [IndexSearch(vector) for vector in vectors]
    if len(vectors) > 1:
        # The last vector finds the candidates, the first one ranks them: both are in memory.
        searches.append(IndexSearch(vectors[0], prefetch=vectors[-1]))
    n = (table.drawn_from or len(table)) if where is None else collection.count()
    return {
        search.name: _size(table, n, search.vectors)
        | _measured(collection, table, search.within(where))
        for search in searches
    }


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
    collection: ImageCollection, table: VectorTable, search: IndexSearch
) -> dict[str, Any]:
    rows = np.linspace(0, len(table) - 1, num=min(len(table), N_PROBES)).astype(np.intp)
    # Of single searches as this process sees them, the network included.
    latency = time_searches(collection, table, search, rows, _K)
    distance = collection.info().vectors[search.vector].distance
    answers = answers_of(collection, table, search, rows, _K)
    recall = recall_at_k(table, search, rows, answers, _K, distance=distance)
    p50, p95 = np.percentile(latency, [50, 95])
    found: dict[str, Any] = json_values(
        {
            "latency_ms_p50": p50,
            "latency_ms_p95": p95,
            "recall_at_10": np.nanmean(recall) if np.isfinite(recall).any() else None,
            "n_probes": len(rows),
        }
    )
    return found
