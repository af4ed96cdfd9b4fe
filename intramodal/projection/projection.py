"""`Projection`: an affine map of stored vectors as one file, with the recipe it came from.

``z = (unit(x) - offset) @ matrix``. The offset is zero for PCA← (paper, equation 11: no centring)
and the mean of the corpus for centred PCA←.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, MismatchError, ProjectionError
from intramodal.projection.anchors import AnchorSet
from intramodal.projection.map_file import read_map
from intramodal.projection.recipes import PAPER_TEXT
from intramodal.projection.stored_map import POSTERIOR, StoredMap, named_by_field
from intramodal.types import Distance, Floats, fingerprint, require_finite, unit_rows

CENTERED = "centered"
"""Method of a map that subtracts the mean of a collection and keeps all directions."""

_DECLARED_RECIPE: Mapping[str, Any] = {
    "normalize_text": True,
    "center_text": True,
    "recipe": PAPER_TEXT.name,
}
"""Parts of the recipe that count for the fingerprint, with what goes without saying."""

_SHOWN = ("recipe", "n_anchors", "rank", "k_top", "k_bottom")
"""Parts of the recipe that are printed."""

_TOO_SPREAD = 0.25
"""Share of the anchors' directions beyond those kept, below which the last ones are noise."""


@dataclass(frozen=True, eq=False)
class Projection(StoredMap):
    """A linear or affine map from an encoder's vectors to fewer dimensions.

    Fitted once and saved: the same fit gives other bytes under another number of BLAS threads,
    so it is never fitted again where it is loaded.

    Parameters
    ----------
    matrix : ndarray of shape (dim_in, dim_out)
        float32.
    method : str
        ``"pca"``, ``"pca_centered"``, ...; also the default name of the vector it makes.
    encoder, encoder_fingerprint : str
        The model whose vectors it takes.
    offset : ndarray of shape (dim_in,), optional
        float32; subtracted from the unit vectors. None is zero.
    recipe : mapping
        How it was made: JSON values.
    text_mean : ndarray of shape (dim_in,), optional
        float32; mean of the anchors' unit text embeddings: tells whether a collection's vectors
        are those of the model (not part of the map, nor of its fingerprint).
    place : str, optional
        The file it was read from, for messages.

    Examples
    --------
    >>> half = Projection(np.eye(4, 2, dtype=np.float32), "pca", "clip", "3f9a")
    >>> half.apply(np.array([[3.0, 0.0, 4.0, 0.0]]))
    array([[0.6, 0. ]], dtype=float32)
    """

    matrix: Floats
    method: str
    encoder: str
    encoder_fingerprint: str
    offset: Floats | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    text_mean: Floats | None = None
    place: str | None = field(default=None, compare=False, repr=False)

    KIND = "projection"

    def __post_init__(self) -> None:
        """Check shapes and values once, for every way in."""
        matrix = np.array(self.matrix, dtype=np.float32, order="C")
        if matrix.ndim != 2 or not 1 <= matrix.shape[1] <= matrix.shape[0]:
            raise InputError(
                f"a projection matrix has shape (dim_in, dim_out) with dim_out <= dim_in, "
                f"got {matrix.shape}"
            )
        object.__setattr__(self, "matrix", _finite(matrix, "matrix"))
        for name in ("offset", "text_mean"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _row(getattr(self, name), len(matrix), name))

    @classmethod
    def from_text(  # noqa: PLR0913  one option a choice of the fit
        cls,
        text: NDArray[Any],
        *,
        anchors: AnchorSet,
        encoder: str,
        encoder_fingerprint: str,
        n_components: int | None = None,
        center: NDArray[Any] | None = None,
        normalize: bool = True,
        center_text: bool = True,
    ) -> Projection:
        """Fit PCA← from the text embeddings of the anchors (paper, section 3.3).

        Parameters
        ----------
        text : ndarray of shape (n_anchors, d)
            Embeddings of ``anchors.prompts()``, in order.
        anchors : AnchorSet
        encoder, encoder_fingerprint : str
            The model that made `text`.
        n_components : int, optional
            Kept dimensions, half of d by default.
        center : ndarray of shape (d,), optional
            Mean of the corpus' unit vectors: makes it centred PCA←.
        normalize : bool
            Whether text rows are scaled to unit length before their covariance is taken;
            recorded, and part of the fingerprint.
        center_text : bool
            Whether the texts' covariance is taken, or their second moment; recorded likewise.

        Raises
        ------
        MismatchError
            If there is not one row an anchor.
        InputError
            If a row is zero.
        RankError
            If the anchors span fewer directions than are to be kept.
        """
        from intramodal.projection.text_pca import TextPCA  # scikit-learn: to fit, not to apply

        text = _texts_of(anchors, text)
        require_finite(np.asarray(text), "the text embeddings")
        fitted = TextPCA(n_components, normalize, center_text).fit(text)
        return cls(
            matrix=fitted.components_.T.astype(np.float32),
            method="pca" if center is None else "pca_centered",
            encoder=encoder,
            encoder_fingerprint=encoder_fingerprint,
            offset=None if center is None else np.asarray(center, dtype=np.float32),
            recipe=_recipe(fitted, anchors),
            text_mean=unit_rows(text).mean(axis=0, dtype=np.float64).astype(np.float32),
        )

    @property
    def dim_in(self) -> int:
        """Length of the vectors it takes."""
        return int(self.matrix.shape[0])

    @property
    def dim_out(self) -> int:
        """Length of the vectors it gives."""
        return int(self.matrix.shape[1])

    @property
    def default_vector(self) -> str:
        """Name of the vector it fills unless another is given.

        The method's name; with other anchors than those of the paper, theirs is appended, and the
        field whose labels it has seen.
        """
        words = self.recipe.get("words")
        field_name = words["field"] if words else self.labels.field if self.labels else None
        if field_name is not None:
            return named_by_field(self.method, field_name)
        anchors = self.recipe.get("anchors_name")
        return f"{self.method}_{anchors}" if anchors else self.method

    @property
    def distance(self) -> Distance:
        """By what its vectors are compared."""
        return "Cosine"

    @cached_property
    def gain(self) -> float:
        """What an error of a unit vector's component may be multiplied by, at least 1."""
        return max(1.0, float(np.linalg.norm(self.matrix, axis=0).max()))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the map, its method, its encoder, its labels and how texts were treated."""
        declared: dict[str, Any] = {
            "method": self.method,
            "encoder_fingerprint": self.encoder_fingerprint,
            "shape": list(self.matrix.shape),
            "is_centred": self.offset is not None,
        }
        # Declared only where it is not the default: files of version 1 keep their fingerprint.
        declared |= {
            name: self.recipe[name]
            for name, default in _DECLARED_RECIPE.items()
            if self.recipe.get(name, default) != default
        }
        if self.labels is not None:
            declared["labels"] = self.labels.to_dict()
        parts = [self.matrix] if self.offset is None else [self.matrix, self.offset]
        return fingerprint(declared, *(part.tobytes() for part in parts))

    def apply(self, X: NDArray[Any]) -> Floats:
        """Return the projected vectors (n, dim_out) of `X` (n, dim_in); lengths do not matter.

        Works through `X` in blocks: a memory-mapped array is never held as a whole.

        Raises
        ------
        InputError
            For another shape, or values that are not finite.
        """
        return self._mapped(np.asanyarray(X), _finite_unit_rows)

    def apply_to_unit(self, X: Floats) -> Floats:
        """Return the new vectors (n, dim_out) of unit rows (n, dim_in), as `apply` of them."""
        return self._mapped(X, _finite_rows)

    def query(self, X: NDArray[Any]) -> Floats:
        """Return what to search the encoder's own, stored vectors with: nothing is written.

        ``M M' (unit(x) - offset)``, with M the matrix: its dot product with a stored vector y is
        that of the projected x and y, but for ``offset``, which is the same for all y. M M' is
        the orthogonal projection Q Q' where the columns are orthonormal, as those of PCA← are.
        A cosine of projected vectors also divides by the length of the projected y, which no
        single vector can: reranking the first results by their projected cosines does.

        Parameters
        ----------
        X : ndarray of shape (n, dim_in)
            Vectors of the encoder; their lengths do not matter.

        Returns
        -------
        ndarray of shape (n, dim_in)
            float32, not scaled; for vectors compared by cosine or dot product.

        Raises
        ------
        InputError
            For another shape, or values that are not finite.

        Examples
        --------
        >>> half = Projection(np.eye(4, 2, dtype=np.float32), "pca", "clip", "3f9a")
        >>> half.query(np.array([[3.0, 0.0, 4.0, 0.0]]))
        array([[0.6, 0. , 0. , 0. ]], dtype=float32)
        """
        return np.asarray(self.apply(X) @ self.matrix.T)

    def _mapped(self, X: NDArray[Any], unit_of: Callable[[NDArray[Any]], Floats]) -> Floats:
        def fill(rows: NDArray[Any], Z: Floats) -> None:
            unit = unit_of(rows)
            if self.offset is not None:
                unit = unit - self.offset
            np.matmul(unit, self.matrix, out=Z)

        return self._in_blocks(X, fill)

    def apply_to_texts(self, T: NDArray[Any]) -> Floats:
        """Return text embeddings `T` (n, dim_in) in the space of projected images, (n, dim_out).

        For measurements such as the modality gap; searching by text works better on the
        encoder's own vectors. Lengths do not matter; values that are not finite stay so.

        Raises
        ------
        InputError
            For another shape, or if the map subtracts a mean of images, which means nothing for
            texts.
        """
        T = np.asarray(T)
        if T.ndim != 2 or T.shape[1] != self.dim_in:
            raise InputError(
                f"this projection takes texts of shape (n, {self.dim_in}), got {T.shape}; give "
                f"the text embeddings of {self.encoder}"
            )
        if self.offset is not None:
            raise InputError(
                f"{self.method!r} subtracts the mean of a collection's images, so it takes no "
                f"texts; compare texts with images on the encoder's own vectors (raw)"
            )
        return np.asarray(unit_rows(T) @ self.matrix)

    def warnings(self) -> list[str]:
        """Return what a user should know before relying on it; usually nothing."""
        found = super().warnings()
        n_distinct, rank = self.recipe.get("n_distinct"), self.recipe.get("rank")
        if n_distinct is not None and n_distinct < self.dim_in:
            found.append(
                f"{n_distinct} different anchors for {self.dim_in} dimensions: the kept "
                f"directions follow these names closely; 1000 and more are better"
            )
        if n_distinct is None or rank is None:
            return found
        if rank <= self.dim_in // 2 < n_distinct:
            found.append(
                f"the texts of {n_distinct} anchors span only {rank} of {self.dim_in} dimensions: "
                f"the text tower reaches no others, so these directions hardly depend on the names"
            )
        elif rank - self.dim_out < _TOO_SPREAD * self.dim_out:
            found.append(
                f"the anchors span {rank} directions and {self.dim_out} are kept: the last ones "
                f"are near noise; keep fewer or add anchors"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the facts that a person or a script needs, as JSON values."""
        return super().to_dict() | {key: self.recipe.get(key) for key in _SHOWN}

    def _tensors(self) -> dict[str, Floats]:
        parts = {"matrix": self.matrix, "offset": self.offset, "text_mean": self.text_mean}
        return {name: part for name, part in parts.items() if part is not None}

    @classmethod
    def load(cls, path: str | Path) -> Projection:
        """Read a saved projection; the file is not trusted.

        Raises
        ------
        ProjectionError
            If it is absent, truncated, foreign, of a newer version or changed since it was saved.
        """
        return cls.read(Path(path), *read_map(Path(path)))

    @classmethod
    def read(cls, path: Path, about: Mapping[str, Any], tensors: Mapping[str, Any]) -> Projection:
        """Return what a file says and holds as a projection; see `load`."""
        if "matrix" not in tensors and about.get("method") == POSTERIOR:
            raise ProjectionError(
                f"{path} holds posterior codes, which are no projection: they can be stored, "
                f"searched and compared, but nothing else can be mapped by them; give a projection"
            )
        return super().read(path, about, tensors)

    @classmethod
    def _of_parts(
        cls, path: Path, about: Mapping[str, Any], tensors: Mapping[str, Any]
    ) -> Projection:
        return cls(
            tensors["matrix"],
            str(about["method"]),
            str(about["encoder"]),
            str(about["encoder_fingerprint"]),
            tensors.get("offset"),
            dict(about["recipe"]),
            tensors.get("text_mean"),
            str(path),
        )

    def __repr__(self) -> str:
        """Return method, dimensions, encoder and the short fingerprint."""
        return (
            f"Projection({self.method!r}, {self.dim_in} > {self.dim_out}, {self.encoder!r}, "
            f"{self.fingerprint[:12]})"
        )


