"""What an ingest writes, and whether the collection takes it."""

from __future__ import annotations

from dataclasses import dataclass

from intramodal.errors import InputError
from intramodal.ingest.backfill import check_fitted_for, projected_origin
from intramodal.projection.artifact import Projection
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import Encoder

RAW = "raw"
"""Name of the vector that holds the encoder's output."""


@dataclass(frozen=True)
class Plan:
    """Where to, with what, and how.

    Parameters
    ----------
    collection : ImageCollection
    encoder : Encoder
    projection : Projection or None
    dataset : str
        Namespace of the ids.
    batch_size : int
    """

    collection: ImageCollection
    encoder: Encoder
    projection: Projection | None
    dataset: str
    batch_size: int

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the vectors that are written, in one upsert."""
        return (RAW, self.projection.default_vector) if self.projection else (RAW,)

    def check(self) -> None:
        """Raise unless the collection takes these vectors under these names.

        Raises
        ------
        ManifestMismatchError
            If a vector is absent or was made by another model, preprocessing or projection.
        InputError
            If the collection has projected vectors which the new points would lack, or a
            number or name cannot be used.
        """
        check_dataset(self.dataset)
        if self.batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {self.batch_size}")
        origin = encoder_origin(self.encoder)
        self.collection.require(RAW, origin, self.encoder.dim)
        check_projection(self.collection, origin, self.projection)


def encoder_origin(encoder: Encoder) -> VectorOrigin:
    """Return the origin of an encoder's own output."""
    return VectorOrigin(encoder.name, encoder.fingerprint, precision=encoder.precision)


def check_dataset(dataset: str) -> None:
    """Raise `InputError` for names under which two pictures could get one id."""
    if not dataset or "/" in dataset:
        raise InputError(
            f"a data set cannot be named {dataset!r}: give at least one character and no slash, "
            f"which separates it from the path within the id"
        )


def check_projection(
    collection: ImageCollection, raw: VectorOrigin, projection: Projection | None
) -> None:
    """Raise unless new points would have the projected vectors that the others have."""
    if projection is not None:
        check_fitted_for(projection, raw)
        origin = projected_origin(projection, raw, RAW)
        collection.require(projection.default_vector, origin, projection.dim_out)
        return
    projected = sorted(v for v, origin in collection.manifest.vectors.items() if origin.projection)
    if projected:
        raise InputError(
            f"collection {collection.name!r} has the projected vector {projected[0]!r} and new "
            f"pictures would lack it; give --projection FILE, the one it was made with"
        )
