"""An encoder without a model: what it gives depends on each picture alone, to the last bit."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from intramodal.ingest.encoders.preprocess import Preprocessing
from intramodal.projection.projection import Projection
from intramodal.store.base import Store
from intramodal.store.collection import ImageCollection
from intramodal.store.manifest import VectorOrigin
from intramodal.types import Encoder, Floats, fingerprint

SIDE, DIM = 16, 24


class PlainEncoder:
    """Unit vectors seeded by the pixels; counts the pictures that it encodes.

    Parameters
    ----------
    seed : int
        Another seed is another model.
    seconds : float
        Time that a batch takes.
    """

    name = "plain"
    dim = DIM
    has_text = False
    image_size = SIDE
    precision = "fp32"
    device = "cpu"

    def __init__(self, *, seed: int = 0, seconds: float = 0.0) -> None:
        self.identity: Mapping[str, Any] = {"seed": seed}
        self.fingerprint = fingerprint(self.identity)
        self.n_encoded = 0
        self.batches: list[int] = []
        self.threads: set[str] = set()
        self._seed = seed
        self._seconds = seconds
        self._fit = Preprocessing(
            SIDE, SIDE, "squash", "bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
        )

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        self.threads.add(threading.current_thread().name)
        return self._fit(image)

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Floats:
        assert threading.current_thread() is threading.main_thread()
        time.sleep(self._seconds)
        self.n_encoded += len(pixels)
        self.batches.append(len(pixels))
        return np.stack([self.vector(one) for one in pixels])

    def vector(self, pixels: NDArray[np.uint8]) -> Floats:
        digest = hashlib.sha256(pixels.tobytes()).digest()
        rng = np.random.default_rng([self._seed, *digest])
        row = rng.normal(size=DIM)
        return np.asarray(row / np.linalg.norm(row), dtype=np.float32)

    def encode_images(self, images: Sequence[Any], *, batch_size: int = 32) -> Floats:
        return self.encode_pixels(np.stack([self.preprocess(image) for image in images]))

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> Floats:
        raise NotImplementedError


def plain_projection(encoder: Encoder, *, seed: int = 5) -> Projection:
    """Return a projection to half the dimensions."""
    square = np.random.default_rng(seed).normal(size=(DIM, DIM // 2))
    return Projection(np.linalg.qr(square)[0], "pca", encoder.name, encoder.fingerprint)


def collection_for(
    store: Store, encoder: Encoder, projection: Projection | None = None, name: str = "photos"
) -> ImageCollection:
    """Open or make the collection that an ingest with these writes to."""
    raw = VectorOrigin(encoder.name, encoder.fingerprint)
    vectors = {"raw": (encoder.dim, raw)}
    if projection is not None:
        origin = VectorOrigin(
            encoder.name, encoder.fingerprint, projection=projection.fingerprint, source="raw"
        )
        vectors[projection.default_vector] = (projection.dim_out, origin)
    return ImageCollection.ensure(store, name, vectors)


def write_pictures(folder: Path, n: int) -> None:
    """Write `n` small pictures of noise into five folders."""
    rng = np.random.default_rng(3)
    for i in range(n):
        path = folder / f"{i % 5}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
