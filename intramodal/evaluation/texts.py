"""Where the texts of an evaluation come from: an encoder, or ready embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from intramodal.types import Encoder, Floats


class Texts(Protocol):
    """Something that embeds prompts in the space of the images' encoder, not projected."""

    @property
    def name(self) -> str:
        """Where the texts come from, for people."""
        ...

    @property
    def encoder(self) -> Encoder | None:
        """What embeds them; None for ready embeddings."""
        ...

    def embed(self, prompts: Sequence[str]) -> Floats | None:
        """Return the embeddings of prompts (n, dim); None without a text tower."""
        ...


@dataclass(frozen=True, eq=False)
class ReadyTexts:
    """Precomputed embeddings (n, dim), one row a prompt."""

    rows: Floats
    name: str = "the array"
    encoder: Encoder | None = None

    def embed(self, prompts: Sequence[str]) -> Floats | None:
        """Return the embeddings, whatever the prompts."""
        return self.rows


@dataclass(frozen=True, eq=False)
class EncodedTexts:
    """Embeddings by an encoder's own text tower."""

    encoder: Encoder

    @property
    def name(self) -> str:
        """The encoder's name."""
        return self.encoder.name

    def embed(self, prompts: Sequence[str]) -> Floats | None:
        """Return the embeddings of prompts (n, dim); None without a text tower."""
        return self.encoder.encode_texts(list(prompts)) if self.encoder.has_text else None


def texts_of(source: Texts | Encoder | Floats) -> Texts:
    """Return texts from an encoder, an array, or what is `Texts` already."""
    if isinstance(source, np.ndarray):
        return ReadyTexts(source)
    if isinstance(source, Encoder):
        return EncodedTexts(source)
    return source
