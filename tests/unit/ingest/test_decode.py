from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from intramodal.errors import ImageError
from intramodal.ingest.decode import decode_image, upright
from tests.faults import slow_images


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def pixel(data: bytes) -> tuple[int, ...]:
    return decode_image(data, target=8).getpixel((0, 0))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"]
)
def test_every_mode_becomes_rgb(mode: str) -> None:
    data = encoded(
        noise(20, 12).convert("RGB").convert(mode)
        if mode not in ("LAB", "PA")
        else _special(mode),
        "TIFF" if mode not in ("P", "PA", "RGBA") else "PNG",
    )
    picture = decode_image(data, target=8)
    assert (picture.mode, picture.size) == ("RGB", (20, 12))


def _special(mode: str) -> Image.Image:
    if mode == "PA":
        return noise(20, 12).convert("P").convert("PA").convert("RGBA")
    return Image.new("LAB", (20, 12), (255, 128, 128))


def test_lab_white_is_white() -> None:
    white = pixel(encoded(Image.new("LAB", (9, 9), (255, 128, 128)), "TIFF"))
    assert min(white) >= 250  # the two profiles' white points round apart by a little


@pytest.mark.parametrize(("mode", "clear"), [("RGBA", (0, 0, 0, 0)), ("LA", (0, 0))])
def test_transparent_pictures_are_laid_on_white(mode: str, clear: tuple[int, ...]) -> None:
    assert pixel(encoded(Image.new(mode, (9, 9), clear), "PNG")) == (255, 255, 255)


def test_half_transparent_red_on_white_is_pink() -> None:
    red, green, blue = pixel(encoded(Image.new("RGBA", (9, 9), (255, 0, 0, 128)), "PNG"))
    assert (red, green, blue) == (255, 127, 127)


