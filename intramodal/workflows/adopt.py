"""A foreign collection's vector declared as a model's, once what can be checked agrees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intramodal.errors import ImageError, InputError, ManifestMismatchError
from intramodal.ingest.encoders.names import KNOWN_MODELS
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.projection.projection import Projection
from intramodal.runs.run import Run
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.store.model_check import warn_of_wrong_model
from intramodal.types import Encoder, Floats, PointId, declared_fingerprint, unit_rows
from intramodal.workflows.evidence import log_origin, stated
from intramodal.workflows.workspace import open_workspace, recorded

N_ENCODED = 16
LEAST_COSINE = 0.98
"""Half precision, another decoder and JPEG's draft mode stay above it; other models are far."""

_N_LOOKED_AT = 1000


@dataclass(frozen=True)
class AdoptRequest:
    """What to declare; the options of ``intramodal adopt``."""

    collection: str
    made_by: str
    store: str
    runs: str
    vector: str = "raw"
    pictures: Path | None = None
    projection: Path | None = None
    device: str | None = None
    precision: str | None = None


def adopt_collection(request: AdoptRequest) -> dict[str, Any]:
    """Check the dimension and, where they are at hand, pictures and texts; then declare.

    Raises
    ------
    ManifestMismatchError
        If something does not agree; nothing is declared then.
    """
    projection = Projection.load(request.projection) if request.projection else None
    with open_workspace(request.store, request.runs) as workspace:
        collection = ImageCollection.open(workspace.store, request.collection)
        with recorded(workspace, "adopt", stated(request)) as run:
            return {**_adopted(collection, request, projection, run), "run_id": run.id}


def _adopted(
    collection: ImageCollection, request: AdoptRequest, projection: Projection | None, run: Run
) -> dict[str, Any]:
    size = collection.vector_spec(request.vector).size
    _check_dimension(request.made_by, request.vector, size)
    pictures = _check_pictures(collection, request) if request.pictures else None
    declare_model(collection, request.vector, request.made_by)
    log_origin(run, request.vector, collection.origin(request.vector))
    if pictures:
        for name in ("lowest", "median"):
            cosine = pictures[name]
            run.log_metric(f"{name} cosine", cosine, vector=request.vector, n=pictures["n"])
    texts = projection and warn_of_wrong_model(collection, projection, request.vector)
    return {
        "collection": request.collection,
        "vector": request.vector,
        "size": size,
        "made_by": request.made_by,
        "pictures": pictures,
        "model_check": texts.to_dict() if texts else None,
    }


def declare_model(collection: ImageCollection, vector: str, made_by: str) -> None:
    """Record which model made a vector, unless the manifest already agrees."""
    origin = declared(made_by)
    known = collection.manifest.vectors.get(vector)
    if known is None or not known.agrees_with(origin):
        collection.declare(vector, origin)


def declared(made_by: str) -> VectorOrigin:
    """Return the origin of vectors that their owner says a model made."""
    return VectorOrigin(made_by, declared_fingerprint(made_by))


def _check_dimension(made_by: str, vector: str, size: int) -> None:
    for model in KNOWN_MODELS:
        if model.name == made_by and model.dim != size:
            raise ManifestMismatchError(
                f"{made_by} makes vectors of {model.dim} dimensions, and {vector!r} has {size}; "
                f"give the model that made them (intramodal models list)"
            )


def _check_pictures(collection: ImageCollection, request: AdoptRequest) -> dict[str, Any]:
    """Encode some stored pictures again, and compare with what is stored."""
    points, images = _reachable(collection, Path(str(request.pictures)))
    encoder = load_encoder(request.made_by, device=request.device, precision=request.precision)
    stored = collection.store.retrieve(collection.name, points, vectors=[request.vector]).vectors[
        request.vector
    ]
    cosines = _cosines(encoder, images, stored)
    found = {"n": len(points), "lowest": float(cosines.min()), "median": float(np.median(cosines))}
    if found["median"] < LEAST_COSINE:
        raise ManifestMismatchError(
            f"{len(points)} pictures encoded by {request.made_by} have a median cosine of "
            f"{found['median']:.3f} to their stored {request.vector!r}, and at least "
            f"{LEAST_COSINE} is expected of the same model; give the model that made the vectors"
        )
    return found


def _reachable(collection: ImageCollection, folder: Path) -> tuple[list[PointId], list[bytes]]:
    """Return points whose payload's `path` is a picture below the folder, and these pictures."""
    points: list[PointId] = []
    images: list[bytes] = []
    page = next(iter(collection.scroll(payload=["path"], batch_size=_N_LOOKED_AT)))
    for point, payload in zip(page.ids, page.payloads, strict=True):
        path = (folder / str(payload.get("path"))).resolve()
        if path.is_relative_to(folder.resolve()) and path.is_file() and len(points) < N_ENCODED:
            points.append(point)
            images.append(path.read_bytes())
    if not points:
        raise InputError(
            f"no point of {collection.name!r} has a `path` that is a file below {folder}; give "
            f"the folder that the paths are relative to, or leave --pictures out"
        )
    return points, images


def _cosines(encoder: Encoder, images: list[bytes], stored: Floats) -> Floats:
    try:
        fresh = unit_rows(encoder.encode_images(images))
    except ImageError as error:
        raise InputError(
            f"a picture of the sample cannot be read ({error}); mend it, or leave --pictures out"
        ) from error
    if fresh.shape != stored.shape:
        raise ManifestMismatchError(
            f"{encoder.name} makes vectors of {fresh.shape[1]} dimensions, and the stored ones "
            f"have {stored.shape[1]}; give the model that made them"
        )
    return np.asarray((fresh * unit_rows(stored)).sum(axis=1))
