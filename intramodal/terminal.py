"""The one gate to the terminal: what would act there is printed as visible text."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar, cast
from unicodedata import category

S = TypeVar("S", bound=TextIO | None)

_LAYOUT = "\n\t"
"""What a stream cannot do without; a single name or sentence can."""
_MOVES = re.compile(r"(\n|\x1b\[A)*")
"""What a bar writes besides itself: to the next line, and back."""
_HIDDEN = frozenset({"buffer", "detach"})
"""What would lead past the gate: click writes to the buffer of a stream that says "ascii"."""


def visible(text: str, *, keep: str = "") -> str:
    r"""Return text in which whatever acts instead of being shown is an escape.

    That is every control character (C0, DEL, C1), every format character (the marks that turn
    the direction of text, zero-width signs), line and paragraph separators, surrogates, and what
    this Python's Unicode does not know. Spaces of all widths stay.

    Parameters
    ----------
    text : str
    keep : str
        Characters that stay as they are.

    Examples
    --------
    >>> print(visible("\x1b[2J caf\u00e9 \u202egpj.exe\n"))
    \x1b[2J café \u202egpj.exe\n
    """
    if text.isprintable():
        return text
    return "".join(c if _is_shown(c) or c in keep else _escape(c) for c in text)


def _is_shown(character: str) -> bool:
    return character.isprintable() or category(character) == "Zs"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class Gate:
    """A text stream that passes only `visible` text, with line breaks and tabs, to another.

    Nothing that comes through it is a colour: data cannot be told from styling once both are
    text. Who styles (tables, progress bars) makes the data visible first and writes to `ungated`.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str | bytes) -> int:
        """Write `text` as it may be shown; return its length."""
        if isinstance(text, bytes):  # so click completes words for a shell
            if not text:  # and so it looks for binary streams
                raise TypeError("a stream of text")
            return self.write(text.decode("utf-8", "replace"))
        self.stream.write(visible(text, keep=_LAYOUT))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write all texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name in _HIDDEN:
            raise AttributeError(name)
        return getattr(self.stream, name)


class _BarGate(Gate):
    """A gate that knows bars, which act: they are drawn on a terminal, and nowhere else.

    A bar is text behind a return to the beginning of the line; what moves from one to the next
    follows it.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._is_in_bar = False

    def write(self, text: str | bytes) -> int:
        """Write `text`; that of a bar to a terminal only."""
        is_bar = isinstance(text, str) and text.startswith("\r")
        is_move = self._is_in_bar and isinstance(text, str) and bool(_MOVES.fullmatch(text))
        self._is_in_bar = is_bar or is_move
        if not self._is_in_bar:
            return super().write(text)
        if self.stream.isatty():
            self.stream.write(f"\r{visible(str(text)[1:])}" if is_bar else str(text))
        return len(text)


@contextmanager
def bars_shown() -> Iterator[None]:
    """Let the bars of other libraries through the gate of stderr until the block ends."""
    gate = sys.stderr
    if type(gate) is not Gate:
        yield
        return
    sys.stderr = cast(TextIO, _BarGate(gate.stream))
    try:
        yield
    finally:
        sys.stderr = gate


@contextmanager
def gated() -> Iterator[None]:
    """Let stdout and stderr pass the gate until the block ends; one that is closed stays so."""
    former = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    for name, stream in former.items():
        if stream is not None and not isinstance(stream, Gate):
            setattr(sys, name, Gate(stream))
    try:
        yield
    finally:
        for name, stream in former.items():
            setattr(sys, name, stream)


def ungated(stream: S) -> S:
    """Return the stream behind the gate: for bytes of our own, and data that a program reads."""
    return cast(S, stream.stream) if isinstance(stream, Gate) else stream