def test_a_transparent_palette_colour_is_laid_on_white() -> None:
    image = Image.new("P", (9, 9), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert pixel(encoded(image, "GIF", transparency=1)) == (255, 255, 255)
    assert pixel(encoded(image, "GIF")) == (10, 20, 30)


def test_a_colour_key_is_laid_on_white() -> None:
    data = encoded(Image.new("RGB", (9, 9), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert pixel(data) == (255, 255, 255)


@pytest.mark.parametrize(("value", "grey"), [(65535, 255), (32896, 128), (257, 1), (0, 0)])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_by_its_declared_range(format: str, value: int, grey: int) -> None:
    image = Image.fromarray(np.full((9, 9), value, dtype=np.uint16))
    assert pixel(encoded(image, format)) == (grey, grey, grey)


def test_floats_up_to_one_are_scaled() -> None:
    image = Image.fromarray(np.linspace(0, 1, 81, dtype=np.float32).reshape(9, 9))
    picture = decode_image(encoded(image, "TIFF"), target=8)
    assert picture.getpixel((8, 8)) == (255, 255, 255)


@pytest.mark.parametrize("value", [-1.0, np.nan, 1e6])
def test_floats_without_a_defined_white_are_refused(value: float) -> None:
    image = Image.fromarray(np.full((9, 9), value, dtype=np.float32))
    with pytest.raises(ImageError, match="mode F"):
        decode_image(encoded(image, "TIFF"), target=8)


def test_cmyk_jpeg_keeps_its_colour() -> None:
    red, green, blue = pixel(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert red > 240  # JPEG is lossy
    assert max(green, blue) < 15


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_as_pillow_does(format: str, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(noise(40, 24), format, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    assert np.array_equal(np.asarray(decode_image(data, target=24)), np.asarray(expected))
    assert decode_image(data, target=24).size == ((40, 24) if orientation < 5 else (24, 40))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_decoded_picture_is_not_turned_a_second_time_by_who_reads_its_exif(format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode_image(encoded(noise(40, 24), format, exif=exif), target=24)
    assert upright(decoded) is decoded


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_give_their_first_frame(format: str) -> None:
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert pixel(data) == (255, 0, 0)


@pytest.mark.parametrize(
    ("size", "target", "expected"),
    [
        ((1600, 1200), 224, (800, 600)),  # a quarter would leave 300 < 448
        ((1792, 1792), 224, (448, 448)),
        ((1791, 1791), 224, (896, 896)),  # a quarter would be 447.75
        ((500, 375), 224, (500, 375)),
        ((800, 3000), 100, (200, 750)),
    ],
)
def test_jpegs_are_decoded_at_no_less_than_twice_the_target(
    size: tuple[int, int], target: int, expected: tuple[int, int]
) -> None:
    data = encoded(noise(*size), "JPEG")
    assert decode_image(data, target=target).size == expected


def test_only_jpegs_are_decoded_smaller() -> None:
    assert decode_image(encoded(noise(640, 480), "PNG"), target=16).size == (640, 480)


def test_multi_picture_jpegs_are_decoded_smaller_too() -> None:
    data = encoded(noise(640, 480), "MPO", save_all=True, append_images=[noise(64, 48)])
    assert decode_image(data, target=30).size == (80, 60)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_truncated_files_are_refused(format: str, kept: float) -> None:
    data = encoded(noise(200, 150), format)
    with pytest.raises(ImageError):
        decode_image(data[: int(len(data) * kept)], target=64)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello, this is text", "not an image"),
        (b"\xff\xd8\xff", "not an image"),
        (bytes(5000), "not an image"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_image(data, target=8)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))
    )


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((60_000, 60_000), "bomb"),
        ((12_000, 12_000), "more than the 120,000,000 allowed"),
        ((1, 50_000), "sides differ"),
    ],
)
def test_bombs_are_refused_by_their_declared_size(size: tuple[int, int], reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_image(png_header(*size), target=8)


def test_the_limit_of_pixels_can_be_lowered() -> None:
    with pytest.raises(ImageError, match="30 x 20 pixels are more than the 599 allowed"):
        decode_image(encoded(noise(30, 20), "PNG"), target=8, max_pixels=599)


def test_hostile_bytes_raise_nothing_but_image_errors() -> None:
    rng = np.random.default_rng(11)
    files = [encoded(noise(40, 30), f) for f in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")]
    reasons: list[str] = []
    for n in range(300):
        data = bytearray(files[n % len(files)])
        for _ in range(1 + n % 6):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        try:
            assert decode_image(bytes(data), target=16).mode == "RGB"
        except ImageError as error:
            reasons.append(str(error))
    assert len(reasons) > 30  # the damage was real
    assert [r for r in reasons if not r or "\n" in r or "0x" in r] == []


def test_a_damaged_exif_block_does_not_lose_the_picture() -> None:
    data = encoded(noise(20, 12), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert decode_image(data, target=8).size == (20, 12)


def chunk(kind: bytes, content: bytes, *, sound: bool = True) -> bytes:
    crc = zlib.crc32(kind + content) ^ (not sound)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


LARGE = zlib.compress(b"x" * (2 * 2**20))
METADATA = {
    "zTXt": chunk(b"zTXt", b"Comment\0\0" + LARGE),
    "iTXt": chunk(b"iTXt", b"Comment\0\1\0\0\0" + LARGE),
    "iCCP": chunk(b"iCCP", b"profile\0\0" + LARGE),
    "many zTXt": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 2**20)) * 80,
    "zTXt of an unknown method": chunk(b"zTXt", b"Comment\0\7" + b"x"),
    "damaged tEXt": chunk(b"tEXt", b"Comment\0text", sound=False),
    "damaged eXIf": chunk(b"eXIf", b"II*\0", sound=False),
    "short pHYs": chunk(b"pHYs", b"\0"),
    "short gAMA": chunk(b"gAMA", b""),
}


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("metadata", METADATA)
def test_metadata_never_costs_a_png(metadata: str, place: str) -> None:
    """Issue 20, F18."""
    picture = noise(20, 12, "RGBA")
    data = encoded(picture, "PNG")
    at = data.index(b"IDAT") - 4 if place == "before" else data.index(b"IEND") - 4
    changed = data[:at] + METADATA[metadata] + data[at:]
    found, expected = decode_image(changed, target=8), decode_image(data, target=8)
    assert found.tobytes() == expected.tobytes()
    with pytest.raises(ImageError):
        decode_image(changed[: changed.index(b"IDAT") + 20], target=8)


def test_a_png_is_turned_whatever_its_texts_hold() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(noise(20, 12), "PNG", exif=exif)
    at = data.index(b"IDAT") - 4
    assert decode_image(data[:at] + METADATA["zTXt"] + data[at:], target=8).size == (12, 20)


@pytest.mark.parametrize(
    ("marker", "content"),
    [
        (0xE0, b"JFIF"), (0xE0, b"JFIF\0\1"), (0xE2, b"ICC_PROFILE\0"), (0xEE, b"Adobe"),
        (0xE2, b"MPF\0" + bytes(range(256))), (0xE1, b"Exif\0\0" + bytes(range(256))),
        (0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\1x"), (0xFE, bytes(range(256))),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_metadata_never_costs_a_jpeg(marker: int, content: bytes, mode: str) -> None:
    data = encoded(noise(20, 12).convert(mode), "JPEG")
    segment = bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content
    found = decode_image(data[:2] + segment + data[2:], target=8)
    assert found.tobytes() == decode_image(data, target=8).tobytes()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC.*pip install 'intramodal"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\xff\x0a" + b"\0" * 30, "JPEG XL; convert it to JPEG or PNG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"<svg xmlns='x'/>", "SVG; convert"),
        (b"<?xml version='1.0'?>\n<!-- a -->\n<svg >", "SVG"),
        (b"\x1f\x8b\x08" + b"\0" * 30, "gzip; unpack"),
        (b"%PDF-1.7", "PDF"),
        (b"<!doctype HTML><p>404", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp42isom", "a film"),
        (b"\0" * 50, "not an image"),
    ],
    ids=lambda value: str(value)[:16],
)
def test_other_formats_are_named_with_what_to_do(
    data: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 20, F19."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=said):
        decode_image(data, target=8)


def test_heic_is_read_where_its_package_is_installed() -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="needs pillow-heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(noise(64, 48)).save(file, quality=90)
    found = np.asarray(decode_image(file.getvalue(), target=8), float)
    assert found.shape == (48, 64, 3)
    assert (
        np.abs(found - np.asarray(noise(64, 48), float)).mean() < 10
    )  # lossy, colours at half the size
    with pytest.raises(ImageError, match="more than the 100 allowed"):
        decode_image(file.getvalue(), target=8, max_pixels=100)
    with pytest.raises(ImageError, match="HEIC"):
        decode_image(file.getvalue()[:200], target=8)


@pytest.mark.parametrize("format", slow_images.SLOW)
def test_an_image_that_may_take_too_long_is_refused_by_its_header(format: str) -> None:
    """Issue 20, item 8."""
    data = slow_images.SLOW[format]()
    started = time.process_time()
    with pytest.raises(ImageError, match=rf"pixels .*of {format} may take \d+ s to decode"):
        decode_image(data, target=8, max_cpu_s=1.0)
    assert time.process_time() - started < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("format", slow_images.SLOW)
def test_what_decoding_takes_is_never_more_than_what_is_told(format: str) -> None:
    data = slow_images.SLOW[format]()
    started = time.process_time()
    assert decode_image(data, target=10**4).mode == "RGB"
    taken = time.process_time() - started
    with pytest.raises(ImageError, match="may take"):
        decode_image(data, target=10**4, max_cpu_s=taken)


@pytest.mark.parametrize("kind", slow_images.IN_PARTS)
def test_an_image_in_millions_of_parts_is_refused(kind: str) -> None:
    data = slow_images.IN_PARTS[kind]()
    started = time.process_time()
    with pytest.raises(ImageError, match="more parts than any program writes"):
        decode_image(data, target=8)
    assert time.process_time() - started < 1.5


def test_large_files_in_ordinary_parts_are_read() -> None:
    data = slow_images.png_of_many_chunks(20_000, before_pixels=True)
    assert decode_image(data, target=8).size == (9, 9)


def test_an_icon_is_as_large_as_the_image_in_it() -> None:
    assert decode_image(slow_images.lying_icon(300), target=8).size == (300, 300)
    with pytest.raises(ImageError, match="300 x 300 pixels are more than the 1,000 allowed"):
        decode_image(slow_images.lying_icon(300), target=8, max_pixels=1000)


@pytest.mark.parametrize("name", slow_images.TEXT)
def test_images_written_as_text_are_read_only_where_they_are_asked_for(name: str) -> None:
    """Issue 20, item 8."""
    with pytest.raises(ImageError, match=rf"written as text \({name}\)"):
        decode_image(slow_images.TEXT[name], target=8)
    assert decode_image(slow_images.TEXT[name], target=8, text_images=True).size == (2, 1)


def test_postscript_never_reaches_another_program() -> None:
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(ImageError, match="PostScript"):
        decode_image(data, target=8, text_images=True)


RESERVED = """
import sys
from pathlib import Path
from PIL import Image
from intramodal.ingest.decode import decode_image
from tests.unit.ingest.test_decode import highest_bytes, noise, encoded, MODES

side, format, mode = 1500, *sys.argv[1:]
exif = Image.Exif()
exif[0x0112] = 6
turned = {} if format in ("GIF", "BMP") else {"exif": exif}
make = lambda side: encoded(noise(side, side).convert(mode), format, **turned, **MODES[format])
decode_image(make(20), target=8)
data, reserved = make(side), []
Path("/proc/self/clear_refs").write_text("5")  # begin to measure the peak
before = highest_bytes()
decode_image(data, target=side, reserve=reserved.append)
print(highest_bytes() - before, *reserved)
"""
MODES: dict[str, dict[str, object]] = {
    "PNG": {"compress_level": 1},
    "JPEG": {"progressive": True, "subsampling": 0},
    "WEBP": {"lossless": True, "quality": 0, "method": 0},
    "TIFF": {"compression": "tiff_deflate"},
    "GIF": {},
    "BMP": {},
}


def highest_bytes() -> int:
    """Return the most memory that this process has held since it was last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux' /proc")
@pytest.mark.parametrize(
    ("format", "mode"),
    [
        ("PNG", "RGB"), ("JPEG", "RGB"), ("WEBP", "RGBA"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (
            ("PNG", "RGBA"), ("PNG", "L"), ("PNG", "P"), ("JPEG", "CMYK"), ("TIFF", "RGB"),
            ("GIF", "P"), ("BMP", "RGB"), ("PNG", "I;16"), ("TIFF", "F"),
        )),
    ],
)  # fmt: skip
def test_an_image_takes_no_more_memory_than_it_has_reserved(format: str, mode: str) -> None:
    command = [sys.executable, "-c", RESERVED, format, mode]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    taken, reserved = map(int, told.split())
    assert 2**20 < taken < reserved + 2 * 2**20  # what Python itself has taken meanwhile


def test_pillows_settings_and_the_warning_filters_are_left_alone() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    decode_image(encoded(noise(20, 12), "PNG"), target=8)
    with pytest.raises(ImageError):
        decode_image(b"nothing", target=8)
    after = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    assert after == before


def test_threads_agree_and_leave_the_warning_filters_alone() -> None:
    before = list(warnings.filters)
    data = encoded(noise(300, 200), "JPEG")
    expected = np.asarray(decode_image(data, target=32))
    wrong: list[int] = []

    def work() -> None:
        for n in range(20):
            if not np.array_equal(np.asarray(decode_image(data, target=32)), expected):
                wrong.append(n)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert list(warnings.filters) == before


def test_decoding_never_imports_torch() -> None:
    code = "import sys, intramodal.ingest.decode as d; assert d; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
