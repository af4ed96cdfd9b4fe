"""What all sources have in common."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NoReturn

from intramodal.errors import ImageError, InputError, SourceError
from intramodal.types import ImageRecord, Payload

LabelRule = Callable[[str], Payload]
"""From a key to the payload that it implies."""

_FORMS = "`parent` or a regular expression with named groups, such as '(?P<label>[^/]+)/'"


def no_label(key: str) -> Payload:
    """Return nothing."""
    return {}


def parent_label(key: str) -> Payload:
    """Return the name of the folder the picture is in; nothing at the top."""
    parent = PurePosixPath(key).parent.name
    return {"label": parent} if parent else {}


def label_rule(label_from: str | None) -> LabelRule:
    """Return the rule that ``--label-from`` means.

    Examples
    --------
    >>> label_rule(r"(?P<label>[^/]+)/(?P<shop>[^/]+)/")("shoes/north/1.jpg")
    {'label': 'shoes', 'shop': 'north'}
    """
    if label_from is None:
        return no_label
    if label_from == "parent":
        return parent_label
    pattern = _compiled(label_from)

    def found_in(key: str) -> Payload:
        match = pattern.search(key)
        groups = match.groupdict() if match else {}
        return {name: text for name, text in groups.items() if text is not None}

    return found_in


def _compiled(label_from: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(label_from)
    except (re.error, OverflowError, RecursionError) as error:
        raise SourceError(
            f"label_from {label_from!r} is no regular expression ({error}); give {_FORMS}"
        ) from error
    if not pattern.groupindex:
        raise SourceError(f"label_from {label_from!r} has no named groups; give {_FORMS}")
    return pattern


MAX_FILE_BYTES = 256 * 2**20
"""Larger files are not read; 80 megapixels without any compression are less."""

_PICTURES = """
    .jpg .jpeg .jpe .jfif .png .apng .gif .webp .avif .avifs .heic .heif .tif .tiff .bmp .dib .ico
    .ppm .pgm .pbm .pnm .jp2 .j2k .jpx .pcx .sgi .qoi
"""

# Text, tables, documents and code; arrays, weights, databases and archives; sound and film.
_OTHERS = """
    .txt .md .rst .csv .tsv .json .jsonl .ndjson .xml .xmp .html .htm .css .js .yaml .yml .toml
    .ini .cfg .log .pdf .doc .docx .xls .xlsx .ppt .pptx .odt .py .pyc .ipynb .sh .bat .sql
    .parquet .feather .arrow .npy .npz .h5 .hdf5 .mat .pt .pth .pkl .ckpt .onnx .safetensors
    .db .sqlite .sqlite3 .idx .tar .gz .tgz .bz2 .xz .zst .zip .7z .rar .md5 .sha256 .lock
    .mp3 .wav .flac .ogg .m4a .mp4 .m4v .mov .avi .mkv .webm .srt .vtt .aae
"""

PICTURE_SUFFIXES = frozenset(_PICTURES.split())
"""Names that promise a picture."""

_OTHER_SUFFIXES = frozenset(_OTHERS.split())

_OTHER_NAMES = frozenset({"thumbs.db", "desktop.ini"})

_OF_WINDOWS = re.compile(r"\\|(?:^|/)[A-Za-z]:/").search

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://").match
"""A scheme of two letters at least: one is a drive of Windows."""

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")

_MAGIC_BYTES = 16

# Without O_NONBLOCK a pipe without a writer would be waited for; both are absent on Windows.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def promises_no_picture(name: str) -> bool:
    """Return whether a file's name says that it is something else than a picture.

    Examples
    --------
    >>> promises_no_picture("notes.TXT"), promises_no_picture("scan"), promises_no_picture("a.jgp")
    (True, False, False)
    """
    return suffix(name) in _OTHER_SUFFIXES or name.lower() in _OTHER_NAMES


def suffix(name: str) -> str:
    """Return what follows the last dot, in small letters, with the dot."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  ten times Path's speed


