"""Where pictures come from: a folder, whole or as a file lists it, a list, shards, or stdin."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from intramodal.errors import SourceError
from intramodal.ground_truth import GroundTruth
from intramodal.ingest.input_file import InputFile
from intramodal.ingest.sources.base import LabelRule, Source, label_rule
from intramodal.ingest.sources.hub import HubSource, image_column
from intramodal.ingest.sources.landmarks import LandmarkSource
from intramodal.ingest.sources.lists import TABLE_SUFFIXES, ListSource
from intramodal.ingest.sources.pictures import FolderSource, NamedSource
from intramodal.ingest.sources.shards import ShardSource
from intramodal.ingest.sources.splits import SplitSource
from intramodal.signatures import format_by_name

_FORMS = "a folder, a .csv, .tsv, .jsonl or .parquet list, .tar shards, or - for paths on stdin"


def open_source(
    source: str | BinaryIO,
    *,
    label_from: str | None = None,
    split_file: str | os.PathLike[str] | None = None,
    ground_truth: str | os.PathLike[str] | GroundTruth | None = None,
    crop: bool = False,
    format: str | None = None,
) -> Source:
    """Return the pictures of `source`, as something to iterate over, again and again.

    Keys are relative paths with forward slashes. What cannot be read stays in the source and
    says why when it is read, so that nothing is lost in silence: damaged files, links that lead
    nowhere or out of the source, pipes and devices, folders with the name of a picture, names
    that are not UTF-8. Where pictures may be hidden by it, the source's attribute `gap` says so
    after an iteration, and no ingest prunes.

    Parameters
    ----------
    source : str or binary file
        * A folder: all of it, sorted. Hidden files and folders are left out, and so are files
          whose name says that they are something else (``.txt``, ``.json``, ``.mp4``, ...)
          unless their first bytes are a picture's; links to folders are not followed.
        * ``LIST.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` with a column ``path``, relative to
          the list's folder and never leading out of it; the other columns become payload,
          those of CSV and TSV as text. A quote that is never closed, or that swallows what look
          like rows, is refused with its line, while the list is read.
        * A ``.parquet`` file of the Hugging Face Hub, with the bytes of the images in a column of
          structs; the key is the file's name and the number of the row, the other columns become
          payload.
        * ``SHARD.tar`` or ``shard-{000..009}.tar``, uncompressed, in webdataset's layout: the key
          is the name of the picture's member; the sample's ``.json`` object becomes payload,
          ``.cls`` the ``label`` and ``.txt`` the ``text``. Those that belong to no picture or
          cannot be read are listed.
        * ``-``: one path a line on stdin, to be read once; keys are relative to the working
          directory where they lie in it, else the whole path without its leading slash. That the
          command before the pipe was killed shows only if it was in the middle of a line.
        * An open binary file instead of the path of a list or of one shard. It has to seek, and
          has to stay open while images are read. Paths in a list are relative to the folder of
          the file's name; without one, to the working directory.
    label_from : str, optional
        ``parent``, the name of the folder a picture is in, or a regular expression that is
        searched in the key; its named groups become payload. By default no label but the
        source's own.
    split_file : path, optional
        A split file as CoOp's ``split_zhou_*.json``, see `read_split_file`: of the folder `source`
        exactly the images that it lists, each with the payload ``split`` (train, val or test),
        ``label`` (int) and ``class`` (its name). Listed images that are missing say so when they
        are read.
    ground_truth : path or GroundTruth, optional
        A ground truth of revisited Oxford or Paris, see `read_ground_truth`: of the folder
        `source`, its ``jpg/``, exactly the images that it names, each with the payload ``split``
        (gallery or query) and ``name``, and queries with ``cropped``.
    crop : bool
        With a ground truth: crop each query to its box before encoding, as the published
        benchmark does. The content hash is then that of the pixels in the box.
    format : str, optional
        Such as ``csv`` or ``tar``, where the name of a file does not tell.

    Raises
    ------
    SourceError
        If the source is absent, empty or not of these kinds, if a list has no column ``path``,
        if `label_from`, `split_file` or `ground_truth` is not usable,
        or if what the images are chosen by is given twice.
    MissingDependencyError
        If a Parquet list is given and pyarrow is not installed.

    Examples
    --------
    >>> open_source("no such folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    intramodal.errors.SourceError: there is no 'no such folder'; give a folder, a .csv, ...
    """
    label_of = label_rule(label_from)
    if crop and ground_truth is None:
        raise SourceError("crop is for the queries of a ground truth; give one, or leave it out")
    if not isinstance(source, str):
        if ground_truth is not None or split_file is not None:
            raise SourceError(
                "a split file and a ground truth list the images of a folder; give its path"
            )
        return _not_empty(_opened_file(InputFile(source, format), label_of))
    if ground_truth is not None:
        if split_file is not None:
            raise SourceError("a split file and a ground truth both list the images; give one")
        return LandmarkSource(source, label_of, ground_truth=ground_truth, crop=crop)
    if split_file is not None:
        return SplitSource(source, label_of, split_file=split_file)
    return _not_empty(_opened(source, label_of, format))


def _not_empty(opened: Source) -> Source:
    """Return a source that has images; it is not asked on stdin, which is read once."""
    if not isinstance(opened, NamedSource) and next(iter(opened), None) is None:
        raise SourceError(f"{opened.location} holds no images; give {_FORMS}")
    return opened


def _opened(source: str, label_of: LabelRule, format_: str | None) -> Source:
    if source == "-":
        return NamedSource(source, label_of)
    path = Path(source)
    if source and path.is_dir():
        return FolderSource(source, label_of)
    if InputFile(path, format_).suffix == ".tar":
        return ShardSource(source, label_of)
    if not source or not path.exists():
        raise SourceError(f"there is no {source!r}; give {_FORMS}")
    return _opened_file(InputFile(source, format_), label_of)


def _opened_file(file: InputFile, label_of: LabelRule) -> Source:
    if file.suffix == ".tar":
        return ShardSource(file, label_of)
    if file.suffix not in TABLE_SUFFIXES or not file.is_there:
        known = format_by_name(file.name)
        because = f": {known}" if known and file.is_there else f"; give {_FORMS}"
        raise SourceError(f"{file} is no source of images{because}{file.hint}")
    if file.suffix == ".parquet" and (column := image_column(file)) is not None:
        return HubSource(file, column, label_of)
    return ListSource(file, label_of)
