"""The nearest images under several vectors, side by side."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from intramodal.errors import InputError, ManifestMismatchError
from intramodal.projection.projection import Projection
from intramodal.projection.stored_map import StoredMap
from intramodal.store.base import Hits
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import searched_vectors
from intramodal.store.manifest import VectorOrigin, incomplete
from intramodal.store.origins import check_made, projected_origin, require_maker
from intramodal.store.query_side import QuerySide
from intramodal.types import Encoder, Floats, PointId, encoders_agree, short_repr

log = logging.getLogger(__name__)

LoadEncoder = Callable[[str], Encoder]


@short_repr
@dataclass(frozen=True)
class SearchResults:
    """The answers to one query.

    Parameters
    ----------
    collection : str
    vectors : dict of str to list of dict
        By vector the answers, best first: "id", "score", "path", "payload".
    origins : dict of str to VectorOrigin
        Who made the vectors, as far as it is declared.
    """

    collection: str
    vectors: Mapping[str, list[dict[str, Any]]]
    origins: Mapping[str, VectorOrigin] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"collection": self.collection, "vectors": dict(self.vectors)}

    def record(self, run: Any) -> None:
        """Write who made the vectors, and the best score of each, to a run."""
        for vector, hits in self.vectors.items():
            if vector in self.origins:
                run.log_origin(vector, self.origins[vector])
            best = hits[0]["score"] if hits else None
            run.log_metric("best score", best, vector=vector, n=len(hits))


def search(  # noqa: PLR0913  a job has as many knobs as it has
    collection: ImageCollection,
    *,
    image: Path | None = None,
    text: str | None = None,
    point: PointId | None = None,
    vectors: Sequence[str] | None = None,
    encoder: Encoder | LoadEncoder | None = None,
    projection: StoredMap | None = None,
    query_side: Projection | None = None,
    rerank: int | None = None,
    k: int = 10,
    exact: bool = False,
) -> SearchResults:
    """Return the k nearest points under each vector, with their paths and labels.

    Parameters
    ----------
    collection : ImageCollection
    image, text, point : Path, str, and str or int, optional
        One of them: a picture file, a text (on vectors that are not projected), or the id of a
        stored point, which never finds itself.
    vectors : sequence of str, optional
        By default the encoder's own and its projection, as the manifest says; the encoder's own
        alone for a text, for an image without `projection`, and beside a `query_side`.
    encoder : Encoder or callable, optional
        For an image or a text: the model that made the vectors, or a function that loads the one
        of the name that the manifest says, such as `load_encoder`.
    projection : Projection or PosteriorMap, optional
        For an image on a projected vector: the one that made it.
    query_side : Projection, optional
        Also searches the first of `vectors` with the projected query (`Projection.query`), as one
        more vector, ``pca@query``: nothing is written. Not for a text.
    rerank : int, optional
        Fetches so many first results of the query side with their vectors and puts them in the
        order of their projected cosines, which are their scores then: ``pca@query:100``.
    k : int
        Answers.
    exact : bool
        Whether every point is compared, instead of asking the index.

    Raises
    ------
    NotFound
        If there is no such vector or point.
    InputError
        For a text on a projected vector or a query side, or a projection that is missing.
    ManifestMismatchError
        If the encoder is not the one that made the vector, the projection made none of them, or
        the query side was fitted for another model.
    """
    query = Query(image, text, encoder, projection)
    is_on_own = text is not None or query_side is not None
    is_on_own = is_on_own or (image is not None and projection is None)
    vectors = searched_vectors(collection, vectors, own_only=is_on_own)
    side = _query_side(collection, QuerySide.of(query_side, vectors, rerank), text)
    for vector in vectors:
        collection.vector_spec(vector)  # one that is not there was made by no model, either
    if projection is not None:
        require_maker(projection, collection, vectors)
    answers = {}
    for vector in vectors:
        if point is not None:
            hits = collection.neighbours([point], using=vector, k=k, exact=exact)
        else:
            X = query.under(vector, _origin(collection, vector, side))
            hits = collection.search(X, using=vector, k=k, exact=exact)
        answers[vector] = describe(collection, hits)
    if side is not None:
        if point is not None:
            hits = side.neighbours(collection, [point], k=k, exact=exact)
        else:
            X = query.under(side.vector, side.origin(collection))
            hits = side.search(collection, X, k=k, exact=exact)
        answers[side.name] = describe(collection, hits)
    known = _origins(collection, vectors, side)
    for vector in (vector for vector, origin in known.items() if not origin.is_complete):
        log.warning("%s", incomplete(collection.name, vector))
    return SearchResults(collection.name, answers, known)


def _origins(
    collection: ImageCollection, vectors: Sequence[str], side: QuerySide | None
) -> dict[str, VectorOrigin]:
    """Return who made vectors, as far as it is declared, and what a query side is made of."""
    origins = collection.manifest.vectors
    known = {vector: origins[vector] for vector in vectors if vector in origins}
    if side is not None:
        made_by = side.origin(collection)
        known[side.name] = projected_origin(side.projection, made_by, side.vector)
    return known


def _query_side(
    collection: ImageCollection, side: QuerySide | None, text: str | None
) -> QuerySide | None:
    """Return the query side, checked."""
    if side is not None:
        if text is not None:
            raise InputError(
                "texts are compared with images on the encoder's own vector, so there is no query "
                "side for them; search by an image or a stored point"
            )
        side.check(collection)
    return side


def _origin(collection: ImageCollection, vector: str, side: QuerySide | None) -> VectorOrigin:
    """Return who made a vector; where nobody declared it, what its query side says."""
    if side is not None and vector == side.vector:
        return side.origin(collection)
    return collection.origin(vector)


class Query:
    """An image or a text as each vector sees it; a model embeds it once."""

    def __init__(
        self,
        image: Path | None,
        text: str | None,
        encoder: Encoder | LoadEncoder | None,
        projection: StoredMap | None,
    ) -> None:
        self._image, self._text = image, text
        self._encoder, self._projection = encoder, projection
        self._embedded: dict[str, tuple[tuple[str, str], Floats]] = {}

    def under(self, vector: str, origin: VectorOrigin) -> Floats:
        """Return the query (1, d) in the space of a vector."""
        if self._text is not None and origin.labels:
            raise InputError(
                f"{vector!r} was fitted to labels of images ({origin.labels}), so it takes no "
                f"texts; search by {origin.source!r}"
            )
        if self._text is not None and origin.projection:
            raise InputError(
                f"texts are compared with images on the encoder's own vector, and {vector!r} is "
                f"projected; search by {origin.source!r}"
            )
        made_by, X = self._embed(origin.encoder)
        if not encoders_agree(made_by, (origin.encoder, origin.encoder_fingerprint)):
            raise ManifestMismatchError(
                f"{vector!r} was made by {origin}, not by {made_by[0]} ({made_by[1][:12]}); "
                f"search with the model that made it"
            )
        if not origin.projection:
            return X
        if self._projection is None:
            raise InputError("searching a projected vector with an image needs its `projection`")
        check_made(self._projection, vector, origin)
        return self._projection.apply(np.asarray(X))

    def _embed(self, model: str) -> tuple[tuple[str, str], Floats]:
        """Return the identity of a model and the query as it sees it."""
        if self._encoder is None:
            raise InputError("an image or a text needs the encoder that made the vectors")
        key = self._encoder.name if isinstance(self._encoder, Encoder) else model
        if key not in self._embedded:
            loaded = self._encoder
            encoder = loaded if isinstance(loaded, Encoder) else loaded(model)
            if self._text is not None:
                X = encoder.encode_texts([self._text])
            else:
                X = encoder.encode_images([self._image])
            self._embedded[key] = ((encoder.name, encoder.fingerprint), X)
        return self._embedded[key]


def describe(collection: ImageCollection, hits: Hits) -> list[dict[str, Any]]:
    """Return the answers to the first query, with their paths and payloads."""
    ids, scores = hits.ids[0], hits.scores[0]
    page = collection.store.retrieve(collection.name, ids, payload=True)
    payloads = {str(i): payload for i, payload in zip(page.ids, page.payloads, strict=True)}
    return [
        {
            "id": i,
            "score": float(score),
            "path": payloads[str(i)].get("path"),
            "payload": payloads[str(i)],
        }
        for i, score in zip(ids, scores, strict=True)
    ]
