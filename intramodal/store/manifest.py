"""What a collection's metadata says about its vectors: which encoder and projection made each.

The manifest lives in the collection itself, so that it travels with snapshots and is seen by
every client. It is read as hostile input: only the declared keys, only strings and numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from intramodal.errors import ManifestMismatchError
from intramodal.types import encoders_agree

METADATA_KEY = "intramodal"
"""Top-level key of the collection metadata that belongs to us."""

TEXT_INVERSION = "oti"
"""Method of a vector that holds texts which stand for pictures."""

_VERSION = 1


@dataclass(frozen=True)
class VectorOrigin:
    """How one named vector was made.

    Parameters
    ----------
    encoder, encoder_fingerprint : str
        Name and identity of the encoder; the fingerprint of a model that was only declared by its
        owner starts with ``"declared:"``.
    precision : str
        ``"fp32"``, ``"bf16"`` or ``""`` when unknown; recorded, never compared.
    projection : str
        Fingerprint of the projection; empty for the encoder's own output.
    source : str
        The named vector that was projected; empty for the encoder's own output.
    method : str
        Name of the projection's method, for people.
    is_complete : bool
        False while a backfill is filling the vector.
    """

    encoder: str
    encoder_fingerprint: str
    precision: str = ""
    projection: str = ""
    source: str = ""
    method: str = ""
    is_complete: bool = True

    def agrees_with(self, other: VectorOrigin) -> bool:
        """Return whether vectors of both origins may be compared with each other."""
        same_encoder = encoders_agree(
            (self.encoder, self.encoder_fingerprint), (other.encoder, other.encoder_fingerprint)
        )
        return same_encoder and self.projection == other.projection

    def __str__(self) -> str:
        """Return what a sentence needs to tell two origins apart."""
        made_by = f"{self.encoder} ({self.encoder_fingerprint[:12]})"
        if not self.projection:
            return made_by
        return f"{made_by} through {self.method or 'projection'} {self.projection[:12]}"


@dataclass(frozen=True)
class Manifest:
    """Origins of all known vectors of a collection.

    Parameters
    ----------
    vectors : dict of str to VectorOrigin
        Vectors that nobody declared are absent.
    dataset : str
        Name under which point ids were made; empty for adopted collections.
    """

    vectors: Mapping[str, VectorOrigin] = field(default_factory=dict)
    dataset: str = ""

    def with_vector(self, name: str, origin: VectorOrigin) -> Manifest:
        """Return a manifest that also knows `name`; raises if it is known to be something else."""
        self.check(name, origin)
        return replace(self, vectors={**self.vectors, name: origin})

    def without_vector(self, name: str) -> Manifest:
        """Return a manifest that no longer knows `name`."""
        return replace(self, vectors={k: v for k, v in self.vectors.items() if k != name})

    def check(self, name: str, origin: VectorOrigin) -> None:
        """Raise `ManifestMismatchError` if `name` is known to be made otherwise."""
        known = self.vectors.get(name)
        if known is not None and not known.agrees_with(origin):
            raise ManifestMismatchError(
                f"vector {name!r} was made by {known}, not by {origin}; "
                f"use the same model and projection, or write to another vector name or collection"
            )

    def to_metadata(self) -> dict[str, Any]:
        """Return the collection metadata that holds this manifest."""
        vectors = {name: asdict(origin) for name, origin in self.vectors.items()}
        return {METADATA_KEY: {"version": _VERSION, "dataset": self.dataset, "vectors": vectors}}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Manifest:
        """Read a manifest back; metadata without our key gives an empty one.

        Raises `ManifestMismatchError` if our key is there but not in our form, or written by a
        newer version.
        """
        stored = metadata.get(METADATA_KEY)
        if stored is None:
            return cls()
        try:
            if stored["version"] != _VERSION:
                raise ValueError(f"version {stored['version']!r:.40}")
            vectors = {str(k): _origin(v) for k, v in stored["vectors"].items()}
            return cls(vectors, str(stored.get("dataset", "")))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ManifestMismatchError(
                f"the collection's metadata key {METADATA_KEY!r} is not a manifest of version "
                f"{_VERSION} ({error!s:.200}); upgrade intramodal, or repair or remove that key"
            ) from error


def _origin(stored: Mapping[str, Any]) -> VectorOrigin:
    texts = {
        key: str(stored.get(key, "")) for key in ("precision", "projection", "source", "method")
    }
    return VectorOrigin(
        encoder=str(stored["encoder"]),
        encoder_fingerprint=str(stored["encoder_fingerprint"]),
        is_complete=bool(stored.get("is_complete", True)),
        **texts,
    )
