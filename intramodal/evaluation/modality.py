"""Images against texts: two histograms, their overlap, and the gap between the means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.evaluation.histogram_bands import Bands
from intramodal.evaluation.results import json_values

Array = NDArray[np.float64]

_MODALITY_FIGURES = ("overlap", "gap", "image_mean", "text_mean", "n_image", "n_text")


@dataclass(frozen=True, eq=False)
class Modality:
    """Image-image against text-image cosines.

    Parameters
    ----------
    edges : ndarray of shape (n_bins + 1,)
        Of cosines, shared by both histograms.
    image_density, text_density : ndarray of shape (n_bins,)
        Histograms of image-image and of text-image cosines, each of area 1.
    overlap : float
        Common area of the two histograms.
    gap : float
        Distance between the mean unit image and the mean unit text.
    image_mean, text_mean : float
        Mean image-image and mean text-image cosine. A text tower of another model shows in
        the latter: it is near zero then.
    n_image, n_text : int
        Pairs in each histogram.
    standard_errors : dict of str to float
        Of overlap and means, where pairs were sampled; else empty.
    bands : Bands or None
        As of `MisalignmentResult`; the texts stay as they are.
    """

    edges: Array
    image_density: Array
    text_density: Array
    overlap: float
    gap: float
    image_mean: float
    text_mean: float
    n_image: int
    n_text: int
    standard_errors: Mapping[str, float] = dataclass_field(default_factory=dict)
    bands: Bands | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        a, b = (self.bands.a, self.bands.b) if self.bands else (None, None)
        parts = [
            histogram_part("image-image", self.n_image, self.image_density, a),
            histogram_part("text-image", self.n_text, self.text_density, b),
        ]
        figures = {name: getattr(self, name) for name in _MODALITY_FIGURES}
        errors = dict(self.standard_errors)
        values: dict[str, Any] = json_values(
            {"edges": self.edges, "parts": parts, **figures, "standard_errors": errors}
            | whom(self.bands)
        )
        return values


def histogram_part(name: str, n: int, density: Array, interval: Array | None) -> dict[str, Any]:
    """Return one histogram as a plot takes it."""
    band = {} if interval is None else {"interval": interval}
    return {"label": f"{name} (n={n:,} pairs)", "density": density, **band}


def whom(bands: Bands | None) -> dict[str, str]:
    """Return whom the bands of a plot speak of, if there are any."""
    return {"speaks_of": bands.speaks_of} if bands else {}
