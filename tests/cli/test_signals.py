"""SIGINT, SIGTERM and SIGHUP at a command that works; and what must not change by them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intramodal import Projection, open_store
from intramodal.cli import SIGNALS, CommandGroup, Stopped, StopSignals
from intramodal.commands.options import DEFAULT_RUNS, DEFAULT_STORE
from intramodal.errors import InputError, StoreUnavailable
from intramodal.ingest.workers import Threads
from intramodal.runs.ledger import RunLedger
from intramodal.runs.records import RunRecord
from intramodal.store.base import VectorSpec
from intramodal.store.edge.engine import optimize_in_child
from intramodal.store.server.client import Retry, Streams
from tests.children import guarded
from tests.cli.kit import invoke, run

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX"),
    pytest.mark.serial,  # "at once" is told from "after winding up" by the clock
]

N, D, MODEL = 120, 16, "some model"
BACKFILL = ("backfill", "photos", "--projection", "pca.safetensors")
SLOWLY = ("--batch-size", "10", "--throttle", "4")  # half a minute
DEADLINE_S = 60.0  # a process that starts on a busy machine
AT_ONCE_S = 10.0  # well below what is waited for in `WINDING_UP`

# Where signals are ignored (a job in a shell's background), children would ignore them, too.
PRELUDE = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.{hangup})
"""
COMMAND = PRELUDE + "from intramodal.cli import cli\ncli()"
TERMINAL = """
import fcntl, os, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
"""
WINDING_UP = (
    PRELUDE.format(hangup="SIG_DFL")
    + """
from intramodal.cli import Stopped, StopSignals
with StopSignals() as signals:
    try:
        signals.install()
        print("begun", flush=True)
        time.sleep(60)
    except Stopped as error:
        print("winding up", flush=True)
        time.sleep(float(sys.argv[1]))
        print("wound up", flush=True)
        sys.exit(error.exit_code)
"""
)


@contextmanager
def started(
    code: str, *arguments: str, streams: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, *arguments]
    stdin = None if streams == subprocess.PIPE else streams
    with guarded(command, DEADLINE_S, stdin=stdin, stdout=streams, stderr=streams) as child:
        yield child


@contextmanager
def backfilling(*arguments: str, hangup: str = "SIG_DFL") -> Iterator[subprocess.Popen[str]]:
    """Start a backfill that lasts, and wait until its run is recorded."""
    code = COMMAND.format(hangup=hangup)
    with started(code, *BACKFILL, *SLOWLY, *arguments) as child:
        wait_until_recorded(child)
        yield child


