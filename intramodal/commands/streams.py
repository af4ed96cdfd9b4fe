"""Standard streams that can be written and read, whatever the caller has made of them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from traceback import walk_tb
from typing import TextIO

_MAY_FAIL = {"strict", "surrogateescape"}
"""Ways of a stream to treat a character that its encoding lacks, but for those that raise none."""


@contextmanager
def usable_streams() -> Iterator[None]:
    """Open closed streams on the null device; escape characters that an encoding lacks.

    So a terminal of Windows (cp1252) or a C locale (ASCII) shows ``\\u2190`` for an arrow.
    """
    _open_descriptors()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who called
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    with ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            stack.enter_context(_escaping(stream))
        yield


def _open_descriptors() -> None:
    """Let nothing else become descriptor 0, 1 or 2: a child or a C library would write into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                opened = os.open(os.devnull, os.O_RDWR)  # the lowest that is free
                os.set_inheritable(opened, True)


@contextmanager
def _escaping(stream: TextIO) -> Iterator[None]:
    """Escape what cannot be encoded, until the end of the block."""
    former = stream.errors
    if not isinstance(stream, io.TextIOWrapper) or former not in _MAY_FAIL:
        yield
        return
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with suppress(OSError, ValueError):  # full, or closed
            stream.reconfigure(errors=former)


def flush_stdout() -> None:
    """Write what is left, so that a full disk is met while it can still be reported."""
    with suppress(ValueError):  # closed
        sys.stdout.flush()


_WRITERS = {"click.utils", "rich.console", "intramodal.terminal", __name__}
"""Modules that write to the streams."""


def is_of_output(error: OSError) -> bool:
    """Return whether an error came from writing to a stream: it names no file."""
    modules = [frame.f_globals.get("__name__") for frame, _ in walk_tb(error.__traceback__)]
    return bool(modules) and modules[-1] in _WRITERS


def silence_stdout() -> None:
    """Throw away what stdout still holds: the interpreter would fail at it again at its end."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def is_encodable(text: str) -> bool:
    """Return whether stdout writes every character of a text as it is."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
