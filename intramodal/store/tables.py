"""Pages of a scroll as one table of arrays, without holding its vectors twice for long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from intramodal.store.base import Page
from intramodal.store.fields import value_at
from intramodal.types import Floats, VectorTable


def tabled(pages: Iterable[Page], vectors: Sequence[str], payload: Sequence[str]) -> VectorTable:
    """Return the points that have every vector, ascending by the text of their ids."""
    vectors = list(dict.fromkeys(vectors))
    read = list(pages)
    ids = [i for page in read for i in page.ids]
    table = VectorTable(
        ids=ids,
        vectors={vector: _stacked(read, vector) for vector in vectors},
        payload={f: [value_at(p, f) for page in read for p in page.payloads] for f in payload},
    )
    keep = _in_order(table)
    is_all = np.array_equal(keep, np.arange(len(ids)))
    return table if is_all else replace(table.take(keep), n_incomplete=len(ids) - len(keep))


def _stacked(pages: list[Page], vector: str) -> Floats:
    """Take a vector out of all pages, so that one copy of it is left."""
    blocks = [page.vectors.pop(vector) for page in pages]
    return np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32)


def _in_order(table: VectorTable) -> NDArray[np.intp]:
    """Return the rows of complete points, in the order of a table."""
    n = len(table)
    order = np.array(sorted(range(n), key=lambda row: str(table.ids[row])), dtype=np.intp)
    complete = [~np.isnan(X[:, 0]) for X in table.vectors.values() if len(X)]
    return order[np.logical_and.reduce(complete)[order]] if complete else order
