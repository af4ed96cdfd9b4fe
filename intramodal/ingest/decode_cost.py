"""What decoding an image takes at worst, told by its header: CPU time and memory."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from intramodal.errors import ImageError
from intramodal.ingest.avif_frames import check_frames

if TYPE_CHECKING:
    from PIL import Image

MAX_CPU_S = 30.0
"""Default limit of what an image may take; the rates below are for slow machines."""

# Nanoseconds per pixel, twice what the slowest files took on a machine of 2024. Pillow reads some
# formats in Python: QOI, run lengths of BMP, PNM with an odd range, and all that is text.
_IN_PYTHON_NS = 2400.0
_NS_PER_PIXEL = {"JPEG2000": 1100.0}
_OTHER_NS = 50.0
_NS_PER_BYTE = {"AVIF": 130.0, "HEIF": 180.0}
"""Their symbols are read one by one: noise of the best quality has five bytes a pixel."""
_NS_PER_SCAN = 1.5
"""Per pixel and scan of a JPEG: each scan, of a few bytes, may go over all coefficients."""

_SCAN = b"\xff\xda"

_MOST_READS = 200_000
"""A file of 256 MB in chunks of 8 kB, as libpng writes them, needs 130,000."""

# Bytes per pixel that Pillow holds; four wherever there is more than one channel.
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2}
_RGB = 4
_SCALED = 33
"""Grey of more than 8 bits: three arrays of float64 at once, and the others."""
_ON_WHITE = 4 * _RGB

# What the decoders hold beside it, per pixel of the whole image: coefficients, planes, strips.
_WORKSPACE = {
    **dict.fromkeys(("JPEG", "MPO"), 8),
    **dict.fromkeys(("AVIF", "HEIF"), 16),
    **{"JPEG2000": 24, "WEBP": 10, "TIFF": 8, "GIF": 4},
}
_IN_PYTHON = 16


class CountedFile(io.BytesIO):
    """The bytes of an image; `ImageError` for one in so many parts that reading them takes long.

    Pillow takes headers apart in Python: 256 MB of empty chunks would hold it for minutes.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._n_left: float = _MOST_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and count it."""
        self._n_left -= 1
        if self._n_left < 0:
            raise ImageError("it consists of more parts than any program writes; save it again")
        return super().read(size)

    def allow_any(self) -> None:
        """Count no more: the pixels are read byte by byte, and `check_cpu` has their number."""
        self._n_left = math.inf


def check_cpu(image: Image.Image, data: bytes, most_s: float) -> None:
    """Refuse an image, not loaded yet, that may take longer than `most_s` seconds of CPU."""
    width, height = image.size
    n_scans = data.count(_SCAN) if image.format in ("JPEG", "MPO") else 0
    if image.format == "AVIF":
        check_frames(data)
    nanoseconds = width * height * (_ns_per_pixel(image) + n_scans * _NS_PER_SCAN)
    seconds = (nanoseconds + len(data) * _NS_PER_BYTE.get(image.format or "", 0.0)) / 1e9
    if seconds > most_s:
        scans = f" in {n_scans:,} scans" if n_scans else ""
        raise ImageError(
            f"{width} x {height} pixels{scans} of {image.format} may take {seconds:.0f} s to "
            f"decode, more than the {most_s:g} s allowed; save it as a plain JPEG or PNG"
        )
    if is_read_in_python(image) and isinstance(image.fp, CountedFile):  # type: ignore[attr-defined]
        image.fp.allow_any()  # type: ignore[attr-defined]


def is_read_in_python(image: Image.Image) -> bool:
    """Return whether Pillow decodes the pixels in Python."""
    from PIL import Image

    return any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ()))


def _ns_per_pixel(image: Image.Image) -> float:
    if is_read_in_python(image):
        return _IN_PYTHON_NS
    return _NS_PER_PIXEL.get(image.format or "", _OTHER_NS)


def n_bytes_decoded(image: Image.Image, whole: tuple[int, int]) -> int:
    """Return the bytes that an image takes at most while it is decoded, turned and made RGB.

    Parameters
    ----------
    image : Image
        Not loaded yet, of the size at which it will be.
    whole : tuple of int
        Width and height in the file.
    """
    per_pixel = _STORED.get(image.mode, _RGB) + _RGB
    if image.mode != "RGB":
        per_pixel += _STORED.get(image.mode, _RGB)  # a turned one, beside the result
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        per_pixel += _SCALED
    elif image.has_transparency_data:
        per_pixel += _ON_WHITE
    workspace = _WORKSPACE.get(image.format or "", 0)
    if is_read_in_python(image):
        workspace += _IN_PYTHON
    width, height = image.size
    return width * height * per_pixel + whole[0] * whole[1] * workspace
