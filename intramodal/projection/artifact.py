"""`Projection`: an affine map of stored vectors as one file, with the recipe it came from.

``z = (unit(x) - offset) @ matrix``. The offset is zero for PCA← (paper, equation 11: no centring)
and the mean of the corpus for centred PCA←.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, MismatchError, ProjectionError
from intramodal.projection.anchors import AnchorSet
from intramodal.types import Floats, fingerprint, unit_rows

FORMAT = "intramodal projection"
_VERSION = 1
_TOO_SPREAD = 0.25
"""Share of the anchors' directions beyond those kept, below which the last ones are noise."""


@dataclass(frozen=True, eq=False)
class Projection:
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

    def __post_init__(self) -> None:
        """Check shapes and values once, for every way in."""
        matrix = np.array(self.matrix, dtype=np.float32, order="C")
        if matrix.ndim != 2 or not 1 <= matrix.shape[1] <= matrix.shape[0]:
            raise InputError(
                f"a projection matrix has shape (dim_in, dim_out) with dim_out <= dim_in, "
                f"got {matrix.shape}"
            )
        object.__setattr__(self, "matrix", _finite(matrix, "matrix"))
        if self.offset is None:
            return
        offset = np.array(self.offset, dtype=np.float32)
        if offset.shape != (len(matrix),):
            raise InputError(f"the offset must have shape ({len(matrix)},), got {offset.shape}")
        object.__setattr__(self, "offset", _finite(offset, "offset"))

    @classmethod
    def from_text(
        cls,
        text: NDArray[Any],
        *,
        anchors: AnchorSet,
        encoder: str,
        encoder_fingerprint: str,
        n_components: int | None = None,
        center: NDArray[Any] | None = None,
    ) -> Projection:
        """Fit PCA← from the text embeddings of the anchors (paper, section 3.3).

        Parameters
        ----------
        text : ndarray of shape (n_anchors, d)
            Embeddings of ``anchors.prompts()``, in order; rows are normalised here.
        anchors : AnchorSet
        encoder, encoder_fingerprint : str
            The model that made `text`.
        n_components : int, optional
            Kept dimensions, half of d by default.
        center : ndarray of shape (d,), optional
            Mean of the corpus' unit vectors: makes it centred PCA←.

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
        fitted = TextPCA(n_components).fit(text)
        return cls(
            matrix=fitted.components_.T.astype(np.float32),
            method="pca" if center is None else "pca_centered",
            encoder=encoder,
            encoder_fingerprint=encoder_fingerprint,
            offset=None if center is None else np.asarray(center, dtype=np.float32),
            recipe=_recipe(fitted, anchors),
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
        """Name of the vector it fills unless another is given."""
        return self.method

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the map, its method and its encoder; the recipe's prose is not part."""
        declared = {
            "method": self.method,
            "encoder_fingerprint": self.encoder_fingerprint,
            "shape": list(self.matrix.shape),
            "is_centred": self.offset is not None,
        }
        return fingerprint(declared, *(part.tobytes() for part in self._tensors().values()))

    def apply(self, X: NDArray[Any]) -> Floats:
        """Return the projected vectors (n, dim_out) of `X` (n, dim_in); lengths do not matter.

        Raises
        ------
        InputError
            For another shape, or values that are not finite.
        """
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != self.dim_in:
            raise InputError(
                f"this projection takes vectors of shape (n, {self.dim_in}), got {X.shape}; "
                f"give the vectors of {self.encoder}"
            )
        if not np.isfinite(X).all():
            raise InputError("vectors to project hold NaN or infinity; leave those points out")
        unit = unit_rows(X)
        if self.offset is not None:
            unit = unit - self.offset
        return np.asarray(unit @ self.matrix, dtype=np.float32)

    def warnings(self) -> list[str]:
        """Return what a user should know before relying on it; usually nothing."""
        found = []
        n_distinct, rank = self.recipe.get("n_distinct"), self.recipe.get("rank")
        if n_distinct is not None and n_distinct < self.dim_in:
            found.append(
                f"{n_distinct} different anchors for {self.dim_in} dimensions: the kept "
                f"directions follow these names closely; 1000 and more are better"
            )
        if rank is not None and rank - self.dim_out < _TOO_SPREAD * self.dim_out:
            found.append(
                f"the anchors span {rank} directions and {self.dim_out} are kept: the last ones "
                f"are near noise; keep fewer or add anchors"
            )
        return found

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, under a temporary name first, then renamed."""
        from safetensors.numpy import save

        path = Path(path)
        about = {
            "format": FORMAT,
            "version": _VERSION,
            "method": self.method,
            "encoder": self.encoder,
            "encoder_fingerprint": self.encoder_fingerprint,
            "fingerprint": self.fingerprint,
            "recipe": dict(self.recipe),
        }
        content = save(self._tensors(), metadata={"intramodal": json.dumps(about, sort_keys=True)})
        partial = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise ProjectionError(
                f"the projection cannot be written to {path} ({error}); name another file"
            ) from error

    @classmethod
    def load(cls, path: str | Path) -> Projection:
        """Read a saved projection; the file is not trusted.

        Raises
        ------
        ProjectionError
            If it is absent, truncated, foreign, of a newer version or changed since it was saved.
        """
        about, tensors = _read(Path(path))
        try:
            loaded = cls(
                tensors["matrix"],
                str(about["method"]),
                str(about["encoder"]),
                str(about["encoder_fingerprint"]),
                tensors.get("offset"),
                dict(about["recipe"]),
            )
            saved = about["fingerprint"]
        except (KeyError, TypeError, ValueError) as error:
            raise ProjectionError(
                f"{path} is not a complete projection ({error}); fit it again"
            ) from error
        if loaded.fingerprint != saved:
            raise ProjectionError(f"{path} was changed after it was saved; fit it again")
        return loaded

    def _tensors(self) -> dict[str, Floats]:
        offset = {} if self.offset is None else {"offset": self.offset}
        return {"matrix": self.matrix, **offset}

    def __repr__(self) -> str:
        """Return method, dimensions, encoder and the short fingerprint."""
        return (
            f"Projection({self.method!r}, {self.dim_in} > {self.dim_out}, {self.encoder!r}, "
            f"{self.fingerprint[:12]})"
        )


def _recipe(fitted: Any, anchors: AnchorSet) -> dict[str, Any]:
    return {
        "anchors": anchors.fingerprint,
        "template": anchors.template,
        "n_anchors": len(anchors),
        "n_distinct": anchors.n_distinct,
        "normalize_text": fitted.normalize,
        "n_components": fitted.n_components_,
        "rank": fitted.rank_,
        "spectrum": [float(value) for value in fitted.spectrum_],
    }


def _finite(values: Floats, what: str) -> Floats:
    if not np.isfinite(values).all():
        raise InputError(f"the {what} of a projection holds NaN or infinity")
    values.setflags(write=False)
    return values


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the description and the arrays of a file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})["intramodal"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise ProjectionError(
            f"there is no projection {path}; make one with `intramodal fit`"
        ) from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ProjectionError(
            f"{path} is not a projection of intramodal ({error}); make one with `intramodal fit`"
        ) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ProjectionError(f"{path} is not a projection of intramodal; fit it again")
    if about.get("version") != _VERSION:
        raise ProjectionError(
            f"{path} has version {about.get('version')!r}, this intramodal reads {_VERSION}; "
            f"upgrade intramodal, or fit it again"
        )
    return about, tensors
