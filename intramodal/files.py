"""Files that are written for people: by which names, and over what they never go."""

from __future__ import annotations

import difflib
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from intramodal.errors import InputError

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "projection": (".safetensors",),
    "inversions": (".safetensors",),
    "vectors": (".npy", ".safetensors", ".parquet"),
    "onnx": (".onnx",),
    "html": (".html", ".htm"),
    "md": (".md", ".markdown"),
    "tex": (".tex", ".latex"),
    "latex": (".tex", ".latex"),
    "csv": (".csv",),
    "json": (".json",),
    "parquet": (".parquet",),
    "trec": (".trec",),
    "junit": (".xml",),
}
"""The suffixes of every kind of file that is written."""

FOLDERS = frozenset({"trec"})
"""Formats of several files in a folder, which may have any name once the format is given."""

_NAMED = ("", ".txt")
"""Further suffixes of text whose format is given."""

_BINARY = frozenset({"projection", "inversions", "vectors", "onnx", "parquet"})


def format_of(path: Path, formats: Sequence[str], *, given: str | None = None) -> str:
    """Return which of some formats a file is to have: the one given, or that of its suffix.

    Parameters
    ----------
    path : Path
    formats : sequence of str
        Keys of `SUFFIXES`.
    given : str, optional
        Text may then be called ``.txt``, or have no suffix.

    Raises
    ------
    InputError
        For a suffix of none of them, or of another format than the given one.

    Examples
    --------
    >>> format_of(Path("page.htm"), ("md", "html"))
    'html'
    """
    allowed = formats if given is None else (given,)
    suffix = path.suffix.lower()
    for name in allowed:
        if suffix in SUFFIXES[name]:
            return name
    is_free = suffix in _NAMED and given not in _BINARY
    if given is not None and (is_free or given in FOLDERS):
        return given
    raise InputError(_no_suffix_of(path, [s for name in allowed for s in SUFFIXES[name]]))


def _no_suffix_of(path: Path, suffixes: Sequence[str]) -> str:
    *most, last = dict.fromkeys(suffixes)
    listed = f"{', '.join(most)} or {last}" if most else last
    close = difflib.get_close_matches(path.suffix.lower(), suffixes, n=1) or [suffixes[0]]
    better = path.with_suffix(close[0]) if path.name else Path(f"FILE{close[0]}")
    return f"the name {str(path)!r} does not end in {listed}; give one as {better}"


def check_replaceable(path: Path) -> None:
    """Raise `InputError` if something else than a file of its own has this name."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is {_kind(mode)} and is not replaced; name a file")


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISLNK, "a link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((name for is_kind, name in kinds if is_kind(mode)), "a device")


def check_place(path: Path | None) -> None:
    """Refuse, before hours of work, a file in a folder that is not there."""
    if path is not None and not path.parent.is_dir():
        raise InputError(
            f"there is no folder {path.parent} for {path.name}; make it, or name another"
        )


@contextmanager
def replacing(path: Path, *others: Path) -> Iterator[list[Path]]:
    """Yield names to write to; the files get their own when the block ends well.

    An error leaves what was there before and nothing else. Of several files the first is only
    ever there with the others that belong to it: it goes before they are replaced, and comes last.

    Raises
    ------
    InputError
        For a place that cannot be written to, or that is a link, a folder or a device.
    """
    paths = [path, *others]
    for each in paths:
        check_replaceable(each)
    # A name of our own: NAME.part could be somebody's.
    unfinished = [each.with_name(f".{token_hex(4)}.part") for each in paths]
    try:
        yield unfinished
        if others:
            path.unlink(missing_ok=True)
        for part, each in zip(reversed(unfinished), reversed(paths), strict=True):
            part.replace(each)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        for part in unfinished:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; see `replacing`."""
    with replacing(path) as (unfinished,):
        unfinished.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a UTF-8 file whole or not at all; see `replacing`."""
    with replacing(path) as (unfinished,):
        unfinished.write_text(content, encoding="utf-8")


def write_new_text(path: Path, content: str) -> None:
    """Write a UTF-8 file whole or not at all, and never over another one.

    Raises
    ------
    InputError
        If there is something of that name, or the place cannot be written to.
    """
    part = path.with_name(f".{token_hex(4)}.part")
    try:
        part.write_text(content, encoding="utf-8")
        path.hardlink_to(part)  # a rename would replace what somebody has made meanwhile
    except FileExistsError as error:
        raise InputError(f"{path} is there already; remove or rename it first") from error
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError | ValueError) -> InputError:
    why = getattr(error, "strerror", None) or error
    return InputError(f"{path} cannot be written ({why}); name another file")
