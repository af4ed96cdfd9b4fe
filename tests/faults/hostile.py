"""Files that are damaged, that lie about themselves, or that lead elsewhere; seeded.

Run as a module, this file ingests a source in a process of its own and tells on stdout what came
of it, how much memory it took and which files it opened.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import struct
import sys
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "TIFF": ".tif"}

Rng = np.random.Generator


@dataclass(frozen=True)
class Sample:
    """The bytes of one file and what is expected of them.

    Parameters
    ----------
    data : bytes
    suffix : str
        The end of its name, true or not.
    is_good : bool
        Whether it holds a picture that must be ingested.
    """

    data: bytes
    suffix: str
    is_good: bool


@dataclass
class Expected:
    """What must come of a source: the hashes are of whole files, by key."""

    good: dict[str, bytes] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)

    def add(self, key: str, sample: Sample) -> None:
        """Take up one file."""
        if sample.is_good:
            self.good[key] = sample.data
        else:
            self.bad.add(key)


def picture(rng: Rng, mode: str = "RGB") -> Image.Image:
    width, height = (int(side) for side in rng.integers(12, 120, 2))
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def holds_a_picture(data: bytes) -> bool:
    """Return whether Pillow alone, in its strict default, loads the first frame in full.

    The rule for cut files, which our code has no part in: a cut may take only a trailer or later
    frames, and then the picture is all there; where pixels are missing, Pillow says so.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=list(FORMATS)) as image:
                image.load()
        except (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, TypeError):
            return False
    return True


# Good ones


def plain(rng: Rng) -> Sample:
    format = str(rng.choice(list(FORMATS)))
    return Sample(encoded(picture(rng), format), FORMATS[format], True)


def wrong_extension(rng: Rng) -> Sample:
    format = str(rng.choice(list(FORMATS)))
    suffix = str(rng.choice([".jpg", ".png", ".jgp", "", ".txt", ".json", ".dat"]))
    return Sample(encoded(picture(rng), format), suffix, True)


def cmyk(rng: Rng) -> Sample:
    format = str(rng.choice(["JPEG", "TIFF"]))
    return Sample(encoded(picture(rng, "CMYK"), format), FORMATS[format], True)


def sixteen_bit(rng: Rng) -> Sample:
    grey = Image.fromarray(rng.integers(0, 65536, (30, 40), dtype=np.uint16))
    format = str(rng.choice(["PNG", "TIFF"]))
    return Sample(encoded(grey, format), FORMATS[format], True)


def palette(rng: Rng) -> Sample:
    return Sample(encoded(picture(rng, "P"), "PNG", transparency=3), ".png", True)


def transparent(rng: Rng) -> Sample:
    return Sample(encoded(picture(rng, str(rng.choice(["RGBA", "LA"]))), "PNG"), ".png", True)


def animated(rng: Rng) -> Sample:
    format = str(rng.choice(["GIF", "WEBP", "PNG", "TIFF"]))
    first = picture(rng)
    frames = [picture(rng).resize(first.size) for _ in range(3)]
    data = encoded(first, format, save_all=True, append_images=frames)
    return Sample(data, FORMATS[format], True)


def rotated(rng: Rng) -> Sample:
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(2, 9))
    return Sample(encoded(picture(rng), "JPEG", exif=exif), ".jpg", True)


def progressive(rng: Rng) -> Sample:
    return Sample(encoded(picture(rng), "JPEG", progressive=True), ".jpg", True)


def polyglot(rng: Rng) -> Sample:
    """Return a JPEG that is a valid zip archive, too."""
    file = io.BytesIO(encoded(picture(rng), "JPEG"))
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("../../evil.sh", "rm -rf /")
    return Sample(file.getvalue(), ".jpg", True)


# Bad ones


def cut(rng: Rng) -> Sample:
    """Return any of the good files, cut anywhere."""
    whole = str(rng.choice(["plain", "cmyk", "sixteen_bit", "animated", "progressive", "palette"]))
    sample = GOOD[whole](rng)
    data = sample.data[: int(rng.integers(1, len(sample.data)))]
    return Sample(data, sample.suffix, holds_a_picture(data))


