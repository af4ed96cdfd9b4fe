"""Files of data sets: where they are expected, and what is said of missing and wrong ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from intramodal.errors import SourceError, reason
from intramodal.ground_truth import GroundTruth, read_ground_truth
from intramodal.ingest.sources.base import (
    Records,
    Source,
    promises_no_picture,
    read_file,
    reason_of,
)
from intramodal.ingest.sources.landmarks import LandmarkSource
from intramodal.ingest.sources.splits import SplitSource, is_there, wrong_path
from intramodal.paper.base import DataSet
from intramodal.signatures import decoded
from intramodal.types import ImageRecord, Payload

Image = tuple[str, Payload]
"""Path relative to the folder of images, and payload."""


class Line(NamedTuple):
    """A line of a list: its first word, and the rest."""

    first: str
    rest: str
    place: str
    """The file and the number of the line, for people."""


@dataclass(frozen=True)
class Files:
    """The files of a data set below a data root.

    Parameters
    ----------
    title : str
    layout : str
        Where they lie below the root, for people.
    origin : str
        Where they come from.
    """

    title: str
    layout: str
    origin: str

    def file(self, root: Path, path: str) -> Path:
        """Return a file; `SourceError` if it is missing."""
        if not (root / path).is_file():
            raise self.missing(root, path)
        return root / path

    def folder(self, root: Path, path: str) -> Path:
        """Return a folder; `SourceError` if it is missing."""
        if not (root / path).is_dir():
            raise self.missing(root, path + "/")
        return root / path

    def missing(self, root: Path, path: str) -> SourceError:
        """Return the error that says what is missing, what is expected and where it is from."""
        return SourceError(
            f"{self.title}: there is no {path} in {root}; expected there: {self.layout}; it comes "
            f"from {self.origin}"
        )

    def wrong(self, reason: str) -> SourceError:
        """Return the error for content that cannot be used."""
        return SourceError(f"{self.title}: {reason}")

    def lines(self, root: Path, path: str) -> Iterator[tuple[str, str]]:
        """Yield the lines of a list that are not blank, each with its place."""
        file = self.file(root, path)
        try:
            text = decoded(file.read_bytes())
        except (OSError, ValueError) as error:
            raise self.wrong(f"{file} cannot be read ({reason(error)}); get it again") from error
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                yield line.strip(), f"line {number} of {file}"

    def pairs(self, root: Path, path: str) -> Iterator[Line]:
        """Yield the lines of a list that are a word and the rest; `SourceError` for others."""
        for line, place in self.lines(root, path):
            first, _, rest = line.partition(" ")
            if not rest.strip():
                raise self.wrong(
                    f"{place} is {line!r}; correct it to two entries and a blank between"
                )
            yield Line(first, rest.strip(), place)

    def table(self, root: Path, path: str) -> Mapping[str, Line]:
        """Return the pairs of a list by their first word; `SourceError` if one occurs twice."""
        found: dict[str, Line] = {}
        for line in self.pairs(root, path):
            if line.first in found:
                other = found[line.first].place
                raise self.wrong(f"{line.place} repeats {line.first} of {other}; keep one")
            found[line.first] = line
        return found

    def images(self, folder: Path) -> list[str]:
        """Return the names of the images in a folder, sorted, without hidden and other files."""
        try:
            names = os.listdir(folder)  # noqa: PTH208  names alone: a million of them
        except OSError as error:
            raise self.wrong(f"{folder} cannot be listed ({reason_of(error)})") from error
        return sorted(n for n in names if n[0] != "." and not promises_no_picture(n))

    def classes(self, folder: Path) -> list[str]:
        """Return the names of the folders in a folder, sorted, without hidden ones."""
        try:
            with os.scandir(folder) as entries:
                return sorted(one.name for one in entries if one.is_dir() and one.name[0] != ".")
        except OSError as error:
            raise self.wrong(f"{folder} cannot be listed ({reason_of(error)})") from error

    def listed(self, root: Path, folder: str, images: Iterable[Image]) -> Images:
        """Return the images of a folder that lists name, checked as a whole."""
        found: dict[str, Payload] = {}
        for path, payload in images:
            reason = "it is there twice; keep one" if path in found else wrong_path(path)
            if reason is not None:
                raise self.wrong(f"image {path!r} in its lists: {reason}")
            found[path] = payload
        home = self.folder(root, folder)
        if not any(is_there(str(home), path) for path in found):
            raise self.missing(root, f"{folder}/{next(iter(found), '')}")
        return Images(home, found.items)


class Images(Source):
    """The images of a folder that a function names, again and again."""

    def __init__(self, folder: Path, images: Callable[[], Iterable[Image]]) -> None:
        super().__init__(str(folder))
        self._root = os.path.realpath(folder)
        self._images = images

    def names(self) -> Iterator[object]:
        """Yield one object an image."""
        return iter(self._images())

    def _records(self) -> Records:
        for path, payload in self._images():
            where = os.path.join(self._root, path)  # noqa: PTH118  ten times Path's speed
            yield ImageRecord(path, partial(read_file, where, self._root), payload)


def spaced(name: str) -> str:
    """Return a class name as prompts have it, as in CoOp: with blanks for underscores."""
    return name.replace("_", " ")


def in_coop_layout(  # noqa: PLR0913  what a data set declares
    name: str,
    *,
    title: str,
    column: str = "",
    images: str,
    split_file: str,
    origin: str,
    licence: str,
    n_images: int,
    template: str = "a photo of a {}.",
) -> DataSet:
    """Return a data set that lies on disk as CoOp's DATASETS.md says, with its split file.

    Parameters
    ----------
    name, title, column, origin, licence, n_images, template
        As in `DataSet`; `n_images` are those of the split file, and the template is CoOp's.
    images, split_file : str
        Below the data root: the folder that the paths of the split file are relative to, and the
        split file.
    """
    layout = f"{images}/ and {split_file}, as in CoOp's DATASETS.md"
    files = Files(title, layout, f"{origin}, its split file from the links in CoOp's DATASETS.md")

    def opened(root: Path) -> Iterable[ImageRecord]:
        folder, split = files.folder(root, images), files.file(root, split_file)
        return SplitSource(str(folder), split_file=split, spelled=spaced)

    return DataSet(
        name=name,
        title=title,
        column=column,
        open=opened,
        layout=layout,
        origin=files.origin,
        licence=licence,
        n_images=n_images,
        template=template,
    )


def in_revisited_layout(
    name: str,
    *,
    title: str,
    folder: str,
    ground_truth: str,
    origin: str,
    licence: str,
    n_images: int,
) -> DataSet:
    """Return a data set of revisited Oxford or Paris, as revisitop's own code lays it out.

    Queries are not cropped unless asked for, as in the authors' code.

    Parameters
    ----------
    name, title, origin, licence, n_images
        As in `DataSet`; `n_images` are those of gallery and queries.
    folder, ground_truth : str
        The folder below the data root, and the file in it.
    """
    path = f"{folder}/{ground_truth}"
    files = Files(title, f"{folder}/jpg/ and {path}, as in revisitop's data/datasets", origin)

    def truth(root: Path) -> GroundTruth:
        return read_ground_truth(files.file(root, path))

    def opened(root: Path, *, crop: bool = False) -> Iterable[ImageRecord]:
        images = files.folder(root, f"{folder}/jpg")
        return LandmarkSource(str(images), ground_truth=files.file(root, path), crop=crop)

    return DataSet(
        name=name,
        title=title,
        open=opened,
        layout=files.layout,
        origin=files.origin,
        licence=licence,
        n_images=n_images,
        fields=("name",),
        metric="mAP, medium",
        protocol="revisited",
        open_cropped=partial(opened, crop=True),
        ground_truth=truth,
    )
