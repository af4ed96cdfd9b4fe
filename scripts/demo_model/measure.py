"""What the model does on a set of emoji: retrieval before and after PCA←, and zero-shot."""

from __future__ import annotations

import numpy as np
from make_demo_pictures import VENDORS, Emoji

from intramodal.projection.anchors import AnchorSet
from intramodal.projection.projection import Projection

FIELDS = ("identity", "subgroup", "category", "vendor")


def unit(X: np.ndarray) -> np.ndarray:
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def labels_of(emoji: list[Emoji]) -> dict[str, list[str]]:
    """The payload columns, pictures in the order of the features: vendors outside."""
    columns = {f: [getattr(one, f) for one in emoji] * len(VENDORS) for f in FIELDS[:3]}
    return columns | {"vendor": [vendor for vendor in VENDORS for _ in emoji]}


def mean_average_precision(X: np.ndarray, labels: list[str]) -> float:
    """Full ranking, every picture in turn the query and left out of the gallery."""
    codes = np.unique(labels, return_inverse=True)[1]
    scores = unit(X) @ unit(X).T
    np.fill_diagonal(scores, -np.inf)
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :-1]
    relevant = codes[ranked] == codes[:, None]
    precision = np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)
    counts = relevant.sum(axis=1)
    found = counts > 0
    return float(np.mean((precision * relevant).sum(axis=1)[found] / counts[found]))


def retrieval(X: np.ndarray, anchors: np.ndarray, emoji: list[Emoji]) -> dict[str, list[float]]:
    """mAP in percent, [raw, PCA←], of pictures (vendors, n, d) by field."""
    projection = Projection.from_text(
        anchors, anchors=AnchorSet.imagenet(), encoder="demo", encoder_fingerprint="demo"
    )
    flat = X.reshape(-1, X.shape[-1])
    return {
        field: [
            round(100 * mean_average_precision(vectors, labels), 2)
            for vectors in (flat, projection.apply(flat))
        ]
        for field, labels in labels_of(emoji).items()
    }


def zero_shot(X: np.ndarray, names: np.ndarray, k: int) -> list[float]:
    """Percent of each vendor's pictures (vendors, n, d) with their own name among the first k."""
    rates = []
    for pictures in X:
        scores = unit(pictures) @ unit(names).T
        own = np.diagonal(scores)[:, None]
        rates.append(round(100 * float(np.mean((scores > own).sum(axis=1) < k)), 1))
    return rates
