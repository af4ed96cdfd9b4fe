"""Embeddings of real images, with labels, that some benchmarks read: of CLIP ViT-B/32."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intramodal.types import VectorTable

FASHION, CIFAR = "fashion988-clip-b32", "cifar10-500-clip-b32"
_NO_FIELD = ("row", "id", "productDisplayName")


def folder() -> Path:
    """Return where they are; ends the program, as done, where nobody says."""
    place = os.environ.get("INTRAMODAL_REAL_DATA")
    if not place:
        print("nothing to do: INTRAMODAL_REAL_DATA names no folder")
        sys.exit()
    return Path(place)


def texts() -> NDArray[np.float32]:
    """Return the embeddings (1000, 512) of ``a photo of a X``, X the classes of ImageNet."""
    found = np.load(folder() / "imagenet-text-clip-b32" / "a_photo_of_a_X.npy")
    return np.asarray(found, dtype=np.float32)


def images(name: str) -> NDArray[Any]:
    """Return the embeddings (n, 512) of a set of images."""
    return np.asarray(np.load(folder() / name / "image_embeddings.npy"))


def labels(name: str) -> dict[str, list[str]]:
    """Return the n labels of a set's images, by field."""
    if name == CIFAR:
        return {"cifar": np.load(folder() / name / "image_labels.npy").astype(str).tolist()}
    with (folder() / name / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {field: [row[field] for row in rows] for field in rows[0] if field not in _NO_FIELD}


def collections() -> list[VectorTable]:
    """Return the labelled sets as tables; all images take part in the mean, labelled or not."""
    return [
        VectorTable(list(range(len(X))), {"raw": X}, labels(name))
        for name in (CIFAR, FASHION)
        for X in [images(name)]
    ]