def libraries() -> dict[str, str]:
    """Return the versions that a fit depends on, for its recipe."""
    return {name: metadata.version(name) for name in ("intramodal", "numpy", "scikit-learn")}


def _texts_of(anchors: AnchorSet, text: NDArray[Any]) -> NDArray[Any]:
    """Return the text embeddings, checked: one row an anchor, none of them zero."""
    text = np.asarray(text)
    if text.ndim != 2 or len(text) != len(anchors):
        raise MismatchError(
            f"{len(anchors)} anchors need as many rows of text embeddings, got an array of "
            f"shape {text.shape}; embed the prompts of this anchor set, in its order"
        )
    zero = np.flatnonzero(~text.any(axis=1))
    if len(zero):
        raise InputError(
            f"row {zero[0]} of the text embeddings is zero; embed anchor "
            f"{anchors.names[zero[0]]!r} again"
        )
    return text


def _recipe(fitted: Any, anchors: AnchorSet) -> dict[str, Any]:
    return {
        "anchors": anchors.fingerprint,
        "anchors_name": anchors.name,
        "template": anchors.template
        if isinstance(anchors.template, str)
        else list(anchors.template),
        "n_anchors": len(anchors),
        "n_distinct": anchors.n_distinct,
        "normalize_text": fitted.normalize,
        "center_text": fitted.center,
        "n_components": fitted.n_components_,
        "rank": fitted.rank_,
        "spectrum": [float(value) for value in fitted.spectrum_],
        "libraries": libraries(),
    }


def _finite_rows(X: NDArray[Any]) -> Floats:
    require_finite(X, "the vectors to project")
    return X


def _finite_unit_rows(X: NDArray[Any]) -> Floats:
    """Return unit rows of `X` (n, d) in an array of their own; zero rows stay zero."""
    unit = unit_rows(X)
    # A row with NaN or infinity has no unit vector: its largest component tells.
    if not np.isfinite(np.einsum("ij,ij->i", unit, unit)).all():
        require_finite(X, "the vectors to project")
    return unit


def _row(values: NDArray[Any], length: int, what: str) -> Floats:
    row = np.array(values, dtype=np.float32)
    if row.shape != (length,):
        raise InputError(f"the {what} must have shape ({length},), got {row.shape}")
    return _finite(row, what)


def _finite(values: Floats, what: str) -> Floats:
    if not np.isfinite(values).all():
        raise InputError(f"the {what} of a projection holds NaN or infinity")
    values.setflags(write=False)
    return values
