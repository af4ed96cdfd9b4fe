"""The nearest pictures under several vectors, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intramodal.errors import InputError, ManifestMismatchError
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.projection.projection import Projection
from intramodal.reports.pages import SIDE, Found, SearchPage, render_search
from intramodal.reports.report import Picture
from intramodal.reports.thumbnails import data_uri, thumbnail
from intramodal.runs.run import Run
from intramodal.store.base import Hits
from intramodal.store.collection import ImageCollection
from intramodal.types import Floats, PointId, encoders_agree
from intramodal.workflows.evidence import log_origin, stated
from intramodal.workflows.workspace import reach_store, recorded_if_possible

Embedded = dict[str, tuple[tuple[str, str], Floats]]
"""By model: its identity, and the query (1, dim) as it sees it; a model is loaded once."""


@dataclass(frozen=True)
class SearchRequest:
    """What to search with; the options of ``intramodal search``."""

    collection: str
    store: str
    runs: str
    vectors: list[str]
    image: Path | None = None
    text: str | None = None
    point: str | None = None
    projection: Path | None = None
    model: str | None = None
    k: int = 10
    exact: bool = False
    html: Path | None = None
    pictures: Path | None = None
    device: str | None = None
    precision: str | None = None


def search_collection(request: SearchRequest) -> dict[str, Any]:
    """Return the k nearest points under each vector, with their paths and labels.

    With `html`, also write them as a page of pictures.
    """
    with reach_store(request.store) as store:
        collection = ImageCollection.open(store, request.collection)
        with recorded_if_possible(request.runs, "search", stated(request)) as run:
            return {**_found(collection, request, run), "run_id": run.id}


def _found(collection: ImageCollection, request: SearchRequest, run: Run) -> dict[str, Any]:
    embedded: Embedded = {}
    answers = {
        vector: describe(collection, _hits(collection, request, vector, embedded))
        for vector in request.vectors
    }
    for vector, hits in answers.items():
        if vector in collection.manifest.vectors:
            log_origin(run, vector, collection.origin(vector))
        best = hits[0]["score"] if hits else None
        run.log_metric("best score", best, vector=vector, n=len(hits))
    result = {"collection": request.collection, "vectors": answers}
    if request.html is None:
        return result
    return {**result, **_write_page(request, _asked(collection, request), answers)}


def _write_page(
    request: SearchRequest, query: Picture, answers: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Write the page of pictures; say where it is and how many pictures it could show."""
    path = Path(str(request.html))
    rankings = {vector: found(request.pictures, hits) for vector, hits in answers.items()}
    kind = "id" if request.point is not None else "text" if request.text is not None else "image"
    render_search(SearchPage(request.collection, query, kind, request.exact, rankings), path)
    n_shown = sum(bool(hit.picture.image) for hits in rankings.values() for hit in hits)
    return {"html": str(path), "n_pictures": n_shown}


def _asked(collection: ImageCollection, request: SearchRequest) -> Picture:
    """Return the query as a picture with a caption."""
    if request.text is not None:
        return Picture("", request.text)
    if request.image is not None:
        return Picture("", request.image.name, data_uri(request.image.read_bytes(), side=SIDE))
    page = collection.store.retrieve(collection.name, [_point(request)], payload=True)
    return picture(request.pictures, page.ids[0], page.payloads[0])


def picture(folder: Path | None, point: PointId, payload: Mapping[str, Any]) -> Picture:
    """Return a stored picture with its caption; its paths are relative to `folder`."""
    path, label = payload.get("path"), payload.get("label")
    caption = " · ".join(str(part) for part in (label, path or point) if part is not None)
    return Picture(str(point), caption, thumbnail(folder or Path(), path, side=SIDE))


def found(folder: Path | None, answers: Sequence[Mapping[str, Any]]) -> list[Found]:
    """Return answers of `describe` with their pictures."""
    return [Found(picture(folder, hit["id"], hit["payload"]), hit["score"]) for hit in answers]


def _point(request: SearchRequest) -> PointId:
    point = str(request.point)
    return int(point) if point.isdecimal() else point


def _hits(
    collection: ImageCollection, request: SearchRequest, vector: str, embedded: Embedded
) -> Hits:
    if request.point is not None:
        point = _point(request)
        return collection.neighbours([point], using=vector, k=request.k, exact=request.exact)
    query = _query(collection, request, vector, embedded)
    return collection.search(query, using=vector, k=request.k, exact=request.exact)


def _query(
    collection: ImageCollection, request: SearchRequest, vector: str, embedded: Embedded
) -> Floats:
    origin = collection.origin(vector)
    if request.text is not None and origin.projection:
        raise InputError(
            f"texts are compared with images on the encoder's own vector, and {vector!r} is "
            f"projected; search with --vectors raw"
        )
    name = request.model or origin.encoder
    if name not in embedded:
        embedded[name] = _embed(request, name)
    made_by, query = embedded[name]
    if not encoders_agree(made_by, (origin.encoder, origin.encoder_fingerprint)):
        raise ManifestMismatchError(
            f"{vector!r} was made by {origin}, not by {made_by[0]} ({made_by[1][:12]}); search "
            f"with the model that made it"
        )
    return _projected(query, request.projection, origin.projection) if origin.projection else query


def _embed(request: SearchRequest, model: str) -> tuple[tuple[str, str], Floats]:
    """Return the identity of a model and the query as it sees it."""
    encoder = load_encoder(model, device=request.device, precision=request.precision)
    if request.text is not None:
        query = encoder.encode_texts([request.text])
    else:
        query = encoder.encode_images([request.image])
    return (encoder.name, encoder.fingerprint), query


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
