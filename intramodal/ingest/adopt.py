"""A foreign collection's vector declared as a model's, once what can be checked agrees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intramodal.errors import ImageError, InputError, ManifestMismatchError
from intramodal.model_names import check_dimension, warn_of_custom_name
from intramodal.projection.stored_map import StoredMap
from intramodal.runs.run import Run
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import own_vector
from intramodal.store.manifest import VectorOrigin
from intramodal.store.model_check import ModelCheck, warn_of_wrong_model
from intramodal.store.own_name import writes_under_own_name
from intramodal.types import Encoder, Floats, PointId, declared_fingerprint, short_repr, unit_rows

N_ENCODED = 16
LEAST_COSINE = 0.98
"""Half precision, another decoder and JPEG's draft mode stay above it; other models are far."""

_N_LOOKED_AT = 1000


@short_repr
@dataclass(frozen=True)
class AdoptSummary:
    """What was declared, and what could be checked before.

    Parameters
    ----------
    collection, vector : str
    size : int
    made_by : str
        The model.
    pictures : dict or None
        "n", "lowest" and "median" cosine of pictures that were encoded again.
    model_check : ModelCheck or None
        Of the texts of a projection.
    """

    collection: str
    vector: str
    size: int
    made_by: str
    pictures: Mapping[str, Any] | None
    model_check: ModelCheck | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    def record(self, run: Run) -> None:
        """Write the cosines to a run."""
        if self.pictures:
            for name in ("lowest", "median"):
                cosine = self.pictures[name]
                n = self.pictures["n"]
                run.log_metric(f"{name} cosine", cosine, vector=self.vector, n=n)


@writes_under_own_name
def adopt_collection(
    collection: ImageCollection,
    *,
    made_by: str,
    vector: str | None = None,
    pictures: Path | None = None,
    encoder: Encoder | Callable[[str], Encoder] | None = None,
    projection: StoredMap | None = None,
    run: Run | None = None,
) -> AdoptSummary:
    """Declare which model made a vector of a collection, once what can be checked agrees.

    The dimension is checked for known models. Vectors and payload stay as they are.

    Parameters
    ----------
    collection : ImageCollection
    made_by : str
        Name of the model.
    vector : str, optional
        By default the one that no projection has made.
    pictures : Path, optional
        Folder the payload's ``path`` is relative to: some are encoded again and compared.
    encoder : Encoder or callable, optional
        For the pictures: the model, or a function that loads it by its name.
    projection : Projection or PosteriorMap, optional
        One of that model: its texts are compared with the vectors.
    run : Run, optional
        Records what was declared and found.

    Raises
    ------
    ManifestMismatchError
        If something does not agree; nothing is declared then.
    InputError
        If no picture can be reached.
    """
    run, vector = run or Run(), own_vector(collection, vector)
    size = collection.vector_spec(vector).size
    check_dimension(made_by, repr(vector), size)
    seen = None
    if pictures is not None:
        seen = _check_pictures(collection, vector, made_by, pictures, encoder)
    declare_model(collection, vector, made_by)
    run.log_origin(vector, collection.origin(vector))
    check = warn_of_wrong_model(collection, projection, vector) if projection else None
    found = AdoptSummary(collection.name, vector, size, made_by, seen, check)
    run.keep(found)
    return found


def declare_model(collection: ImageCollection, vector: str, made_by: str) -> None:
    """Record which model made a vector, unless the manifest already agrees.

    Raises `ManifestMismatchError` for a known model of another dimension.
    """
    if vector in collection.vectors:  # else it is declared before it is added
        check_dimension(made_by, repr(vector), collection.vectors[vector].size)
    warn_of_custom_name(made_by)
    origin = declared(made_by)
    known = collection.manifest.vectors.get(vector)
    if known is None or not known.agrees_with(origin):
        collection.declare(vector, origin)


def declared(made_by: str) -> VectorOrigin:
    """Return the origin of vectors that their owner says a model made."""
    return VectorOrigin(made_by, declared_fingerprint(made_by))


def _check_pictures(
    collection: ImageCollection,
    vector: str,
    made_by: str,
    folder: Path,
    encoder: Encoder | Callable[[str], Encoder] | None,
) -> dict[str, Any]:
    """Encode some stored pictures again, and compare with what is stored."""
    points, images = _reachable(collection, folder)
    if encoder is None:
        raise InputError(f"images are compared by an encoder; give that of {made_by}")
    if not isinstance(encoder, Encoder):
        encoder = encoder(made_by)
    stored = collection.store.retrieve(collection.name, points, vectors=[vector]).vectors[vector]
    cosines = _cosines(encoder, images, stored)
    found = {"n": len(points), "lowest": float(cosines.min()), "median": float(np.median(cosines))}
    if found["median"] < LEAST_COSINE:
        raise ManifestMismatchError(
            f"{len(points)} images encoded by {made_by} have a median cosine of "
            f"{found['median']:.3f} to their stored {vector!r}, and at least "
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
            f"the folder that the paths are relative to, or leave `pictures` out"
        )
    return points, images


def _cosines(encoder: Encoder, images: list[bytes], stored: Floats) -> Floats:
    try:
        fresh = unit_rows(encoder.encode_images(images))
    except ImageError as error:
        raise InputError(
            f"an image of the sample cannot be read ({error}); replace it, or leave `pictures` out"
        ) from error
    if fresh.shape != stored.shape:
        raise ManifestMismatchError(
            f"{encoder.name} makes vectors of {fresh.shape[1]} dimensions, and the stored ones "
            f"have {stored.shape[1]}; give the model that made them"
        )
    return np.asarray((fresh * unit_rows(stored)).sum(axis=1))
