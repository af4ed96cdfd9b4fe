"""`PosteriorMap`: the chance of each class beside a few text axes, as one file; compared by Dot.

The inner product of two codes is the chance that both images have the same label, plus a small
cosine that orders the images of one class. The second kind of map that is stored: not affine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, ProjectionError
from intramodal.fit_rows import LabelFit
from intramodal.projection.projection import (
    POSTERIOR,
    Projection,
    labels_of_recipe,
    named_by_field,
    read_projection,
    write_projection,
)
from intramodal.types import Distance, Floats, fingerprint, require_finite, unit_rows

_BLOCK_ROWS = 2048
_TIE_WEIGHT = 0.05
"""Of the cosine that orders images with the same chances."""
_PARTS = ("offset", "weights", "bias", "directions")


@dataclass(frozen=True, eq=False)
class PosteriorMap:
    """A map from an encoder's vectors to chances of classes and a few text axes.

    Parameters
    ----------
    offset : ndarray of shape (dim_in,)
        float32, as all parts; subtracted from the unit vectors.
    weights : ndarray of shape (dim_in, n_classes)
    bias : ndarray of shape (n_classes,)
        The chances are the softmax of centred vectors times `weights` plus this.
    directions : ndarray of shape (dim_in, k)
        Axes whose coordinates, scaled to length sqrt(.05), follow the chances.
    encoder, encoder_fingerprint : str
        The model whose vectors it takes.
    recipe : mapping
        How it was made, with the labels it has seen: JSON values.
    place : str, optional
        The file it was read from, for messages.
    """

    offset: Floats
    weights: Floats
    bias: Floats
    directions: Floats
    encoder: str
    encoder_fingerprint: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    place: str | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check shapes and values once, for every way in."""
        d, n_classes = np.shape(self.weights)
        shapes = {"offset": (d,), "weights": (d, n_classes), "bias": (n_classes,)}
        shapes["directions"] = (d, np.shape(self.directions)[-1])
        for name, shape in shapes.items():
            part = np.array(getattr(self, name), dtype=np.float32, order="C")
            if part.shape != shape or not part.size:
                raise InputError(f"the {name} must have shape {shape}, got {part.shape}")
            require_finite(part, f"the {name} of a posterior map")
            part.setflags(write=False)
            object.__setattr__(self, name, part)
        if self.labels is None:
            raise InputError("a posterior map says which labels it has seen; give its recipe")

    @property
    def method(self) -> str:
        """What it is called, for people."""
        return POSTERIOR

    @property
    def distance(self) -> Distance:
        """By what its vectors are compared: their lengths count."""
        return "Dot"

    @property
    def dim_in(self) -> int:
        """Length of the vectors it takes."""
        return int(self.weights.shape[0])

    @property
    def n_classes(self) -> int:
        """Number of classes: the first numbers of a code."""
        return int(self.weights.shape[1])

    @property
    def dim_out(self) -> int:
        """Length of the vectors it gives."""
        return self.n_classes + int(self.directions.shape[1])

    @property
    def default_vector(self) -> str:
        """Name of the vector it fills unless another is given: ``posterior_`` and the field."""
        return POSTERIOR if self.labels is None else named_by_field(POSTERIOR, self.labels.field)

    @cached_property
    def gain(self) -> float:
        """What an error of a unit vector's component may be multiplied by, at least 1.

        A chance p changes by p (1 - p), at most a quarter, of what its score gains on the others.
        """
        apart = self.weights - self.weights.mean(axis=1, keepdims=True)
        return max(1.0, float(np.linalg.norm(apart, axis=0).max()) / 2)

    @cached_property
    def labels(self) -> LabelFit | None:
        """The labels it has seen."""
        return labels_of_recipe(self.recipe)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the map, its encoder and its labels."""
        declared = {
            "method": self.method,
            "encoder_fingerprint": self.encoder_fingerprint,
            "shape": [self.dim_in, self.n_classes, self.dim_out],
            "labels": self.labels and self.labels.to_dict(),
        }
        return fingerprint(declared, *(getattr(self, name).tobytes() for name in _PARTS))

    def apply(self, X: NDArray[Any]) -> Floats:
        """Return the codes (n, dim_out) of `X` (n, dim_in); lengths of rows do not matter.

        Raises
        ------
        InputError
            For another shape, or values that are not finite.
        """
        X = np.asanyarray(X)
        if X.ndim != 2 or X.shape[1] != self.dim_in:
            raise InputError(
                f"this map takes vectors of shape (n, {self.dim_in}), got {X.shape}; give the "
                f"vectors of {self.encoder}"
            )
        Z = np.empty((len(X), self.dim_out), dtype=np.float32)
        for start in range(0, len(X), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            require_finite(X[rows], "the vectors to map")
            Z[rows] = self._codes(unit_rows(X[rows]))
        return Z

    apply_to_unit = apply

    def _codes(self, unit: Floats) -> Floats:
        """Return the codes of a block of unit rows, by float64: a softmax magnifies rounding."""
        from scipy.special import softmax

        centred = unit.astype(np.float64) - self.offset
        chances = softmax(centred @ self.weights + self.bias, axis=1)
        axes = unit_rows(centred @ self.directions)
        return np.hstack([chances.astype(np.float32), np.float32(_TIE_WEIGHT**0.5) * axes])

    @property
    def text_mean(self) -> None:
        """Mean of the texts it was made with: kept by projections alone."""
        return

    def apply_to_texts(self, T: NDArray[Any]) -> Floats:
        """Refuse texts: the chances are those of images."""
        raise InputError(
            f"{self.default_vector!r} holds chances that images are of a class, so it takes no "
            f"texts; compare texts with images on the encoder's own vectors (raw)"
        )

    def with_known(self, Z: Floats, labels: Sequence[Any]) -> Floats:
        """Return codes (n, dim_out) of points of which `labels` (n) are known: certain of these.

        None, and classes that the map has not seen, leave the chances as they are.
        """
        place = {name: at for at, name in enumerate(self.recipe.get("classes", ()))}
        columns = np.array([place.get(class_name(label), -1) for label in labels], dtype=np.intp)
        rows = np.flatnonzero(columns >= 0)
        found = Z.copy()
        found[rows, : self.n_classes] = 0
        found[rows, columns[rows]] = 1
        return found

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
        write_projection(Path(path), about, {name: getattr(self, name) for name in _PARTS})

    @classmethod
    def read(
        cls, path: Path, about: Mapping[str, Any], tensors: Mapping[str, Any]
    ) -> PosteriorMap:
        """Return what a file says and holds as a map; the file is not trusted.

        Raises `ProjectionError` if it is incomplete or was changed since it was saved.
        """
        try:
            offset, weights, bias, directions = (tensors[name] for name in _PARTS)
            loaded = cls(
                offset,
                weights,
                bias,
                directions,
                str(about["encoder"]),
                str(about["encoder_fingerprint"]),
                dict(about["recipe"]),
                str(path),
            )
            saved, found = about["fingerprint"], loaded.fingerprint
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ProjectionError(
                f"{path} is not a complete posterior map ({error}); fit it again"
            ) from error
        if found != saved:
            raise ProjectionError(f"{path} was changed after it was saved; fit it again")
        return loaded

    def __repr__(self) -> str:
        """Return field, number of classes and sizes."""
        return f"PosteriorMap({self.labels}, {self.dim_in} > {self.dim_out})"


def class_name(label: Any) -> str | None:
    """Return the class of a payload value, if it has one.

    Examples
    --------
    >>> class_name(2012.0), class_name(["red"]), class_name(["red", "blue"]), class_name(None)
    ('2012', 'red', None, None)
    """
    if isinstance(label, list | tuple):
        return class_name(label[0]) if len(label) == 1 else None
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return str(label) if isinstance(label, str | int | float) else None


StoredMap = Projection | PosteriorMap
"""What one file can hold."""


def load_map(path: str | Path) -> StoredMap:
    """Read a saved map of either kind; the file is not trusted.

    Raises
    ------
    ProjectionError
        As `Projection.load`.
    """
    about, tensors = read_projection(Path(path))
    kind = PosteriorMap if about.get("method") == POSTERIOR else Projection
    return kind.read(Path(path), about, tensors)
