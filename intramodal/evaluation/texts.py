"""Where the texts of an evaluation come from: an encoder, or ready embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.projection.projection import Projection
from intramodal.types import Encoder, Floats, require_finite, unit_rows


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
    # By its class: asking a lazy source for its attributes would load the model.
    if hasattr(type(source), "embed"):
        return cast(Texts, source)
    return EncodedTexts(cast(Encoder, source))


def text_directions(texts: NDArray[Any]) -> Floats:
    """Return texts (n, d) scaled to unit length; `InputError` for a row that points nowhere."""
    require_finite(texts, "the texts")
    is_zero = ~np.any(texts, axis=1)
    if is_zero.any():
        raise InputError(
            f"row {int(is_zero.argmax())} of the texts is zero and points nowhere; embed it again"
        )
    return unit_rows(texts)


def project_texts(texts: NDArray[Any], projection: Projection) -> Floats | None:
    """Return `Projection.apply_to_texts` (n, dim_out) of texts (n, dim_in).

    None for a projection that subtracts the images' mean, in which texts have no part.
    """
    if projection.offset is not None and np.shape(texts)[1:] == (projection.dim_in,):
        return None
    return projection.apply_to_texts(texts)
