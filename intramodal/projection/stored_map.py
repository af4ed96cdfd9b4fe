"""`StoredMap`: what both kinds of maps share that are fitted once and saved as one file.

A `Projection` is affine, a `PosteriorMap` is not.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, ProjectionError
from intramodal.fit_rows import LabelFit
from intramodal.projection.map_file import write_map
from intramodal.types import Distance, Floats

POSTERIOR = "posterior"
"""Method of the one kind of map that is not affine; see `intramodal.projection.posterior`."""

_BLOCK_ROWS = 2048
"""Rows mapped at a time: their unit vectors stay in the processor's cache."""


class StoredMap(ABC):
    """A map from an encoder's vectors to new ones, as one file can hold it.

    Attributes
    ----------
    method : str
        What it is called, for people.
    encoder, encoder_fingerprint : str
        The model whose vectors it takes.
    recipe : mapping
        How it was made, with the labels it has seen: JSON values.
    place : str or None
        The file it was read from, for messages.
    """

    KIND: ClassVar[str]
    """What it is, in messages."""

    method: str
    encoder: str
    encoder_fingerprint: str
    recipe: Mapping[str, Any]
    place: str | None

    @property
    @abstractmethod
    def dim_in(self) -> int:
        """Length of the vectors it takes."""

    @property
    @abstractmethod
    def dim_out(self) -> int:
        """Length of the vectors it gives."""

    @property
    @abstractmethod
    def default_vector(self) -> str:
        """Name of the vector it fills unless another is given."""

    @property
    @abstractmethod
    def distance(self) -> Distance:
        """By what its vectors are compared."""

    @property
    @abstractmethod
    def gain(self) -> float:
        """What an error of a unit vector's component may be multiplied by, at least 1."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of the map, its encoder and its labels."""

    @property
    def text_mean(self) -> Floats | None:
        """Mean of the texts it was made with, where it is kept."""
        return None

    @cached_property
    def labels(self) -> LabelFit | None:
        """The labels it has seen; None for a map that needs none."""
        return LabelFit.from_dict(self.recipe["labels"]) if "labels" in self.recipe else None

    @abstractmethod
    def apply(self, X: NDArray[Any]) -> Floats:
        """Return the new vectors (n, dim_out) of `X` (n, dim_in); lengths do not matter."""

    @abstractmethod
    def apply_to_unit(self, X: Floats) -> Floats:
        """Return the new vectors (n, dim_out) of unit rows (n, dim_in), as `apply` of them."""

    @abstractmethod
    def apply_to_texts(self, T: NDArray[Any]) -> Floats:
        """Return text embeddings `T` (n, dim_in) in the space of mapped images, (n, dim_out)."""

    def _in_blocks(self, X: NDArray[Any], fill: Callable[[NDArray[Any], Floats], None]) -> Floats:
        """Return what `fill` writes for each block of rows: a mapped file is never held whole."""
        if X.ndim != 2 or X.shape[1] != self.dim_in:
            raise InputError(
                f"this {self.KIND} takes vectors of shape (n, {self.dim_in}), got {X.shape}; "
                f"give the vectors of {self.encoder}"
            )
        Z = np.empty((len(X), self.dim_out), dtype=np.float32)
        for start in range(0, len(X), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            fill(X[rows], Z[rows])
        return Z

    def warnings(self) -> list[str]:
        """Return what a user should know before relying on it; usually nothing."""
        return [] if self.labels is None else self.labels.warnings()

    def to_dict(self) -> dict[str, Any]:
        """Return the facts that a person or a script needs, as JSON values."""
        return {
            "method": self.method,
            "dim_in": self.dim_in,
            "dim_out": self.dim_out,
            "vector": self.default_vector,
            "fingerprint": self.fingerprint,
            "encoder": self.encoder,
            "labels": self.labels and self.labels.to_dict(),
            "warnings": self.warnings(),
        }

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, under a temporary name first, then renamed."""
        about = {
            "method": self.method,
            "encoder": self.encoder,
            "encoder_fingerprint": self.encoder_fingerprint,
            "fingerprint": self.fingerprint,
            "recipe": dict(self.recipe),
        }
        write_map(Path(path), about, self._tensors())

    @abstractmethod
    def _tensors(self) -> dict[str, Floats]:
        """Return the arrays that the file holds, by name."""

    @classmethod
    def read(cls, path: Path, about: Mapping[str, Any], tensors: Mapping[str, Any]) -> Self:
        """Return what a file says and holds as a map; the file is not trusted.

        Raises
        ------
        ProjectionError
            If it is incomplete, or was changed since it was saved.
        """
        try:
            loaded = cls._of_parts(path, about, tensors)
            saved, found = about["fingerprint"], loaded.fingerprint
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ProjectionError(
                f"{path} is not a complete {cls.KIND} ({error}); fit it again"
            ) from error
        if found != saved:
            raise ProjectionError(f"{path} was changed after it was saved; fit it again")
        return loaded

    @classmethod
    @abstractmethod
    def _of_parts(cls, path: Path, about: Mapping[str, Any], tensors: Mapping[str, Any]) -> Self:
        """Return the map of a file's parts, not yet checked against what it says of itself."""


def named_by_field(method: str, name: str) -> str:
    """Return what a vector is called whose map is for a payload field.

    Examples
    --------
    >>> named_by_field("label", "shot.base colour")
    'label_shot_base_colour'
    """
    plain = re.sub(r"[^\w-]+", "_", name).strip("_")
    return f"{method}_{plain}"
