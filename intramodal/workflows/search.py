"""The nearest pictures under several vectors, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intramodal.errors import InputError
from intramodal.ingest.encoders import load_encoder
from intramodal.projection.artifact import Projection
from intramodal.store.base import Hits
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats
from intramodal.workflows.workspace import reach_store


@dataclass(frozen=True)
class SearchRequest:
    """What to search with; the options of ``intramodal search``."""

    collection: str
    store: str
    vectors: list[str]
    image: Path | None = None
    text: str | None = None
    point: str | None = None
    projection: Path | None = None
    model: str | None = None
    k: int = 10
    exact: bool = False
    device: str | None = None
    precision: str | None = None


def search_collection(request: SearchRequest) -> dict[str, Any]:
    """Return the k nearest points under each vector, with their paths and labels."""
    with reach_store(request.store) as store:
        collection = ImageCollection.open(store, request.collection)
        answers = {}
        for vector in request.vectors:
            hits = _hits(collection, request, vector)
            answers[vector] = _described(collection, hits)
    return {"collection": request.collection, "vectors": answers}


def _hits(collection: ImageCollection, request: SearchRequest, vector: str) -> Hits:
    if request.point is not None:
        point = int(request.point) if request.point.isdecimal() else request.point
        return collection.neighbours([point], using=vector, k=request.k, exact=request.exact)
    query = _query(collection, request, vector)
    return collection.search(query, using=vector, k=request.k, exact=request.exact)


def _query(collection: ImageCollection, request: SearchRequest, vector: str) -> Floats:
    origin = collection.origin(vector)
    encoder = load_encoder(
        request.model or origin.encoder, device=request.device, precision=request.precision
    )
    if request.text is not None:
        if origin.projection:
            raise InputError(
                f"texts are compared with images on the encoder's own vector, and {vector!r} is "
                f"projected; search with --vectors raw"
            )
        return encoder.encode_texts([request.text])
    query = encoder.encode_images([request.image])
    return _projected(query, request.projection, origin.projection) if origin.projection else query


def _projected(query: Floats, path: Path | None, wanted: str) -> Floats:
    if path is None:
        raise InputError("searching a projected vector with a picture needs --projection FILE")
    projection = Projection.load(path)
    if projection.fingerprint != wanted:
        raise InputError(
            f"{path} is projection {projection.fingerprint[:12]}, the vector was made by "
            f"{wanted[:12]}; give the file it was made with"
        )
    return projection.apply(np.asarray(query))


def _described(collection: ImageCollection, hits: Hits) -> list[dict[str, Any]]:
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
