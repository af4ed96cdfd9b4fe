"""What a vector costs: bytes, memory, measured latency and the index's recall."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from intramodal.store.base import Hits
from intramodal.store.collection import ImageCollection
from intramodal.types import VectorTable

N_PROBES = 50
"""Queries timed per vector: enough for a median, little beside the evaluation itself."""

_RAM_FACTOR = 1.5
# Vectors plus graph, Qdrant's own capacity planning: n * d * 4 bytes * 1.5.


def vector_costs(
    collection: ImageCollection, table: VectorTable, vectors: Sequence[str]
) -> dict[str, Any]:
    """Return bytes, memory estimates, latency and recall@10 of each vector.

    Latency is the median of single searches as this process sees it, the network included;
    recall compares the index's answers with exact ones for the same stored queries.
    """
    return {vector: _cost(collection, table, vector) for vector in vectors}


def _cost(collection: ImageCollection, table: VectorTable, vector: str) -> dict[str, Any]:
    n, dim = len(table), int(table.vectors[vector].shape[1])
    rows = np.linspace(0, max(0, n - 1), num=min(n, N_PROBES)).astype(np.intp)
    timed = [_probe(collection, table, vector, int(row)) for row in rows]
    return {
        "dim": dim,
        "bytes_per_vector": dim * 4,
        "ram_bytes": int(n * dim * 4 * _RAM_FACTOR),
        "ram_bytes_int8": int(n * dim * _RAM_FACTOR),
        "latency_ms_p50": float(np.median([t for t, _ in timed]) * 1e3) if timed else None,
        "recall_at_10": float(np.mean([r for _, r in timed])) if timed else None,
        "n_probes": len(timed),
    }


def _probe(
    collection: ImageCollection, table: VectorTable, vector: str, row: int
) -> tuple[float, float]:
    query, itself = table.vectors[vector][row : row + 1], [table.ids[row]]
    started = time.perf_counter()
    found = collection.search(query, using=vector, k=10, exact=False, exclude=itself)
    seconds = time.perf_counter() - started
    exact = collection.search(query, using=vector, k=10, exact=True, exclude=itself)
    return seconds, _overlap(found, exact)


def _overlap(found: Hits, exact: Hits) -> float:
    wanted = set(exact.ids[0])
    return len(wanted & set(found.ids[0])) / len(wanted) if wanted else 1.0
