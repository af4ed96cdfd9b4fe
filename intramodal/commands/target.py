"""Which vector of which collection: ``COLLECTION[:VECTOR]``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from intramodal.commands.session import Workspace
from intramodal.errors import InputError, ManifestMismatchError, NotFound
from intramodal.ingest.encoders.registry import load_encoder
from intramodal.ingest.vectors.matrices import read_matrix
from intramodal.projection.projection import Projection
from intramodal.store.collection import ImageCollection
from intramodal.store.default_vectors import own_vector
from intramodal.store.manifest import AUGMENTED_VIEW, VectorOrigin
from intramodal.store.origins import projection_of
from intramodal.types import Encoder, Floats, encoders_agree


@dataclass(frozen=True)
class Target:
    """One named vector of an open collection."""

    collection: ImageCollection
    vector: str

    @classmethod
    def open(cls, at: Workspace, text: str) -> Target:
        """Open ``COLLECTION[:VECTOR]``; without VECTOR it is the encoder's own.

        A collection whose own name holds a colon is found by its full name.
        """
        name, separator, vector = text.rpartition(":")
        if not separator or at.store.exists(text):
            name, vector = text, ""
        collection = at.collection(name)
        there = collection.vectors
        if vector and vector not in there:
            raise NotFound(
                f"collection {name!r} has no vector {vector!r}; it has {_listed(there)}"
            )
        return cls(collection, vector or _own(collection))

    @property
    def origin(self) -> VectorOrigin | None:
        """How the vector was made; None where nobody has declared it."""
        return self.collection.manifest.vectors.get(self.vector)

    @property
    def is_projected(self) -> bool:
        """Whether the vector is known to be a projection of another."""
        return self.origin is not None and bool(self.origin.projection)

    def load_encoder(
        self, model: str | None, *, device: str | None, precision: str | None
    ) -> Encoder:
        """Load `model`, or the one the manifest names."""
        if self.origin is not None and self.origin.encoder.endswith(AUGMENTED_VIEW):
            raise InputError(
                f"{self.vector!r} of {self.collection.name!r} holds augmented views, for the "
                f"shots of `evaluate fewshot --shots-from`; name the images' own vector, as `raw`"
            )
        name = model or self.collection.origin(self.vector).encoder
        encoder = load_encoder(name, device=device, precision=precision)
        origin = self.origin
        if origin is None:
            return encoder
        if not encoders_agree(
            (origin.encoder, origin.encoder_fingerprint), (encoder.name, encoder.fingerprint)
        ):
            raise ManifestMismatchError(
                f"vector {self.vector!r} of {self.collection.name!r} was made by {origin.encoder} "
                f"({origin.encoder_fingerprint[:12]}), not by {encoder.name} "
                f"({encoder.fingerprint[:12]}); its texts must come from the same model"
            )
        return encoder


@dataclass(frozen=True)
class TextSource:
    """Where the texts of one target come from."""

    target: Target
    model: str | None = None
    """By default the model that the manifest names."""
    file: Path | None = None
    """Ready text embeddings instead, in the space of the encoder: not projected."""
    device: str | None = None
    precision: str | None = None

    def embed(self, prompts: Sequence[str]) -> Floats | None:
        """Return the embeddings of the prompts, or those of the file; None without text tower."""
        if self.file is not None:
            return self._read
        return self._loaded.encode_texts(list(prompts)) if self._loaded.has_text else None

    @property
    def name(self) -> str:
        """Where the texts come from, for people."""
        return str(self.file) if self.file is not None else self._loaded.name

    @cached_property
    def _read(self) -> Floats:
        return read_matrix(Path(str(self.file)))

    @property
    def encoder(self) -> Encoder | None:
        """The model, loaded when it is first needed; None for ready embeddings."""
        return None if self.file is not None else self._loaded

    @cached_property
    def _loaded(self) -> Encoder:
        return self.target.load_encoder(self.model, device=self.device, precision=self.precision)


@dataclass(frozen=True)
class RequiredTexts(TextSource):
    """Texts that a command cannot do without, and the file that projects them, if any."""

    projection: Path | None = None

    def embed(self, prompts: Sequence[str]) -> Floats:
        """Return the embeddings of the prompts, or those of the file, in the encoder's space."""
        found = super().embed(prompts)
        if found is None:
            raise InputError(
                f"{self.name} has no text tower; give text embeddings with --text-vectors"
            )
        if self.target.is_projected and self.projection is None:
            raise InputError(
                f"{self.target.vector!r} is projected and texts must be, too; give its file with "
                f"--projection, or name its source"
            )
        return found

    def load_projection(self) -> Projection | None:
        """Return the projection of the file, if the vector is a projected one."""
        if self.projection is None or not self.target.is_projected:
            return None
        projection = Projection.load(self.projection)
        return projection_of(self.target.collection, self.target.vector, [projection])


def _own(collection: ImageCollection) -> str:
    try:
        return own_vector(collection)
    except InputError as error:
        first = min(collection.vectors, default="VECTOR")
        raise InputError(f"{error}, as in {collection.name}:{first}") from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "none"
