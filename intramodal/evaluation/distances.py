"""What a collection ranks by where that is not the cosine, and the mAP of that ranking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.ranking import Relevance, Reranking, Ties, on_device, rank
from intramodal.store.collection import ImageCollection
from intramodal.types import Distance, Floats, VectorTable

_EQUAL_LENGTHS = 1e-3
"""Relative: unit vectors in half precision differ by less."""


@dataclass(frozen=True)
class DistanceFigure:
    """The mAP of the exact ranking by a collection's own distance; None for Manhattan."""

    distance: Distance
    map: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def other_distances(
    source: ImageCollection | VectorTable, table: VectorTable, vectors: Iterable[str]
) -> dict[str, Distance]:
    """Return, of the vectors that a collection does not rank as the cosine does, the distance.

    Dot and Euclid rank vectors of one length as the cosine does. Nothing ranks a table.
    """
    if isinstance(source, VectorTable):
        return {}
    specs = source.vectors
    # Codes whose map means them to be compared by their inner product are.
    meant = {vector: one.distance for vector, one in table.fitted.items()}
    distances = {
        vector: specs[vector].distance
        for vector in dict.fromkeys(vectors)
        if meant.get(vector, "Cosine") == "Cosine"
    }
    return {v: d for v, d in distances.items() if _ranks_otherwise(d, table.vectors[v])}


def _ranks_otherwise(distance: Distance, X: Floats) -> bool:
    """Return whether a distance may rank vectors (n, d) otherwise than the cosine."""
    if distance in ("Cosine", "Manhattan"):
        return distance == "Manhattan"
    lengths = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64))
    lengths = lengths[np.isfinite(lengths)]
    return bool(len(lengths) and np.ptp(lengths) > _EQUAL_LENGTHS * lengths.max())


def distance_note(
    distances: Mapping[str, Distance], *, baseline: str = "Figures here are", has_map: bool = True
) -> str | None:
    """Return what a reader must know of figures by cosine; None where nothing ranks otherwise."""
    if not distances:
        return None
    kinds = list(dict.fromkeys(distances.values()))
    names = {kind: [repr(name) for name in distances if distances[name] == kind] for kind in kinds}
    ranked = " and ".join(f"{' and '.join(names[kind])} by {kind}" for kind in kinds)
    note = f"{baseline} by cosine, but searches rank {ranked}"
    if kinds == ["Manhattan"]:
        return f"{note}."
    own = " The mAP as the store ranks is given, too." if has_map else ""
    return f"{note}, and vectors differ in length.{own}"


def figure_by_distance(
    Q: Floats,
    G: Floats,
    relevance: Relevance,
    distance: Distance,
    *,
    ties: Ties = "expected",
    device: str | None = None,
    reranking: Reranking | None = None,
) -> DistanceFigure:
    """Return the mAP of queries (n_queries, d) in a gallery (n_gallery, d), both as stored."""
    if distance == "Manhattan":
        return DistanceFigure(distance, None)
    Q, G = (on_device(X, device) for X in as_products(Q, G, distance))
    ranking = rank(Q, G, relevance, ks=(), ties=ties, reranking=reranking)
    return DistanceFigure(distance, float(ranking.ap.mean()))


def as_products(Q: Floats, G: Floats, distance: Distance) -> tuple[Floats, Floats]:
    """Return arrays whose dot products rank as a distance ranks `Q` and `G`, (n, d) and (m, d).

    Cosine takes unit rows. Raises `InputError` for Manhattan, which no product gives.
    """
    if distance == "Manhattan":
        raise InputError(
            "no dot product ranks by Manhattan; choose Cosine, Dot or Euclid, or search the store"
        )
    if distance != "Euclid":
        return Q, G
    # |q - g|^2 = |q|^2 - 2 (q g - |g|^2 / 2), and |q|^2 is the same for all of a query's gallery.
    # Around the mean, so that float32 keeps small distances between vectors far from the origin.
    mean = G.mean(axis=0, dtype=np.float64).astype(np.float32)
    Q, G = Q - mean, G - mean
    halves = np.einsum("ij,ij->i", G, G, dtype=np.float64) / -2
    return _with_column(Q, np.ones(len(Q))), _with_column(G, halves)


def _with_column(X: Floats, column: NDArray[np.float64]) -> Floats:
    """Return `X` (n, d) with one more column (n,)."""
    return np.hstack([X, column[:, None].astype(np.float32)])
