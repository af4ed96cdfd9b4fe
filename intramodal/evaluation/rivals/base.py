"""What a method sees of one episode, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from intramodal.types import Floats

LOGIT_SCALE = 100.0
"""What cosines to texts are multiplied by: CLIP's learned scale, which all these papers use."""

_N_AFFINITIES = 2**22
"""Affinities of images to shots held at once, 16 MB; or those of one image if larger."""

Rows = NDArray[np.int64]
"""Rows of the episode's images."""


@dataclass(frozen=True, eq=False)
class Episode:
    """Shots, texts and unlabelled test images; labels are the order of classes, nothing else.

    All vectors are unit rows; images are named by their rows of `X`.
    """

    X: Floats
    """Images in the space of the texts, (n, d)."""
    Z: Floats
    """What linear classifiers compare images by: `X`, or projected images, (n, d')."""
    W: Floats
    """Text of every class, (K, d)."""
    bank: Floats
    """Texts that CODER describes images by, (B, d)."""
    owners: NDArray[np.int64]
    """Class of each of them, (B,)."""
    is_name: NDArray[np.bool_]
    """Whether it names the class, and is no attribute, (B,)."""
    shots: Rows
    """Labelled images by class, (K, s)."""
    validation: Rows
    """Labelled images that tune, by class, (K, v); v = 0: take the published constants."""
    tested: Rows
    """Images to be classified, (m,)."""
    preset: str
    """The data set whose published constants and ranges are taken."""
    T: Floats | None = None
    """`W` in the space of `Z`, (K, d'), as it comes out; None where the map is unknown."""

    @property
    def n_shots(self) -> int:
        """Labelled images a class."""
        return int(self.shots.shape[1])

    @property
    def is_tuned(self) -> bool:
        """Whether there are images to tune on."""
        return self.validation.size > 0

    @cached_property
    def keys(self) -> Floats:
        """Unit embeddings (K s, d) of the shots, class after class."""
        return self.X[self.shots.ravel()]

    @property
    def tuning(self) -> Rows:
        """Rows (K v,) of the images that tune."""
        return self.validation.ravel()

    @property
    def truth(self) -> Rows:
        """Class (K v,) of the images that tune."""
        return np.repeat(np.arange(len(self.validation)), self.validation.shape[1])

    def zero_shot(self, rows: Rows) -> Floats:
        """Return the logits (m, K) of the texts alone."""
        return np.asarray(LOGIT_SCALE * (self.X[rows] @ self.W.T), dtype=np.float32)

    def blocks(self, rows: Rows) -> list[Rows]:
        """Return `rows` in parts whose affinities to all shots fit into memory."""
        size = max(1, _N_AFFINITIES // max(1, self.shots.size))
        return [rows[start : start + size] for start in range(0, len(rows), size)]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A method after it has seen an episode's shots."""

    logits: Callable[[Rows], Floats]
    """From rows (m,) to logits (m, K)."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    """Constants it took or found."""


Method = Callable[[Episode], Fitted]
"""One form of all methods."""
