"""Images of revisited Oxford and Paris: gallery and queries, these whole or cropped."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from intramodal.errors import ImageError, SourceError
from intramodal.ground_truth import GroundTruth, read_ground_truth
from intramodal.ingest.decode import decode_image
from intramodal.ingest.sources.base import (
    PICTURE_SUFFIXES,
    LabelRule,
    Records,
    Source,
    no_label,
    read_file,
    reason_of,
    suffix,
)
from intramodal.ingest.sources.splits import wrong_path
from intramodal.types import ImageRecord, Payload

Box = tuple[int, int, int, int]
"""Left, upper, right and lower end, in pixels."""

_WHOLE = 2**20
"""A target side from which no JPEG is decoded at a smaller scale."""


class LandmarkSource(Source):
    """The images of a folder that a ground truth names, with ``split``, ``name`` and ``cropped``.

    ``split`` is ``gallery`` or ``query``; ``cropped`` stands with queries alone. Of a cropped
    query the content, and so its hash, is that of the pixels in its box: one that is stored whole
    is encoded again.

    Parameters
    ----------
    location : str
        The folder of the images, ``jpg/`` of the benchmark.
    label_of : callable
        As `Source`.
    ground_truth : path or GroundTruth
        As `read_ground_truth`.
    crop : bool
        Whether queries are cropped to their boxes, as the published benchmark does.
    """

    def __init__(
        self,
        location: str,
        label_of: LabelRule = no_label,
        *,
        ground_truth: str | os.PathLike[str] | GroundTruth,
        crop: bool = False,
    ) -> None:
        super().__init__(location, label_of)
        if isinstance(ground_truth, GroundTruth):
            self._truth, self._of = ground_truth, "the ground truth"
        else:
            self._truth, self._of = read_ground_truth(ground_truth), str(ground_truth)
        self._crop = crop
        self._root = os.path.realpath(location)
        self._check()
        self._files = self._listed()

    def names(self) -> Iterator[object]:
        """Yield the names of the gallery and of the queries."""
        yield from self._truth.gallery
        yield from self._truth.queries

    def _records(self) -> Records:
        for name in self._truth.gallery:
            yield self._record(name, {"split": "gallery", "name": name}, None)
        for name, box in zip(self._truth.queries, self._boxes(), strict=True):
            payload = {"split": "query", "name": name, "cropped": self._crop}
            yield self._record(name, payload, box)

    def _record(self, name: str, payload: Payload, box: Box | None) -> ImageRecord:
        key = self._files.get(name, f"{name}.jpg")
        where = os.path.join(self._root, key)  # noqa: PTH118  ten times Path's speed
        read = partial(read_file, where, self._root)
        return ImageRecord(key, read if box is None else partial(_cropped, read, box), payload)

    def _boxes(self) -> list[Box] | list[None]:
        """Return the box of each query, in whole pixels; None where it stays whole."""
        if not self._crop or self._truth.boxes is None:
            return [None] * len(self._truth.queries)
        # Rounded as by Pillow, and so by the benchmark's code: half to even.
        return [tuple(map(round, box)) for box in self._truth.boxes.tolist()]

    def _check(self) -> None:
        """Raise `SourceError` unless names are files in a folder, each in one place."""
        truth = self._truth
        for name in self.names():
            if reason := wrong_path(f"{name}.jpg"):
                raise SourceError(f"image {name!r} of {self._of}: {reason}")
        if both := sorted(set(truth.gallery) & set(truth.queries)):
            raise SourceError(
                f"{self._of} names {len(both):,} images as query and as gallery image, "
                f"{both[0]} for example, and one file is one point; keep one of each"
            )
        if self._crop and truth.boxes is None:
            raise SourceError(
                f"{self._of} has no boxes (bbx) to crop the queries to; leave them whole"
            )

    def _listed(self) -> dict[str, str]:
        """Return the file of each name; `SourceError` if the folder has none: it is another."""
        folder = Path(self._root)
        wanted = set(map(str, self.names()))
        found = _pictures(folder) if folder.is_dir() else {}
        files = {name: file for name, file in found.items() if name in wanted}
        if files:
            return files
        inside = folder / "jpg"
        is_meant = inside.is_dir() and not wanted.isdisjoint(_pictures(inside))
        meant = f" (is it {Path(self.location) / 'jpg'}?)" if is_meant else ""
        raise SourceError(
            f"{self.location} has none of the {len(wanted):,} images that {self._of} names, "
            f"such as {self._truth.gallery[0]}.jpg; give the folder with these files{meant}"
        )


def _pictures(folder: Path) -> dict[str, str]:
    """Return the image files in a folder by their names without suffix."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  names alone
    except OSError as error:
        raise SourceError(f"{folder} cannot be listed ({reason_of(error)})") from error
    some = sorted(name for name in names if suffix(name) in PICTURE_SUFFIXES)
    return {PurePosixPath(name).stem: name for name in reversed(some)}


def _cropped(read: partial[bytes], box: Box) -> bytes:
    """Return the pixels of an image in its box, as the bytes of a PPM file.

    Without compression, so that they are the same with every version of a codec.
    """
    image = decode_image(read(), target=_WHOLE)
    left, upper, right, lower = box
    width, height = image.size
    inside = max(left, 0), max(upper, 0), min(right, width), min(lower, height)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise ImageError(f"its box {box} lies outside of {width} x {height} pixels")
    file = io.BytesIO()
    image.crop(inside).save(file, "PPM")
    return file.getvalue()
