"""Facts about this process that a run is recorded with."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "intramodal", "numpy", "scipy", "scikit-learn", "numba", "safetensors", "pillow",
    "qdrant-client", "qdrant-edge-py", "sqlalchemy", "torch", "torchvision", "open_clip_torch",
    "transformers",
)  # fmt: skip
_GIT_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Process:
    """A process, named so that it cannot be taken for another."""

    host: str
    pid: int
    space: str
    """Boot and process-id namespace: two containers may share a host's name and yet have
    different processes under one number. Empty where the system does not tell."""
    started: str
    """Start time in the system's own units: process numbers are used again. May be empty."""


def this_process() -> Process:
    """Return the process that asks."""
    pid = os.getpid()
    return Process(socket.gethostname(), pid, _process_space(), _process_stat(pid)[1])


def is_gone(process: Process) -> bool:
    """Return whether a process is certainly gone; False wherever this cannot be known.

    Only Linux tells start times and namespaces; elsewhere, and for other hosts, the heartbeat
    decides.
    """
    here = this_process()
    if not process.space or (process.host, process.space) != (here.host, here.space):
        return False
    state, started = _process_stat(process.pid)
    return state in {"", "Z", "X"} or started != process.started


def _process_space() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116 - follows the link
    except OSError:
        return ""


def _process_stat(pid: int) -> tuple[str, str]:
    """Return state and start time (ticks since boot); empty where there is no such process."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", ""
    # The program's name, in parentheses, may contain spaces and parentheses itself.
    fields = line.rpartition(")")[2].split()
    return fields[0], fields[19]


def package_versions() -> dict[str, str]:
    """Return the versions of Python, the platform and the installed packages that matter."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            versions[name] = _version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _version(name: str) -> str:
    """Return a package's version.

    `metadata.version` reads its whole README as an e-mail: 18 ms of all these packages, not 1.
    """
    declared = metadata.distribution(name).read_text("METADATA") or ""
    found = re.search(r"^Version: *(.*)", declared, re.MULTILINE)
    return found[1].strip() if found else metadata.version(name)


def git_state() -> dict[str, Any] | None:
    """Return commit, branch and whether tracked files differ; None outside a repository."""
    head = _git("rev-parse", "HEAD", "--abbrev-ref", "HEAD")
    if not head:
        return None
    commit, _, branch = head.partition("\n")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": commit,
        "branch": branch,
        "is_dirty": None if changes is None else bool(changes),
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(  # a fixed program and fixed arguments
            ["git", *arguments],
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            # Reading the state must not take the repository's lock from its owner.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def command_line() -> list[str]:
    """Return this process's command line, the program without its folder."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv and sys.argv[0] else []
