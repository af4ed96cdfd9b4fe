"""Rows of stored vectors: which can be projected, why not, at which pace, and a seeded sample."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intramodal.store.base import Filter, Page
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, PointId, VectorMap

_IDS_A_PAGE = 10_000
_IDS_A_FILTER = 1000


@dataclass(frozen=True)
class ProjectedRows:
    """What a projection makes of an array of stored vectors.

    Parameters
    ----------
    rows : ndarray of shape (m,)
        The rows that can be projected.
    Z : ndarray of shape (m, dim_out)
        float32.
    refused : dict of int to str
        Why each other row cannot.
    missing : list of int
        Those among them without any number: the vector is absent, or nothing but NaN.
    """

    rows: NDArray[np.intp]
    Z: Floats
    refused: dict[int, str]
    missing: list[int]


def project_rows(projection: VectorMap, X: Floats, name: str) -> ProjectedRows:
    """Project the rows of `X` (n, dim_in), the vectors called `name`, that can be projected."""
    is_missing = np.isnan(X).all(axis=1)
    is_finite = np.isfinite(X).all(axis=1)
    is_zero = is_finite & ~X.any(axis=1)
    rows = np.flatnonzero(is_finite & ~is_zero)
    Z = projection.apply(X[rows]) if len(rows) else np.empty((0, projection.dim_out), np.float32)
    lives = Z.any(axis=1)
    refused = {
        **dict.fromkeys(np.flatnonzero(is_missing).tolist(), f"it has no vector {name!r}"),
        **dict.fromkeys(np.flatnonzero(is_zero).tolist(), f"its vector {name!r} is zero"),
        **dict.fromkeys(
            np.flatnonzero(~is_finite & ~is_missing).tolist(), f"its vector {name!r} is not finite"
        ),
        **dict.fromkeys(rows[~lives].tolist(), f"the projection of its {name!r} is zero"),
    }
    missing = np.flatnonzero(is_missing).tolist()
    return ProjectedRows(rows[lives], Z[lives], refused, missing)


def paced(pages: Iterable[Page], throttle: float | None) -> Iterator[Page]:
    """Yield pages, at most `throttle` points a second, whatever is done with them meanwhile."""
    for page in pages:
        started = time.monotonic()
        yield page
        if throttle:
            time.sleep(max(0.0, len(page.ids) / throttle - (time.monotonic() - started)))


def sample_ids(
    collection: ImageCollection, n: int, seed: int, where: Filter | None = None
) -> list[PointId]:
    """Return `n` ids of (matching) points, or all if there are fewer; same seed, same sample."""
    total = collection.count(where)
    chosen = np.random.default_rng(seed).choice(total, size=min(n, total), replace=False)
    chosen.sort()
    found: list[PointId] = []
    start = 0
    for page in collection.scroll(where=where, batch_size=_IDS_A_PAGE):
        end = start + len(page.ids)
        low, high = np.searchsorted(chosen, [start, end])
        found += [page.ids[row - start] for row in chosen[low:high]]
        if high == len(chosen):
            break
        start = end
    return found


def with_ids(ids: Sequence[PointId]) -> list[Filter]:
    """Return filters for some points, so many ids each as a request may well carry."""
    return [
        Filter(ids=ids[start : start + _IDS_A_FILTER])
        for start in range(0, len(ids), _IDS_A_FILTER)
    ]


def told(n: int) -> str:
    """Return a number of points as a person reads it.

    Examples
    --------
    >>> told(1), told(1200)
    ('1 point', '1,200 points')
    """
    return f"{n:,} point" if n == 1 else f"{n:,} points"


def absent_ids(collection: ImageCollection, ids: list[PointId]) -> list[PointId]:
    """Return those of `ids` that the collection does not hold."""
    there = set(collection.store.retrieve(collection.name, ids).ids)
    return [point for point in ids if point not in there]
