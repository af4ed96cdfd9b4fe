"""Bytes of a picture file to RGB pixels: one rule for every encoder, without torch."""

from __future__ import annotations

import functools
import io
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from intramodal.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

DECODE_RULE = "exif-upright, alpha on white, 16-bit/257, first frame, jpeg draft >= 2x target; v1"
"""What `decode_image` does; part of an encoder's identity. Change it with the behaviour."""

MAX_PIXELS = 120_000_000
"""Default limit: above the largest common camera (108 megapixels); 360 MB once decoded."""

MAX_ASPECT = 200
"""Longest allowed side over shortest: a 1 x 100000 strip resized by its short side is a bomb."""

# Formats with a magic number, decoded in this process. Left out on purpose: EPS (starts
# Ghostscript), TGA (accepts nearly any bytes), metafiles and stubs that need other programs.
_FORMATS = (
    "JPEG", "MPO", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "ICO", "PPM", "JPEG2000",
    "PCX", "SGI", "QOI",
)  # fmt: skip

# Pillow's plug-ins parse untrusted bytes in plain Python; this is what they raise.
_DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError,
    EOFError, RuntimeError, MemoryError, AssertionError, struct.error, zlib.error,
)  # fmt: skip

_ORIENTATION = 0x0112
_QUIET = threading.Lock()
_quiet_depth = 0


def decode_image(data: bytes, *, target: int, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the picture in a file's bytes, upright and in RGB.

    Transparent pictures are laid on white, 16-bit grey is scaled, animations give their first
    frame. JPEGs are decoded at a half, a quarter or an eighth where that leaves both sides at
    least twice `target`. Thread-safe; no setting of Pillow is changed.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (30, 20), 255).save(file, "PNG")
    >>> picture = decode_image(file.getvalue(), target=8)
    >>> picture.mode, picture.size
    ('RGB', (30, 20))
    """
    if not data:
        raise ImageError("the file is empty")
    with _quiet_pillow():
        image = _open(data)
        check_size(image.size, max_pixels)
        return _decode(image, target)


def check_size(size: tuple[int, int], max_pixels: int = MAX_PIXELS) -> None:
    """Refuse sizes (width, height) that would need too much memory, or that hold nothing."""
    width, height = size
    if min(size) < 1:
        raise ImageError(f"{width} x {height} pixels hold no picture")
    if width * height > max_pixels:
        raise ImageError(f"{width} x {height} pixels are more than the {max_pixels:,} allowed")
    if max(size) > MAX_ASPECT * min(size):
        raise ImageError(f"{width} x {height} pixels: sides differ more than {MAX_ASPECT} times")


def to_rgb(image: Image.Image) -> Image.Image:
    """Return `image` in RGB: alpha on white, 16-bit grey and floats scaled to 8 bits."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _to_8_bit(image)
    elif image.has_transparency_data:
        return _on_white(image)
    elif image.mode == "LAB":
        return _lab_to_rgb(image)
    return image.convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """Return `image` turned as its EXIF orientation says; unreadable EXIF means upright."""
    from PIL.Image import Transpose

    try:
        orientation = image.getexif().get(_ORIENTATION)
    except _DAMAGE:  # as viewers do
        return image
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _open(data: bytes) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(data), formats=_available_formats())
    except UnidentifiedImageError:  # its message holds a memory address
        raise ImageError("not a picture, or cut off within its header") from None
    except Image.DecompressionBombError as error:
        raise ImageError("too many pixels: Pillow refuses it as a decompression bomb") from error
    except _DAMAGE as error:
        raise ImageError(f"damaged header: {_short(error)}") from error


def _decode(image: Image.Image, target: int) -> Image.Image:
    from PIL import Image

    try:
        if image.format in ("JPEG", "MPO"):
            # Pillow picks the smallest scale with both sides at least as large as asked.
            image.draft(None, (2 * target, 2 * target))
        image.load()
        picture = to_rgb(upright(image))
        picture = picture.copy() if picture is image else picture  # a copy holds no file
        picture.info.clear()  # the orientation is applied: whoever reads it again would turn twice
        return picture
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("too many pixels: Pillow refuses it as a decompression bomb") from error
    except _DAMAGE as error:
        raise ImageError(f"damaged or cut off: {_short(error)}") from error


def _on_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    picture = image.convert("RGBA")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture).convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale by the range that the format declares, never by the range that the picture uses."""
    from PIL import Image

    values: np.ndarray[Any, Any] = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0:
        raise ImageError(f"mode {image.mode} holds negative or undefined values")
    white = _white(image.mode, float(values.max()))
    return Image.fromarray(np.rint(values * (255.0 / white)).astype(np.uint8))


def _white(mode: str, brightest: float) -> float:
    if mode != "F" and brightest <= 65535:
        return 65535.0  # 16-bit grey, which some formats open as 32-bit integers
    if mode == "F" and brightest <= 255:
        return 1.0 if brightest <= 1 else 255.0
    raise ImageError(f"mode {mode} reaches {brightest:g}: which value is white is not defined")


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    turned = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if turned is None:
        raise ImageError("LAB colours could not be converted")
    return turned


@functools.cache
def _available_formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Ignore Pillow's warnings while any thread decodes.

    `warnings.catch_warnings` swaps the process's list of filters and is not safe in threads;
    one entry, put in by the first thread and taken out by the last, is.
    """
    global _quiet_depth  # a count of threads, guarded by the lock
    entry = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # what the next call inserts
    with _QUIET:
        _quiet_depth += 1
        if entry not in warnings.filters:
            warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        yield
    finally:
        with _QUIET:
            _quiet_depth -= 1
            if _quiet_depth == 0 and entry in warnings.filters:
                warnings.filters.remove(entry)  # type: ignore[attr-defined]  # a list in CPython
