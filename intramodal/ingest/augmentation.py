"""One augmented view of each image, as few-shot papers take it of shots.

RandomResizedCrop and a flip of CLIP's few-shot papers (CoOp, Tip-Adapter; scale .5 to 1), drawn
by the point's id and a seed, so that every process makes the same view of an image.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intramodal.store.manifest import AUGMENTED, AUGMENTED_VIEW, VectorOrigin
from intramodal.types import Encoder, fingerprint

if TYPE_CHECKING:
    from PIL import Image

RULE = "crop of area .5 to 1 and ratio 3/4 to 4/3, bicubic to the input's side, flip .5; v1"
"""What `AugmentedView.crop` does; part of the vectors' identity. Change it with the behaviour."""

_AREA = (0.5, 1.0)
_RATIO = (3 / 4, 4 / 3)
_TRIES = 10


def augmented(vector: str) -> str:
    """Return the name of the vector that holds the augmented views of another one's images."""
    return f"{vector}_{AUGMENTED}"


@dataclass(frozen=True)
class AugmentedView:
    """How one augmented view of each image is made and encoded.

    Its vectors are those of another preprocessing: they have a name and a fingerprint of their
    own, and nothing that asks for the encoder's vectors takes them.

    Parameters
    ----------
    encoder : Encoder
    seed : int
        With the id of its point it decides an image's crop and flip.
    """

    encoder: Encoder
    seed: int = 0

    @property
    def name(self) -> str:
        """The encoder's name, with what makes it another."""
        return self.encoder.name + AUGMENTED_VIEW

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that changes the vectors."""
        return {"encoder": self.encoder.fingerprint, "view": RULE, "seed": self.seed}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `identity`."""
        return fingerprint(self.identity)

    def origin(self) -> VectorOrigin:
        """Return the origin of its vectors."""
        precision = self.encoder.precision
        return VectorOrigin(self.name, self.fingerprint, precision=precision, method=AUGMENTED)

    def crop(self, image: Image.Image, point: str) -> NDArray[np.uint8]:
        """Return the view (side, side, 3) of an upright RGB image; thread-safe."""
        from PIL.Image import Resampling, Transpose

        rng = _generator(self.seed, point)
        side = self.encoder.image_size
        # Cut out first, as torchvision does: a box of `resize` looks at pixels beyond it.
        view = image.crop(drawn_box(image.size, rng)).resize((side, side), Resampling.BICUBIC)
        if rng.random() < 0.5:
            view = view.transpose(Transpose.FLIP_LEFT_RIGHT)
        return np.asarray(view, dtype=np.uint8)


def drawn_box(size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a random part of an image of (width, height).

    Area and logarithm of the ratio are uniform. Where no such part fits after ten tries, the
    middle with the nearest allowed ratio (as torchvision's RandomResizedCrop).
    """
    width, height = size
    for _ in range(_TRIES):
        area = width * height * rng.uniform(*_AREA)
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.integers(0, width - w, endpoint=True))
            top = int(rng.integers(0, height - h, endpoint=True))
            return left, top, left + w, top + h
    return middle_box(size)


def middle_box(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the largest box in the middle of an image whose ratio is an allowed one."""
    width, height = size
    w = min(width, max(1, round(height * _RATIO[1])))
    h = min(height, max(1, round(width / _RATIO[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _generator(seed: int, point: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}/{point}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
