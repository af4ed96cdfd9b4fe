"""A process's system calls on the files of a store: listed with strace, and killed at one of them.

strace counts calls for each thread, so a call is named by its thread and its number there:

- of the main thread, which does nearly all: ``inject=NAME:signal=KILL:when=NUMBER``;
- of a process that it starts (the optimizer): the same, with strace around that process alone;
- of the engine's other threads: the same, for the calls on that file alone (``-P``).

Where strace is absent or forbidden, the child counts the steps of the store layer instead. It does
so elsewhere, too, for the moments without system calls: the engine writes points to mapped memory.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DEADLINE_S = 120.0  # a child that imports and works on a busy machine

INTERPRETER = "INTRAMODAL_TEST_INTERPRETER"
"""What the child starts further Python processes with."""

STEPS, KILLED_AT = "INTRAMODAL_TEST_STEPS", "INTRAMODAL_TEST_KILLED_AT"
"""Where the child lists the steps of the store layer; ``NUMBER:SIGNAL`` that it sends itself."""

NAMES = (
    *("write", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile"),
    *("rename", "renameat", "renameat2", "link", "linkat"),
    *("fsync", "fdatasync", "msync", "sync_file_range"),
    *("truncate", "ftruncate", "fallocate"),
    *("unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
)

_LINE = re.compile(r"(?:(\d+) +)?(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*)")
_PATH = re.compile(r'\d+<(/[^>]*)>|AT_FDCWD<(/[^>]*)>|"((?:[^"\\]|\\.)*)"')
_RESULT = re.compile(r"\) += (-?\w+)(?: \((?!INJECTED).*)?$")
_MAPPED = re.compile(r"MAP_SHARED, \d+<(/[^>]*)>")
_NAMED_LATER = re.compile(r"\(.*?\)")

# What differs from run to run.
_RANDOM = (
    (re.compile(r"\.atomicwrite\w{6}"), ".atomicwrite"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\w{6}(?=\.deleted))?"), "SEGMENT"),
    (re.compile(r"segment_builder_\w+"), "BUILDER"),
    (re.compile(r"(\.bin|\.dat)\w{6}$"), r"\1.RANDOM"),
    (re.compile(r"\.tmp\d+$"), ".tmp"),
    (re.compile(r"^([\w-]+)-[0-9a-f]{8}(?=/|$)"), r"\1"),
)


@dataclass(frozen=True)
class Call:
    """A system call on a file of the store.

    Parameters
    ----------
    who : "job", "child", "thread" or "step"
        The main thread, a process that it starts, another thread of either; or the store layer,
        where nothing can be traced.
    name : str
        Of the system call, or "before" and "after" a step of the store layer.
    number : int
        The how-manieth of that name it is: in its thread, or there on that path for a "thread".
    file : str
        Which file of the store, without what is random in its name; in parentheses the name that
        it is going to get.
    path : str
        What strace can be told to look at, relative to the store.
    """

    who: str
    name: str
    number: int
    file: str
    path: str

    @property
    def pair(self) -> tuple[str, str]:
        """The system call, and the file under the name that it has by then."""
        return self.name, _NAMED_LATER.sub("", self.file)


@dataclass(frozen=True)
class End:
    """How a child ended.

    Parameters
    ----------
    code : int
        As of `subprocess`: negative after a signal.
    hit : str or None
        The file of the call at which it was sent the signal; None if it came to no such call.
    complaint : str
        The end of what it wrote to stderr.
    """

    code: int
    hit: str | None
    complaint: str


def run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a command to its end; returns its exit code and what it wrote to stderr."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command,
        cwd=root,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            _, complaint = child.communicate(timeout=DEADLINE_S)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
    return child.returncode, complaint


@cache
def can_trace() -> bool:
    """Return whether strace is there and may trace: containers often forbid it."""
    if os.environ.get("INTRAMODAL_NO_STRACE"):
        return False
    if sys.platform != "linux" or shutil.which("strace") is None:
        return False
    tracer = ["strace", "-f", "-o", "/dev/null", "-e", "inject=fsync:signal=KILL:when=1"]
    code, _ = run([*tracer, sys.executable, "-S", "-c", "import os; os.fsync(0)"], {})
    return code == -signal.SIGKILL


def record(command: Sequence[str], store: Path, log: Path) -> list[Call]:
    """Run a command to its end; returns its calls on the files of the store, in their order."""
    traced = ",".join(f"?{name}" for name in (*NAMES, "execve", "mmap"))
    tracer = ["strace", "-f", "-qq", "--seccomp-bpf", "-y", "-s", "0", "-o", str(log)]
    code, complaint = run([*tracer, "-e", f"trace={traced}", *command], {})
    if code:
        raise RuntimeError(f"{command} ended with {code} uninterrupted: {complaint[-2000:]}")
    return Reading(store).calls(log.read_text(errors="replace").splitlines())


def kill(command: Sequence[str], call: Call, by: signal.Signals, store: Path, log: Path) -> End:
    """Run a command that is sent a signal when it enters the call."""
    if call.who == "step":
        return _kill_at_step(command, call, by)
    inject = f"inject={call.name}:signal={by.name.removeprefix('SIG')}:when={call.number}"
    tracer = ["strace", "-y", "-s", "0", "-o", str(log), "-e", f"trace={call.name}", "-e", inject]
    if call.who == "thread":
        tracer += ["-f", "-P", str(store / call.path)]
    log.unlink(missing_ok=True)
    if call.who == "child":
        wrapper = _wrapper(log.with_suffix(".sh"), [*tracer, "-D"])
        code, complaint = run(command, {INTERPRETER: str(wrapper)})
    else:
        code, complaint = run([*tracer, *command], {})
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return End(code, Reading(store).file_of(lines, call), complaint)


def _wrapper(path: Path, tracer: Sequence[str]) -> Path:
    """Write a script that stands for the interpreter and traces it."""
    path.write_text(f'#!/bin/sh\nexec {shlex.join([*tracer, sys.executable])} "$@"\n')
    path.chmod(0o755)
    return path


def record_steps(command: Sequence[str], log: Path) -> list[Call]:
    """Run a command to its end; returns the beginnings and ends of what the store layer does."""
    log.unlink(missing_ok=True)
    code, complaint = run(command, {STEPS: str(log)})
    if code:
        raise RuntimeError(f"{command} ended with {code} uninterrupted: {complaint[-2000:]}")
    steps = [line.split() for line in log.read_text().splitlines()]
    return [Call("step", when, n, what, "") for n, (when, what) in enumerate(steps, 1)]


def _kill_at_step(command: Sequence[str], call: Call, by: signal.Signals) -> End:
    code, complaint = run(command, {KILLED_AT: f"{call.number}:{by.value}"})
    return End(code, call.file if code else None, complaint)


@dataclass(frozen=True)
class _Traced:
    """A line that strace has written: a call, or only the end of one."""

    thread: str
    name: str
    rest: str
    is_end: bool

    @classmethod
    def of(cls, line: str) -> _Traced:
        match = _LINE.match(line)
        if match is None:  # a signal, or the end of a process
            return cls("", "", "", True)
        return cls(match[1] or "", match[2], match[3], "<... " in line[: match.end(2)])

    @property
    def result(self) -> str | None:
        """What it returned, None if its end is another line."""
        found = _RESULT.search(self.rest)
        return found and found[1]

    @property
    def paths(self) -> list[str]:
        """The paths among its arguments, absolute, in their order."""
        found: list[str] = []
        folder = ""
        for descriptor, here, text in _PATH.findall(self.rest):
            if text and not text.startswith("/"):
                found[-1:] = [f"{folder}/{text}"]
            elif descriptor or text:
                found.append(descriptor or text)
            folder = descriptor or here
        return found


class Reading:
    """What strace has written, read call by call."""

    def __init__(self, store: Path) -> None:
        self._root = f"{store}/"
        self._main: str | None = None
        self._started: set[str] = set()
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._maps: dict[str, str] = {}

    def calls(self, lines: Iterable[str]) -> list[Call]:
        """Return the calls on files of the store that did not fail."""
        found: list[tuple[_Traced, int, str]] = []
        for traced in map(_Traced.of, lines):
            number = self._take(traced)
            path = self._path(traced) if number else None
            if path is not None:
                found.append((traced, number, path))
        names = _named_later([traced for traced, _, _ in found])
        calls = [self._call(*one, names) for one in found if one[0].result != "-1"]
        # strace knows of no path there.
        return [call for call in calls if call.who != "thread" or call.name != "msync"]

    def _take(self, traced: _Traced) -> int:
        """Return the number of a call in its thread, 0 for what is none; note what it tells."""
        self._main = self._main or traced.thread or None
        if traced.name == "execve" and traced.thread != self._main:
            self._started.add(traced.thread)
        mapped = _MAPPED.search(traced.rest)
        if traced.name == "mmap" and mapped and traced.result:
            self._maps[traced.result] = mapped[1]
        if traced.is_end or traced.name not in NAMES:
            return 0
        self._counts[traced.thread, traced.name] += 1
        return self._counts[traced.thread, traced.name]

    def _call(self, traced: _Traced, number: int, path: str, names: Mapping[str, str]) -> Call:
        thread, name = traced.thread, traced.name
        file = _plain(_renamed(path, names))
        if thread == self._main:
            return Call("job", name, number, file, path)
        if thread in self._started:
            return Call("child", name, number, _any_vector(file), path)
        compared = self._inside((traced.paths or [""])[0]) or path  # strace 6.1: the first one
        self._counts[thread, name, compared] += 1
        return Call("thread", name, self._counts[thread, name, compared], file, compared)

    def file_of(self, lines: Iterable[str], call: Call) -> str | None:
        """Return the file of the call of that number, which may be another one than recorded."""
        for traced in map(_Traced.of, lines):
            if traced.name == call.name and self._take(traced) == call.number:
                return self._label(traced, call)
        return None

    def _label(self, traced: _Traced, call: Call) -> str:
        found = _plain(self._path(traced) or "?")
        found = _any_vector(found) if call.who == "child" else found
        is_expected = call.name == "msync" or found == call.pair[1]
        return call.file if is_expected else found

    def _path(self, traced: _Traced) -> str | None:
        """Return the file that a call changes, relative to the store; None if outside of it."""
        if traced.name == "msync":
            return self._inside(self._maps.get(traced.rest.split(",")[0], ""))
        return self._inside((traced.paths or [""])[-1])

    def _inside(self, path: str) -> str | None:
        return path.removeprefix(self._root) if path.startswith(self._root) else None


def _named_later(calls: Iterable[_Traced]) -> dict[str, str]:
    """Return, for each temporary folder of an atomic write, the name that its file gets."""
    moves = [call.paths for call in calls if call.name.startswith("rename")]
    return {
        Path(paths[0]).parent.name: Path(paths[-1]).name
        for paths in moves
        if ".atomicwrite" in paths[0]
    }


def _renamed(path: str, names: Mapping[str, str]) -> str:
    parts = path.split("/")
    return "/".join(
        f"{part}({names.get(part, '?')})" if part.startswith(".atomicwrite") else part
        for part in parts
    )


def _any_vector(file: str) -> str:
    """Return a file of the optimizer, which takes the vectors in another order each time."""
    return re.sub(r"(vector_(?:storage|index))-\w+", r"\1-VECTOR", file)


def _plain(path: str) -> str:
    for random, word in _RANDOM:
        path = random.sub(word, path)
    return path
