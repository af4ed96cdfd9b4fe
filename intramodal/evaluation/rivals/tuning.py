"""The constants of the rival methods: published ones, and the search on validation images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError

DEFAULT_PRESET = "imagenet"
"""The data set that covers most subjects."""

PAPER_PRESET = "paper"
"""Not a data set: the weights of the paper's own classifiers beside texts, fixed."""

PAPER_WEIGHT = 0.5
"""Weight of the texts, and of the classifier of shots, in these."""

PRESET_DIM = 1024
"""Dimensions of the embeddings for which APE's numbers of channels were published."""


@dataclass(frozen=True)
class CachePreset:
    """Tip-Adapter's weight of the cache, and the upper ends of its search."""

    alpha: float
    beta_stop: float
    alpha_stop: float
    beta: float = 1.0


@dataclass(frozen=True)
class CoderPreset:
    """CODER's sharpness and weight of the cache."""

    beta: float
    alpha: float


@dataclass(frozen=True)
class ApePreset:
    """APE's choice of channels, its weight of the cache, and the upper ends of its search."""

    similarity_weight: float
    variance_weight: float
    n_channels: int
    alpha: float
    beta_stop: float
    alpha_stop: float
    gamma_stop: float
    n_gammas: int = 20
    beta: float = 1.0
    gamma: float = 0.1


TIP_ADAPTER = {
    "caltech101": CachePreset(3, 12, 5),
    "dtd": CachePreset(2, 13, 13),
    "eurosat": CachePreset(2, 12, 10),
    "fgvc": CachePreset(5, 30, 30),
    "food101": CachePreset(1.17, 10, 10),
    "imagenet": CachePreset(1.17, 7, 3),
    "oxford_flowers": CachePreset(10, 50, 50),
    "oxford_pets": CachePreset(1.17, 7, 3),
    "stanford_cars": CachePreset(3, 20, 10),
    "sun397": CachePreset(1.17, 12, 10),
    "ucf101": CachePreset(3, 7, 3),
}

CODER = {
    "caltech101": CoderPreset(24.76, 100),
    "dtd": CoderPreset(30.18, 2.57),
    "eurosat": CoderPreset(91.34, 1.73),
    "fgvc": CoderPreset(96, 9.775),
    "food101": CoderPreset(1, 1),
    "imagenet": CoderPreset(72, 1.66),
    "oxford_flowers": CoderPreset(38, 4.37),
    "oxford_pets": CoderPreset(26, 1),
    "stanford_cars": CoderPreset(23.5, 1.5),
    "sun397": CoderPreset(43.57, 1.18),
    "ucf101": CoderPreset(49.51, 2),
}

APE = {
    "caltech101": ApePreset(0.5, 0.5, 800, 1, 7, 7, 1),
    "dtd": ApePreset(0.5, 0.5, 400, 3, 7, 7, 1),
    "eurosat": ApePreset(0.9, 0.1, 700, 1, 30, 5, 1.5),
    "fgvc": ApePreset(0.1, 0.9, 800, 5, 20, 10, 1),
    "food101": ApePreset(0.3, 0.7, 700, 0.8, 7, 7, 1),
    "imagenet": ApePreset(0.7, 0.3, 500, 2, 7, 7, 0.5, n_gammas=5),
    "oxford_flowers": ApePreset(0.4, 0.6, 700, 3, 7, 7, 1),
    "oxford_pets": ApePreset(0.7, 0.3, 800, 2, 7, 7, 1),
    "stanford_cars": ApePreset(0.6, 0.4, 500, 1, 10, 7, 1),
    "sun397": ApePreset(0.7, 0.3, 800, 1, 10, 7, 1),
    "ucf101": ApePreset(0.3, 0.7, 700, 2, 10, 7, 1.5),
}

TIP_X_TEMPERATURE = 0.5
"""Of the softmax that turns cosines to texts into a signature; cosines are divided by it."""

LINEAR_WEIGHTS = np.array([1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0])
"""Weights of a linear classifier beside the texts."""


def check_preset(preset: str) -> None:
    """Raise `InputError` unless there are constants of that name."""
    known = (*sorted(TIP_ADAPTER), PAPER_PRESET)
    if preset not in known:
        raise InputError(f"no preset {preset!r}; choose from {', '.join(known)}")


Grid = NDArray[np.float64]

_N_LOGITS = 2**19
"""Logits of constants that are tried at once, 4 MB; or those of one if larger."""


def steps(start: float, stop: float, count: int) -> Grid:
    """Return `count` even steps from `start` that stop one short of `stop`, as published code."""
    return np.asarray(start + np.arange(count) * (stop - start) / count)


def right_counts(
    base: NDArray[Any], slope: NDArray[Any], truth: NDArray[np.int64], weights: Grid
) -> NDArray[np.int64]:
    """Return how many images ``base + weight * slope`` classifies right, (..., n_weights).

    `base` and `slope` are (..., m, K), their leading axes further constants, which broadcast;
    `truth` (m,) is the class of each image. Of equal logits the first class counts, but where two
    classes meet within rounding.
    """
    ahead, gain = (_before_others(part, truth) for part in (base, slope))
    with np.errstate(divide="ignore", invalid="ignore"):
        meets = -ahead / gain  # ahead + weight gain > 0; no gain: minus or plus infinity
    unclear = np.isnan(meets)  # no gain and level: the first class wins
    loses = np.arange(base.shape[-1]) < truth[:, None]
    meets = np.where(unclear, np.where(loses, np.inf, -np.inf), meets)
    low = np.where(gain >= 0, meets, -np.inf).max(axis=-1)[..., None]
    high = np.where(gain < 0, meets, np.inf).min(axis=-1)[..., None]
    return np.asarray(((low < weights) & (weights < high)).sum(axis=-2), dtype=np.int64)


def _before_others(logits: NDArray[Any], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    own = np.take_along_axis(logits, _column(truth, logits.ndim), axis=-1)
    return np.asarray(np.subtract(own, logits, dtype=np.float64))


def _column(truth: NDArray[np.int64], ndim: int) -> NDArray[np.int64]:
    return truth.reshape((1,) * (ndim - 2) + (-1, 1))


def batches(constants: Grid, n_logits: int) -> Iterator[Grid]:
    """Yield a grid in parts for which `n_logits` logits each fit into memory."""
    size = max(1, _N_LOGITS // max(1, n_logits))
    for start in range(0, len(constants), size):
        yield constants[start : start + size]


def first_best(counts: NDArray[np.int64], *grids: Grid) -> tuple[float, ...]:
    """Return the constants at the first of the largest counts (g_1, ...), one grid an axis."""
    at = np.unravel_index(int(counts.argmax()), counts.shape)
    return tuple(float(grid[i]) for grid, i in zip(grids, at, strict=True))
