"""From the records of either client to pages of arrays."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from intramodal.store.base import UNNAMED, Page, VectorSpec
from intramodal.store.fields import picked
from intramodal.types import Floats, PointId


def page_of(
    records: Sequence[Any],
    specs: Mapping[str, VectorSpec],
    names: Sequence[str],
    payload: Sequence[str] | bool = True,
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
    payload : sequence of str or bool
        The fields that were asked for.
    next_offset : id, optional
    """
    return Page(
        ids=[plain_id(record.id) for record in records],
        vectors=_columns(records, specs, names),
        payloads=picked([record.payload or {} for record in records], payload),
        next_offset=None if next_offset is None else plain_id(next_offset),
    )


def plain_id(point_id: Any) -> PointId:
    """Return an id as int or str; the embedded engine answers `uuid.UUID`."""
    return point_id if isinstance(point_id, (int, str)) else str(point_id)


def _columns(
    records: Sequence[Any], specs: Mapping[str, VectorSpec], names: Sequence[str]
) -> dict[str, Floats]:
    columns = {
        name: np.full((len(records), specs[name].size), np.nan, dtype=np.float32) for name in names
    }
    # Lists packed one by one take less than half the time of `numpy.array` over all of them.
    packers = [(name, struct.Struct(f"{X.shape[1]}f"), X) for name, X in columns.items()]
    for row, record in enumerate(records if names else ()):
        # The embedded engine builds `vector` anew on every access: read it once.
        found = record.vector
        # The unnamed vector comes bare where it is the only one of its point.
        named = found if isinstance(found, dict) else {UNNAMED: found}
        for name, packer, X in packers:
            values = named.get(name)
            if values is not None:
                _pack(packer, X, row, values)
    return columns


def _pack(packer: struct.Struct, X: Floats, row: int, values: Sequence[float]) -> None:
    try:
        packer.pack_into(X.data, row * packer.size, *values)
    except struct.error as error:
        raise ValueError(
            f"a vector has {len(values)} dimensions instead of {X.shape[1]}"
        ) from error
