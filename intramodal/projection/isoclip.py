"""IsoCLIP: the middle of the spectrum of the two projectors, as a map of stored vectors.

CLIP ends in two matrices, ``x = W_i f`` and ``t = W_t g``; the contrastive loss sees pictures and
texts through ``Psi = W_i^T W_t = U S V^T`` only. IsoCLIP keeps the directions of ``U`` between the
strongest and the weakest. It is published as a change of the projector, ``W_i U_k U_k^T f``. Where
a tower ends in a bias-free matrix, the same comes out of the stored vector: the kept columns of
``U`` lie in the row space of ``W_i``, so ``U_k^T f = U_k^T pinv(W_i) x``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError, RankError, reason
from intramodal.projection.projection import Projection, libraries
from intramodal.types import Floats, fingerprint, require_finite

Projectors = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Those of image and text tower, (d, width) each."""
METHOD = "isoclip"

# simomagi/IsoCLIP, src/retrieval.py and src/encode_no_projection.py: the image-image settings,
# directions dropped at the (top, bottom). SigLIP2's are left out: there the published method
# replaces the pooling head by a linear stand-in and needs the features before it.
_CLIP_B32, _CLIP_B16, _CLIP_L14 = (150, 50), (200, 50), (250, 200)
PUBLISHED = {
    "open_clip:ViT-B-32:openai": _CLIP_B32,
    "open_clip:ViT-B-32-quickgelu:openai": _CLIP_B32,
    "hf:openai/clip-vit-base-patch32": _CLIP_B32,
    "open_clip:ViT-B-16:openai": _CLIP_B16,
    "open_clip:ViT-B-16-quickgelu:openai": _CLIP_B16,
    "hf:openai/clip-vit-base-patch16": _CLIP_B16,
    "open_clip:ViT-L-14:openai": _CLIP_L14,
    "open_clip:ViT-L-14-quickgelu:openai": _CLIP_L14,
    "hf:openai/clip-vit-large-patch14": _CLIP_L14,
    "open_clip:ViT-B-32:datacomp_xl_s13b_b90k": (50, 50),
    "open_clip:ViT-B-16:datacomp_xl_s13b_b90k": (100, 100),
    "open_clip:PE-Core-B-16:meta": (300, 50),
}
"""(k_top, k_bottom) by model; a revision after ``@`` does not matter."""


