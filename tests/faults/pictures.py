"""Small generated pictures, a tiny deterministic encoder, and what an ingest must make of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from intramodal.projection.projection import Projection
from intramodal.types import Floats, ImageRecord, fingerprint, point_id
from tests.faults.schedules import Truth, projected

SIDE = 8


class TinyEncoder:
    """The pixels times a fixed matrix."""

    name = "tiny"
    has_text = False
    image_size = SIDE
    precision = "fp32"
    device = "cpu"

    def __init__(self, dim: int) -> None:
        self.dim = dim
        rng = np.random.default_rng(dim)
        self.W = rng.normal(size=(SIDE * SIDE * 3, dim)).astype(np.float32)
        self.identity: Mapping[str, Any] = {"model": "tiny", "dim": dim}
        self.fingerprint = fingerprint(self.identity, self.W.tobytes())

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(image.resize((SIDE, SIDE)), dtype=np.uint8)

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Floats:
        return np.asarray(_centred(pixels, np.float32) @ self.W, dtype=np.float32)

    def encode_images(self, images: Sequence[Any], *, batch_size: int = 32) -> Floats:
        raise NotImplementedError

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> Floats:
        raise NotImplementedError


def generated(n: int, dataset: str, dim: int) -> tuple[list[ImageRecord], TinyEncoder, Truth]:
    """Return `n` pictures, their encoder, and the points that they become."""
    rng = np.random.default_rng(n)
    pixels = rng.integers(0, 256, size=(n, SIDE, SIDE, 3), dtype=np.uint8)
    files = [_png(picture) for picture in pixels]
    keys = [f"{i % 7}/{i}.png" for i in range(n)]
    records = [
        ImageRecord(key, partial(bytes, file), {"label": key[0]})
        for key, file in zip(keys, files, strict=True)
    ]
    encoder = TinyEncoder(dim)
    X = _centred(pixels, np.float64) @ encoder.W.astype(np.float64)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    matrix = np.linalg.qr(rng.normal(size=(dim, dim // 2)))[0].astype(np.float32)
    truth = Truth(
        ids=[point_id(dataset, key) for key in keys],
        X=X,
        payloads=[
            {
                "label": key[0],
                "path": key,
                "sha256": hashlib.sha256(file).hexdigest(),
                "dataset": dataset,
            }
            for key, file in zip(keys, files, strict=True)
        ],
        projection=Projection(matrix, "pca", encoder.name, encoder.fingerprint),
        projected=projected(X, matrix),
        atol=2e-6,  # float32 sums of 192 products, and of 16
    )
    return records, encoder, truth


def _png(picture: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _centred(pixels: NDArray[np.uint8], dtype: Any) -> NDArray[Any]:
    return pixels.reshape(len(pixels), -1).astype(dtype) / 255 - 0.5
