"""What all sources have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import NoReturn

from intramodal.errors import ImageError
from intramodal.ingest.sources.labels import LabelRule, no_label
from intramodal.types import ImageRecord, Payload

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
