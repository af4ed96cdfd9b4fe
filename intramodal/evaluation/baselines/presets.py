"""Published constants and search ranges, one set a data set.

Sources, by the repositories that belong to the papers:

- Tip-Adapter: ``gaopengcuhk/Tip-Adapter``, ``configs/*.yaml`` (Zhang et al., ECCV 2022);
- Tip-X: ``vishaal27/SuS-X``, ``tipx.py`` (Udandarao et al., ICCV 2023);
- CODER: ``YCaigogogo/CODER``, its configs (Yi et al., CVPR 2024);
- APE: ``yangyangyang127/APE``, ``configs/*.yaml`` (Zhu et al., ICCV 2023);
- LDA with text: ``mrflogs/ICLR24``, ``main_few_shots.py`` (Wang et al., ICLR 2024).

All are for CLIP's RN50, whose embeddings have 1024 dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intramodal.errors import InputError

DEFAULT_PRESET = "imagenet"
"""The data set that covers most subjects."""

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
    if preset not in TIP_ADAPTER:
        raise InputError(f"no preset {preset!r}; choose from {', '.join(sorted(TIP_ADAPTER))}")
