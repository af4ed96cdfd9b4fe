"""What the tests of all sources share."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from intramodal.errors import ImageError
from intramodal.ingest.sources.base import Source

IS_ROOT = getattr(os, "geteuid", lambda: None)() == 0  # Windows has none
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


def png(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), shade).save(file, "PNG")
    return file.getvalue()


def put(folder: Path, *names: str, data: bytes | None = None) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(len(name)) if data is None else data)
    return folder


def keys(source: Source) -> list[str]:
    return [record.key for record in source]


def payloads(source: Source) -> dict[str, dict[str, Any]]:
    return {record.key: record.payload for record in source}


def reasons(source: Source) -> dict[str, str]:
    """Return why each unreadable record is so; readable ones are left out."""
    found = {}
    for record in source:
        try:
            record.read()
        except (ImageError, OSError) as error:
            found[record.key] = str(error)
    return found


def tar(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                file.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info
