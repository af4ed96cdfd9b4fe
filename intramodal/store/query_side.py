"""A projection of the query alone: the stored vectors stay as the encoder made them.

For owners who may not write, and to try a projection before it is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intramodal.errors import InputError
from intramodal.projection.projection import Projection
from intramodal.store.base import Filter, Hits
from intramodal.store.checks import require_vectors
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.origins import check_may_take
from intramodal.store.queries import Answer, id_order
from intramodal.types import Floats, PointId, unit_rows

_RANKED_BY = ("Cosine", "Dot")


@dataclass(frozen=True, eq=False)
class QuerySide:
    """A search of stored vectors with projected queries.

    Parameters
    ----------
    projection : Projection
    vector : str
        The encoder's own, stored vector.
    rerank : int, optional
        So many first results are fetched with their vectors and put in the order of their
        projected cosines.
    """

    projection: Projection
    vector: str
    rerank: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no matrix product, and to rerank nothing."""
        if not isinstance(self.projection, Projection):
            raise InputError(
                f"{self.projection!r} is no matrix product, so that posterior codes have no query "
                f"side; store them with a backfill, or take a projection or a label map"
            )
        if self.rerank is not None and self.rerank < 1:
            raise InputError(f"rerank is a number of results from 1, got {self.rerank}")

    @classmethod
    def of(
        cls, projection: Projection | None, vectors: Sequence[str], rerank: int | None
    ) -> QuerySide | None:
        """Return the query side of the first of some vectors; None without a projection."""
        if projection is None:
            if rerank is not None:
                raise InputError(
                    "rerank puts the first results of a query side in order; give its projection "
                    "as query_side"
                )
            return None
        return cls(projection, vectors[0], rerank)

    @property
    def name(self) -> str:
        """What it is called beside stored vectors: ``pca@query``, reranked ``pca@query:100``."""
        return f"{self.projection.default_vector}@query" + (
            f":{self.rerank}" if self.rerank else ""
        )

    def check(self, collection: ImageCollection) -> None:
        """Raise unless the collection can be searched so; warn where nobody declared the model.

        Raises
        ------
        NotFound
            If there is no such vector.
        InputError
            If it has another length, is projected already, or is not compared by cosine or dot
            product.
        ManifestMismatchError
            If the projection was fitted for another model.
        """
        spec = collection.vector_spec(self.vector)
        require_vectors({self.vector: spec}, [self.vector])
        if spec.distance not in _RANKED_BY:
            raise InputError(
                f"{self.vector!r} of {collection.name!r} is compared by {spec.distance}, which "
                f"counts what the projection drops of the stored vectors, too: a projected query "
                f"ranks by something else there; store the projected vectors with a backfill, or "
                f"search a vector compared by Cosine or Dot"
            )
        self.check_length(spec.size)
        known = collection.manifest.vectors.get(self.vector)
        if known is not None and known.projection:
            raise InputError(
                f"{self.vector!r} of {collection.name!r} is projected already; search it as it "
                f"is, or give the encoder's own vector, {known.source!r}"
            )
        check_may_take(self.projection, collection, self.vector)

    def check_length(self, size: int) -> None:
        """Raise `InputError` unless the stored vectors have the length that is projected."""
        if size != self.projection.dim_in:
            raise InputError(
                f"{self.vector!r} has {size} dimensions, the projection takes "
                f"{self.projection.dim_in}; fit one for this model"
            )

    def origin(self, collection: ImageCollection) -> VectorOrigin:
        """Return who made the stored vectors: as declared, else as the projection says."""
        made_by = VectorOrigin(self.projection.encoder, self.projection.encoder_fingerprint)
        return collection.manifest.vectors.get(self.vector, made_by)

    def n_fetched(self, k: int) -> int:
        """Return how many results the store is asked for, to give k."""
        return max(k, self.rerank or 0)

    def neighbours(
        self,
        collection: ImageCollection,
        ids: Sequence[PointId],
        *,
        k: int = 10,
        exact: bool = True,
        where: Filter | None = None,
    ) -> Hits:
        """Return the k nearest points of stored points; none ever finds itself."""
        X = collection.stored(ids, self.vector)
        return self.search(collection, X, k=k, exact=exact, exclude=ids, where=where)

    def search(
        self,
        collection: ImageCollection,
        X: Floats,
        *,
        k: int = 10,
        exact: bool = False,
        exclude: Sequence[PointId | None] | None = None,
        where: Filter | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Hits:
        """Return the k nearest points of rows of `X` (n, dim_in), the encoder's vectors.

        Reranked results score their projected cosine, those after them what the store says.
        """
        found = collection.store.query_batch(
            collection.name,
            self.projection.query(X),
            using=self.vector,
            k=self.n_fetched(k),
            exact=exact,
            exclude=exclude,
            where=collection.sendable(where),
            params=params,
        )
        n = self.rerank
        if n is None:
            return found
        ranked = self.reranked(collection, X, [ids[:n] for ids in found.ids])
        both = list(zip(ranked, found.ids, found.scores, strict=True))
        return Hits(
            [[*first, *ids[n:]][:k] for (first, _), ids, _ in both],
            [np.concatenate([cosines, scores[n:]])[:k] for (_, cosines), _, scores in both],
        )

    def reranked(
        self, collection: ImageCollection, X: Floats, first: Sequence[Sequence[PointId]]
    ) -> list[Answer]:
        """Return the first results to each row of `X` (n, dim_in) by (projected cosine, id).

        Their vectors are fetched; points that were deleted meanwhile are left out.
        """
        wanted = {str(point): point for points in first for point in points}
        at: dict[str, int] = {}
        rows = [np.empty((0, self.projection.dim_out), dtype=np.float32)]
        for page in collection.retrieve(list(wanted.values()), vectors=[self.vector]):
            Y = page.vectors[self.vector]
            there = np.flatnonzero(np.isfinite(Y).all(axis=1))
            at |= {str(page.ids[row]): len(at) + place for place, row in enumerate(there)}
            rows.append(unit_rows(self.projection.apply(Y[there])))
        Z, queries = np.concatenate(rows), unit_rows(self.projection.apply(X))
        found = []
        for points, query in zip(first, queries, strict=True):
            kept = [point for point in points if str(point) in at]
            found.append(_ordered(kept, Z[[at[str(point)] for point in kept]] @ query))
        return found


def _ordered(points: list[PointId], cosines: Floats) -> Answer:
    """Return points and their cosines (n,), the nearest first, equal ones by their ids."""
    order = sorted(range(len(points)), key=lambda i: (-float(cosines[i]), id_order(points[i])))
    return [points[i] for i in order], cosines[order]
