"""The members of an uncompressed tar file, which is not trusted."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

from intramodal.errors import ImageError
from intramodal.ingest.sources.files import MAX_FILE_BYTES, reason_of

_LARGEST_HEADER = 2**20
_BLOCK = tarfile.BLOCKSIZE

_DAMAGE = (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError)
"""What Python's tarfile raises for damaged or hostile files."""


class ShardError(Exception):
    """The rest of a tar file cannot be read; the message says why."""


def tar_members(path: str) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar file, with the places of their data.

    Raises
    ------
    ShardError
        Where the file stops being readable; all members before that were yielded.
    """
    try:
        with _Headers(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            yield from _forward(tar)
            _require_end(file, tar.offset)
    except _DAMAGE as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise ShardError(f"damaged or cut off: {reason or type(error).__name__}") from error


def read_member(path: str, offset: int, size: int) -> bytes:
    """Return `size` bytes at `offset`; `ImageError` if they are too many or not all there."""
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{size:,} bytes are more than the {MAX_FILE_BYTES:,} allowed")
    with open(path, "rb") as file:  # noqa: PTH123  a str: made once for each member
        file.seek(offset)
        data = file.read(size)
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


def _require_end(file: io.FileIO, offset: int) -> None:
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


class _Headers(io.FileIO):
    """A file that refuses to read the huge extended headers that a tar file may declare."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes."""
        if size is None or not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size) or b""
