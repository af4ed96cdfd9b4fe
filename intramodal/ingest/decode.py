"""Bytes of a picture file to RGB pixels: one rule for every encoder, without torch."""

from __future__ import annotations

import functools
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from intramodal.errors import ImageError
from intramodal.ingest.decode_cost import (
    MAX_CPU_S,
    CountedFile,
    check_cpu,
    n_bytes_decoded,
)
from intramodal.signatures import N_BYTES, format_of, is_heif, text_image

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

_TEXT_FORMATS = ("XPM", "XBM")

# Pillow's plug-ins parse untrusted bytes in plain Python; this is what they raise.
_DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError,
    EOFError, RuntimeError, MemoryError, AssertionError, struct.error, zlib.error,
)  # fmt: skip

_ORIENTATION = 0x0112
_QUIET = threading.Lock()
_quiet_depth = 0


def _reserve_nothing(n_bytes: int) -> None:
    """Let everybody have as much memory as there is."""


@dataclass(frozen=True)
class _Terms:
    """What an image is decoded to, and what it may cost."""

    target: int
    max_pixels: int
    max_cpu_s: float
    text_images: bool
    reserve: Callable[[int], None]


def decode_image(
    data: bytes,
    *,
    target: int,
    max_pixels: int = MAX_PIXELS,
    max_cpu_s: float = MAX_CPU_S,
    text_images: bool = False,
    reserve: Callable[[int], None] = _reserve_nothing,
) -> Image.Image:
    """Return the picture in a file's bytes, upright and in RGB.

    Transparent pictures are laid on white, 16-bit grey is scaled, animations give their first
    frame. JPEGs are decoded at a half, a quarter or an eighth where that leaves both sides at
    least twice `target`. Thread-safe; no setting of Pillow is changed.

    Parameters
    ----------
    data : bytes
    target : int
        Pixels of the shorter side that are needed.
    max_pixels : int
        Larger images are refused.
    max_cpu_s : float
        Seconds of CPU; images that may take longer, as their header tells, are refused.
    text_images : bool
        Also read formats that hold pixels as text: XPM, XBM and ASCII PNM.
    reserve : callable
        Called with the bytes that the image needs at most, before they are taken; it may wait.

    Raises
    ------
    ImageError
        If it is none that is read, is damaged, or is refused.

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
    terms = _Terms(target, max_pixels, max_cpu_s, text_images, reserve)
    with _quiet_pillow():
        try:
            return _picture(data, terms)
        except ImageError:
            bare = _without_metadata(data)
            if bare is None:
                raise
            with suppress(ImageError):  # then the first reason is the picture's own
                return _picture(bare, terms)
            raise


def _picture(data: bytes, terms: _Terms) -> Image.Image:
    image = _open(data, terms)
    for size in (image.size, _size_inside(image)):
        check_size(size, terms.max_pixels)
    return _decode(image, data, terms)


def _size_inside(image: Image.Image) -> tuple[int, int]:
    """Return the size of the image that will be decoded; an icon's header may say another one."""
    if image.format != "ICO":
        return image.size
    try:
        size: tuple[int, int] = image.ico.getimage(image.size).size  # type: ignore[attr-defined]
    except _DAMAGE as error:
        raise ImageError(f"damaged header: {_short(error)}") from error
    return size


def check_size(size: tuple[int, int], max_pixels: int = MAX_PIXELS) -> None:
    """Refuse sizes (width, height) that would need too much memory, or that hold nothing."""
    width, height = size
    if min(size) < 1:
        raise ImageError(f"{width} x {height} pixels hold no image")
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


