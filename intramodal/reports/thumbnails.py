"""Small pictures as ``data:`` URIs, so that a page needs no second file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from intramodal.errors import ImageError
from intramodal.ingest.decode import decode_image

SIDE = 96
"""Longer side of a thumbnail in pixels; about 2 kB each as WebP."""


@dataclass(frozen=True)
class Picture:
    """One picture of a page."""

    id: str
    """Of the point."""
    caption: str
    """Untrusted text: label, path."""
    image: str = ""
    """A ``data:`` URI of a thumbnail; empty when the picture was not reachable."""


def thumbnail(folder: Path | None, key: object, *, side: int = SIDE) -> str:
    """Return a picture of a folder as a ``data:`` URI; empty when it cannot be reached.

    `key` is the payload's path: untrusted, and refused when it leads out of `folder`.
    """
    if folder is None or not isinstance(key, str):
        return ""
    try:
        path = (folder / key).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            return ""
        return data_uri(path.read_bytes(), side=side)
    except (OSError, ValueError, ImageError):  # no picture, or no name that a file can have
        return ""


def data_uri(data: bytes, *, side: int = SIDE) -> str:
    """Return the picture in a file's bytes as a small ``data:`` URI; refuse other bytes."""
    picture = decode_image(data, target=side)
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
