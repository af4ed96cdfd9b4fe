"""Whether a projection, a stored vector and the name of the new one belong together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from intramodal.errors import InputError, ManifestMismatchError, NotFound
from intramodal.projection.fit import Center
from intramodal.projection.projection import Projection
from intramodal.projection.stored_map import StoredMap
from intramodal.store.base import CollectionInfo
from intramodal.store.checks import require_vectors
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import TEXT_INVERSION, VectorOrigin
from intramodal.types import VectorMap, encoders_agree

log = logging.getLogger(__name__)


def check_fitted_for(projection: VectorMap, origin: VectorOrigin) -> None:
    """Raise `ManifestMismatchError` if the projection was fitted for another encoder."""
    fitted_for = (projection.encoder, projection.encoder_fingerprint)
    if not encoders_agree(fitted_for, (origin.encoder, origin.encoder_fingerprint)):
        raise ManifestMismatchError(
            f"the projection was fitted for {projection.encoder} "
            f"({projection.encoder_fingerprint[:12]}), the vectors were made by {origin}; "
            f"fit one for this model"
        )


def check_may_take(projection: VectorMap, collection: ImageCollection, vector: str) -> None:
    """Raise as `check_fitted_for`; where nobody has declared the model, warn.

    For who tries a map, and writes nothing: the collection may be another's.
    """
    known = collection.manifest.vectors.get(vector)
    if known is not None:
        check_fitted_for(projection, known)
        return
    log.warning(
        "nothing says which model made %r of %r: it is taken to be %s, as the projection says",
        *(vector, collection.name, projection.encoder),
    )


def projected_origin(projection: VectorMap, origin: VectorOrigin, source: str) -> VectorOrigin:
    """Return the origin of a vector projected from vectors of the given origin."""
    return VectorOrigin(
        origin.encoder,
        origin.encoder_fingerprint,
        precision=origin.precision,
        projection=projection.fingerprint,
        source=source,
        method=projection.method,
        distance=projection.distance,
        labels=projection.labels,
    )


def check_projectable(
    collection: ImageCollection, projection: VectorMap, source: str, vector: str
) -> VectorOrigin:
    """Return the origin the new vector will have; raises unless everything belongs together."""
    if vector == source:
        raise InputError(f"{vector!r} cannot be projected into itself; name another `vector`")
    spec = collection.vector_spec(source)
    require_vectors({source: spec}, [source])
    size = spec.size
    known = collection.origin(source)
    check_fitted_for(projection, known)
    if size != projection.dim_in:
        raise InputError(
            f"{source!r} of {collection.name!r} has {size} dimensions, the projection takes "
            f"{projection.dim_in}; fit one for this model"
        )
    origin = projected_origin(projection, known, source)
    collection.manifest.check(vector, origin)
    return origin


def check_in_place(
    collection: ImageCollection,
    projection: VectorMap,
    source: str,
    vector: str,
    *,
    yes: bool = False,
) -> VectorOrigin:
    """Return the origin the new vector will have; raises where it cannot be added in place.

    With `yes` a name is used again that a server has removed which may bring its vectors back.
    """
    try:
        origin = check_projectable(collection, projection, source, vector)
    except (ManifestMismatchError, NotFound):
        # By what was seen when the collection was opened; who goes on looks again before writing.
        look_again(collection, source)
        origin = check_projectable(collection, projection, source, vector)
    if vector not in collection.vectors:
        collection.store.check_adds_vectors()
        if not yes:
            collection.check_reusable(vector)
    return origin


def check_made_by(
    collection: ImageCollection, projection: VectorMap, source: str, vector: str
) -> None:
    """Raise unless `vector` is there and was made by this projection, as a new look says."""
    look_again(collection, source)
    check_projectable(collection, projection, source, vector)
    if vector not in collection.vectors or vector not in collection.manifest.vectors:
        raise NotFound(
            f"{collection.name!r} has no vector {vector!r} that this projection has made; run the "
            f"backfill first, or name the right `vector`"
        )


def look_again(collection: ImageCollection, source: str) -> CollectionInfo:
    """Read description and manifest; for a plan the source may be declared in this object only."""
    declared = collection.manifest.vectors.get(source)
    found = collection.reread()
    if declared is not None and source not in collection.manifest.vectors:
        collection.manifest = collection.manifest.with_vector(source, declared)
    return found


def refuse_texts(collection: ImageCollection, vectors: Sequence[str]) -> None:
    """Raise `InputError` for a vector of texts that stand for pictures.

    They ask for pictures; texts ranked among texts would be taken for the figures of OTI.
    """
    origins = collection.manifest.vectors
    for name in vectors:
        if name in origins and origins[name].method == TEXT_INVERSION:
            raise InputError(
                f"{name!r} of {collection.name!r} holds inverted queries for "
                f"{origins[name].source!r}, and is judged by `intramodal evaluate oti`; name a "
                f"vector of the images"
            )


def center_of(collection: ImageCollection, vector: str) -> Center:
    """Return the mean of a collection's vector, for a centred projection.

    Raises
    ------
    InputError
        If the vector is projected already, or no point has it.
    """
    collection.vector_spec(vector)
    origin = collection.manifest.vectors.get(vector)
    if origin is None:
        # Who may only read cannot declare it.
        log.warning(
            "nothing says which model made %r of %r: make sure that it is the one of the texts",
            *(vector, collection.name),
        )
    elif origin.projection:
        raise InputError(
            f"{vector!r} of {collection.name!r} is projected already; average the encoder's own "
            f"vectors, for example `center` {collection.name}:{origin.source}"
        )
    mean, n = collection.center(vector)
    facts: dict[str, Any] = {"collection": collection.name, "vector": vector, "n": n}
    if collection.store.shard_key is not None:
        facts["shard_key"] = collection.store.shard_key
    made_by = None if origin is None else (origin.encoder, origin.encoder_fingerprint)
    return Center(mean, made_by, str(origin or "an unknown model"), facts)


def check_is(projection: StoredMap, collection: ImageCollection, vector: str) -> None:
    """Raise `ManifestMismatchError` unless this projection has made a vector."""
    check_made(projection, vector, collection.origin(vector))


def check_made(projection: StoredMap, vector: str, origin: VectorOrigin) -> None:
    """Raise `ManifestMismatchError` unless this projection has made a vector of this origin."""
    wanted = origin.projection
    if projection.fingerprint != wanted:
        made_by = f"projection {wanted[:12]}" if wanted else "an encoder"
        raise ManifestMismatchError(
            f"{projection.place or 'this'} is projection {projection.fingerprint[:12]}, but "
            f"{vector!r} was made by {made_by}; give the file it was made with"
        )


def require_maker(
    projection: StoredMap, collection: ImageCollection, vectors: Sequence[str]
) -> None:
    """Raise `ManifestMismatchError` if the projected ones of `vectors` were made by others."""
    known = collection.manifest.vectors
    made = {v: known[v].projection for v in vectors if v in known and known[v].projection}
    if made and projection.fingerprint not in made.values():
        check_is(projection, collection, next(iter(made)))


def projection_of(
    collection: ImageCollection, vector: str, projections: Sequence[Projection]
) -> Projection:
    """Return the projection that made a vector; raise `InputError` if it is not among them."""
    wanted = collection.origin(vector).projection
    for projection in projections:
        if projection.fingerprint == wanted:
            return projection
    named = (f"{p.place or repr(p)} ({p.fingerprint[:12]})" for p in projections)
    raise InputError(
        f"texts must be projected as {vector!r} of {collection.name!r} was, by projection "
        f"{wanted[:12]}; give that one as `projection`, got {', '.join(named) or 'none'}"
    )
