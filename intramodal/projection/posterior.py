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

from intramodal.errors import InputError
from intramodal.projection.map_file import read_map
from intramodal.projection.projection import Projection
from intramodal.projection.stored_map import POSTERIOR, StoredMap, named_by_field
from intramodal.types import Distance, Floats, fingerprint, require_finite, unit_rows

_TIE_WEIGHT = 0.05
"""Of the cosine that orders images with the same chances."""
_PARTS = ("offset", "weights", "bias", "directions")


@dataclass(frozen=True, eq=False)
class PosteriorMap(StoredMap):
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
    method: str = field(default=POSTERIOR, init=False)

    KIND = "posterior map"

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

        def fill(rows: NDArray[Any], Z: Floats) -> None:
            require_finite(rows, "the vectors to map")
            Z[:] = self._codes(unit_rows(rows))

        return self._in_blocks(np.asanyarray(X), fill)

    apply_to_unit = apply

    def _codes(self, unit: Floats) -> Floats:
        """Return the codes of a block of unit rows; its axes are those of any affine map."""
        from scipy.special import softmax

        # A softmax magnifies rounding: its scores by float64.
        scores = (unit.astype(np.float64) - self.offset) @ self.weights + self.bias
        chances = softmax(scores, axis=1)
        axes = unit_rows((unit - self.offset) @ self.directions)
        return np.hstack([chances.astype(np.float32), np.float32(_TIE_WEIGHT**0.5) * axes])

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

    def _tensors(self) -> dict[str, Floats]:
        return {name: getattr(self, name) for name in _PARTS}

    @classmethod
    def _of_parts(
        cls, path: Path, about: Mapping[str, Any], tensors: Mapping[str, Any]
    ) -> PosteriorMap:
        offset, weights, bias, directions = (tensors[name] for name in _PARTS)
        return cls(
            offset,
            weights,
            bias,
            directions,
            str(about["encoder"]),
            str(about["encoder_fingerprint"]),
            dict(about["recipe"]),
            str(path),
        )

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


def load_map(path: str | Path) -> StoredMap:
    """Read a saved map of either kind; the file is not trusted.

    Raises
    ------
    ProjectionError
        As `Projection.load`.
    """
    about, tensors = read_map(Path(path))
    kind: type[StoredMap] = PosteriorMap if about.get("method") == POSTERIOR else Projection
    return kind.read(Path(path), about, tensors)
