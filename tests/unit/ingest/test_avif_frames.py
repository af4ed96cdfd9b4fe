"""An AVIF may hold more frames than it shows, and all are decoded. Issue 20, item 8."""

from __future__ import annotations

import io
import struct
import time
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, features

from intramodal.errors import ImageError
from intramodal.ingest.avif_frames import MAX_FRAMES
from intramodal.ingest.decode import decode_image

pytestmark = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")

FLAT = np.full((64, 96, 3), 128, dtype=np.uint8)


def avif(*frames: np.ndarray) -> bytes:
    file = io.BytesIO()
    first, *rest = map(Image.fromarray, frames)
    film = {"save_all": True, "append_images": rest} if rest else {}
    first.save(file, "AVIF", speed=10, **film)
    return file.getvalue()


def with_frames(data: bytes, n: int) -> bytes:
    """Return an AVIF of one image with the units of its frame so many times."""
    box = data.index(b"mdat")
    start, (size,) = box + 4, struct.unpack(">I", data[box - 4 : box])
    places = range(data.index(b"iloc"), box - 8)
    at = next(i for i in places if data[i : i + 4] == start.to_bytes(4, "big"))
    (length,) = struct.unpack_from(">I", data, at + 4)
    image = data[start : start + length]
    made = bytearray(data[:start] + image * n + data[start + length :])
    struct.pack_into(">I", made, at + 4, length * n)
    struct.pack_into(">I", made, box - 4, size + length * (n - 1))
    return bytes(made)


def test_an_image_of_many_frames_is_refused_before_they_are_decoded() -> None:
    """400 of 16 megapixels, in 250 kB, took 8 s."""
    bomb = with_frames(avif(np.full((4000, 4000, 3), 128, dtype=np.uint8)), 400)
    started = time.process_time()
    with pytest.raises(ImageError, match=r"one image of 400 frames, more than the 4 allowed"):
        decode_image(bomb, target=8)
    assert time.process_time() - started < 2


def test_as_many_frames_as_layers_are_read() -> None:
    assert decode_image(with_frames(avif(FLAT), MAX_FRAMES), target=8).size == (96, 64)
    with pytest.raises(ImageError, match="5 frames"):
        decode_image(with_frames(avif(FLAT), MAX_FRAMES + 1), target=8)


def test_films_and_images_with_alpha_are_read(rng: np.random.Generator) -> None:
    noise = rng.integers(0, 256, (64, 96, 4), dtype=np.uint8)
    assert decode_image(avif(noise), target=8).size == (96, 64)
    film = [rng.integers(0, 256, (64, 96, 3), dtype=np.uint8) for _ in range(12)]
    assert decode_image(avif(*film), target=8).size == (96, 64)


def test_a_damaged_byte_is_read_or_refused(rng: np.random.Generator) -> None:
    data = avif(FLAT)
    for at in range(len(data)):
        for byte in rng.integers(0, 256, 3, dtype=np.uint8):
            with suppress(ImageError):
                decode_image(data[:at] + bytes([byte]) + data[at + 1 :], target=8)
