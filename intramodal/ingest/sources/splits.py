"""Split files of the few-shot field: which images of a folder are train, val and test."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from intramodal.errors import ImageError, SourceError
from intramodal.ingest.sources.base import (
    LabelRule,
    Records,
    Source,
    is_text,
    no_label,
    read_file,
)
from intramodal.signatures import decoded
from intramodal.types import ImageRecord

SPLITS = ("train", "val", "test")

_FORM = '{"train": [[path, label, class name], ...], "val": [...], "test": [...]}'
_LONGEST_SHOWN = 80
_LARGEST_LABEL = 2**31 - 1


class SplitEntry(NamedTuple):
    """One image of a split file."""

    path: str
    """Relative to the folder of images, with forward slashes, as keys are."""
    split: str
    label: int
    name: str
    """Of its class."""
    place: str
    """Where it stands in the file, such as ``train[0]``."""


def read_split_file(path: str | os.PathLike[str]) -> list[SplitEntry]:
    """Return the images that a split file lists, in its order.

    Parameters
    ----------
    path : path
        JSON in the layout of CoOp's ``split_zhou_*.json``: an object with ``train``, ``val`` and
        ``test`` (some may be absent), each a list of ``[path, label, class name]``. Paths are
        relative to the folder of images; labels are whole numbers from 0.

    Raises
    ------
    SourceError
        If the file is absent or not of this form, if an entry is not, if a path occurs twice, or
        if labels and class names do not belong to each other one to one.
    """
    found = [entry for split, rows in _parts(path) for entry in _entries(path, split, rows)]
    if not found:
        raise SourceError(f"{path} lists no images; give a split file: {_FORM}")
    _check_paths(path, found)
    _check_classes(path, found)
    return found


class SplitSource(Source):
    """The images of a folder that a split file lists, with ``split``, ``label`` and ``class``.

    Parameters
    ----------
    location : str
        The folder that the paths in the split file are relative to.
    label_of : callable
        As `Source`.
    split_file : path
        As `read_split_file`.
    spelled : callable
        From a class name in the file to the one in the payload.
    """

    def __init__(
        self,
        location: str,
        label_of: LabelRule = no_label,
        *,
        split_file: str | os.PathLike[str],
        spelled: Callable[[str], str] = str,
    ) -> None:
        super().__init__(location, label_of)
        if not Path(location).is_dir():
            raise SourceError(
                f"a split file lists images in a folder, which {location!r} is not; give the "
                f"folder that the paths in {split_file} are relative to"
            )
        self._root = os.path.realpath(location)
        self._entries = read_split_file(split_file)
        self._spelled = spelled
        self._check_folder(split_file)

    def names(self) -> Iterator[object]:
        """Yield the entries."""
        return iter(self._entries)

    def _records(self) -> Records:
        for entry in self._entries:
            where = os.path.join(self._root, entry.path)  # noqa: PTH118  ten times Path's speed
            name = self._spelled(entry.name)
            payload = {"split": entry.split, "label": entry.label, "class": name}
            yield ImageRecord(entry.path, partial(read_file, where, self._root), payload)

    def _check_folder(self, split_file: str | os.PathLike[str]) -> None:
        """Raise `SourceError` if the folder has none of the images: it is another one."""
        if any(is_there(self._root, entry.path) for entry in self._entries):
            return
        first = self._entries[0].path
        inside = sorted(
            one.name for one in Path(self._root).iterdir() if is_there(str(one), first)
        )
        meant = f" (is it {Path(self.location) / inside[0]}?)" if inside else ""
        raise SourceError(
            f"{self.location} has none of the {len(self._entries):,} images that {split_file} "
            f"lists, such as {first}; give the folder that its paths are relative to{meant}"
        )


def is_there(folder: str, path: str) -> bool:
    """Return whether a folder has a path; a name that no file can have is not there."""
    return os.path.exists(os.path.join(folder, path))  # noqa: PTH110, PTH118  Path's may raise


def _parts(path: str | os.PathLike[str]) -> list[tuple[str, list[Any]]]:
    """Return the splits of the file, each with its entries as they stand there."""
    splits = _json(path)
    if not isinstance(splits, dict):
        raise SourceError(f"{path} holds {_shown(splits)}, not an object of splits; give {_FORM}")
    for name, rows in splits.items():
        if name not in SPLITS:
            allowed = ", ".join(SPLITS)
            raise SourceError(f"{path} has a split {_shown(name)}; rename it to one of {allowed}")
        if not isinstance(rows, list):
            raise SourceError(f"{name} in {path} is {_shown(rows)}, not a list; give {_FORM}")
    return list(splits.items())


def _json(path: str | os.PathLike[str]) -> Any:
    real = os.path.realpath(path)
    try:
        text = decoded(read_file(real, os.path.dirname(real)))  # noqa: PTH120
    except (ImageError, ValueError) as error:
        raise SourceError(f"split file {path} cannot be read ({error}); give {_FORM}") from error
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not valid JSON ({error}); give {_FORM}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; one that has a name twice would lose the first of its values."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return found


def _entries(path: str | os.PathLike[str], split: str, rows: list[Any]) -> Iterator[SplitEntry]:
    for number, row in enumerate(rows):
        place = f"{split}[{number}]"
        reason = _wrong(row)
        if reason is not None:
            raise SourceError(f"{place} in {path} is {_shown(row)}: {reason}")
        name, label, of_class = row
        yield SplitEntry(posixpath.normpath(name), split, label, of_class, place)


def _wrong(row: Any) -> str | None:
    """Return why a value is no entry, and what to do; None if it is one."""
    if not isinstance(row, list) or len(row) != 3:
        return "an entry is [path, label, class name]; give these three"
    path, label, name = row
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label <= _LARGEST_LABEL:
        return f"the label is {_shown(label)}; give a whole number from 0"
    if not isinstance(name, str) or not name.strip() or not is_text(name):
        return f"the class name is {_shown(name)}; give a text"
    return wrong_path(path)


def wrong_path(path: Any) -> str | None:
    """Return why a value is no path inside of a folder, and what to do; None if it is one."""
    if not isinstance(path, str) or not path.strip() or "\0" in path or not is_text(path):
        return f"the path is {_shown(path)}; give that of an image, relative to its folder"
    if path.startswith("/") or Path(path).is_absolute():
        return "the path is absolute; make it relative to the folder of images"
    if ".." in PurePosixPath(path).parts or posixpath.normpath(path) == ".":
        return "the path leads out of the folder of images; give one inside it"
    return None


def _check_paths(path: str | os.PathLike[str], entries: list[SplitEntry]) -> None:
    """Raise `SourceError` if an image is listed twice, in one split or in two."""
    seen: dict[str, SplitEntry] = {}
    for entry in entries:
        first = seen.setdefault(entry.path, entry)
        if first is not entry:
            raise SourceError(
                f"{path} lists {entry.path} twice, as {first.place} and {entry.place}; keep one"
            )


def _check_classes(path: str | os.PathLike[str], entries: list[SplitEntry]) -> None:
    """Raise `SourceError` unless each label has one class name and each name one label."""
    of_label: dict[int, SplitEntry] = {}
    of_name: dict[str, SplitEntry] = {}
    for entry in entries:
        first = of_label.setdefault(entry.label, entry)
        if first.name != entry.name:
            raise SourceError(
                f"label {entry.label} in {path} is {first.name!r} in {first.place} and "
                f"{entry.name!r} in {entry.place}; give each label one class name"
            )
        first = of_name.setdefault(entry.name, entry)
        if first.label != entry.label:
            raise SourceError(
                f"class {entry.name!r} in {path} has label {first.label} in {first.place} and "
                f"{entry.label} in {entry.place}; give each class one label"
            )


def _shown(value: Any) -> str:
    """Return a JSON value as it is written, cut off where it is long."""
    try:
        text = json.dumps(value)
    except RecursionError:
        return "a value nested too deeply"
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