def empty(rng: Rng) -> Sample:
    return Sample(b"", str(rng.choice([".jpg", ".png", ""])), False)


def noise(rng: Rng) -> Sample:
    data = b"\0" + rng.bytes(int(rng.integers(1, 5000)))  # no format's first byte
    return Sample(data, str(rng.choice([".jpg", ".webp", ".heic", ""])), False)


def text(rng: Rng) -> Sample:
    kinds = {
        "html": b"<!DOCTYPE html><title>404</title>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "pdf": b"%PDF-1.4\n1 0 obj <<>> endobj",
        "script": b"#!/bin/sh\nrm -rf /\n",
    }
    return Sample(kinds[str(rng.choice(list(kinds)))], ".jpg", False)


def header_only(rng: Rng) -> Sample:
    """Return a picture that declares gigapixels and holds none."""
    side = int(rng.integers(40_000, 65_000))
    format = str(rng.choice(["PNG", "GIF", "BMP"]))
    data = {
        "PNG": b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000)),
        "GIF": b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + b"\0" * 6
        + b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\2\2\x4c\1\0;",
        "BMP": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, side, side, 1, 24,
                                   0, 0, 0, 0, 0, 0),
    }[format]  # fmt: skip
    return Sample(data, f".{format.lower()}", False)


