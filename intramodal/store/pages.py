"""From the records of either client to pages of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from intramodal.store.base import UNNAMED, Page, VectorSpec
from intramodal.types import Floats, PointId


def page_of(
    records: Sequence[Any],
    specs: Mapping[str, VectorSpec],
    names: Sequence[str],
    next_offset: Any = None,
) -> Page:
    """Return records (with `id`, `vector` and `payload`) as arrays, NaN where a vector lacks.

    Parameters
    ----------
    records : sequence
        Of qdrant_client or qdrant_edge.
    specs : dict of str to VectorSpec
    names : sequence of str
        The vectors that were asked for.
    next_offset : id, optional
    """
    # The embedded engine builds `vector` anew on every access: read it once.
    found = [record.vector for record in records] if names else []
    return Page(
        ids=[plain_id(record.id) for record in records],
        vectors={name: _column(found, name, specs[name].size) for name in names},
        payloads=[record.payload or {} for record in records],
        next_offset=None if next_offset is None else plain_id(next_offset),
    )


def plain_id(point_id: Any) -> PointId:
    """Return an id as int or str; the embedded engine answers `uuid.UUID`."""
    return point_id if isinstance(point_id, (int, str)) else str(point_id)


def _column(found: list[Any], name: str, size: int) -> Floats:
    try:
        # The unnamed vector comes bare where it is the only one of its point.
        is_bare = name == UNNAMED and not any(isinstance(vectors, dict) for vectors in found)
        rows = found if is_bare else [vectors[name] for vectors in found]
        return np.array(rows, dtype=np.float32).reshape(len(rows), size)
    except (KeyError, TypeError):  # some points lack the vector, or have another one beside it
        return _ragged_column(found, name, size)


def _ragged_column(found: list[Any], name: str, size: int) -> Floats:
    X = np.full((len(found), size), np.nan, dtype=np.float32)
    for row, vectors in enumerate(found):
        named = vectors if isinstance(vectors, dict) else {UNNAMED: vectors}
        if named.get(name) is not None:
            X[row] = named[name]
    return X
