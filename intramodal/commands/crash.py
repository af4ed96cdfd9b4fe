"""What an error means that has come through all layers, and what remains of a crash.

The machine's own (a full disk, a name that is too long, no memory) are a sentence. What nothing
foresaw is a crash: a sentence and a file with the traceback.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from intramodal.commands.streams import is_of_output, silence_stdout
from intramodal.runs.environment import package_versions
from intramodal.runs.scrub import Scrubber

CRASHED = 70
"""EX_SOFTWARE of sysexits.h: a fault of the program, not of what it was given."""

_MOST_FRAMES = 3
"""Frames that are shown where no file can be written."""


_ADVICE = {
    "EACCES": "give another place, or the right to use it",
    "EDQUOT": "make room there, or give another place",
    "EIO": "look at the health of the disk, or give another place",
    "EMFILE": "allow more open files (ulimit -n)",
    "ENAMETOOLONG": "give a shorter one",
    "ENFILE": "close other programs",
    "ENOMEM": "close other programs, or give a smaller --batch-size, --sample or --max-queries",
    "ENOSPC": "make room there, or give another place",
    "EPERM": "give another place, or the right to use it",
    "EROFS": "give another place",
}
"""What to do about errors that no program can rule out before it reads or writes."""


_BYTES = re.compile("[\udc80-\udcff]").search
"""What Python makes of bytes of a command line that are not UTF-8; files may be called so."""


def ending(error: Exception, words: Sequence[str]) -> tuple[int, str]:
    """Return the exit code and the sentence with which a command line ends.

    Parameters
    ----------
    error : Exception
        Whatever its command raised and nobody caught.
    words : sequence of str
        The command line without the program.
    """
    if isinstance(error, OSError) and is_of_output(error):
        silence_stdout()
        return 1, f"the output cannot be written ({error.strerror}); send it to another place"
    if isinstance(error, OSError) and (advice := _ADVICE.get(_name_of(error))):
        return 1, f"{_of_the_machine(error)}; {advice}"
    if isinstance(error, UnicodeEncodeError) and _BYTES(str(error.object)):
        return 1, f"{error.object[:60]!r} holds bytes that are not UTF-8; give another text"
    if isinstance(error, MemoryError):
        return 1, f"memory ran out; {_ADVICE['ENOMEM']}"
    return CRASHED, report_crash(error, words)


def _name_of(error: OSError) -> str:
    """Return the name of an error's number, such as ENOSPC; Windows lacks some."""
    return errno.errorcode.get(error.errno or 0, "")


def _of_the_machine(error: OSError) -> str:
    name = str(error.filename or "")
    shown = f"{name[:60]}..." if len(name) > 200 else name
    return f"{error.strerror}: {shown}" if shown else str(error.strerror)


def report_crash(error: Exception, words: Sequence[str]) -> str:
    """Write the crash file; return the sentence. Neither has secrets."""
    scrubber = Scrubber.from_environment(*words)
    reason = _in_one_line(scrubber.text(f"{type(error).__name__}: {error}"))
    file = _write(scrubber.text(_details(error, scrubber.command(words))))
    sentence = f"intramodal itself failed ({reason})"
    if file is not None:
        return f"{sentence}; please report it with {file}, which holds no secrets it could know"
    frames = "; ".join(_frames(error)[-_MOST_FRAMES:])
    return f"{sentence}; please report it with this, as no file can be written here: {frames}"


def _in_one_line(text: str, limit: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]} ..."


def _details(error: Exception, words: Sequence[str]) -> str:
    versions = "\n".join(f"{name} {version}" for name, version in package_versions().items())
    return "\n\n".join(
        (
            f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
            f"intramodal {words!r}",
            versions,
            "".join(traceback.format_exception(error)),
        )
    )


def _frames(error: Exception) -> list[str]:
    found = traceback.extract_tb(error.__traceback__)
    return [f"{os.path.basename(at.filename)}:{at.lineno} in {at.name}" for at in found]  # noqa: PTH119


def _write(text: str) -> str | None:
    """Return the new file, which only its owner may read; None where none can be written."""
    with suppress(OSError):
        descriptor, path = tempfile.mkstemp(".txt", "intramodal-crash-")
        with suppress(OSError), open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
            return path
        os.unlink(path)  # noqa: PTH108  cut short
    return None
