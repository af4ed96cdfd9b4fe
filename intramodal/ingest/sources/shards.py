"""Tar shards in webdataset's layout: the members of one sample follow each other.

They share their name up to the first dot: ``a/7.jpg``, ``a/7.json``, ``a/7.cls``. Where names hold
further dots, as ``22.05.jpg`` and ``22.05.json``, a sidecar belongs to the picture that shares all
but the last suffix.
"""

from __future__ import annotations

import logging
import posixpath
import re
import tarfile
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import groupby, product, takewhile
from pathlib import Path
from typing import BinaryIO, cast

from intramodal.errors import ImageError, SourceError
from intramodal.ingest.input_file import InputFile
from intramodal.ingest.sources.base import (
    MAX_FILE_BYTES,
    PICTURE_SUFFIXES,
    LabelRule,
    Records,
    Source,
    is_text,
    no_label,
    promises_no_picture,
    read_json,
    reason_of,
    spelled,
    suffix,
    unreadable,
)
from intramodal.signatures import N_BYTES, format_of
from intramodal.types import ImageRecord, Payload

_LARGEST_HEADER = 2**20
_BLOCK = tarfile.BLOCKSIZE

_DAMAGE = (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError)
"""What Python's tarfile raises for damaged or hostile files."""


class ShardError(Exception):
    """The rest of a tar file cannot be read; the message says why."""