def read_file(path: str, root: str) -> bytes:
    """Return the bytes of a regular file at or below `root`."""
    try:
        return _read(resolved(path, root), MAX_FILE_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = reason_of(error)
        if isinstance(error, FileNotFoundError) and os.sep == "/" and _OF_WINDOWS(path):
            reason += "; the path is written as on Windows: write slashes, relative to the list"
        raise ImageError(reason) from error


def is_remote(path: str) -> bool:
    """Return whether a path is the address of something that lies elsewhere.

    Examples
    --------
    >>> is_remote("https://example.org/a.jpg"), is_remote("C:/a.jpg"), is_remote("a//b.jpg")
    (True, False, False)
    """
    return bool(_ADDRESS(path))


def read_remote() -> bytes:
    """Raise `ImageError`: nothing is fetched."""
    raise ImageError("remote images are not fetched; download it first and list its path")


def starts_like_a_picture(path: str, root: str) -> bool:
    """Return whether the first bytes of a regular file below `root` are a picture's."""
    try:
        start = _read(resolved(path, root), None, n_bytes=_MAGIC_BYTES)
    except (OSError, ValueError, ImageError):
        return False
    return (
        start.startswith(_MAGIC)
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or start[4:12] in (b"ftypavif", b"ftypavis")
    )


def resolved(path: str, root: str) -> str:
    """Return `path` without links; `ImageError` if it leads out of `root`, `OSError` if absent."""
    real = os.path.realpath(path, strict=True)
    if os.path.commonpath([real, root]) != root:
        raise ImageError("leads out of the source")
    return real


def kind_of(mode: int) -> str | None:
    """Return what a mode says an entry is, None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "no regular file")


def reason_of(error: OSError | ValueError) -> str:
    """Return an error's reason without the path, which is named beside it."""
    code = getattr(error, "errno", None)
    if code == errno.ENOENT:
        return "no such file, or a link that leads nowhere"
    if code == errno.ELOOP:
        return "a link that leads back to itself"
    return getattr(error, "strerror", None) or str(error)


def _read(real: str, limit: int | None, n_bytes: int = -1) -> bytes:
    """Return the first `n_bytes` of a regular file whose path holds no links."""
    _require_file(os.stat(real).st_mode)  # noqa: PTH116  before opening: that may move a device
    descriptor = os.open(real, _FLAGS)
    with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor
        about = os.fstat(descriptor)
        _require_file(about.st_mode)
        if limit is not None and about.st_size > limit:
            raise ImageError(f"{about.st_size:,} bytes are more than the {limit:,} allowed")
        return file.read(n_bytes if limit is None else about.st_size)


def _require_file(mode: int) -> None:
    kind = kind_of(mode)
    if kind is not None:
        raise ImageError(f"{kind}, not a file")


Records = Generator[ImageRecord, None, None]

_NOT_READ = "it was not read to its end"


class Source(ABC):
    """Pictures to iterate over, each an `ImageRecord` that is not read yet.

    Parameters
    ----------
    location : str
        As the user gave it.
    label_of : callable
        From a key to the payload that it implies; wins over a column of the same name.

    Attributes
    ----------
    gap : str or None
        Why the last iteration may have missed pictures: it has not reached the end, or it met
        something that may hide some, such as a folder that cannot be listed. The first such
        reason; None if there is none.
    """

    def __init__(self, location: str, label_of: LabelRule = no_label) -> None:
        self.location = location
        self.gap: str | None = _NOT_READ
        self._found: str | None = None
        self._label_of = label_of

    @property
    def is_complete(self) -> bool:
        """Whether what the last iteration did not yield is known to be gone."""
        return self.gap is None

    def __iter__(self) -> Iterator[ImageRecord]:
        """Yield every picture, and everything that should be one but cannot be read."""
        self.gap, self._found = _NOT_READ, None
        with closing(self._records()) as records:
            for record in records:
                label = self._label_of(record.key)
                yield replace(record, payload={**record.payload, **label}) if label else record
        self.gap = self._found

    def names(self) -> Iterator[object] | None:
        """Yield one object a picture, about, without reading any; None if that takes as long."""
        return None

    def __repr__(self) -> str:
        """Return kind and location."""
        return f"{type(self).__name__}({self.location!r})"

    @abstractmethod
    def _records(self) -> Records:
        """Yield the pictures in a fixed order, without the labels that keys imply."""

    def _hiding(self, key: str, reason: str) -> ImageRecord:
        """Return a record for something unreadable that may hide pictures of other keys."""
        self._doubt(f"{key}: {reason}")
        return unreadable(key, reason)

    def _doubt(self, reason: str) -> None:
        """Keep the first reason why pictures may be missing."""
        self._found = self._found or reason


def unreadable(key: str, reason: str, payload: Payload | None = None) -> ImageRecord:
    """Return a record that says why when it is read; a picture that is known to be broken."""
    return ImageRecord(key, partial(_refuse, reason), payload or {})


def _refuse(reason: str) -> NoReturn:
    raise ImageError(reason)


def read_json(text: str) -> Any:
    """Return JSON; `ValueError` also for a key that an object holds twice: one would be lost."""
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has the key {twice!r} twice")
    return found


def is_text(name: str) -> bool:
    """Return whether a name is valid UTF-8, which keys must be."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def spelled(name: str) -> str:
    """Return a name that is not valid UTF-8 with its odd bytes in hexadecimal.

    It starts with ``./``, which no readable picture's key does.
    """
    try:
        odd = name.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # half a pair from JSON, which no byte of a file's name becomes
        odd = name.encode(errors="surrogatepass")
    return "./" + odd.decode(errors="backslashreplace")


def check_dataset(dataset: str) -> None:
    """Raise `InputError` for names under which two pictures could get one id."""
    if not dataset or "/" in dataset:
        raise InputError(
            f"a data set cannot be named {dataset!r}: give at least one character and no slash, "
            f"which separates it from the path within the id"
        )
