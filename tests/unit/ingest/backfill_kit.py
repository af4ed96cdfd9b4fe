"""Collections whose vectors are known, and what their projections must be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from intramodal.fit_rows import FitRows
from intramodal.projection.fit import LabelledRows
from intramodal.projection.projection import Projection
from intramodal.store.base import Store, VectorSpec
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import Floats, PointId, unit_rows

N, D = 60, 16
ORIGIN = VectorOrigin("test", "ab")
MATRIX = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D // 2)))[0]
PROJECTION = Projection(MATRIX, "pca", "test", "ab")


class Meddling(Projection):
    """Does something to the collection each time it has read a page."""

    def __init__(self, meddle: Any) -> None:
        super().__init__(MATRIX, "pca", "test", "ab")
        object.__setattr__(self, "meddle", meddle)

    def apply(self, X: np.ndarray) -> np.ndarray:
        self.meddle()  # type: ignore[attr-defined]
        return super().apply(X)


def rows(ids: Iterable[int], *, salt: int = 0) -> Floats:
    """Return the raw vectors of points, by their ids; another salt makes them others."""
    made = [np.random.default_rng([salt, i]).normal(size=D) for i in ids]
    return unit_rows(np.array(made).reshape(-1, D))


LABELLED = LabelledRows(
    rows(range(200, 260)), [f"l{i % 3}" for i in range(60)], "label", FitRows(share=0.5),
    ("test", "ab"),
)  # fmt: skip
"""What maps from labels are fitted to."""


def payloads(ids: Iterable[int]) -> list[dict[str, Any]]:
    """Return payload with every kind of value."""
    return [
        {"label": f"l{i % 3}", "n": i, "deep": {"list": [i, None, "ü"], "is_even": i % 2 == 0}}
        for i in ids
    ]


def write(collection: ImageCollection, ids: range, *, salt: int = 0) -> None:
    """Write whole points with their raw vector alone, as a writer that knows no other does."""
    collection.write(list(ids), {"raw": rows(ids, salt=salt)}, payloads(ids))


def photos_in(store: Store, name: str = "photos", n: int = N) -> ImageCollection:
    """Make a collection of `n` points with `raw`."""
    collection = ImageCollection.create(store, name, {"raw": (D, ORIGIN)})
    write(collection, range(n))
    return collection


def shop_in(store: Store, vectors: dict[str, VectorSpec], name: str = "shop") -> ImageCollection:
    """Make a foreign, empty collection."""
    store.create(name, vectors)
    return ImageCollection.open(store, name)


def contents(
    collection: ImageCollection, vectors: Iterable[str] = ("raw",)
) -> dict[PointId, tuple[dict[str, Any], dict[str, bytes]]]:
    """Return payload and bytes of the vectors of every point."""
    found = {}
    for page in collection.scroll(vectors=list(vectors), payload=True):
        for row, point in enumerate(page.ids):
            assert point not in found
            stored = {vector: X[row].tobytes() for vector, X in page.vectors.items()}
            found[point] = (page.payloads[row], stored)
    return found


def assert_projected(
    collection: ImageCollection, *, source: str = "raw", vector: str = "pca", lacking: int = 0
) -> None:
    """Check each stored projection by the formula, in float64."""
    table = collection.table([source, vector])
    assert table.n_incomplete == lacking
    Z = table.vectors[source].astype(np.float64) @ MATRIX
    expected = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    # float32 dot products over 16 terms, stored normalised
    np.testing.assert_allclose(table.vectors[vector], expected, atol=1e-6)
