"""Indicators that are said to show intra-modal misalignment (paper, section 3.2 and figure 5).

By class: how far the cosines of same-class pairs of images lie above those of other pairs. By
modality: image-image against text-image cosines, and the distance between the two means. The
paper finds them alike in models with and without an image-image loss: they describe a vector,
and retrieval decides about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.errors import InputError
from intramodal.evaluation.cosines import (
    Bands,
    ClassPairs,
    Contrast,
    Counts,
    Units,
    by_class,
    by_modality,
    count_all,
    count_between,
    count_sample,
    draw_any,
    of_sample,
)
from intramodal.evaluation.resampling import Population
from intramodal.evaluation.tasks import labels_of, require_read
from intramodal.evaluation.views import text_directions
from intramodal.runs.frames import data_frame, html_table, json_values
from intramodal.types import Floats, VectorTable, unit_rows

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


@dataclass(frozen=True, eq=False, repr=False)
class MisalignmentResult:
    """Same- against other-class cosines of one vector for one label field.

    Parameters
    ----------
    vector, field : str
    edges : ndarray of shape (n_bins + 1,)
        Of cosines, equally wide, shared by both histograms.
    same_density, other_density : ndarray of shape (n_bins,)
        Histograms of the pairs that share a class and of those that do not, each of area 1.
    overlap : float
        Common area of the two histograms: 0 apart, 1 the same. Depends on the number of bins.
    auc : float
        Chance that a same-class pair is more alike than an other pair, ties as one half.
    auc_error : float
        `auc` lies this near to the AUC of the single cosines; it comes from fine bins.
    d_prime : float
        Difference of the means in units of the root mean variance.
    same_mean, other_mean : float
        Mean cosines, to 1e-6.
    n_same, n_other : int
        Pairs in each histogram.
    standard_errors : dict of str to float
        Of overlap, AUC, d' and means as estimates of the figures over all pairs, where pairs
        were sampled; empty where all were taken. They do not say what other images would give.
    modality : Modality or None
        Where texts were given.
    bands : Bands or None
        95% intervals of the histograms, bin by bin: over other samples where pairs were sampled,
        over the population where one was given, else None.
    """

    vector: str
    field: str
    edges: Array
    same_density: Array
    other_density: Array
    overlap: float
    auc: float
    auc_error: float
    d_prime: float
    same_mean: float
    other_mean: float
    n_same: int
    n_other: int
    standard_errors: Mapping[str, float] = dataclass_field(default_factory=dict)
    modality: Modality | None = None
    bands: Bands | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values: "title", "edges" and "parts" to draw, and the figures."""
        a, b = (self.bands.a, self.bands.b) if self.bands else (None, None)
        parts = [
            histogram_part("same class", self.n_same, self.same_density, a),
            histogram_part("other class", self.n_other, self.other_density, b),
        ]
        values: dict[str, Any] = json_values(
            {
                "title": f"{self.vector} by {self.field}",
                "edges": self.edges,
                "parts": parts,
                **self._figures(),
                "standard_errors": dict(self.standard_errors),
                "modality": self.modality.to_dict() if self.modality else None,
                **whom(self.bands),
            }
        )
        return values

    def to_frame(self) -> Any:
        """Return a pandas data frame, one row a bin; needs the extra ``notebook``."""
        return data_frame(
            {
                "vector": self.vector,
                "field": self.field,
                "low": self.edges[:-1],
                "high": self.edges[1:],
                "same_density": self.same_density,
                "other_density": self.other_density,
            }
        )

    def _figures(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _FIGURES}

    def _repr_html_(self) -> str:
        row = {"vector": self.vector, "field": self.field, **self._figures()}
        return html_table(list(row), [list(row.values())])

    def __repr__(self) -> str:
        """Return vector, field, AUC, overlap and whether pairs were sampled."""
        how = "sampled" if self.standard_errors else "all"
        return (
            f"MisalignmentResult({self.vector!r} by {self.field!r}, AUC {self.auc:.4f}, "
            f"overlap {self.overlap:.4f}, {how} {self.n_same + self.n_other:,} pairs)"
        )


_FIGURES = (
    "overlap",
    "auc",
    "auc_error",
    "d_prime",
    "same_mean",
    "other_mean",
    "n_same",
    "n_other",
)


