"""Options that name a file to write, and what such a file is never written over."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from intramodal.errors import InputError
from intramodal.files import FOLDERS, check_replaceable, format_of

_MAY_NAME_FILES = frozenset({"anchors", "names", "model", "models", "store", "runs_url"})
"""Parameters of text that is a file's name in one of its forms, as in ``slip:FILE``."""

_BEFORE_A_FILE = re.compile(":///|[:=]")


class Output(click.Path):
    """A file in one of some formats of `intramodal.files.SUFFIXES`.

    The parameter ``file_format`` of the same command, if it has one, says which.
    """

    def __init__(self, *formats: str) -> None:
        super().__init__(path_type=Path)
        self.name = "file"
        self.formats = formats


def check_outputs(params: Sequence[click.Parameter], values: Mapping[str, Any]) -> None:
    """Raise `InputError`, before any work, for a file of another kind or one that is read."""
    for param in params:
        path = values.get(str(param.name))
        if isinstance(param.type, Output) and path is not None:
            try:
                _check_kind(path, param.type.formats, values.get("file_format"))
                _check_is_no_input(path, params, values)
            except InputError as error:
                raise InputError(f"{_spelled(param)}: {error}") from error


def _check_kind(path: Path, formats: Sequence[str], given: str | None) -> None:
    if FOLDERS.isdisjoint(formats):
        check_replaceable(path)  # before the suffix: "a device" says more
    if format_of(path, formats, given=given) not in FOLDERS:
        check_replaceable(path)


def _check_is_no_input(
    path: Path, params: Sequence[click.Parameter], values: Mapping[str, Any]
) -> None:
    for param in params:
        for text in _files_of(param, values.get(str(param.name))):
            if _is_one_file(path, text) or (param.name == "store" and _is_within(path, text)):
                raise InputError(
                    f"{path} is read by this command ({_spelled(param)}); name another file"
                )


def _files_of(param: click.Parameter, value: Any) -> Iterator[str]:
    """Yield the names of files that a value may hold."""
    if isinstance(param.type, Output):
        return
    if isinstance(param.type, click.Path):
        yield from map(str, _each(value))
    elif param.name in _MAY_NAME_FILES:
        for text in map(str, _each(value)):
            yield text
            yield from (text[found.end() :] for found in _BEFORE_A_FILE.finditer(text))


def _each(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def _is_one_file(path: Path, text: str) -> bool:
    """Return whether both are one file: by another path, a link, or letters of another case."""
    try:
        return path.samefile(text)
    except (OSError, ValueError):
        return False


def _is_within(path: Path, folder: str) -> bool:
    try:
        return Path(folder).is_dir() and path.resolve().is_relative_to(Path(folder).resolve())
    except (OSError, ValueError):
        return False


def _spelled(param: click.Parameter) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else str(param.name).upper()