def wait_until_recorded(child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not (runs := recorded()):
        assert child.poll() is None, "it ended before its run was recorded"
        assert time.monotonic() < deadline, "the run was not recorded in time"
        time.sleep(0.05)
    assert [record.status for record in runs] == ["RUNNING"]


def recorded() -> list[RunRecord]:
    """Return the runs in the database, which a child may be making just now."""
    if not Path(DEFAULT_RUNS).exists():
        return []
    with RunLedger.open(DEFAULT_RUNS) as ledger:
        return ledger.runs()


@contextmanager
def winding_up(*, for_s: float) -> Iterator[subprocess.Popen[str]]:
    """Start what SIGTERM stops, send that, and wait until it is being wound up."""
    with started(WINDING_UP, str(for_s)) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.readline() == "winding up\n"
        yield child


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Leave a projection file, and `photos` with an adopted vector, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    matrix = np.linalg.qr(rng.normal(size=(D, D // 2)))[0]
    Projection(matrix, "pca", MODEL, f"declared:{MODEL}").save("pca.safetensors")
    X = rng.normal(size=(N, D)).astype(np.float32)
    with open_store(DEFAULT_STORE) as store:
        store.create("photos", {"raw": VectorSpec(D)})
        store.upsert("photos", list(range(N)), {"raw": X}, [{}] * N)
    run("adopt", "photos", "--made-by", MODEL, "--runs", "others.db")


@pytest.fixture
def unhandled() -> Iterator[None]:
    """Let nothing handle or ignore the signals, whatever runs the tests."""
    former = handlers()
    for number in SIGNALS:
        is_ctrl_c = number == signal.SIGINT
        signal.signal(number, signal.default_int_handler if is_ctrl_c else signal.SIG_DFL)
    yield
    for number, handler in zip(SIGNALS, former, strict=True):
        signal.signal(number, handler)


# A command that is stopped


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("name", "code", "recorded_as"),
    [
        ("SIGINT", 130, "stopped by the user"),
        ("SIGTERM", 143, "stopped by SIGTERM"),
        ("SIGHUP", 129, "stopped by SIGHUP"),
    ],
)
def test_a_stopped_command_records_it_and_the_same_command_completes(
    name: str, code: int, recorded_as: str
) -> None:
    with backfilling("--json") as child:
        child.send_signal(signal.Signals[name])
        stdout, stderr = child.communicate(timeout=DEADLINE_S)
    assert child.returncode == code
    kept = "stopped; points that were written keep their vector"
    assert stderr.endswith(f"{kept}; run the same command again to resume\n")
    assert "Traceback" not in stderr
    assert json.loads(stdout)["error"]["type"] == "Interrupted"
    assert [(r.status, r.error) for r in recorded()] == [("INTERRUPTED", recorded_as)]
    done = run(*BACKFILL)
    assert done["projected"] + done["skipped"] == N


@pytest.mark.usefixtures("photos")
def test_a_command_started_by_nohup_goes_on_after_a_hangup() -> None:
    with backfilling(hangup="SIG_IGN") as child:
        child.send_signal(signal.SIGHUP)
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=DEADLINE_S)
    assert child.returncode == 143
    assert [record.error for record in recorded()] == ["stopped by SIGTERM"]


@pytest.mark.usefixtures("photos")
def test_a_command_whose_terminal_is_gone_records_it() -> None:
    ours, theirs = os.openpty()
    code = TERMINAL + COMMAND.format(hangup="SIG_DFL")
    with started(code, *BACKFILL, *SLOWLY, "--json", streams=theirs) as child:
        os.close(theirs)
        wait_until_recorded(child)
        os.close(ours)
        assert child.wait(DEADLINE_S) == 129
    assert [record.error for record in recorded()] == ["stopped by SIGHUP"]


# A second signal


@pytest.mark.parametrize(
    ("second", "code", "pause_s"),
    [("SIGTERM", 143, 0.0), ("SIGINT", 130, 0.6), ("SIGHUP", 129, 0.6)],
)
def test_a_second_signal_stops_at_once(second: str, code: int, pause_s: float) -> None:
    with winding_up(for_s=60) as child:
        time.sleep(pause_s)
        since = time.monotonic()
        child.send_signal(signal.Signals[second])
        stdout, stderr = child.communicate(timeout=DEADLINE_S)
        assert time.monotonic() - since < AT_ONCE_S
    assert (child.returncode, stdout, stderr) == (code, "", "")


def test_two_signals_of_one_stop_leave_a_moment_to_wind_up() -> None:
    with winding_up(for_s=0.1) as child:
        child.send_signal(signal.SIGHUP)
        stdout, _ = child.communicate(timeout=DEADLINE_S)
    assert (child.returncode, stdout) == (143, "wound up\n")


# Waits that a signal must end


def ends_its_wait(
    wait: Callable[[], object], *, has_begun: Callable[[], object] = lambda: True
) -> None:
    """Send SIGTERM to this process while it is in `wait`, and see that this raises `Stopped`."""

    def send() -> None:
        while not has_begun() and time.monotonic() < since + AT_ONCE_S:
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    since = time.monotonic()
    with StopSignals() as signals:
        signals.install()
        sender.start()
        try:
            with pytest.raises(Stopped, match="stopped by SIGTERM"):
                wait()
        finally:
            sender.join()
    assert time.monotonic() - since < AT_ONCE_S


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Return what ends a call in a thread, at the latest when the test does."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.usefixtures("unhandled")
def test_a_signal_ends_the_wait_for_a_result_of_a_thread(release: threading.Event) -> None:
    with Threads(1, "wait") as threads:
        future = threads.submit(release.wait, DEADLINE_S)
        ends_its_wait(lambda: threads.result(future))
        release.set()


@pytest.mark.usefixtures("unhandled")
def test_a_signal_ends_the_wait_for_the_end_of_a_thread(release: threading.Event) -> None:
    def leave() -> None:
        with Threads(1, "wait") as threads:
            future = threads.submit(release.wait, DEADLINE_S)
            while not future.running():
                time.sleep(0.01)

    ends_its_wait(leave)


@pytest.mark.usefixtures("unhandled")
def test_a_signal_ends_the_wait_for_parts_of_a_write(release: threading.Event) -> None:
    streams = Streams(2)
    ends_its_wait(lambda: streams.send(lambda part: release.wait(DEADLINE_S), 128, 64))
    release.set()
    streams.close()


@pytest.mark.usefixtures("unhandled")
def test_a_signal_ends_the_pause_before_another_try() -> None:
    def fail() -> None:
        raise StoreUnavailable("gone")

    ends_its_wait(lambda: Retry(first_s=DEADLINE_S, longest_s=DEADLINE_S).run(fail))


@pytest.mark.usefixtures("unhandled")
def test_a_signal_ends_the_optimizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, pid = tmp_path / "python", tmp_path / "pid"
    slow.write_text(f"#!/bin/sh\necho $$ > '{pid}'\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    ends_its_wait(
        lambda: optimize_in_child(tmp_path, DEADLINE_S),
        has_begun=lambda: pid.exists() and pid.read_text(),
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


# What stays as it is


@pytest.mark.usefixtures("unhandled")
def test_handlers_are_there_while_a_command_runs_and_not_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, during = handlers(), []

    def look(*_: object) -> None:
        during.extend(handlers())
        raise InputError("looked")

    monkeypatch.setattr(CommandGroup, "resolve_command", look)
    assert invoke("doctor").stderr == "Error: looked\n"
    assert len(during) == len(SIGNALS)
    assert not set(during) & set(before)
    assert handlers() == before


@pytest.mark.usefixtures("unhandled")
@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None], ids=["ignored", "handled"])
def test_a_signal_that_is_ignored_or_handled_stays_so(handler: Any) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)
    with StopSignals() as signals:
        signals.install()
        assert handlers() == [handler] * len(SIGNALS)


def test_a_command_runs_in_another_thread() -> None:
    before, results = handlers(), []
    thread = threading.Thread(target=lambda: results.append(invoke("models", "list")))
    thread.start()
    thread.join(DEADLINE_S)
    assert [result.exit_code for result in results] == [0]
    assert handlers() == before