def measure_misalignment(  # noqa: PLR0913  settings with defaults
    table: VectorTable,
    *,
    vector: str,
    field: str,
    texts: Floats | None = None,
    n_bins: int = 80,
    max_pairs: int | None = None,
    seed: int = 0,
    population: Population | None = None,
) -> MisalignmentResult:
    """Return histograms and separation of same- and other-class cosines of one vector.

    All figures come from counts in 2^20 fine bins of the cosine: means are right to 1e-6, and
    `auc_error` bounds what the order within a bin can change in the AUC. Memory beyond the unit
    rows is a block of 2 million cosines and the counts, about 80 MB, whatever the number of pairs.

    Parameters
    ----------
    table : VectorTable
        Of `ImageCollection.table`.
    vector : str
        The named vector; rows are scaled to unit length here.
    field : str
        Payload field; pairs are of the same class if they share a value.
    texts : ndarray of shape (n_texts, d), optional
        Text embeddings in the space of this vector (projected, if it is projected): adds the
        histograms by modality and the gap, over the same images.
    n_bins : int
        Bins of the histograms, over the range that the cosines take.
    max_pairs : int, optional
        Sample so many pairs with replacement, half of them of the same class, instead of taking
        all; and as many again by modality.
    seed : int
        Of the sample.
    population : Population, optional
        Adds intervals of the histograms over all pairs: groups of its units are left out, with
        all pairs they take part in. Takes as long again.

    Raises
    ------
    InputError
        If the field cannot serve as a label, one kind of pair does not exist, or the texts are
        of another length than the vector.
    """
    X, classes = _images(table, vector, field)
    if n_bins < 1 or (max_pairs is not None and max_pairs < 2):
        raise InputError(
            f"n_bins must be 1 and max_pairs 2 at least, got {n_bins} and {max_pairs}"
        )
    if max_pairs is not None and max_pairs >= len(X) * (len(X) - 1) // 2:
        max_pairs = None
    rng = np.random.default_rng(seed)
    same, other = _by_class(X, classes, max_pairs, rng)
    _require_pairs(field, same, other)
    units = None if population is None or max_pairs else Units.of(population, classes.codes.rows)
    modality = None
    if texts is not None:
        T = _checked_texts(texts, X, vector)
        images, between = _by_modality(X, T, same + other, max_pairs, rng)
        contrast = Contrast(images, between, n_bins)
        bands = None if units is None else by_modality(X, T, contrast, units)
        modality = _modality(X, T, contrast, bands, is_sampled=max_pairs is not None)
    contrast = Contrast(same, other, n_bins)
    bands = None if units is None else by_class(X, classes, contrast, units)
    return MisalignmentResult(
        vector=vector,
        field=field,
        edges=contrast.edges,
        same_density=contrast.densities[0],
        other_density=contrast.densities[1],
        overlap=contrast.overlap,
        auc=contrast.auc,
        auc_error=contrast.auc_error,
        d_prime=contrast.d_prime,
        same_mean=contrast.means[0],
        other_mean=contrast.means[1],
        n_same=contrast.n_pairs[0],
        n_other=contrast.n_pairs[1],
        standard_errors=_class_errors(contrast) if max_pairs else {},
        modality=modality,
        bands=of_sample(contrast) if max_pairs else bands,
    )


def modality_gap(images: NDArray[Any], texts: NDArray[Any]) -> float:
    """Return the distance between the mean image and the mean text embedding.

    Parameters
    ----------
    images, texts : ndarray of shape (n, d) and (m, d)
        Embeddings; rows are normalised here, lengths do not matter.

    Examples
    --------
    >>> modality_gap(np.eye(2), np.eye(2))
    0.0
    """
    means = [unit_rows(X).mean(axis=0, dtype=np.float64) for X in (images, texts)]
    return float(np.linalg.norm(means[0] - means[1]))


def _images(table: VectorTable, vector: str, field: str) -> tuple[Floats, ClassPairs]:
    require_read(table, vectors=[vector], fields=[field])
    codes = labels_of(table, field)
    if not np.isfinite(table.vectors[vector][codes.rows]).all():
        raise InputError(f"vector {vector!r} holds NaN or infinity; leave those points out")
    X = table.unit(vector)
    return X if len(codes) == len(X) else X[codes.rows], ClassPairs(codes)


def _checked_texts(texts: Floats, X: Floats, vector: str) -> Floats:
    T = np.asarray(texts)
    if T.ndim != 2 or T.shape[1] != X.shape[1] or not len(T) or not np.isfinite(T).all():
        raise InputError(
            f"texts must be finite and of shape (n, {X.shape[1]}), as vector {vector!r} is, got "
            f"{T.shape}; project the texts as the images are"
        )
    return text_directions(T)


def _by_class(
    X: Floats, classes: ClassPairs, max_pairs: int | None, rng: np.random.Generator
) -> tuple[Counts, Counts]:
    if max_pairs is None:
        return count_all(X, classes)
    half = max_pairs // 2
    same = count_sample(X, X, half, classes.draw_same, rng)
    return same, count_sample(X, X, max_pairs - half, classes.draw_other, rng)


def _by_modality(
    X: Floats, T: Floats, images: Counts, max_pairs: int | None, rng: np.random.Generator
) -> tuple[Counts, Counts]:
    """Return the counts of image-image and of text-image pairs."""
    if max_pairs is None:
        return images, count_between(X, T)
    n, m = len(X), len(T)
    return (
        # The sample by class holds too many same-class pairs to stand for all.
        count_sample(X, X, max_pairs, lambda size, rng: draw_any(size, n, rng), rng),
        count_sample(
            X,
            T,
            max_pairs,
            lambda size, rng: (rng.integers(n, size=size), rng.integers(m, size=size)),
            rng,
        ),
    )


def _require_pairs(field: str, same: Counts, other: Counts) -> None:
    for counts, kind in ((same, "share a class"), (other, "differ in class")):
        if not counts.any():
            raise InputError(
                f"no two points that {kind} were found by field {field!r}; choose another field"
            )


def _class_errors(contrast: Contrast) -> dict[str, float]:
    same, other = contrast.mean_errors
    return {
        "overlap": contrast.overlap_error,
        "auc": contrast.auc_standard_error,
        "d_prime": contrast.d_prime_error,
        "same_mean": same,
        "other_mean": other,
    }


def _modality(
    X: Floats, T: Floats, contrast: Contrast, bands: Bands | None, *, is_sampled: bool
) -> Modality:
    errors = dict(zip(("image_mean", "text_mean"), contrast.mean_errors, strict=True))
    errors["overlap"] = contrast.overlap_error
    return Modality(
        edges=contrast.edges,
        image_density=contrast.densities[0],
        text_density=contrast.densities[1],
        overlap=contrast.overlap,
        gap=modality_gap(X, T),
        image_mean=contrast.means[0],
        text_mean=contrast.means[1],
        n_image=contrast.n_pairs[0],
        n_text=contrast.n_pairs[1],
        standard_errors=errors if is_sampled else {},
        bands=of_sample(contrast) if is_sampled else bands,
    )
