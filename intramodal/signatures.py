"""What a file is by its first bytes or its name, where it is not what a reader takes."""

from __future__ import annotations

import re
from pathlib import PurePath

N_BYTES = 512
"""How many first bytes tell."""

HEIC = "HEIC"

_HEIF_BRANDS = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"heif", b"mif1", b"msf1")
)
_UNPACK = "unpack it first"
_CONVERT = "convert it to JPEG or PNG"
_SAVE = "save the sheet as CSV (UTF-8)"

_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"\xff\x0a", "JPEG XL", _CONVERT),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL", _CONVERT),
    (b"\x1f\x8b", "gzip", _UNPACK),
    (b"\xfd7zXZ\x00", "xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "Zstandard", _UNPACK),
    (b"PK\x03\x04", "a ZIP archive or an Office document", "unpack it, or save a sheet as CSV"),
    (b"7z\xbc\xaf\x27\x1c", "7z", _UNPACK),
    (b"Rar!\x1a\x07", "RAR", _UNPACK),
    (b"PAR1\x15", "Parquet", "name it .parquet"),
    (b"\xff\xfe", "UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "UTF-16", "save it as UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Office document", _SAVE),
    (b"%PDF", "PDF", "extract its images"),
    (b"8BPS\x00", "Photoshop", _CONVERT),
    (b"%!PS", "PostScript", _CONVERT),
    (b"II+\x00", "BigTIFF", _CONVERT),
    (b"MM\x00+", "BigTIFF", _CONVERT),
    (b"gimp xcf", "GIMP", _CONVERT),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself: git lfs pull"),
)

_BZIP2_BLOCK = b"1AY&SY"
"""What follows the level: a table may begin with the letters before it."""

_SVG = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml.*?\?>|<!--.*?-->|<!DOCTYPE[^>]*>|\s)*<svg[\s>]", re.S
)
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<!DOCTYPE html|<html)", re.I)

_TEXT_IMAGES = (
    (re.compile(rb"P[123][\s#]"), "ASCII PNM"),
    (re.compile(rb"\s*/\* XPM \*/"), "XPM"),
    (re.compile(rb"\s*#define[ \t]+\S*_width[ \t]"), "XBM"),
)

_NAMES = {
    **dict.fromkeys((".gz", ".tgz"), ("gzip", _UNPACK)),
    **dict.fromkeys((".bz2", ".tbz2"), ("bzip2", _UNPACK)),
    **dict.fromkeys((".xz", ".txz"), ("xz", _UNPACK)),
    ".zst": ("Zstandard", _UNPACK),
    ".zip": ("ZIP", _UNPACK),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), ("a spreadsheet", _SAVE)),
}


def is_heif(start: bytes) -> bool:
    """Return whether the first bytes are those of HEIC, as of an iPhone, or another HEIF."""
    if start[4:8] != b"ftyp":
        return False
    length = int.from_bytes(start[:4], "big")
    brands = start[8 : min(length, len(start))]
    return any(brands[at : at + 4] in _HEIF_BRANDS for at in range(0, len(brands), 4))


def format_of(start: bytes) -> str | None:
    """Return which format a file has that no reader takes, and what to do; None if unknown.

    Examples
    --------
    >>> format_of(b"<svg xmlns='http://www.w3.org/2000/svg'>")
    'it is SVG; convert it to JPEG or PNG'
    """
    if is_heif(start):
        return (
            f"it is {HEIC}, which the package 'pillow-heif' reads; pip install "
            f"'intramodal[heif]', or {_CONVERT}"
        )
    for magic, name, advice in _STARTS:
        if start.startswith(magic):
            return f"it is {name}; {advice}"
    if start.startswith(b"BZh") and start[4:10] == _BZIP2_BLOCK:
        return f"it is bzip2; {_UNPACK}"
    if _SVG.match(start):
        return f"it is SVG; {_CONVERT}"
    if _HTML.match(start):
        return "it is a web page; fetch the file itself"
    return "it is a film; extract its frames" if start[4:8] == b"ftyp" else None


def decoded(data: bytes) -> str:
    r"""Return text in UTF-8, without a byte order mark; `ValueError` says what it is instead.

    Examples
    --------
    >>> decoded(b"\x1f\x8b\x08")
    Traceback (most recent call last):
    ...
    ValueError: it is gzip; unpack it first
    """
    known = format_of(data[:N_BYTES])
    if known is not None:
        raise ValueError(known)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8, see byte {error.start + 1:,}") from error


def text_image(start: bytes) -> str | None:
    """Return which format has its pixels as text, which is read slowly; None for no such one."""
    return next((name for begins, name in _TEXT_IMAGES if begins.match(start)), None)


def format_by_name(path: PurePath | str) -> str | None:
    """Return which packed or office format a name promises, and what to do."""
    found = _NAMES.get(PurePath(path).suffix.lower())
    return f"it is {found[0]}; {found[1]}" if found else None