def _open(data: bytes, terms: _Terms) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    if not terms.text_images and (name := text_image(data[:N_BYTES])) is not None:
        raise ImageError(
            f"it is an image written as text ({name}), which is not read unless text images are "
            f"allowed; save it as PNG"
        )
    try:
        return Image.open(CountedFile(data), formats=_available_formats(terms.text_images))
    except UnidentifiedImageError:  # its message holds a memory address
        if is_heif(data[:N_BYTES]) and (image := _open_heif(data)) is not None:
            return image
        known = format_of(data[:N_BYTES])
        raise ImageError(known or "not an image, or cut off within its header") from None
    except Image.DecompressionBombError as error:
        raise ImageError("too many pixels: Pillow refuses it as a decompression bomb") from error
    except ImageError:
        raise
    except _DAMAGE as error:
        raise ImageError(f"damaged header: {_short(error)}") from error


def _open_heif(data: bytes) -> Image.Image | None:
    """Return the picture in a HEIC file, upright; None without the package that reads it."""
    try:
        import pillow_heif
    except ImportError:
        return None
    try:
        image: Image.Image = pillow_heif.HeifImageFile(CountedFile(data))
        return image
    except _DAMAGE as error:
        raise ImageError(f"damaged HEIC: {_short(error)}") from error


_PNG = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
_MOST_PARTS = 50_000
"""Chunks or segments of a file that is taken apart, as many as `CountedFile` lets Pillow read."""


_EXIF = b"Exif\x00\x00"
_ADOBE, _ADOBE_LENGTH = b"Adobe", 12


def _without_metadata(data: bytes) -> bytes | None:
    """Return a PNG or JPEG without texts, profiles and whatever else holds no pixels.

    Pillow refuses a whole file for such a part that is damaged or large. None for other formats,
    for a file that is cut off there and for one without such parts.
    """
    if data.startswith(_PNG):
        bare = _bare_png(data)
    else:
        bare = _bare_jpeg(data) if data.startswith(b"\xff\xd8\xff") else None
    return bare if bare is not None and len(bare) < len(data) else None


def _bare_jpeg(data: bytes) -> bytes | None:
    """Return a JPEG without comments and APP segments but EXIF, which turns it, and colours."""
    kept, at = [data[:2]], 2
    for _ in range(_MOST_PARTS):
        if at + 4 > len(data) or data[at] != 0xFF:
            break
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:  # the pixels, to the end
            return b"".join([*kept, data[at:]])
        content = data[at + 4 : end]
        is_colour = content.startswith(_ADOBE) and len(content) >= _ADOBE_LENGTH
        is_metadata = marker == 0xFE or 0xE0 <= marker <= 0xEF
        if not is_metadata or is_colour or content.startswith(_EXIF):
            kept.append(data[at:end])
        at = end
    return None


def _bare_png(data: bytes) -> bytes | None:
    """Return a PNG's chunks with pixels, and the EXIF block, which turns it, if it is sound."""
    kept, at = [_PNG], len(_PNG)
    for _ in range(_MOST_PARTS):
        if at + 12 > len(data):
            break
        length = int.from_bytes(data[at : at + 4], "big")
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            return None
        if kind in _PIXEL_CHUNKS or (kind == b"eXIf" and _is_sound(data[at + 4 : end])):
            kept.append(data[at:end])
        at = end
        if kind == b"IEND":
            return b"".join(kept)
    return None


def _is_sound(chunk: bytes) -> bool:
    return zlib.crc32(chunk[:-4]) == int.from_bytes(chunk[-4:], "big")


def _decode(image: Image.Image, data: bytes, terms: _Terms) -> Image.Image:
    from PIL import Image

    try:
        check_cpu(image, data, terms.max_cpu_s)
        whole = image.size
        if image.format in ("JPEG", "MPO"):
            # Pillow picks the smallest scale with both sides at least as large as asked.
            image.draft(None, (2 * terms.target, 2 * terms.target))
        terms.reserve(n_bytes_decoded(image, whole))
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
def _available_formats(text_images: bool) -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    known = _FORMATS + (_TEXT_FORMATS if text_images else ())
    return tuple(name for name in known if name in Image.OPEN)


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
