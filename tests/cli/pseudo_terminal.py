"""Commands whose stdout and stderr are a terminal, and what it receives."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock

from intramodal.cli import cli

ACTING = (
    *("\x07", "\x08", "\x0b", "\x7f", "\x80", "\x85", "\x9b31m", "\x9d0;t\x9c"),
    *("\x1b[2J", "\x1b[31m", "\x1b]0;owned\x07", "\x1bPq\x9c", "\r", "\n"),
    *("\xad", "\u061c", "\u200b", "\u200e", "\u200f", "\u2028", "\u2029", "\ufeff"),
    *("\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"),
)
"""What a terminal obeys: bell, backspace, erasing, colours, titles, direction of text."""

MARK = "mark" + "".join(f"{sign}Q" for sign in ACTING) + "[bold]Q"
"""A name as a stranger gives it, short enough for a file."""

NAME = "mark" + "".join(f"{sign}Q" for sign in ACTING if min(sign) >= " ") + "[bold]Q"
"""One that a store takes for a collection or a vector: it refuses the controls of ASCII."""

# Bold, italic and the colours of rich and of `doctor`; a bar returns, and moves up under another.
_OURS = re.compile(r"\x1b\[(?:0|1|3|1;3|3;1|32|33|31)m(?!Q)|\r(?!Q)|\n(?!Q)|\x1b\[A")


def assert_harmless(screen: str, *, shows: str = "mark") -> None:
    """Assert that a name was shown, and that nothing of it acts."""
    assert shows in screen, screen
    acting = [sign for sign in ACTING if f"{sign}Q" in screen]
    assert not acting, (acting, screen)
    rest = _OURS.sub("", screen)
    found = {c for c in rest if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert not found, (found, rest)


@contextmanager
def screen_of() -> Iterator[tuple[int, Callable[[], str]]]:
    """Yield the file of a terminal and a function that closes it and returns what it received."""
    import pty
    import tty

    ours, theirs = pty.openpty()
    tty.setraw(theirs)  # or it would put a return before each line break
    received: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # Linux: the other end is closed
            while piece := os.read(ours, 65536):
                received.append(piece)

    reader = threading.Thread(target=read)
    reader.start()

    def text() -> str:
        os.close(theirs)
        reader.join()
        return b"".join(received).decode("utf-8")

    try:
        yield theirs, text
    finally:
        os.close(ours)


def on_a_terminal(*arguments: str, columns: int = 300) -> tuple[Any, str]:
    """Return the exit code of a command and what its terminal received."""
    with screen_of() as (terminal, received):
        with (
            open(terminal, "w", encoding="utf-8", closefd=False) as stream,
            mock.patch.object(sys, "stdout", stream),
            mock.patch.object(sys, "stderr", stream),
            mock.patch.object(sys, "argv", ["intramodal", *arguments]),
            mock.patch.object(logging.root, "handlers", []),
            mock.patch.dict(os.environ, {"TERM": "xterm-256color", "COLUMNS": str(columns)}),
        ):
            code = _exit_code(arguments)
        return code, received()


def _exit_code(arguments: tuple[str, ...]) -> Any:
    level = logging.root.level
    try:
        cli.main(list(arguments), prog_name="intramodal")
    except SystemExit as ended:
        return ended.code
    finally:
        logging.root.setLevel(level)
    raise AssertionError("a command ends with an exit code")
