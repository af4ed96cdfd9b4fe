"""How many frames of AV1 the images of an AVIF file consist of: all are decoded, one is shown."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from intramodal.errors import ImageError

MAX_FRAMES = 4
"""A layered image has as many layers at most; any other is one frame."""

_FRAME_HEADER, _FRAME = 3, 6
"""Types of the units (OBU) that a frame begins with (AV1 specification, 6.2.2)."""

Box = tuple[bytes, bytes]
"""Type and content (ISO/IEC 14496-12)."""


def check_frames(data: bytes) -> None:
    """Refuse an AVIF of which one image, or the first of a film, is of more than `MAX_FRAMES`.

    They may be a few bytes each and as large as the image.
    """
    try:
        n_frames = max((_n_frames(stream) for stream in _streams(data)), default=0)
    except (struct.error, IndexError, ValueError, KeyError) as error:
        raise ImageError("damaged AVIF: its boxes cannot be read") from error
    if n_frames > MAX_FRAMES:
        raise ImageError(
            f"one image of {n_frames:,} frames, more than the {MAX_FRAMES} allowed; save it again"
        )


def _n_frames(stream: bytes) -> int:
    """Return how many frames begin in a sequence of units."""
    n_frames, at = 0, 0
    while at < len(stream):
        header = stream[at]
        kind, has_extension, has_size = header >> 3 & 15, header >> 2 & 1, header >> 1 & 1
        n_frames += kind in (_FRAME_HEADER, _FRAME)
        at += 1 + has_extension
        if not has_size:  # it goes on to the end
            break
        size, at = _leb128(stream, at)
        at += size
    return n_frames


def _leb128(stream: bytes, at: int) -> tuple[int, int]:
    """Return a number of up to eight bytes with seven bits each, and where it ends."""
    value = 0
    for place in range(8):
        byte = stream[at + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, at + place + 1
    raise ValueError("a number does not end")


def _boxes(data: bytes) -> Iterator[Box]:
    at = 0
    while at + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, begin = data[at + 4 : at + 8], at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, begin)
            begin += 8
        end = at + size if size else len(data)
        if end < begin:
            raise ValueError("a box ends before it begins")
        yield kind, data[begin:end]
        at = end


def _inside(data: bytes, *path: bytes) -> Iterator[bytes]:
    """Yield the contents of the boxes at a path."""
    for kind, content in _boxes(data):
        if kind != path[0]:
            continue
        if len(path) == 1:
            yield content
        else:
            yield from _inside(content[4:] if kind == b"meta" else content, *path[1:])


def _streams(data: bytes) -> Iterator[bytes]:
    """Yield the units of every image, and of the first one of every track."""
    for meta in _inside(data, b"meta"):
        content = meta[4:]
        images = {item for infos in _inside(content, b"iinf") for item in _images(infos)}
        own = b"".join(_inside(content, b"idat"))
        for places in _inside(content, b"iloc"):
            for item, is_own, extents in _extents(places):
                if item in images:
                    whole = own if is_own else data
                    yield b"".join(whole[start : start + n if n else None] for start, n in extents)
    for table in _inside(data, b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        yield _first_sample(data, dict(_boxes(table)))


def _images(infos: bytes) -> Iterator[int]:
    """Yield the items that are coded as AV1."""
    for info in _inside(infos[6 if infos[0] == 0 else 8 :], b"infe"):
        form, kind_at = (">H", 8) if info[0] == 2 else (">I", 10)
        if info[kind_at : kind_at + 4] == b"av01":
            yield struct.unpack_from(form, info, 4)[0]


def _extents(places: bytes) -> Iterator[tuple[int, bool, list[tuple[int, int]]]]:
    """Yield item, whether it lies in the box of small items, and start and length of its parts."""
    version, sizes = places[0], [n for byte in places[4:6] for n in (byte >> 4, byte & 15)]
    at = 6

    def number(size: int) -> int:
        nonlocal at
        at += size
        if at > len(places):
            raise ValueError("the places of the items are cut off")
        return int.from_bytes(places[at - size : at], "big")

    width = 2 if version < 2 else 4
    for _ in range(number(width)):
        item = number(width)
        is_own = version > 0 and number(2) & 15 == 1
        number(2)
        base = number(sizes[2])
        extents = []
        for _ in range(number(2)):
            if version > 0:
                number(sizes[3])
            start = base + number(sizes[0])
            extents.append((start, number(sizes[1])))
        yield item, is_own, extents


def _first_sample(data: bytes, table: dict[bytes, bytes]) -> bytes:
    sizes = table[b"stsz"]
    (size,) = struct.unpack_from(">I", sizes, 4)
    if size == 0:
        (size,) = struct.unpack_from(">I", sizes, 12)
    if b"stco" in table:
        (start,) = struct.unpack_from(">I", table[b"stco"], 8)
    else:
        (start,) = struct.unpack_from(">Q", table[b"co64"], 8)
    return data[start : start + size]
