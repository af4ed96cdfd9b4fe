"""Valid images that hold a decoder for long: small ones, and what makes them slow; seeded."""

from __future__ import annotations

import struct

from PIL import Image

from tests.faults.hostile import chunk, encoded


def jpeg_of_many_scans(side: int, n: int) -> bytes:
    """Return a progressive JPEG whose last scan is repeated, a few bytes at a time."""
    plain = encoded(Image.new("L", (side, side), 100), "JPEG", progressive=True)
    end = plain.rindex(b"\xff\xd9")
    scan = plain[plain.rindex(b"\xff\xda", 0, end) : end]
    tables = plain[plain.rindex(b"\xff\xc4", 0, end) : end]
    return plain[:end] + (tables if scan in tables else scan) * n + plain[end:]


def qoi(side: int) -> bytes:
    """Return a QOI file with one byte per pixel, each of which Pillow reads in Python."""
    head = b"qoif" + struct.pack(">IIBB", side, side, 3, 0)
    return head + b"\x6b" * side**2 + b"\0" * 7 + b"\1"


def odd_pnm(side: int) -> bytes:
    """Return a binary PNM whose white is 254: each value is scaled in Python."""
    return b"P5 %d %d 254\n" % (side, side) + b"\1" * side**2


def bmp_of_short_runs(side: int) -> bytes:
    """Return a BMP in runs of one pixel."""
    data = (b"\1\1" * side + b"\0\0") * side + b"\0\1"
    start = 14 + 40 + 1024
    head = struct.pack("<IHHI", start + len(data), 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + head + info + bytes(1024) + data


def jpeg2000(side: int) -> bytes:
    return encoded(Image.effect_noise((side, side), 90).convert("RGB"), "JPEG2000")


SLOW = {
    "JPEG": lambda: jpeg_of_many_scans(500, 4000),
    "QOI": lambda: qoi(700),
    "PPM": lambda: odd_pnm(700),
    "BMP": lambda: bmp_of_short_runs(700),
    "JPEG2000": lambda: jpeg2000(1000),
}
"""Each may take more than a second by the rates of `decode_cost`."""


def png_of_many_chunks(n: int, *, before_pixels: bool) -> bytes:
    plain = encoded(Image.new("L", (9, 9)), "PNG")
    at = plain.index(b"IDAT" if before_pixels else b"IEND") - 4
    return plain[:at] + chunk(b"prVt", b"") * n + plain[at:]


def padded_jpeg(n: int) -> bytes:
    plain = encoded(Image.new("L", (9, 9)), "JPEG")
    return plain[:2] + b"\xff" * n + plain[2:]


def jpeg_of_many_comments(n: int) -> bytes:
    plain = encoded(Image.new("L", (9, 9)), "JPEG")
    return plain[:2] + b"\xff\xfe\0\2" * n + plain[2:]


IN_PARTS = {
    "chunks before the pixels": lambda: png_of_many_chunks(10**6, before_pixels=True),
    "chunks behind the pixels": lambda: png_of_many_chunks(10**6, before_pixels=False),
    "padding": lambda: padded_jpeg(10**7),
    "comments": lambda: jpeg_of_many_comments(2 * 10**6),
}
"""Each took Pillow two seconds and more, and grows with the file."""


def lying_icon(side: int) -> bytes:
    """Return an icon of 9 x 9 pixels by its header, whose PNG has other sides."""
    png = encoded(Image.new("1", (side, side)), "PNG")
    entry = struct.pack("<BBBBHHII", 9, 9, 0, 0, 1, 32, len(png), 22)
    return b"\0\0\1\0\1\0" + entry + png


TEXT = {
    "ASCII PNM": b"P3 2 1 255\n255 0 0  0 0 255\n",
    "XPM": b'/* XPM */\nchar *x[] = {\n"2 1 2 1",\n"a c #f00000",\n"b c #0000f0",\n"ab"\n};',
    "XBM": b"#define x_width 2\n#define x_height 1\nstatic char x_bits[] = {\n0x01\n};\n",
}