@functools.cache
def _bombs() -> list[Sample]:
    """Return small files of valid pictures with hundreds of megapixels, or a comment of 50 MB.

    What is said beside the pixels never costs the picture: that one is read without it.
    """
    blank = Image.new("1", (20_000, 20_000))
    rows = zlib.compress(b"\0" * ((20_000 // 8 + 1) * 20_000), 9)
    png = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )
    strip = encoded(Image.new("1", (60_000, 3)), "PNG")
    said = zlib.compress(b"a" * 50_000_000, 9)  # a comment of 50 MB
    head, end = encoded(Image.new("L", (9, 9)), "PNG").split(b"IDAT", 1)
    comment = head[:-4] + chunk(b"zTXt", b"c\0\0" + said) + head[-4:] + b"IDAT" + end
    tiff = encoded(blank, "TIFF", compression="group4")
    return [
        Sample(png, ".png", False),
        Sample(strip, ".png", False),
        Sample(comment, ".png", True),
        Sample(tiff, ".tif", False),
    ]


def bomb(rng: Rng) -> Sample:
    return _bombs()[int(rng.integers(len(_bombs())))]


def packed(rng: Rng) -> Sample:
    return Sample(gzip.compress(encoded(picture(rng), "PNG")), ".png", False)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


GOOD: dict[str, Callable[[Rng], Sample]] = {
    kind.__name__: kind
    for kind in (
        plain, wrong_extension, cmyk, sixteen_bit, palette, transparent, animated, rotated,
        progressive, polyglot,
    )
}  # fmt: skip

BAD: dict[str, Callable[[Rng], Sample]] = {
    kind.__name__: kind for kind in (empty, noise, text, header_only, bomb, packed)
}


def samples(n: int, seed: int) -> dict[str, Sample]:
    """Return `n` files by name: half of them cut, the rest of every other kind in turn."""
    others = [*GOOD.items(), *BAD.items()]
    made = {}
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        kind, make = ("cut", cut) if i % 2 else others[i // 2 % len(others)]
        sample = make(rng)
        made[f"{i % 7}/{i:04}-{kind}{sample.suffix}"] = sample
    return made


# Folders and archives of them


def fill_folder(folder: Path, outside: Path, n: int, seed: int = 0) -> Expected:
    """Write files into `folder`, and entries that lead out of it to `outside`."""
    expected = Expected()
    for key, sample in samples(n, seed).items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample.data)
        expected.add(key, sample)
    for key, make in _entries(outside).items():
        make(folder / key)
        expected.bad.add(key)
    odd = os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")
    Path(odd).write_bytes(encoded(Image.new("L", (9, 9)), "PNG"))
    expected.bad.add("./caf\\xe9.png")
    data = encoded(Image.new("L", (9, 9)), "PNG")
    for key in ("-rf.png", "new\nline.png", "käfer 🐞.png", "%s{0}.png", "a" * 200 + ".png"):
        (folder / key).write_bytes(data)
        expected.good[key] = data
    return expected


def _entries(outside: Path) -> dict[str, Callable[[Path], object]]:
    """Return entries of a folder that are no files, by name."""
    secret = outside / "secret.png"
    return {
        "folder.jpg": lambda path: path.mkdir(),
        "dangling.jpg": lambda path: path.symlink_to("gone.jpg"),
        "loop.jpg": lambda path: path.symlink_to("loop.jpg"),
        "escape.png": lambda path: path.symlink_to(secret),
        "escape-up.png": lambda path: path.symlink_to(f"../{outside.name}/secret.png"),
        "escape-folder": lambda path: path.symlink_to(outside),
        "escape-twice.png": lambda path: path.symlink_to("escape.png"),
        "zero.png": lambda path: path.symlink_to("/dev/zero"),
        "pipe.png": lambda path: os.mkfifo(path),
        "pipe-link.png": lambda path: path.symlink_to("pipe.png"),
        "huge.png": _sparse,
    }


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(8 * 2**30)


def fill_shard(path: Path, outside: Path, n: int, seed: int = 0) -> Expected:
    """Write a tar file of files, and of members that lead out of it to `outside`."""
    expected = Expected()
    secret = str(outside / "secret.png")
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for key, sample in samples(n, seed).items():
            if not sample.suffix or sample.suffix in (".txt", ".json"):
                continue  # in a shard, these are payload or belong to none
            _add(tar, key, sample.data)
            expected.add(key, sample)
        for name in ("../up.png", secret, "a/../../up.png"):
            _add(tar, name, encoded(Image.new("L", (9, 9)), "PNG"))
            expected.bad.add(name)
        for name, kind in (
            ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
            ("device.png", tarfile.CHRTYPE),
            ("folder.png", tarfile.DIRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, secret
            tar.addfile(info)
            expected.bad.add(name)
    return expected


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


# The process that ingests


def ingest_and_tell(location: str, store: str) -> dict[str, Any]:
    """Ingest a source and return the summary, the hashes, the growth in MB and opened files."""
    from intramodal.ingest.pipeline import ingest_images
    from intramodal.ingest.sources.formats import open_source
    from intramodal.store.open import open_store
    from tests.plain_encoder import PlainEncoder, collection_for

    opened: list[str] = []
    with open_store(store) as place:
        encoder = PlainEncoder()
        collection = collection_for(place, encoder)
        # The libraries that decode are loaded before memory is compared.
        encoder.preprocess(Image.open(io.BytesIO(encoded(Image.new("L", (9, 9)), "PNG"))))
        before = highest_mb()
        sys.addaudithook(lambda event, args: _note(opened, event, args))
        summary = ingest_images(open_source(location), collection, encoder=encoder, workers=2)
        after = highest_mb()
        pages = list(collection.scroll(payload=["path", "sha256"]))
    stored = [payload for page in pages for payload in page.payloads]
    return {
        "summary": summary.to_dict(),
        "stored": [[payload["path"], payload["sha256"]] for payload in stored],
        "grown_mb": after - before,
        "opened": opened,
    }


def highest_mb() -> float:
    """Return the most memory that this process has held so far."""
    try:
        # Not getrusage: under Linux its figure begins with that of the process that started us.
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS
    (kilobytes,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(kilobytes) / 1024


def _note(opened: list[str], event: str, args: tuple[Any, ...]) -> None:
    if event in ("open", "os.scandir", "os.listdir") and args and isinstance(args[0], str | bytes):
        opened.append(os.path.realpath(os.fsdecode(args[0])))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(ingest_and_tell(sys.argv[1], sys.argv[2])))
