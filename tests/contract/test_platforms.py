"""The package is imported on every platform: nothing of POSIX at module level or unguarded.

Its tests and benchmarks may use more, but not when they are imported: pytest collects all of them.
"""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "intramodal"
MODULES = sorted(PACKAGE.rglob("*.py"))
OTHERS = sorted(path for name in ("tests", "benchmarks") for path in (ROOT / name).rglob("*.py"))
POSIX_ONLY = (
    "curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios",
    "tty",
)  # fmt: skip
_OF_OS = """
    chown chroot ctermid fchdir fchmod fchown fdatasync fork forkpty getegid geteuid getgid
    getgrouplist getgroups getloadavg getpgid getpgrp getpriority getsid getuid initgroups killpg
    lchown lockf mkfifo mknod nice O_CLOEXEC O_DIRECT O_DIRECTORY O_DSYNC O_NOATIME O_NOFOLLOW
    O_NONBLOCK O_PATH O_SYNC O_TMPFILE openpty pathconf posix_fadvise posix_fallocate posix_spawn
    pread preadv pwrite pwritev register_at_fork sched_getaffinity sched_setaffinity sched_yield
    sendfile setegid seteuid setgid setgroups setpgid setpriority setsid setuid statvfs sync
    sysconf tcgetpgrp tcsetpgrp ttyname uname wait3 wait4 WEXITSTATUS WIFEXITED WIFSIGNALED
    WNOHANG WTERMSIG
"""
_OF_SIGNAL = """
    SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP SIGSYS
    SIGTSTP SIGTTIN SIGTTOU SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ alarm
    getitimer pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigwait
    sigwaitinfo
"""
OF_OS, OF_SIGNAL = frozenset(_OF_OS.split()), frozenset(_OF_SIGNAL.split())
NAMES = {"os": OF_OS, "signal": OF_SIGNAL}


def posix_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of what Windows lacks, but for what a test of the platform guards."""
    yield from _unguarded(tree, ast.walk(tree))


def posix_names_on_import(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield as `posix_names` does, but only what is looked up while the module is imported."""
    if not any(_skips_windows(node) for node in tree.body):
        yield from _unguarded(tree, _evaluated(tree))


def _unguarded(tree: ast.Module, nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    guarded = {id(node) for branch in _guarded(tree) for node in ast.walk(branch)}
    for node in nodes:
        if id(node) not in guarded:
            yield from ((getattr(node, "lineno", 0), name) for name in _named(node))


def _evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all below a node but the bodies of functions."""
    body: list[ast.AST] = []
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        body = list(node.body)
    elif isinstance(node, ast.Lambda):
        body = [node.body]
    for child in ast.iter_child_nodes(node):
        if child not in body:
            yield child
            yield from _evaluated(child)


def _skips_windows(node: ast.AST) -> bool:
    """Return whether pytest leaves a module here on Windows."""
    is_test = isinstance(node, ast.If) and "sys.platform == 'win32'" in ast.unparse(node.test)
    return is_test and "allow_module_level=True" in ast.unparse(node)


def _guarded(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "sys.platform" in ast.unparse(node.test):
            yield from node.body
        if isinstance(node, ast.FunctionDef) and _leaves_windows(node):
            yield node


def _leaves_windows(function: ast.FunctionDef) -> bool:
    """Return whether a function begins with an end for Windows, as type checkers know it."""
    first = [*function.body, None][1 if ast.get_docstring(function) else 0]
    is_test = isinstance(first, ast.If) and "sys.platform == 'win32'" in ast.unparse(first.test)
    return is_test and isinstance(first.body[-1], ast.Return)


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.attr in NAMES.get(node.value.id, ()):
            yield f"{node.value.id}.{node.attr}"
    elif isinstance(node, ast.ImportFrom):
        root = (node.module or "").split(".")[0]
        yield from (f"{root}.{n.name}" for n in node.names if n.name in NAMES.get(root, ()))
        if root in POSIX_ONLY:
            yield root
    elif isinstance(node, ast.Import):
        yield from (n.name for n in node.names if n.name.split(".")[0] in POSIX_ONLY)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_uses_what_windows_lacks(path: Path) -> None:
    assert list(posix_names(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_and_no_benchmark_needs_what_windows_lacks_to_be_imported(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(posix_names_on_import(tree)) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import resource", ["resource"]),
        ("def f():\n    import resource\n    signal.SIGKILL", []),
        ("def f(by=signal.SIGKILL): ...", ["signal.SIGKILL"]),
        ("@mark(os.geteuid())\ndef f(): ...", ["os.geteuid"]),
        ("MAKE = lambda: os.mkfifo('pipe')", []),
        ("class A:\n    by = signal.SIGKILL", ["signal.SIGKILL"]),
        (
            "if sys.platform == 'win32':\n    skip('', allow_module_level=True)\nimport pty",
            [],
        ),
    ],
)
def test_what_windows_lacks_is_found_where_it_is_imported(code: str, found: list[str]) -> None:
    assert [name for _, name in posix_names_on_import(ast.parse(code))] == found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import fcntl", ["fcntl"]),
        ("def f():\n    from resource import getrusage", ["resource"]),
        ("import os\nos.getuid()", ["os.getuid"]),
        ("from os import fork", ["os.fork"]),
        ("import signal\nNAMES = [signal.SIGHUP]", ["signal.SIGHUP"]),
        ("import signal\nsignal.SIGTERM", []),
        ("if sys.platform == 'linux':\n    os.getuid()", []),
        ("def f():\n    if sys.platform == 'win32':\n        return\n    os.getuid()", []),
        (
            "def f():\n    os.getuid()\n    if sys.platform == 'win32':\n        return",
            ["os.getuid"],
        ),
    ],
)
def test_what_windows_lacks_is_found(code: str, found: list[str]) -> None:
    assert [name for _, name in posix_names(ast.parse(code))] == found


def test_the_names_are_those_of_this_system() -> None:
    """A name that is misspelt here would never be found."""
    if sys.platform != "linux":
        pytest.skip("the names are those of Linux and other POSIX systems")
    assert {name for name in OF_OS if not hasattr(os, name)} == set()
    assert {name for name in OF_SIGNAL if not hasattr(signal, name)} == set()


IMPORTED_AS_ON_WINDOWS = """
import importlib, os, pkgutil, signal, sys
import numba, numpy, scipy, sklearn, sqlalchemy, alembic, qdrant_client, filelock, rich, tqdm
sys.modules.update({name: None for name in {posix_only!r}})
for module, names in ((os, {of_os!r}), (signal, {of_signal!r})):
    for name in names:
        if not name.startswith("O_"):  # the standard library's own use of them is tested once
            vars(module).pop(name, None)
import intramodal
for found in pkgutil.walk_packages(intramodal.__path__, "intramodal."):
    if not found.name.startswith({skipped!r}):
        importlib.import_module(found.name)
print("imported")
"""
SKIPPED = (
    "intramodal.runs.migrations",  # Alembic runs them
    "intramodal.ingest.encoders", "intramodal.evaluation.rivals.oti",  # torch's own imports
    "intramodal.store.edge",  # the engine's wheel
)  # fmt: skip


def test_every_module_is_imported_where_posix_is_not() -> None:
    code = (
        IMPORTED_AS_ON_WINDOWS.replace("{posix_only!r}", repr(POSIX_ONLY))
        .replace("{of_os!r}", repr(sorted(OF_OS)))
        .replace("{of_signal!r}", repr(sorted(OF_SIGNAL)))
        .replace("{skipped!r}", repr(SKIPPED))
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "imported\n", done.stderr[-3000:]
