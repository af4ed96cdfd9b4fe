"""Figures of a whole collection, from one stream of its vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from intramodal.errors import InputError
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, unit_rows


def mean_unit_vector(
    collection: ImageCollection, vector: str, *, most: int | None = None
) -> tuple[Floats, int]:
    """Return the mean of unit vectors (d,) and how many points it is of.

    Points whose vector is missing, zero or not finite are left out.

    Parameters
    ----------
    collection : ImageCollection
    vector : str
    most : int, optional
        Points that are read, in id order; all by default.

    Raises
    ------
    InputError
        If no point has such a vector.
    """
    total: Any = 0.0
    n = n_read = 0
    for page in collection.scroll(vectors=[vector], batch_size=min(most or 1000, 1000)):
        X = page.vectors[vector]
        X = unit_rows(X[np.isfinite(X).all(axis=1) & X.any(axis=1)])
        total = total + X.sum(axis=0, dtype=np.float64)
        n, n_read = n + len(X), n_read + len(page.ids)
        if most is not None and n_read >= most:
            break
    if n == 0:
        raise InputError(
            f"no point of {collection.name!r} has a vector {vector!r} to average; ingest pictures "
            f"or name another vector"
        )
    return np.asarray(total / n, dtype=np.float32), n