@dataclass(frozen=True)
class IsoClip:
    """How many directions of the projectors' spectrum are dropped at either end.

    Parameters
    ----------
    k_top, k_bottom : int
        Directions dropped among the strongest and the weakest.

    References
    ----------
    IsoCLIP, code at github.com/simomagi/IsoCLIP; the sizes there are tuned per model.

    Examples
    --------
    >>> IsoClip.published("open_clip:ViT-B-32:openai")
    IsoClip(k_top=150, k_bottom=50)
    >>> W = np.diag([4.0, 3.0, 2.0, 1.0])
    >>> middle = IsoClip(1, 1).projection(W, W, encoder="clip", encoder_fingerprint="3f9a")
    >>> middle.dim_in, middle.dim_out
    (4, 2)
    """

    k_top: int
    k_bottom: int

    def __post_init__(self) -> None:
        """Refuse what drops less than nothing."""
        for name in ("k_top", "k_bottom"):
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"{name} must be a whole number from 0, got {value!r}")

    @classmethod
    def published(cls, model: str) -> IsoClip:
        """Return the authors' setting for image-image search with a model.

        Raises
        ------
        InputError
            If none is published for it.
        """
        known = PUBLISHED.get(model.partition("@")[0])
        if known is None:
            raise InputError(
                f"IsoCLIP has no published sizes for {model!r} (it has for "
                f"{', '.join(PUBLISHED)}); give both k_top and k_bottom"
            )
        return cls(*known)

    def projection(
        self,
        image: NDArray[Any],
        text: NDArray[Any],
        *,
        encoder: str,
        encoder_fingerprint: str,
    ) -> Projection:
        """Return the map of stored vectors that has the cosines of IsoCLIP's features.

        Parameters
        ----------
        image, text : ndarray of shape (d, d_image) and (d, d_text)
            The matrices that both towers end in (`HasProjectors.projectors`); no bias.
        encoder, encoder_fingerprint : str
            The model they are of.

        Raises
        ------
        InputError
            If the matrices do not belong together, or nothing is kept.
        RankError
            If directions are to be kept that the projectors do not share.
        """
        W_image, W_text = _checked(image), _checked(text)
        if len(W_image) != len(W_text):
            raise InputError(
                f"the projectors must end in the same space, got shapes {W_image.shape} and "
                f"{W_text.shape}; give them as (dimensions of the vectors, width of the tower)"
            )
        U, singular, _ = np.linalg.svd(W_image.T @ W_text, full_matrices=False)
        kept = self._kept(singular, len(W_image), W_image.shape[1] + W_text.shape[1])
        return Projection(
            matrix=stored_form(W_image, U[:, kept]),
            method=METHOD,
            encoder=encoder,
            encoder_fingerprint=encoder_fingerprint,
            recipe=self._recipe(W_image, W_text, singular, kept),
        )

    def _kept(self, singular: NDArray[np.float64], d: int, n_terms: int) -> slice:
        """Return which singular directions are kept, out of the d of the embedding."""
        stop = d - self.k_bottom
        if self.k_top >= stop:
            raise InputError(
                f"dropping {self.k_top} directions at the top and {self.k_bottom} at the bottom "
                f"leaves none of {d}; give a smaller `k_top` or `k_bottom`"
            )
        # Weights are float32: the singular values of their rounding errors are noise.
        noise = n_terms**0.5 * float(np.finfo(np.float32).eps) * singular[0]
        rank = int((singular > noise).sum())
        if stop > rank:
            raise RankError(
                f"the projectors share {rank} directions but directions up to {stop} are to be "
                f"kept; give `k_bottom` of at least {d - rank}"
            )
        return slice(self.k_top, stop)

    def _recipe(
        self,
        image: NDArray[np.float64],
        text: NDArray[np.float64],
        singular: NDArray[np.float64],
        kept: slice,
    ) -> dict[str, Any]:
        shapes = {"image": list(image.shape), "text": list(text.shape)}
        return {
            "k_top": self.k_top,
            "k_bottom": self.k_bottom,
            "n_components": kept.stop - kept.start,
            "projectors": fingerprint(shapes, image.tobytes(), text.tobytes()),
            "projector_shapes": shapes,
            "singular_values": [float(value) for value in singular],
            "libraries": libraries(),
        }


def stored_form(image: NDArray[np.float64], U: NDArray[np.float64]) -> Floats:
    """Return the matrix (d, k) for stored vectors of the features' directions `U` (d_image, k).

    ``W U U^T f`` has the cosines of ``R U^T f``, where ``W U = Q R`` and Q has orthonormal
    columns: k coordinates instead of d.
    """
    R = np.linalg.qr(image @ U, mode="r")
    return np.asarray((R @ U.T @ np.linalg.pinv(image)).T, dtype=np.float32)


def _checked(projector: NDArray[Any]) -> NDArray[np.float64]:
    W = np.asarray(projector, dtype=np.float64)
    require_finite(W, "a projector")
    if W.ndim != 2 or not W.size:
        raise InputError(
            f"a projector is a matrix (d, width of the tower) of finite numbers, got shape "
            f"{W.shape}; give the weights that the tower ends in"
        )
    if not W.any():
        raise InputError("a projector holds zeros only; give the weights that the tower ends in")
    return W


def read_projectors(path: Path) -> Projectors:
    """Read the tensors ``image`` (d, d_image) and ``text`` (d, d_text) of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            image, text = (file.get_tensor(name) for name in ("image", "text"))
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as projectors ({reason(error)}); give a safetensors file "
            f"with the float tensors 'image' and 'text', each (dimensions of the vectors, "
            f"width of the tower)"
        ) from error
    return _wide(image), _wide(text)


def _wide(matrix: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(matrix, dtype=np.float64)
