"""Pickles of strangers, read as data: nothing in them is run."""

from __future__ import annotations

import io
import pickle
import pickletools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

Known = Mapping[tuple[str, str], Callable[..., Any]]
"""What stands for the names, by module and name, that a kind of pickle needs."""


class RefusedPickleError(Exception):
    """Why a pickle is refused, to follow its name."""


# What broken pickles raise in the unpickler and in the standard library's parser of them.
DAMAGE = (
    pickle.UnpicklingError, ValueError, TypeError, LookupError, AttributeError, EOFError,
    ArithmeticError, MemoryError, RecursionError, UnicodeError, AssertionError,
)  # fmt: skip

OPCODES = frozenset(
    """
    PROTO FRAME STOP MARK POP POP_MARK DUP MEMOIZE PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    GLOBAL STACK_GLOBAL REDUCE BUILD
    """.split()  # noqa: SIM905  a page of quotes otherwise
)
"""Of pickle's machine; left out are classes by other means, persistent ids and extensions."""

OBJECT_OPCODES = OPCODES | {"NEWOBJ", "EMPTY_SET", "ADDITEMS"}
"""With what Pydantic's models need."""

_PUTS = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))


def unpickled(data: bytes, known: Known, *, opcodes: frozenset[str] = OPCODES) -> Any:
    """Return the value of a pickle that holds nothing but data.

    Parameters
    ----------
    data : bytes
    known : mapping
        Stand-ins: classes and `Call`s of ours that keep what a pickle says of theirs.
    opcodes : frozenset of str
        What the pickle may use of pickle's machine.

    Raises
    ------
    RefusedPickleError
        If it names or does anything else, or asks for more memory than it has bytes.
    Exception
        One of `DAMAGE`, if it is broken.
    """
    with warnings.catch_warnings(action="ignore"):  # of odd escapes in damaged text
        _check_opcodes(data, opcodes)
        return _Unpickler(io.BytesIO(data), known).load()


def _check_opcodes(data: bytes, opcodes: frozenset[str]) -> None:
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in opcodes:
            raise RefusedPickleError(f"uses {opcode.name} of pickle, which data does not need")
        # The unpickler makes room for the largest number, whatever it is.
        if opcode.name in _PUTS and (argument or 0) > len(data):
            raise RefusedPickleError(
                f"numbers its values up to {argument:,}, more than it has bytes"
            )


class _Unpickler(pickle.Unpickler):
    """Knows the given names, and no other."""

    def __init__(self, file: io.BytesIO, known: Known) -> None:
        super().__init__(file, encoding="latin1")
        self._known = known

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of a name."""
        found = self._known.get((module, name))
        if found is None:
            raise RefusedPickleError(f"names {shown(f'{module}.{name}')}, which is not data")
        return found


class Call:
    """Calls a function, and has no attribute that a pickle could set, as functions have."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        """Return what the function does."""
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        """Refuse it."""
        raise RefusedPickleError("sets attributes of a function")


def shown(value: object) -> str:
    """Return a value as it is written, cut off where it is long; containers by their kind."""
    if isinstance(value, str):
        text = value if value.isprintable() else repr(value)
    else:
        text = str(value) if isinstance(value, float | bool | None) else type(value).__name__
    if type(value) is int and abs(value) < 10**18:  # a larger one may not be written at all
        text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def short(error: BaseException) -> str:
    """Return what an error says, on one line and cut off where it is long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 120 else text[:117] + "..."
