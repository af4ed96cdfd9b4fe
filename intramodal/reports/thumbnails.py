"""Small pictures as ``data:`` URIs, so that a page needs no second file."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from intramodal.errors import ImageError
from intramodal.ingest.decode import decode_image

SIDE = 96
"""Longer side of a thumbnail in pixels; about 2 kB each as WebP."""


def thumbnail(folder: Path | None, key: object) -> str:
    """Return a picture of a folder as a ``data:`` URI; empty when it cannot be reached.

    Parameters
    ----------
    folder : Path or None
        Where the keys are relative to.
    key : object
        The payload's path: untrusted, and refused when it leads out of `folder`.
    """
    if folder is None or not isinstance(key, str):
        return ""
    path = (folder / key).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return ""
    try:
        picture = decode_image(path.read_bytes(), target=SIDE)
    except (OSError, ImageError):
        return ""
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