def tar_members(shard: InputFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar file, with the places of their data."""
    try:
        with shard.open() as opened:
            file = cast("BinaryIO", _Headers(opened))
            with tarfile.open(fileobj=file, mode="r:") as tar:
                yield from _forward(tar)
                _require_end(opened, tar.offset)
    except _DAMAGE as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        if (known := _other_format(shard)) is not None:
            raise ShardError(f"no tar file: {known}") from error
        raise ShardError(f"damaged or cut off: {reason or type(error).__name__}") from error


def _other_format(shard: InputFile) -> str | None:
    try:
        return format_of(shard.read_at(0, N_BYTES))
    except OSError:
        return None


def read_member(shard: InputFile, offset: int, size: int) -> bytes:
    """Return `size` bytes at `offset`; `ImageError` if they are too many or not all there."""
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{size:,} bytes are more than the {MAX_FILE_BYTES:,} allowed")
    data = shard.read_at(offset, size)
    if len(data) != size:
        raise ImageError(f"cut off: {len(data):,} of {size:,} bytes")
    return data


def _forward(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    last = -1
    while (member := tar.next()) is not None:
        # A negative size would lead back to members that were yielded already.
        if member.size < 0 or member.offset <= last:
            raise tarfile.ReadError(f"member {member.name!r} has an impossible size")
        last = member.offset
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
        yield member


def _require_end(file: BinaryIO, offset: int) -> None:
    """Raise unless the archive ends here: tarfile takes a damaged header for its end.

    It ends in blocks of zeros: an archive that stops after a member was cut off there, and members
    behind the zeros, as where archives were joined by `cat`, are not read.
    """
    file.seek(offset)
    block = file.read(_BLOCK)
    if not block:
        raise tarfile.ReadError(f"no end mark after byte {offset:,}")
    if any(block):
        raise tarfile.ReadError(f"no header at byte {offset:,}")
    rest = file.read(_LARGEST_HEADER)
    if any(_is_header(rest[at : at + _BLOCK]) for at in range(0, len(rest), _BLOCK)):
        raise tarfile.ReadError(f"another archive follows the end mark at byte {offset:,}")


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


class _Headers:
    """A file that refuses to read the huge extended headers that a tar file may declare."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


_LARGEST_SIDECAR = 2**20
_MOST_MEMBERS = 64
_DOCUMENTS = frozenset({"readme", "license", "licence", "notice", "copying", "changelog"})
"""Texts about a whole archive."""
_MOST_SHARDS = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")

_ALONE = "no image belongs to it; keep a sample's members together, each once"
_UNREAD = "members %r of samples, such as %s in %s, are not read; .json, .cls and .txt are"
_LONGEST_SHOWN = 60

log = logging.getLogger(__name__)

Members = list[tarfile.TarInfo]


class ShardSource(Source):
    """The pictures in tar shards, with the payload that their samples hold."""

    def __init__(self, source: str | BinaryIO | InputFile, label_of: LabelRule = no_label) -> None:
        location = source if isinstance(source, str) else str(InputFile(source))
        super().__init__(location, label_of)
        is_pattern = isinstance(source, str) and not Path(source).is_file()
        self._unread: set[str] = set()
        self._shards = list(map(InputFile, expanded(location) if is_pattern else [source]))
        absent = [str(shard) for shard in self._shards if not shard.is_there]
        if absent or not self._shards:
            raise SourceError(
                f"there is no shard {(absent or [location])[0]}; "
                f"give one .tar file or a pattern like shard-{{000..009}}.tar"
            )

    def _records(self) -> Records:
        for shard in self._shards:
            damage: list[str] = []
            for members, is_whole in _samples(_until_damage(shard, damage)):
                yield from self._sample(shard, members, is_whole=is_whole)
            for reason in damage:
                yield self._hiding(f"./{shard.name}", reason)

    def _sample(
        self, shard: InputFile, members: Members, *, is_whole: bool
    ) -> Iterator[ImageRecord]:
        """Yield the pictures of a sample, mostly one, and the sidecars that cannot be used."""
        pictures: Members = []
        sidecars: Members = []
        for member in members:
            reason = _refusal(member)
            if reason is not None:
                # A member without a usable name may be a picture that is known under another one.
                refused = self._hiding if _key_is_unknown(member) else unreadable
                yield refused(_key(member), reason)
            elif _is_sidecar(member):
                sidecars.append(member)
            elif _is_picture(member):
                pictures.append(member)
            elif _is_unread(member) and (kind := suffix(member.name)) not in self._unread:
                self._unread.add(kind)
                log.warning(_UNREAD, kind, member.name[:_LONGEST_SHOWN], shard.name)
        payloads: dict[str, Payload] = {_key(picture): {} for picture in pictures}
        for sidecar in sorted(sidecars, key=_rank):
            yield from self._described(shard, sidecar, payloads, is_whole=is_whole)
        for picture in pictures:
            where = (shard, picture.offset_data, picture.size)
            key = _key(picture)
            yield ImageRecord(key, partial(read_member, *where), payloads[key])

    def _described(
        self,
        shard: InputFile,
        sidecar: tarfile.TarInfo,
        payloads: dict[str, Payload],
        *,
        is_whole: bool,
    ) -> Iterator[ImageRecord]:
        """Add a sidecar to the payload of its pictures; yield it where that cannot be done.

        One part of a sample, as ``7.bbox.json`` beside ``7.jpg``, comes under its own name.
        """
        owners = _owners(_key(sidecar), payloads, is_whole=is_whole)
        part = None
        if not owners and is_whole:
            sample = _sample_of(sidecar)
            owners = [key for key in payloads if posixpath.splitext(key)[0] == sample]
            part = posixpath.splitext(_key(sidecar)[len(sample) + 1 :])[0]
        if not owners:
            # A picture may be lost with which it belonged; a text may be no caption.
            lone = unreadable if _kind(sidecar) == "txt" else self._hiding
            yield lone(_key(sidecar), _ALONE)
            return
        try:
            payload = _sidecar(shard, sidecar, part)
        except ImageError as error:
            yield unreadable(_key(sidecar), str(error))
            return
        for key in owners:
            payloads[key] |= payload


def _until_damage(shard: InputFile, damage: list[str]) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a shard; why the rest is lost goes to `damage`.

    An error would take along the last members, which are not a whole sample yet.
    """
    try:
        yield from tar_members(shard)
    except ShardError as error:
        damage.append(str(error))


def expanded(pattern: str) -> list[str]:
    """Return what the braces of a pattern stand for, in order.

    Examples
    --------
    >>> expanded("{a,b}-{08..10}.tar")[:4]
    ['a-08.tar', 'a-09.tar', 'a-10.tar', 'b-08.tar']
    """
    parts = _BRACES.split(pattern)
    choices = [_choices(part) if i % 2 else [part] for i, part in enumerate(parts)]
    n_shards = 1
    for some in choices:
        n_shards *= len(some)
    if n_shards > _MOST_SHARDS:
        raise SourceError(f"{pattern} stands for {n_shards:,} shards; give {_MOST_SHARDS:,}")
    return ["".join(some) for some in product(*choices)]


def _choices(text: str) -> list[str]:
    if not (match := _RANGE.fullmatch(text)):
        return text.split(",")
    first, last = match.groups()
    width = max(len(first), len(last)) if "0" in (first[0], last[0]) else 0
    numbers = range(int(first), int(last) + 1)
    if len(numbers) > _MOST_SHARDS:
        raise SourceError(f"{{{text}}} stands for {len(numbers):,} shards; give fewer")
    return [f"{number:0{width}}" for number in numbers]


def _sample_of(member: tarfile.TarInfo) -> str:
    folder, name = posixpath.split(_key(member))
    return posixpath.join(folder, name.split(".", 1)[0])


def _samples(members: Iterator[tarfile.TarInfo]) -> Iterator[tuple[Members, bool]]:
    """Yield the members of each sample, and whether that is all of it.

    A name that occurs again begins another sample, so that no payload goes to a picture of the
    other one. A sample without end, as the frames of a film, comes in parts; members that share
    all but the last suffix stay together.
    """
    for _, group in groupby(members, _sample_of):
        some: Members = []
        is_whole = True
        for member in group:
            n_kept = len(some)
            if any(member.name == known.name for known in some):
                n_kept = 0
            elif len(some) >= _MOST_MEMBERS:
                n_kept = sum(1 for _ in takewhile(partial(_is_near, member), reversed(some)))
                n_kept %= _MOST_MEMBERS
            if n_kept < len(some):
                is_whole = False
                yield some[: len(some) - n_kept], is_whole
                some = some[len(some) - n_kept :]
            some.append(member)
        yield some, is_whole


def _is_near(a: tarfile.TarInfo, b: tarfile.TarInfo) -> bool:
    return _root(a.name) == _root(b.name)


def _root(name: str) -> str:
    """Return a name without its last suffix, and without that of a picture before it."""
    bare = posixpath.splitext(name)[0]
    return posixpath.splitext(bare)[0] if suffix(bare) in PICTURE_SUFFIXES else bare


def _owners(sidecar: str, pictures: Collection[str], *, is_whole: bool) -> list[str]:
    """Return the pictures of a sample that a sidecar describes.

    One whose name has no other dot describes the whole sample.
    """
    bare = posixpath.splitext(sidecar)[0]
    if is_whole and "." not in posixpath.basename(bare):
        return list(pictures)
    return [key for key in pictures if bare in (key, posixpath.splitext(key)[0])]


def _rank(sidecar: tarfile.TarInfo) -> tuple[int, int]:
    """Return a sidecar's place: those of one picture, and class indexes, win over the others."""
    return _key(sidecar).count("."), list(_SIDECARS).index(_kind(sidecar))


def _refusal(member: tarfile.TarInfo) -> str | None:
    """Return why a member cannot be taken whatever its kind, None if it can."""
    if not is_text(member.name):
        return "the name is not UTF-8"
    if _leads_out(member):
        return "a name that leads out of the source"
    if member.isdir():
        is_odd = suffix(member.name) in PICTURE_SUFFIXES
        return "a folder with the name of an image" if is_odd else None
    if not member.isreg():
        return "a link, pipe or device, not a file"
    return "a sparse file" if member.issparse() else None


def _is_picture(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not _is_hidden(member) and not promises_no_picture(_key(member))


def _is_sidecar(member: tarfile.TarInfo) -> bool:
    is_about = _kind(member) == "txt" and _root(_key(member)).lower() in _DOCUMENTS
    return (
        member.isreg() and not _is_hidden(member) and _kind(member) in _SIDECARS and not is_about
    )


def _is_unread(member: tarfile.TarInfo) -> bool:
    """Return whether a member is a part of a sample of which no payload is made."""
    is_about = _root(_key(member)).lower() in _DOCUMENTS
    return member.isreg() and not _is_hidden(member) and not is_about


def _is_hidden(member: tarfile.TarInfo) -> bool:
    return any(part.startswith(".") for part in _key(member).split("/"))


def _kind(member: tarfile.TarInfo) -> str:
    return suffix(posixpath.basename(member.name))[1:]


def _leads_out(member: tarfile.TarInfo) -> bool:
    return member.name.startswith("/") or ".." in member.name.split("/")


def _key_is_unknown(member: tarfile.TarInfo) -> bool:
    return not is_text(member.name) or _leads_out(member)


def _key(member: tarfile.TarInfo) -> str:
    if not is_text(member.name):
        return spelled(member.name)
    return member.name if _leads_out(member) else posixpath.normpath(member.name)


def _sidecar(shard: InputFile, member: tarfile.TarInfo, part: str | None) -> Payload:
    what = f"the .{_kind(member)} member"
    if member.size > _LARGEST_SIDECAR:
        raise ImageError(f"{what} has {member.size:,} bytes; {_LARGEST_SIDECAR:,} are allowed")
    try:
        data = read_member(shard, member.offset_data, member.size)
        text = data.decode("utf-8-sig")
        if part is None:
            return _SIDECARS[_kind(member)](text)
        return {part: read_json(text) if _kind(member) == "json" else text.strip()}
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{what} cannot be used: {error}") from error
    except OSError as error:
        raise ImageError(f"{what} cannot be read: {error.strerror or error}") from error


def _json_payload(text: str) -> Payload:
    payload = read_json(text)
    if not isinstance(payload, dict):
        raise ValueError("it is not a JSON object")
    return payload


# In this order: the class index of a sample wins over a label in its description.
_SIDECARS: dict[str, Callable[[str], Payload]] = {
    "json": _json_payload,
    "txt": lambda text: {"text": text.strip()},
    "cls": lambda text: {"label": text.strip()},
}
