"""The picture of a point: a thumbnail, a link, or what the payload says of it.

Pictures are kept in as many ways as there are collections. The payload may name a file of a
folder, hold a part of its name, or an address; it may hold nothing but a title.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from intramodal.errors import ImageError, InputError
from intramodal.ingest.decode import decode_image
from intramodal.store.collection import ImageCollection
from intramodal.store.fields import value_at
from intramodal.types import PointId

SIDE = 96
"""Longer side of a thumbnail in pixels; about 2 kB each as WebP."""

FIELDS = ("path", "file", "filename", "image", "image_path", "image_url", "url", "key")
"""Payload fields that commonly name a picture, in the order in which they are tried."""
_TITLES = ("title", "name", "caption")
"""How a payload field ends that says what a point is called: title, productDisplayName."""
_PART = re.compile(r"\{([^{}]+)\}")
_PER_REQUEST = 64
"""Points whose payload is read at once: of each only its picture is kept."""


@dataclass(frozen=True)
class Picture:
    """One picture of a page."""

    id: str
    """Of the point."""
    caption: str
    """Untrusted text: label, title or file."""
    image: str = ""
    """A ``data:`` URI of a thumbnail; empty where the picture was not reachable."""
    link: str = ""
    """An http(s) address of the picture; untrusted, never fetched."""


@dataclass(frozen=True)
class PictureSource:
    """Where the pictures of a collection are.

    Parameters
    ----------
    place : str or Path, optional
        A folder that the payload's paths are relative to, or a pattern with payload fields in
        braces, for example ``photos/{sku}.jpg`` or ``https://cdn.example.com/{sku}.jpg``.
    field : str, optional
        Payload field that names the picture; by default the first of `FIELDS` that does.
    side : int
        Longer side of a thumbnail in pixels.
    """

    place: str | Path | None = None
    field: str | None = None
    side: int = SIDE

    def __post_init__(self) -> None:
        """Refuse a pattern together with a field, and a folder that is not there."""
        if self._is_pattern and self.field is not None:
            raise InputError(
                f"the pattern {self.place} names its own payload fields; leave out {self.field!r}"
            )
        if self.place is not None and not self._is_pattern and not Path(self.place).is_dir():
            raise InputError(
                f"there is no folder {self.place}; name the folder of the images, or a pattern "
                f"with a payload field in braces, such as photos/{{sku}}.jpg"
            )

    @property
    def _is_pattern(self) -> bool:
        return isinstance(self.place, str) and _PART.search(self.place) is not None

    def picture(
        self, point: PointId, payload: Mapping[str, Any], *, label: object = None
    ) -> Picture:
        """Return the picture of a point; its caption is its label, then its title or file."""
        name = self.name(payload)
        title = title_of(payload) or name or point
        caption = " · ".join(str(part) for part in (label, title) if part is not None)
        if name is None:
            return Picture(str(point), caption)
        if is_link(name):
            return Picture(str(point), caption, link=name)
        return Picture(str(point), caption, image=self._thumbnail(name))

    def name(self, payload: Mapping[str, Any]) -> str | None:
        """Return the file or the address of a picture; None where the payload has none."""
        if self._is_pattern:
            return self._filled(payload)
        tried = FIELDS if self.field is None else (self.field,)
        values = (value_at(payload, field) for field in tried)
        return next((value for value in values if isinstance(value, str) and value), None)

    def _filled(self, payload: Mapping[str, Any]) -> str | None:
        pattern = str(self.place)
        if any(value_at(payload, field) is None for field in _PART.findall(pattern)):
            return None
        return _PART.sub(lambda found: str(value_at(payload, found[1])), pattern)

    def _thumbnail(self, name: str) -> str:
        """Return a file of the folder as a ``data:`` URI; empty when it cannot be reached.

        The name is untrusted: it is refused when it leads out of the folder.
        """
        if self.place is None:
            return ""
        folder = _folder_of(str(self.place)) if self._is_pattern else Path(self.place)
        path = Path(name) if self._is_pattern else folder / name
        try:
            if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
                return ""
            return data_uri(path.read_bytes(), side=self.side)
        except (OSError, ValueError, ImageError):  # no picture, or no name that a file can have
            return ""

    def missing(self, pictures: Sequence[Picture]) -> str | None:
        """Return one sentence on why no picture is shown; None where one is."""
        if any(picture.image or picture.link for picture in pictures):
            return None
        if self._is_pattern:
            return f"No images: there is no file that {self.place} leads to."
        fields = self.field or f"{', '.join(FIELDS[:-1])} or {FIELDS[-1]}"
        named = f"the payload names in {fields}"
        others = (
            "a pattern such as photos/{sku}.jpg, or the payload field that names the file "
            "(`picture_field`)"
        )
        if self.place is None:
            return f"No images: give the folder of the files that {named} (`pictures`), {others}."
        folder = "the current folder" if Path(self.place) == Path() else self.place
        other = f"give another (`pictures`), {others}"
        return f"No images: {folder} has no file that {named}; {other}."


def payloads(
    collection: ImageCollection, points: Sequence[PointId]
) -> Iterator[tuple[PointId, Mapping[str, Any]]]:
    """Yield points of a collection with their payload, a few at a time."""
    for start in range(0, len(points), _PER_REQUEST):
        some = points[start : start + _PER_REQUEST]
        page = collection.store.retrieve(collection.name, some, payload=True)
        yield from zip(page.ids, page.payloads, strict=True)


def title_of(payload: Mapping[str, Any]) -> str | None:
    """Return what a payload calls its point; the shortest of several such fields decides."""
    fields = sorted((f for f in payload if f.lower().endswith(_TITLES)), key=len)
    values = (payload[field] for field in fields if field not in FIELDS)
    return next((value for value in values if isinstance(value, str) and value), None)


def _folder_of(pattern: str) -> Path:
    """Return the folder of a pattern that no payload field is part of.

    Examples
    --------
    >>> _folder_of("photos/shop-{tenant}/{sku}.jpg").as_posix()
    'photos'
    """
    return Path(pattern[: pattern.index("{")] + "x").parent


def is_link(name: str) -> bool:
    """Return whether a name is the http(s) address of something."""
    try:
        found = urlsplit(name)
    except ValueError:
        return False
    return found.scheme in ("http", "https") and bool(found.netloc)


def data_uri(data: bytes, *, side: int = SIDE) -> str:
    """Return the picture in a file's bytes as a small ``data:`` URI; refuse other bytes."""
    picture = decode_image(data, target=side)
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
